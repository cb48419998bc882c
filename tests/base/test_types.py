"""The values that stages hand over: splits, ragged rows, quantized tensors."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minikin.base import digest
from minikin.base.types import QuantizedTensor, Ragged, Split

ROWS = st.lists(st.lists(st.integers(0, 1000), max_size=6), max_size=8)


@given(ROWS)
def test_ragged_gives_its_rows_back(rows):
    ragged = Ragged.of(rows)
    assert [ragged[i].tolist() for i in range(len(ragged))] == rows
    assert ragged.lengths_N.tolist() == [len(r) for r in rows]


def test_a_split_takes_rows_in_the_order_asked():
    split = Split(["a", "b", "c"], np.array([0, 1, -1]), np.array([1, 2, 3]))
    taken = split.take(np.array([2, 0]))
    assert (taken.texts, taken.labels_N.tolist(), taken.rows_N.tolist()) == (["c", "a"], [-1, 0], [3, 1])


def test_blocks_that_do_not_divide_the_width():
    tensor = QuantizedTensor(np.array([[8, 9, 7, 15, 0]], np.uint8), np.array([[1.0, 2.0, 0.5]]), bits=4, block=2)
    np.testing.assert_allclose(tensor.dequantize(), [[0, 1, -2, 14, -4]])
    per_row = QuantizedTensor(np.array([[128, 0], [255, 129]], np.uint8), np.array([0.5, 2.0]), bits=8)
    np.testing.assert_allclose(per_row.dequantize(), [[0, -64], [254, 2]])


@given(st.lists(st.text(max_size=5) | st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=5))
def test_digests_of_texts_see_every_boundary(texts):
    assert digest.of_texts(texts) == digest.of_texts(list(texts))
    assert digest.of_texts([*texts, ""]) != digest.of_texts(texts)


def test_digests_tell_a_pair_from_two_texts():
    assert len({digest.of_texts(t) for t in (["a", "b"], [("a", "b")], ["ab"], [("ab", "")], [("", "ab")])}) == 5
    assert digest.of_value({"a": 1, "b": 2}) == digest.of_value({"b": 2, "a": 1})
    assert digest.of_texts(["\ud800"])
