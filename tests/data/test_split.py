import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikin.data.split import REST, make

SHARES = {"test": 0.2, "validation": 0.1, "calibration": 0.1}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=120), st.integers(0, 3), st.integers(1, 6))
def test_splits_are_disjoint_cover_all_and_leave_each_class_a_row(labels: list[int], seed: int, spread: int) -> None:
    labels_N = np.array(labels)
    groups_N = np.random.default_rng(seed).integers(0, max(1, len(labels) // spread), len(labels))
    for groups in (None, groups_N):
        made = make(labels_N, SHARES, seed, groups_N=groups)
        assert sorted(np.concatenate(list(made.values())).tolist()) == list(range(len(labels)))
        assert set(labels_N[made[REST]]) == set(labels)
        if groups is not None:
            for a in made:
                assert not any(set(groups[made[a]]) & set(groups[made[b]]) for b in made if b != a)


def test_shares_are_kept_for_each_class() -> None:
    labels_N = np.repeat([0, 1, 2], [1000, 100, 10])
    made = make(labels_N, SHARES, 0)
    assert [len(made[name]) for name in (*SHARES, REST)] == [222, 111, 111, 666]
    assert np.bincount(labels_N[made["test"]]).tolist() == [200, 20, 2]
    assert np.bincount(labels_N[made["validation"]]).tolist() == [100, 10, 1]


def test_seed_decides() -> None:
    labels_N = np.arange(500) % 5
    first, again, other = (make(labels_N, SHARES, seed) for seed in (1, 1, 2))
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["test"] != other["test"]).any()


def test_a_giant_group_stays_where_training_is() -> None:
    made = make(np.zeros(100, int), {"test": 0.2}, 0, groups_N=np.array([0] * 90 + list(range(1, 11))))
    assert set(range(90)) <= set(made[REST].tolist())
    assert len(made["test"]) == 10


def test_no_shares_leaves_all_and_impossible_ones_are_refused() -> None:
    assert make(np.zeros(3, int), {}, 0)[REST].tolist() == [0, 1, 2]
    for shares in ({"test": 1.0}, {"test": -0.1}, {"a": 0.5, "b": 0.5}):
        with pytest.raises(ValueError, match="shares"):
            make(np.zeros(3, int), shares, 0)


def test_a_class_that_only_follows_in_the_groups_of_others_keeps_a_row() -> None:
    # The one row of class 1 is the near-duplicate of a row of class 0 and comes after it.
    labels_N, groups_N = np.array([0, 1, 0, 0, 0, 0]), np.array([0, 0, 1, 2, 3, 4])
    for seed in range(20):
        made = make(labels_N, {"test": 0.5}, seed, groups_N=groups_N)
        assert set(labels_N[made[REST]]) == {0, 1}
        assert len(made["test"]) > 0
