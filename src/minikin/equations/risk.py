"""Which threshold may answer: finite-sample control of the risk among what is answered. Called by trust/.

N labelled examples, J thresholds from strict to loose. Thresholds come from scores without labels, never from the
labelled scores themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minikin.base.types import Array
from minikin.equations.binomial import cdf, trials_needed, upper_bound

POINTS = 200
STAKES = np.linspace(0.02, 0.98, 25)
"""Shares of the largest possible stake that a betting bound spreads its wealth over."""


@dataclass(frozen=True)
class Selected:
    """The loosest threshold that passed: its place on the grid, its counts, and the bound on its risk."""

    place: int
    threshold: float
    errors: int
    answered: int
    bound: float


def grid(scores_N: Array, points: int = POINTS) -> Array:
    """Thresholds (J,) from strict to loose, at even shares answered of *unlabelled* scores.

    Raises ValueError for no scores, or scores that are not finite.
    """
    scores_N = np.asarray(scores_N, np.float64)
    if len(scores_N) == 0 or not np.isfinite(scores_N).all():
        raise ValueError("a grid needs finite scores")
    ordered_N = np.sort(scores_N)[::-1]
    places_J = np.ceil(np.arange(1, points + 1) * len(ordered_N) / points).astype(np.int64) - 1
    return np.unique(ordered_N[places_J])[::-1]


def counts(scores_N: Array, wrong_N: Array, thresholds_J: Array) -> tuple[Array, Array]:
    """Errors (J,) and answers (J,) among examples that score at least each threshold."""
    scores_N = np.asarray(scores_N, np.float64)
    if len(scores_N) != len(wrong_N) or not np.isfinite(scores_N).all():
        raise ValueError("need one finite score for each example")
    order_N = np.argsort(-scores_N, kind="stable")
    answered_J = np.searchsorted(-scores_N[order_N], -np.asarray(thresholds_J), side="right")
    wrong_total = np.concatenate([[0], np.cumsum(np.asarray(wrong_N, np.int64)[order_N])])
    return wrong_total[answered_J], answered_J


def learn_then_test(
    scores_N: Array, wrong_N: Array, thresholds_J: Array, alpha: float, delta: float, start: int = 0
) -> Selected | None:
    """The loosest threshold proven to have a risk of at most α among its answers, with a chance of error ≤ δ.

    Walks the grid in order while p_j = BinomCDF(k_j; n_j, α) ≤ δ, from the first place (not before `start`) with
    answers enough to pass without errors; None when that one fails. Grid and `start` must not depend on `wrong_N`.
    Source: Angelopoulos et al. 2021, "Learn then Test", §2.3 (fixed-sequence testing) with exact binomial p-values.
    """
    errors_J, answered_J = counts(scores_N, wrong_N, thresholds_J)
    least = trials_needed(alpha, delta)
    passed: int | None = None
    for j in range(start, len(thresholds_J)):
        if answered_J[j] < least:
            continue
        if cdf(int(errors_J[j]), int(answered_J[j]), alpha) > delta:
            break
        passed = j
    if passed is None:
        return None
    k, n = int(errors_J[passed]), int(answered_J[passed])
    return Selected(passed, float(thresholds_J[passed]), k, n, upper_bound(k, n, delta))


def conformal_risk(losses_NJ: Array, alpha: float, most: float = 1.0) -> int | None:
    """The first place on the grid with n/(n+1) · R̂ + B/(n+1) ≤ α: the expected loss there is at most α.

    Losses lie in [0, `most`] and never grow along the grid; they bound an expectation, for the next example and the
    calibration set together. None when no place will do; ValueError for losses that grow.
    Source: Angelopoulos et al. 2022, "Conformal Risk Control", theorem 1.
    """
    losses_NJ = np.asarray(losses_NJ, np.float64)
    if losses_NJ.ndim != 2 or len(losses_NJ) == 0 or not np.isfinite(losses_NJ).all():
        raise ValueError("losses must be finite, one row for each example")
    if (np.diff(losses_NJ, axis=1) > 0).any() or losses_NJ.min() < 0 or losses_NJ.max() > most:
        raise ValueError(f"losses must lie between 0 and {most} and never grow along the grid")
    n = len(losses_NJ)
    fits_J = n / (n + 1) * losses_NJ.mean(0) + most / (n + 1) <= alpha
    return int(fits_J.argmax()) if fits_J.any() else None


def conformal_quantile(scores_N: Array, alpha: float) -> float:
    """The ⌈(n + 1)(1 − α)⌉-th smallest nonconformity score; infinite when that rank exceeds n.

    Source: Vovk et al. 2005; Angelopoulos & Bates 2021, "A Gentle Introduction to Conformal Prediction", §1.
    """
    rank = math.ceil((len(scores_N) + 1) * (1.0 - alpha) - 1e-12)
    return float(np.sort(scores_N)[max(rank, 1) - 1]) if rank <= len(scores_N) else math.inf


def class_quantiles(scores_N: Array, labels_N: Array, classes: int, alpha: float) -> Array:
    """A conformal quantile (C,) of each class alone; infinite where a class has fewer than 1/α − 1 examples.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors" (label-conditional).
    """
    scores_N, labels_N = np.asarray(scores_N, np.float64), np.asarray(labels_N)
    return np.array([conformal_quantile(scores_N[labels_N == c], alpha) for c in range(classes)])


def prediction_sets(probabilities_NC: Array, quantiles: float | Array) -> Array:
    """Which classes (N, C) belong to each conformal set, for the nonconformity 1 − probability.

    The true class is inside with a chance of at least 1 − α. A set of one class says nothing about the error among
    answers: for that, use `learn_then_test`.
    """
    return np.asarray(1.0 - np.asarray(probabilities_NC, np.float64) <= quantiles)


def betting_bound(worse: int, same: int, better: int, delta: float) -> float:
    """Upper bound on E[D] of D ∈ {−1, 0, 1} seen `better`, `same` and `worse` times; exceeded with a chance ≤ δ.

    The largest mean that a mixture of bets has not ruined: bets are on D being below the mean.
    Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", §4.
    """
    if min(worse, same, better) < 0 or not 0.0 < delta < 1.0:
        raise ValueError("counts can't be negative, and δ lies between 0 and 1")
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if log_wealth(worse, same, better, middle) >= -math.log(delta) else (middle, high)
    return high


def log_wealth(worse: int, same: int, better: int, mean: float) -> float:
    """Logarithm of the e-value against E[D] ≥ `mean`: the average over stakes of Π (1 + b(mean − Dᵢ))."""
    if mean >= 1.0:
        return math.inf if same + better else 0.0
    stakes_B = STAKES / (1.0 - mean)
    logs_B = (
        worse * np.log1p(stakes_B * (mean - 1.0))
        + same * np.log1p(stakes_B * mean)
        + better * np.log1p(stakes_B * (mean + 1.0))
    )
    top = float(logs_B.max())
    return top + math.log(float(np.exp(logs_B - top).mean()))


@dataclass(frozen=True)
class NotWorse:
    """The loosest threshold at which the small model is not worse than the large one by more than the margin."""

    place: int
    threshold: float
    answered: int
    bound: float


def non_inferior(
    scores_N: Array,
    small_wrong_N: Array,
    large_wrong_N: Array,
    thresholds_J: Array,
    margin: float,
    delta: float,
    start: int = 0,
) -> NotWorse | None:
    """The loosest threshold with E[D] ≤ margin proven, D = answered · (small wrong − large wrong); None if none.

    Over all traffic, so what is handed over counts as 0. Walks the grid like `learn_then_test`.
    Source: fixed-sequence testing as there; the p-value is the inverse of the betting e-value of `betting_bound`.
    """
    scores_N = np.asarray(scores_N, np.float64)
    difference_N = np.asarray(small_wrong_N, np.int64) - np.asarray(large_wrong_N, np.int64)
    worse_J, answered_J = counts(scores_N, difference_N > 0, thresholds_J)
    better_J, _ = counts(scores_N, difference_N < 0, thresholds_J)
    passed: int | None = None
    for j in range(start, len(thresholds_J)):
        worse, better = int(worse_J[j]), int(better_J[j])
        if log_wealth(worse, len(scores_N) - worse - better, better, margin) < -math.log(delta):
            break
        passed = j
    if passed is None:
        return None
    worse, better = int(worse_J[passed]), int(better_J[passed])
    bound = betting_bound(worse, len(scores_N) - worse - better, better, delta)
    return NotWorse(passed, float(thresholds_J[passed]), int(answered_J[passed]), bound)
