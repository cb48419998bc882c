"""Padding: the mask says which ids are real, and what is real is unchanged."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.types import Encoded, Ragged
from minikin.feed.pad import padded

IDS = st.lists(st.lists(st.integers(0, 999), max_size=9), min_size=1, max_size=9)


@given(IDS, st.data())
def test_the_mask_gives_every_row_back(rows, data):
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6)))
    segments = [[1] * len(row) for row in rows]
    ids_BT, mask_BT, segments_BT = padded(Encoded(Ragged.of(rows), Ragged.of(segments)), chosen)
    assert (
        ids_BT.shape == mask_BT.shape == segments_BT.shape == (len(chosen), max(1, *(len(rows[i]) for i in chosen), 0))
    )
    for b, i in enumerate(chosen):
        assert ids_BT[b][mask_BT[b].bool()].tolist() == rows[i]
    assert torch.equal(segments_BT, mask_BT)
    assert (ids_BT * (1 - mask_BT)).sum() == 0


def test_single_texts_have_no_segments():
    assert padded(Encoded(Ragged.of([[5, 6]])), np.array([0]))[2] is None
