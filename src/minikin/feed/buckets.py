"""Which examples go into which batch: bucketed by length, so that little is padded, and the same for one seed."""

from __future__ import annotations

import numpy as np

from minikin.base.types import Array

POOL_BATCHES = 50


def bucketed(lengths_N: Array, batch: int, seed: int, epoch: int) -> list[Array]:
    """Split a fresh permutation into batches of similar length; every example is in exactly one.

    The permutation is cut into pools of 50 batches; each pool is sorted by length and cut into batches, and
    the batches are shuffled. What a batch holds depends only on the arguments.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths_N))
    batches: list[Array] = []
    for start in range(0, len(order), batch * POOL_BATCHES):
        pool = order[start : start + batch * POOL_BATCHES]
        pool = pool[np.argsort(lengths_N[pool], kind="stable")]
        batches.extend(pool[i : i + batch] for i in range(0, len(pool), batch))
    return [batches[i] for i in rng.permutation(len(batches))]


def in_order(lengths_N: Array, batch: int) -> list[Array]:
    """Batches sorted by length, for inference."""
    order = np.argsort(lengths_N, kind="stable")
    return [order[i : i + batch] for i in range(0, len(order), batch)]
