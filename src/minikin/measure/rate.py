"""How fast this machine trains, from two seconds of work: a matrix product, and an AdamW step. For forecasts."""

from __future__ import annotations

import time
from collections.abc import Callable

from minikin.base.extras import need

ROWS, INNER, OUTER = 768, 384, 1536
"""A batch of 32 texts of 24 tokens through a feed-forward layer of MiniLM."""

WEIGHTS = 1_000_000


def gemm_gflops(threads: int, seconds: float = 0.8) -> float:
    """GFLOP/s of a float32 matrix product with so many threads."""
    torch = need("torch")
    a_BH, b_HF = torch.randn(ROWS, INNER), torch.randn(INNER, OUTER)
    times_s = _times(lambda: a_BH @ b_HF, threads, seconds)
    return 2 * ROWS * INNER * OUTER / _median(times_s) / 1e9


def update_ns(threads: int, seconds: float = 0.8) -> float:
    """Nanoseconds of a fused AdamW step for each weight."""
    torch = need("torch")
    weights = torch.nn.Parameter(torch.zeros(WEIGHTS))
    weights.grad = torch.full_like(weights, 1e-3)
    optimizer = torch.optim.AdamW([weights], lr=1e-6, fused=True)
    return _median(_times(optimizer.step, threads, seconds)) / WEIGHTS * 1e9


def _times(work: Callable[[], object], threads: int, seconds: float) -> list[float]:
    torch = need("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        work()
        took_s: list[float] = []
        until = time.perf_counter() + seconds
        while not took_s or time.perf_counter() < until:
            started = time.perf_counter()
            work()
            took_s.append(time.perf_counter() - started)
        return took_s
    finally:
        torch.set_num_threads(before)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
