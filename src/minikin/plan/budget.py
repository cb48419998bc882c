"""Does it fit? Limits on the shipped file, what breaks them, and the nearest budget that could be met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minikin.base.errors import BudgetError
from minikin.base.types import Scheme
from minikin.plan.candidates import Candidate


@dataclass(frozen=True)
class Limits:
    """Limits on this device; None is no limit."""

    size_mib: float | None = None
    latency_ms_p95: float | None = None
    memory_mib: float | None = None
    keep: float | None = None


@dataclass(frozen=True)
class Measured:
    """One candidate in one scheme, untrained, packaged and measured on this machine."""

    candidate: Candidate
    scheme: Scheme
    size_mib: float
    latency_ms_p50: float
    latency_ms_p95: float
    memory_mib: float | None = None
    forecast: bool = False

    @property
    def name(self) -> str:
        """Candidate and scheme."""
        return f"{self.candidate.name} {self.scheme}"


def reasons(measured: Measured, limits: Limits) -> list[str]:
    """What keeps a candidate out of the budget, in words; empty if it fits."""
    found = []
    about = "about " if measured.forecast else ""
    if limits.size_mib is not None and measured.size_mib > limits.size_mib:
        found.append(f"{about}{measured.size_mib:.2f} MiB > {limits.size_mib:g} MiB")
    if limits.latency_ms_p95 is not None and measured.latency_ms_p95 > limits.latency_ms_p95:
        found.append(f"p95 {measured.latency_ms_p95:.3f} ms > {limits.latency_ms_p95:g} ms")
    if limits.memory_mib is not None and (measured.memory_mib or 0) > limits.memory_mib:
        found.append(f"{measured.memory_mib:.0f} MiB of memory > {limits.memory_mib:g} MiB")
    return found


def refuse_if_impossible(all_measured: Sequence[Measured], limits: Limits) -> None:
    """Raise BudgetError, naming the nearest possible budget, when nothing fits."""
    if any(not reasons(m, limits) for m in all_measured):
        return

    def distance(m: Measured) -> float:
        over = [m.size_mib / limits.size_mib if limits.size_mib else 0.0]
        over.append(m.latency_ms_p95 / limits.latency_ms_p95 if limits.latency_ms_p95 else 0.0)
        over.append((m.memory_mib or 0) / limits.memory_mib if limits.memory_mib else 0.0)
        return sum(max(0.0, x - 1.0) for x in over)

    # a forecast knows no latency: what is named must really be possible
    nearest = min([m for m in all_measured if not m.forecast] or all_measured, key=distance)
    keys = [f"size_mib: {_up(nearest.size_mib)}"] if limits.size_mib else []
    keys += [f"latency_ms_p95: {_up(nearest.latency_ms_p95)}"] if limits.latency_ms_p95 else []
    keys += [f"memory_mib: {_up(nearest.memory_mib or 0)}"] if limits.memory_mib else []
    raise BudgetError(
        "No candidate fits the budget. The nearest is "
        f"{nearest.name} ({'; '.join(reasons(nearest, limits))}). The nearest possible budget: {', '.join(keys)}."
    )


def _up(value: float) -> float:
    """Two digits, rounded up, so that the budget named can really be met."""
    from math import ceil, floor, log10

    if value <= 0:
        return 0.0
    scale = 10.0 ** (floor(log10(value)) - 1)
    return float(f"{ceil(value * 1.05 / scale) * scale:.6g}")
