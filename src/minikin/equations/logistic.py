"""Logistic regression, isotonic regression and the area under the ROC curve, in numpy. Called by trust/."""

from __future__ import annotations

import numpy as np

from minikin.base.types import Array

STEPS_MOST = 50
CLOSE = 1e-8


def fit_logistic(features_NK: Array, right_N: Array, ridge: float = 1.0) -> tuple[Array, float]:
    """Weights (K,) and intercept of P(right) = σ(x·w + b), with a ridge penalty ½·`ridge`·|w|² on scaled features.

    Newton's method (iteratively reweighted least squares), halving steps that don't help. Raises ValueError for
    features that are not finite, or when all rows are right or all wrong. Source: Hastie et al. 2009, §4.4.1.
    """
    x_NK, y_N = np.asarray(features_NK, np.float64), np.asarray(right_N, np.float64)
    if not np.isfinite(x_NK).all() or len(x_NK) != len(y_N):
        raise ValueError("features must be finite, one row for each example")
    if y_N.min() == y_N.max():
        raise ValueError("some examples must be right and some wrong")
    mean_K, scale_K = x_NK.mean(0), x_NK.std(0)
    scale_K = np.where(scale_K > 1e-12, scale_K, 1.0)
    z_ND = np.column_stack([(x_NK - mean_K) / scale_K, np.ones(len(x_NK))])
    penalty_D = np.append(np.full(x_NK.shape[1], ridge), 1e-9)
    beta_D = np.zeros(z_ND.shape[1])
    loss = _loss(z_ND, y_N, beta_D, penalty_D)
    for _ in range(STEPS_MOST):
        p_N = 1.0 / (1.0 + np.exp(-np.clip(z_ND @ beta_D, -500, 500)))
        gradient_D = z_ND.T @ (p_N - y_N) + penalty_D * beta_D
        hessian_DD = (z_ND * (p_N * (1 - p_N))[:, None]).T @ z_ND + np.diag(penalty_D + 1e-9)
        step_D = np.linalg.solve(hessian_DD, gradient_D)
        while (tried := _loss(z_ND, y_N, beta_D - step_D, penalty_D)) > loss + CLOSE and np.abs(step_D).max() > CLOSE:
            step_D = step_D / 2
        beta_D, done, loss = beta_D - step_D, loss - tried < CLOSE, tried
        if done:
            break
    weights_K = beta_D[:-1] / scale_K
    return weights_K, float(beta_D[-1] - weights_K @ mean_K)


def isotonic(scores_N: Array, right_N: Array) -> tuple[Array, Array]:
    """The rising step function that is nearest to `right_N`: places and heights, for `np.interp`.

    Pool-adjacent-violators; equal scores are pooled first. Source: Barlow et al. 1972; Zadrozny & Elkan 2002.
    """
    places_P, group_N = np.unique(np.asarray(scores_N, np.float64), return_inverse=True)
    weights_P = np.bincount(group_N).astype(float)
    heights_P = np.bincount(group_N, np.asarray(right_N, np.float64)) / weights_P
    blocks: list[list[float]] = []
    for height, weight in zip(heights_P.tolist(), weights_P.tolist(), strict=True):
        blocks.append([height, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            h, w, n = blocks.pop()
            a, b, m = blocks[-1]
            blocks[-1] = [(a * b + h * w) / (b + w), b + w, m + n]
    return places_P, np.repeat([b[0] for b in blocks], [int(b[2]) for b in blocks])


def auroc(scores_N: Array, positive_N: Array) -> float | None:
    """Chance that a positive scores above a negative, ties halved (Mann–Whitney); None without both kinds."""
    positive_N = np.asarray(positive_N, bool)
    n, m = int(positive_N.sum()), int((~positive_N).sum())
    if not n or not m:
        return None
    _, group_N, counts_P = np.unique(np.asarray(scores_N, np.float64), return_inverse=True, return_counts=True)
    rank_P = np.cumsum(counts_P) - (counts_P - 1) / 2
    return float((rank_P[group_N][positive_N].sum() - n * (n + 1) / 2) / (n * m))


def _loss(z_ND: Array, y_N: Array, beta_D: Array, penalty_D: Array) -> float:
    logits_N = z_ND @ beta_D
    return float(np.logaddexp(0.0, logits_N).sum() - y_N @ logits_N + 0.5 * penalty_D @ beta_D**2)
