"""The front of candidates that nothing beats in size, latency and accuracy at once. Called by plan/."""

from __future__ import annotations

import numpy as np

from minikin.base.types import Array


def front(points_N3: Array) -> Array:
    """Mask (N,) of the points that no other point dominates; equal points are all kept.

    Columns: size (less is better), latency (less is better), accuracy (more is better). A point dominates
    another when it is no worse in every column and better in one.
    """
    costs_N3 = _finite(points_N3) * np.array([1.0, 1.0, -1.0])
    no_worse_NN = (costs_N3[:, None] <= costs_N3[None]).all(-1)
    better_NN = (costs_N3[:, None] < costs_N3[None]).any(-1)
    return np.asarray(~(no_worse_NN & better_NN).any(0))


def knee(points_N3: Array) -> int:
    """Index of the front's knee: where accuracy stands highest above the straight trade with cost.

    Over the front, accuracy and the logarithms of size and latency are scaled to [0, 1]; cost is the mean of
    the two scaled logarithms; the knee maximises accuracy − cost; a tie goes to
    the cheaper, faster, smaller. This is the "difference curve" of Kneedle (Satopää et al. 2011, §III) with
    a logarithmic cost.
    """
    points_N3 = _finite(points_N3)
    if (points_N3[:, :2] <= 0).any():
        raise ValueError("sizes and latencies must be above 0")
    on_F = np.flatnonzero(front(points_N3))
    cost_F = np.mean([_unit(np.log(points_N3[on_F, column])) for column in (0, 1)], axis=0)
    height_F = np.round(_unit(points_N3[on_F, 2]) - cost_F, 9)
    ties = (points_N3[on_F, 0], points_N3[on_F, 1], np.round(cost_F, 9), -height_F)
    return int(on_F[np.lexsort(ties)[0]])


def _unit(values_F: Array) -> Array:
    """Values scaled to [0, 1]; zeros when they are all equal."""
    spread = np.ptp(values_F)
    return np.asarray((values_F - values_F.min()) / spread if spread > 0 else np.zeros(len(values_F)))


def _finite(points_N3: Array) -> Array:
    points_N3 = np.asarray(points_N3, np.float64)
    if points_N3.ndim != 2 or points_N3.shape[1] != 3 or not len(points_N3) or not np.isfinite(points_N3).all():
        raise ValueError("need finite points of (size, latency, accuracy), at least one")
    return points_N3
