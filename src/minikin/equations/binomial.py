"""Exact tails of the binomial distribution for up to millions of trials. Called by risk.py and by trust/."""

from __future__ import annotations

import math

STEPS_MOST = 100_000
CLOSE = 1e-15
TINY = 1e-300
HALVINGS = 200


def cdf(k: int, n: int, p: float) -> float:
    """P(X ≤ k) of X ~ Binomial(n, p): 1 − I_p(k + 1, n − k).

    Raises ValueError for n < 0 or a p outside [0, 1]. Source: Abramowitz & Stegun 1964, 26.5.24.
    """
    if n < 0 or not 0.0 <= p <= 1.0:
        raise ValueError(f"need n of at least 0 and a probability: got n = {n}, p = {p}")
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    return incomplete_beta(n - k, k + 1, 1.0 - p, p)


def incomplete_beta(a: float, b: float, x: float, one_minus_x: float | None = None) -> float:
    """Regularised incomplete beta function I_x(a, b) for a, b > 0; `one_minus_x` spares cancellation near 1.

    Source: Abramowitz & Stegun 1964, 26.5.8 (continued fraction), evaluated by Lentz's method.
    """
    if not (a > 0 and b > 0 and 0.0 <= x <= 1.0):
        raise ValueError(f"need a, b above 0 and x between 0 and 1: got {a}, {b}, {x}")
    y = 1.0 - x if one_minus_x is None else one_minus_x
    if x <= 0.0 or y <= 0.0:
        return float(x > 0.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _below_mean(b, a, y, x)
    return _below_mean(a, b, x, y)


def beta_quantile(q: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = q, rounded up: I at the returned x is at least q."""
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"need a share between 0 and 1: got {q}")
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if not low < middle < high or high - low < CLOSE * high:
            break
        if incomplete_beta(a, b, middle) < q:
            low = middle
        else:
            high = middle
    return high


def upper_bound(k: int, n: int, delta: float) -> float:
    """One-sided Clopper–Pearson bound U = BetaInv(1 − δ; k + 1, n − k): the share lies above it with chance ≤ δ.

    1.0 when n is 0 or every trial failed. Source: Clopper & Pearson 1934.
    """
    if not 0 <= k <= n or not 0.0 < delta < 1.0:
        raise ValueError(f"need 0 ≤ k ≤ n and 0 < δ < 1: got k = {k}, n = {n}, δ = {delta}")
    return 1.0 if k == n else beta_quantile(1.0 - delta, k + 1, n - k)


def trials_needed(alpha: float, delta: float, errors: int = 0) -> int:
    """The least n for which `errors` errors still prove a risk of at most α: BinomCDF(errors; n, α) ≤ δ.

    Without errors this is ⌈ln δ / ln(1 − α)⌉.
    """
    if not (0.0 < alpha < 1.0 and 0.0 < delta < 1.0 and errors >= 0):
        raise ValueError(f"need 0 < α < 1, 0 < δ < 1 and errors of at least 0: got {alpha}, {delta}, {errors}")
    low, high = errors, max(1, errors)
    while cdf(errors, high, alpha) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cdf(errors, middle, alpha) <= delta else (middle, high)
    return high


def _below_mean(a: float, b: float, x: float, y: float) -> float:
    """I_x(a, b) by its continued fraction, which converges in O(√max(a, b)) steps for x below the mean."""
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y)
    if log_front < -745.0:
        return 0.0
    c, d = 1.0, 1.0 / _not_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, STEPS_MOST):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d, c = 1.0 / _not_zero(1.0 + even * d), _not_zero(1.0 + even / c)
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d, c = 1.0 / _not_zero(1.0 + odd * d), _not_zero(1.0 + odd / c)
        value *= d * c
        if abs(d * c - 1.0) < CLOSE:
            break
    return min(1.0, math.exp(log_front) * value / a)


def _not_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
