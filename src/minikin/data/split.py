"""Disjoint, stratified, seeded splits, with near-duplicates kept on one side. Called by `load`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minikin.base.types import Array

REST = "rest"


def make(labels_N: Array, shares: Mapping[str, float], seed: int, *, groups_N: Array | None = None) -> dict[str, Array]:
    """Return sorted, disjoint index arrays that cover all N rows: one per name in `shares`, and `"rest"`.

    Each class gives every split its share (largest remainders, ties by lot) and keeps at least one row in
    `"rest"`. Rows with equal `groups_N` go to one side; where groups are large a split gets fewer rows.

    Raises:
        ValueError: the shares don't leave anything, or one is not between 0 and 1.
    """
    if sum(shares.values()) >= 1 or any(not 0 <= share < 1 for share in shares.values()):
        raise ValueError(f"shares must lie in [0, 1) and leave something over, got {dict(shares)}")
    labels_N = np.asarray(labels_N)
    rng = np.random.default_rng(seed)
    groups_N = np.arange(len(labels_N)) if groups_N is None else np.unique(groups_N, return_inverse=True)[1]
    _, first_G, sizes_G = np.unique(groups_N, return_index=True, return_counts=True)
    # A group counts as a member of its first row's class; near-duplicates nearly always share one.
    classes, class_G = np.unique(labels_N[first_G], return_inverse=True)
    totals_C = np.bincount(class_G, weights=sizes_G, minlength=len(classes)).astype(np.int64)
    quotas = _quotas(totals_C, shares, rng)
    side_G = np.full(len(sizes_G), -1)
    shuffled = rng.permutation(len(sizes_G))
    by_class = shuffled[np.argsort(class_G[shuffled], kind="stable")]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(class_G, minlength=len(classes)))])
    for c in range(len(classes)):
        _fill(by_class[bounds[c] : bounds[c + 1]], sizes_G, [q_C[c] for q_C in quotas], side_G)
    side_N = side_G[groups_N]
    _bring_back(labels_N, groups_N, side_N)
    chosen = {name: np.flatnonzero(side_N == k) for k, name in enumerate(shares)}
    return {**chosen, REST: np.flatnonzero(side_N == -1)}


def _quotas(totals_C: Array, shares: Mapping[str, float], rng: np.random.Generator) -> list[Array]:
    """Return rows of each class for each split, as near to the shares as whole rows allow."""
    left_C = np.maximum(totals_C - 1, 0)
    quotas = []
    for share in shares.values():
        exact_C = totals_C * share
        quota_C = np.minimum(np.floor(exact_C).astype(np.int64), left_C)
        missing = round(int(totals_C.sum()) * share) - int(quota_C.sum())
        remainder_C = exact_C - quota_C + rng.random(len(totals_C)) * 1e-6
        for c in np.argsort(-remainder_C):
            if missing > 0 and quota_C[c] < left_C[c] and exact_C[c] > quota_C[c]:
                quota_C[c] += 1
                missing -= 1
        left_C = left_C - quota_C
        quotas.append(quota_C)
    return quotas


def _fill(groups: Array, sizes_G: Array, quotas: list[int], side_G: Array) -> None:
    """Give one class's shuffled groups to the splits until each quota is met; what is left stays."""
    left = [int(quota) for quota in quotas]
    for g in groups:
        if not any(left):
            return
        for k, room in enumerate(left):
            if 0 < sizes_G[g] <= room:
                side_G[g] = k
                left[k] -= int(sizes_G[g])
                break


def _bring_back(labels_N: Array, groups_N: Array, side_N: Array) -> None:
    """Bring one group back to the rest for every class that has lost all its rows to groups led by others."""
    for lost in np.setdiff1d(labels_N, labels_N[side_N == -1]):
        group = groups_N[np.flatnonzero(labels_N == lost)[0]]
        side_N[groups_N == group] = -1
