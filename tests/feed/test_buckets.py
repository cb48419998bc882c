"""Batches: each example in exactly one, of similar length, the same for one seed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minikin.feed.buckets import bucketed, in_order

LENGTHS = st.lists(st.integers(0, 64), max_size=300).map(np.array)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_every_example_is_in_exactly_one_batch(lengths_N, batch, seed, epoch):
    batches = bucketed(lengths_N, batch, seed, epoch)
    assert sorted(i for rows in batches for i in rows) == list(range(len(lengths_N)))
    assert all(0 < len(rows) <= batch for rows in batches)
    assert len(batches) == -(-len(lengths_N) // batch)


@given(LENGTHS, st.integers(1, 40))
def test_inference_goes_through_every_example_by_length(lengths_N, batch):
    order = [i for rows in in_order(lengths_N, batch) for i in rows]
    assert sorted(order) == list(range(len(lengths_N)))
    assert list(lengths_N[order]) == sorted(lengths_N)


def test_batches_depend_on_seed_and_epoch_alone():
    lengths_N = np.random.default_rng(0).integers(1, 60, 500)
    first, again = bucketed(lengths_N, 16, 3, 1), bucketed(lengths_N, 16, 3, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (bucketed(lengths_N, 16, 3, 2), bucketed(lengths_N, 16, 4, 1)):
        assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_little_is_padded():
    lengths_N = np.random.default_rng(0).integers(1, 60, 3200)
    padded = sum(lengths_N[rows].max() * len(rows) for rows in bucketed(lengths_N, 32, 0, 0))
    assert padded < 1.05 * lengths_N.sum()
