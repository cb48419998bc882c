"""From encoded texts to padded tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minikin.base.types import Array, Encoded, Ragged


def padded(encoded: Encoded, rows_B: Array) -> tuple[Tensor, Tensor, Tensor | None]:
    """Ids, mask and (for pairs) segments of the chosen rows, padded with 0 to the longest: int64 (B, T)."""
    lengths_B = encoded.ids.lengths_N[rows_B]
    width = max(1, int(lengths_B.max(initial=1)))
    mask_BT = np.arange(width)[None, :] < lengths_B[:, None]
    segments = encoded.segments
    return (
        _fill(encoded.ids, rows_B, mask_BT),
        torch.from_numpy(mask_BT.astype(np.int64)),
        None if segments is None else _fill(segments, rows_B, mask_BT),
    )


def _fill(rows: Ragged, rows_B: Array, mask_BT: Array) -> Tensor:
    out_BT = np.zeros(mask_BT.shape, np.int64)
    out_BT[mask_BT] = np.concatenate([rows[int(i)] for i in rows_B])
    return torch.from_numpy(out_BT)
