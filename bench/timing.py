"""Latency of several runtimes side by side: short blocks in turns, so that a machine that slows down slows all."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minikin.base.types import Runtime, Text
from minikin.measure import speed
from minikin.steps.teach import threads


@dataclass(frozen=True)
class Timed:
    """Medians over the rounds, in ms, and each round's own median."""

    latency_ms_p50: float
    latency_ms_p95: float
    rounds_p50: tuple[float, ...]

    def times_faster_than(self, other: Timed) -> float:
        """Median over the rounds of the other's p50 divided by this one's."""
        return statistics.median(o / s for o, s in zip(other.rounds_p50, self.rounds_p50, strict=True))


def interleaved(
    runtimes: Mapping[str, Runtime], texts: Sequence[Text], rounds: int = 5, calls: int = 200, seconds: float = 2.0
) -> dict[str, Timed]:
    """Time single texts through each runtime on one torch thread, in `rounds` turns of up to `calls` or `seconds`."""
    took: dict[str, list[speed.Latency]] = {name: [] for name in runtimes}
    with threads(1):
        for _ in range(rounds):
            for name, runtime in runtimes.items():
                took[name].append(speed.latency(runtime, texts, warmup=10, repeats=calls, seconds=seconds))
    return {
        name: Timed(
            statistics.median(t.latency_ms_p50 for t in blocks),
            statistics.median(t.latency_ms_p95 for t in blocks),
            tuple(t.latency_ms_p50 for t in blocks),
        )
        for name, blocks in took.items()
    }
