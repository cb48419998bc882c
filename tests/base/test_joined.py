"""A joined view is the list of its parts, whatever their kinds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.joined import Joined, evenly

PARTS = st.lists(st.lists(st.integers()), max_size=5)


@given(PARTS, st.slices(12))
def test_it_is_the_concatenation(parts, cut):
    flat, joined = [x for part in parts for x in part], Joined(parts)
    assert len(joined) == len(flat)
    assert list(joined) == flat
    assert joined[cut] == flat[cut]
    assert [joined[i] for i in range(-len(flat), len(flat))] == flat + flat
    assert [joined[int(i)] for i in np.arange(len(flat))] == flat
    for beyond in (len(flat), -len(flat) - 1):
        with pytest.raises(IndexError):
            joined[beyond]


def test_parts_are_not_copied():
    part = range(10**9)
    joined = Joined([part, ["end"]])
    assert joined[10**9] == "end"
    assert joined[12345] == 12345
    assert "end" in Joined([["a"], ["end"]])


@pytest.mark.parametrize(
    ("items", "count", "taken"),
    [
        ("abcdefgh", 4, ["a", "c", "e", "g"]),
        ("abcdefgh", 3, ["a", "c", "f"]),
        ("abc", 9, ["a", "b", "c"]),
        ("", 3, []),
        (Joined(["ab", "cd"]), 2, ["a", "c"]),
    ],
)
def test_items_at_even_distances(items, count, taken):
    assert evenly(items, count) == taken
