"""From packed rows to tensors: ids, documents and the positions that restart with each. Used to teach and to learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from minikin.base.types import Array
from minikin.base.writing import Packed


@dataclass(frozen=True)
class Tokens:
    """B packed rows as tensors; columns in which every row is padding are left out."""

    ids_BT: Tensor
    documents_BT: Tensor
    learnt_BT: Tensor
    positions_BT: Tensor

    @property
    def learnt_M(self) -> Tensor:
        """Ids of the learnt tokens, in row-major order."""
        return self.ids_BT[self.learnt_BT]

    def before_learnt(self, states_BTH: Tensor) -> Tensor:
        """The states (M, H) that predict the learnt tokens: each is that of the token before."""
        return states_BTH[:, :-1][self.learnt_BT[:, 1:]]

    def of_prompts(self, states_BTH: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (M,) of the tokens that are not learnt, but for the first of each document, and the states (M, H) that
        predict them."""
        read_BT = (self.documents_BT > 0) & ~self.learnt_BT & (self.positions_BT > 0)
        return self.ids_BT[read_BT], states_BTH[:, :-1][read_BT[:, 1:]]

    def to(self, device: torch.device) -> Tokens:
        """The same rows on another device."""
        return Tokens(*(x.to(device) for x in (self.ids_BT, self.documents_BT, self.learnt_BT, self.positions_BT)))


def tokens(packed: Packed, rows_B: Array) -> Tokens:
    """The chosen rows, cut to the longest of them."""
    documents_BT = np.asarray(packed.documents_NT[rows_B], np.int64)
    used_T = np.flatnonzero(documents_BT.any(0))
    width = int(used_T[-1]) + 1 if len(used_T) else 1
    return Tokens(
        torch.from_numpy(np.asarray(packed.ids_NT[rows_B, :width], np.int64)),
        torch.from_numpy(documents_BT[:, :width]),
        torch.from_numpy(np.asarray(packed.learnt_NT[rows_B, :width], bool)),
        torch.from_numpy(positions(documents_BT[:, :width])),
    )


def positions(documents_BT: Array) -> Array:
    """Position of each token in its own document (B, T); 0 for padding, which so never outgrows a position table."""
    at_T = np.arange(documents_BT.shape[1])
    starts_BT = np.ones(documents_BT.shape, bool)
    starts_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    began_BT = np.maximum.accumulate(np.where(starts_BT, at_T, 0), axis=1)
    return np.where(documents_BT > 0, at_T - began_BT, 0).astype(np.int64)


def learnt_offsets(packed: Packed) -> Array:
    """Where each row's learnt tokens begin among all of them (N + 1,)."""
    counts_N = np.asarray(packed.learnt_NT).sum(1, dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_N)])
