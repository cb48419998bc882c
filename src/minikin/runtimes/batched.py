"""What the engines written in Python share: texts become ids, are batched by length, and are answered in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from minikin.base.types import Array

BATCH = 16
"""Texts of similar length that are computed together: about twice the throughput of single ones.

ONNX Runtime quantizes a batch's activations with one scale, so a probability can move a little with the neighbours
in a batch; with `batch=1` an answer depends on its text alone.
"""


class Prepared(Protocol):
    """One text as an engine wants it."""

    @property
    def length(self) -> int:
        """Number of tokens."""
        ...

    @property
    def truncated(self) -> bool:
        """Whether tokens were cut off."""
        ...


class BatchedEngine(ABC):
    """Answers lists of texts by batches of similar length. An engine says how to prepare and compute them."""

    batch = BATCH

    @abstractmethod
    def prepare(self, parts: tuple[str, ...]) -> Any:
        """Turn one text, or two, into ids."""

    @abstractmethod
    def compute_both(self, batch: Sequence[Any]) -> tuple[Array, Array]:
        """Return class probabilities (B, C) of texts of similar length, and the vectors (B, F) that they come from."""

    def compute(self, batch: Sequence[Any]) -> Array:
        """Return the probabilities alone; engines that save time by it say so here."""
        return self.compute_both(batch)[0]

    def both(self, texts: Sequence[tuple[str, ...]]) -> tuple[Array, Array, Sequence[bool]]:
        """Return probabilities (N, C), the vectors (N, F) that the classifier reads, and whether texts were cut off."""
        prepared = [self.prepare(parts) for parts in texts]
        cut_N = [one.truncated for one in prepared]
        if len(prepared) == 1:
            return *self.compute_both(prepared), cut_N
        widths: list[int] = []

        def joined(batch: Sequence[Any]) -> Array:
            rows_BC, pooled_BF = self.compute_both(batch)
            widths.append(rows_BC.shape[1])
            return np.concatenate([rows_BC, pooled_BF], axis=1)

        rows = self._in_order(prepared, joined)
        return rows[:, : widths[0]], rows[:, widths[0] :], cut_N

    def answer(self, texts: Sequence[tuple[str, ...]]) -> tuple[Array, Sequence[bool]]:
        """Return probabilities (N, C), and whether each text was cut off."""
        prepared = [self.prepare(parts) for parts in texts]
        return self._in_order(prepared, self.compute), [one.truncated for one in prepared]

    def _in_order(self, prepared: Sequence[Prepared], compute: Callable[[Sequence[Any]], Array]) -> Array:
        if len(prepared) == 1:
            return compute(prepared)
        order = sorted(range(len(prepared)), key=lambda i: prepared[i].length)
        starts = range(0, len(order), self.batch)
        parts = [compute([prepared[i] for i in order[start : start + self.batch]]) for start in starts]
        rows = np.concatenate(parts)
        result = np.empty_like(rows)
        result[order] = rows
        return result
