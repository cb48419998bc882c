"""Intervals and tests for scores on one test split, in numpy. Called by measure/ and by the gate.

Resampling N examples with replacement only changes how often each *kind* of example occurs, so a bootstrap
draws multinomial counts of the kinds: the cost depends on the number of kinds, not on N.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from minikin.base.types import Array
from minikin.equations.metrics import macro_f1

Interval: TypeAlias = tuple[float, float]
BATCH_CELLS = 4_000_000


def mean_interval(values_N: Array, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the mean of `values_N` (0/1 for an accuracy).

    Where all are right, or all are wrong, resampling says nothing: then it is the exact one of an accuracy.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", §13.3; Clopper & Pearson 1934.
    """
    _some(values_N, resamples)
    if np.all(values_N == values_N[0]) and values_N[0] in (0, 1):
        most = 1 - ((1 - level) / 2) ** (1 / len(values_N))
        return (1 - most, 1.0) if values_N[0] else (0.0, most)
    return _bootstrap(values_N, level, resamples, seed)


def _bootstrap(values_N: Array, level: float, resamples: int, seed: int) -> Interval:
    kinds_K, n_K = np.unique(np.asarray(values_N, np.float64), return_counts=True)
    counts_RK = _resample(n_K, resamples, np.random.default_rng(seed))
    return _percentiles(counts_RK @ kinds_K / len(values_N), level)


def paired_interval(a_N: Array, b_N: Array, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of mean(a) − mean(b), the same examples drawn for both."""
    if len(a_N) != len(b_N):
        raise ValueError(f"paired values must be of the same examples: got {len(a_N)} and {len(b_N)}")
    difference_N = np.asarray(a_N, np.float64) - np.asarray(b_N, np.float64)
    _some(difference_N, resamples)
    return _bootstrap(difference_N, level, resamples, seed)


def ratio_interval(
    above_N: Array,
    below_N: Array,
    *,
    minus: tuple[Array, Array] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, Interval]:
    """Σ above / Σ below, less that of `minus` on the same examples if given, and its percentile bootstrap interval.

    Of perplexities and bits per byte, whose examples are of unequal length. Raises ValueError where nothing is below.
    """
    pairs = [(above_N, below_N)] if minus is None else [(above_N, below_N), minus]
    counted_N = np.logical_and.reduce([below > 0 for _, below in pairs])
    pairs = [(above[counted_N], below[counted_N]) for above, below in pairs]
    _some(pairs[0][0], resamples)
    draws_RN = np.random.default_rng(seed).integers(counted_N.sum(), size=(resamples, counted_N.sum()))
    ratios = [above.sum() / below.sum() for above, below in pairs]
    ratios_R = [above[draws_RN].sum(1) / below[draws_RN].sum(1) for above, below in pairs]
    if minus is None:
        return float(ratios[0]), _percentiles(ratios_R[0], level)
    return float(ratios[0] - ratios[1]), _percentiles(ratios_R[0] - ratios_R[1], level)


def macro_f1_interval(confusion_TC: Array, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the macro-F1 of `metrics.confusion` counts."""
    n_K = confusion_TC[confusion_TC > 0]
    _some(n_K, resamples)
    rng = np.random.default_rng(seed)
    scores: list[Array] = []
    batch = max(1, BATCH_CELLS // confusion_TC.size)
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        resampled_RTC = np.zeros((size, *confusion_TC.shape), np.int32)
        resampled_RTC[:, confusion_TC > 0] = _resample(n_K, size, rng)
        scores.append(macro_f1(resampled_RTC))
    return _percentiles(np.concatenate(scores), level)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test: do the examples that only one gets right fall like a coin?

    Source: McNemar 1947, with the binomial distribution in place of χ² (exact for every count).
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts can't be negative: got {only_a} and {only_b}")
    n = only_a + only_b
    if n == 0:
        return 1.0
    return min(1.0, 2.0 * _cdf(min(only_a, only_b), n, 0.5, _log_choose(n)))


def _resample(n_K: Array, resamples: int, rng: np.random.Generator) -> Array:
    """How often each kind occurs in `resamples` draws with replacement of as many examples: (R, K)."""
    total = int(n_K.sum())
    return rng.multinomial(total, n_K / total, size=resamples)


def _percentiles(scores_R: Array, level: float) -> Interval:
    low, high = np.quantile(scores_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _log_choose(n: int) -> Array:
    """Logarithm of n over k for k = 0 … n."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return np.asarray(log_factorial[n] - log_factorial - log_factorial[::-1])


def _cdf(k: int, n: int, p: float, log_choose_K: Array) -> float:
    """P(X ≤ k) of a binomial variable with 0 < p < 1."""
    i = np.arange(k + 1)
    return float(np.exp(log_choose_K[: k + 1] + i * math.log(p) + (n - i) * math.log1p(-p)).sum())


def _some(values: Array, resamples: int) -> None:
    if len(values) == 0 or resamples < 1:
        raise ValueError("need at least one example and one resample")
