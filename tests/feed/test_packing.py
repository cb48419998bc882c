import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.types import Ragged
from minikin.feed.packing import Documents, opened, pack


def made(lengths, seed=0):
    """Documents whose every token is another number, so that each can be found again."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = Ragged(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets)
    return Documents(ids, Ragged(rng.random(offsets[-1]) < 0.6, offsets))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(2, 17), st.integers(0, 3))
def test_every_token_is_in_one_place_and_boundaries_are_right(lengths, width, seed):
    documents = made(lengths, seed)
    packed = pack(documents, width, seed=seed)
    there = packed.documents_NT > 0
    assert sorted(packed.ids_NT[there].tolist()) == documents.ids.values.tolist()
    assert not packed.learnt_NT[~there].any()
    learnt = documents.learnt.values
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for ids_T, numbers_T, learnt_T in zip(packed.ids_NT, packed.documents_NT, packed.learnt_NT, strict=True):
        count = int(numbers_T.max())
        assert numbers_T[numbers_T > 0].tolist() == sorted(numbers_T[numbers_T > 0].tolist())
        for number in range(1, count + 1):
            tokens = ids_T[numbers_T == number]
            assert np.diff(np.flatnonzero(numbers_T == number)).tolist() == [1] * (len(tokens) - 1)
            assert np.diff(tokens).tolist() == [1] * (len(tokens) - 1)
            assert len(set(owner[tokens - 1])) == 1
            assert not learnt_T[numbers_T == number][0]
            assert learnt_T[numbers_T == number][1:].tolist() == learnt[tokens - 1][1:].tolist()


@given(st.lists(st.integers(1, 16), min_size=1, max_size=200))
def test_rows_are_filled_well(lengths):
    used_N = np.sort((np.asarray(pack(made(lengths), 16).documents_NT) > 0).sum(1))
    # no two rows could have been one: so fewer than twice as many as are needed
    assert len(used_N) < 2 or used_N[0] + used_N[1] > 16


def test_the_seed_decides_and_nothing_else(tmp_path):
    documents = made([5, 9, 2, 7, 7, 3, 11, 1] * 4)
    one, same, other = (pack(documents, 12, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.ids_NT, same.ids_NT)
    assert not np.array_equal(one.ids_NT, other.ids_NT)
    mapped = pack(documents, 12, seed=1, folder=tmp_path / "rows")
    assert isinstance(mapped.ids_NT, np.memmap)
    for name in ("ids_NT", "documents_NT", "learnt_NT"):
        assert np.array_equal(getattr(mapped, name), getattr(one, name))
        assert np.array_equal(getattr(opened(tmp_path / "rows"), name), getattr(one, name))
