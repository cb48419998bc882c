"""Successive halving: train all candidates a little, keep the better half, train those more, until one is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minikin.base.types import Progress, no_progress


@dataclass(frozen=True)
class Trial:
    """One candidate's score at one rung."""

    index: int
    rung: int
    score: float


def halving(
    count: int,
    train: Callable[[int, int], float],
    *,
    rungs: int = 2,
    keep: int = 2,
    progress: Progress = no_progress,
) -> list[Trial]:
    """Score `count` candidates by `train(index, rung)` (larger is better); each rung keeps the better half.

    At least `keep` candidates reach the last rung. Ties go to the lower index: put the cheaper first.
    Returns all trials, the last rung's last. Source: Jamieson & Talwalkar 2016, "Non-stochastic Best Arm
    Identification and Hyperparameter Optimization", algorithm 1.
    """
    alive = list(range(count))
    trials: list[Trial] = []
    for rung in range(rungs):
        for done, index in enumerate(alive):
            progress((rung + done / len(alive)) / rungs, f"rung {rung + 1}/{rungs}, {done + 1} of {len(alive)}")
            trials.append(Trial(index, rung, train(index, rung)))
        scores = {t.index: t.score for t in trials if t.rung == rung}
        ranked = sorted(alive, key=lambda i: (-scores[i], i))
        alive = sorted(ranked[: max(keep, math.ceil(len(alive) / 2))])
    return trials


def last_scores(trials: Sequence[Trial]) -> dict[int, Trial]:
    """Each candidate's furthest trial."""
    furthest: dict[int, Trial] = {}
    for trial in trials:
        if trial.index not in furthest or trial.rung > furthest[trial.index].rung:
            furthest[trial.index] = trial
    return furthest
