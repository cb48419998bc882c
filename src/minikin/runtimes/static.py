"""The engine of static kins: token embeddings, an optional gated convolution and a linear head, in numpy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minikin.base import tensors
from minikin.base.errors import KinError
from minikin.base.manifest import Manifest
from minikin.base.types import Array, QuantizedTensor, floats
from minikin.runtimes.batched import BatchedEngine
from minikin.runtimes.tokenize import Ids, Tokenizer

UNPACKED_LIMIT_BYTES = 32 << 20
"""Tables up to this size are unpacked once; of larger ones only the rows that a text uses."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Token ids of one text, or of each text of a pair, without special tokens."""

    parts: tuple[Ids, ...]
    truncated: bool

    @property
    def length(self) -> int:
        """Number of tokens."""
        return sum(len(part) for part in self.parts)


class Engine(BatchedEngine):
    """Answers with probabilities; holds nothing that changes between calls."""

    name = "numpy"

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        """Load tokenizer and weights; `threads` is up to numpy's own library. Raises KinError when they don't fit."""
        self._tokenizer = Tokenizer(folder / "tokenizer.json", manifest.max_length)
        held = tensors.unpack(*tensors.read(folder / manifest.model))
        try:
            config = json.loads((folder / "config.json").read_bytes())
            self._window, self._pool = int(config.get("window", 0)), str(config.get("pool", "mean"))
            self._pair = bool(config.get("pair", False))
            self._table = held["embeddings_VH"]
            self._head_FC = np.ascontiguousarray(floats(held["head_weight"]).T)
            self._bias_C = floats(held["head_bias"])
            if self._window:
                self._convolution = np.ascontiguousarray(floats(held["convolution_weight"]).T)
                self._convolution_bias = floats(held["convolution_bias"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise KinError(f"The files in {folder} do not fit together: {error!r}. Build the kin again.") from error
        if isinstance(self._table, QuantizedTensor) and self._table.q_RK.size * 4 <= UNPACKED_LIMIT_BYTES:
            self._table = self._table.dequantize()
        self._check(folder, len(manifest.labels))
        self._offsets = self._per_token() if self._window else []

    def prepare(self, parts: tuple[str, ...]) -> Prepared:
        """Turn one text, or two, into ids."""
        tokenizer = self._tokenizer
        if len(parts) == 1:
            first, truncated = tokenizer.ids(parts[0], tokenizer.max_length)
            return Prepared((first,), truncated)
        first, second, truncated = tokenizer.pair_ids(parts[0], parts[1], tokenizer.max_length)
        return Prepared((first, second), truncated)

    def compute_both(self, batch: Sequence[Prepared]) -> tuple[Array, Array]:
        """Return class probabilities (B, C) and the vectors (B, F) that they come from."""
        pooled_BF = self._features(batch)
        logits_BC: Array = pooled_BF @ self._head_FC
        logits_BC += self._bias_C
        logits_BC -= logits_BC.max(-1, keepdims=True)
        np.exp(logits_BC, out=logits_BC)
        logits_BC /= logits_BC.sum(-1, keepdims=True)
        return logits_BC, pooled_BF

    def _features(self, batch: Sequence[Prepared]) -> Array:
        """Return the vectors (B, F) that the head reads."""
        u_BP = self._pooled([one.parts[0] for one in batch])
        if not self._pair:
            return u_BP
        v_BP = self._pooled([one.parts[1] for one in batch])
        return np.concatenate([u_BP, v_BP, np.abs(u_BP - v_BP), u_BP * v_BP], axis=1)

    def _pooled(self, ids: Sequence[Ids]) -> Array:
        """Pool the tokens of each text: (B, H), or (B, 2H) for mean-max; zeros for a text without tokens."""
        return np.stack([self._one(one) for one in ids])

    def _one(self, ids: Ids) -> Array:
        ids_T = np.array(ids, np.intp)
        x_TH = self._rows(ids_T)
        if self._window and ids:
            y_T2H = self._convolved(ids_T, x_TH)
            value_TH, gate_TH = y_T2H[:, : x_TH.shape[1]], y_T2H[:, x_TH.shape[1] :]
            # σ(g) = (1 + tanh(g / 2)) / 2, which can't overflow.
            x_TH = x_TH + value_TH * (0.5 * np.tanh(0.5 * gate_TH) + 0.5)
        mean_H: Array = x_TH.sum(0) * np.float32(1.0 / max(1, len(ids)))
        if self._pool == "mean":
            return mean_H
        return np.concatenate([mean_H, x_TH.max(0) if ids else mean_H])

    def _convolved(self, ids_T: Array, x_TH: Array) -> Array:
        """Return the convolution's output (T, 2H); what lies outside the text counts as zeros."""
        half, length = self._window // 2, len(ids_T)
        if not self._offsets:
            padded = np.zeros((length + 2 * half, x_TH.shape[1]), np.float32)
            padded[half : half + length] = x_TH
            windows = np.concatenate([padded[i : i + length] for i in range(self._window)], axis=1)
            flat: Array = windows @ self._convolution + self._convolution_bias
            return flat
        y_T2H: Array = np.take(self._offsets[half], ids_T, axis=0)
        for step in range(1, min(half, length - 1) + 1):
            y_T2H[step:] += np.take(self._offsets[half - step], ids_T[:-step], axis=0)
            y_T2H[:-step] += np.take(self._offsets[half + step], ids_T[step:], axis=0)
        return y_T2H

    def _per_token(self) -> list[Array]:
        """Multiply the convolution with every embedding once: one table (V, 2H) per place in the window.

        A token's share of its neighbours' outputs depends on the token alone, so that looking it up replaces
        the product (a third of the time). Empty where the tables would be too large.
        """
        table = self._table
        if isinstance(table, QuantizedTensor) or len(table) * self._convolution.size * 4 > (
            UNPACKED_LIMIT_BYTES * table.shape[1]
        ):
            return []
        width = table.shape[1]
        tables = [table @ self._convolution[i * width : (i + 1) * width] for i in range(self._window)]
        tables[self._window // 2] += self._convolution_bias
        return tables

    def _rows(self, ids_T: Array) -> Array:
        table = self._table
        if not isinstance(table, QuantizedTensor):
            return np.take(table, ids_T, axis=0)
        return table.rows(ids_T).dequantize()

    def _check(self, folder: Path, classes: int) -> None:
        """Refuse weights whose shapes do not fit each other or the labels."""
        shape = self._table.q_RK.shape if isinstance(self._table, QuantizedTensor) else self._table.shape
        width = shape[1] * (2 if self._pool == "mean-max" else 1) * (4 if self._pair else 1)
        fits = self._head_FC.shape == (width, classes) and self._bias_C.shape == (classes,)
        if self._window:
            fits = fits and self._convolution.shape == (self._window * shape[1], 2 * shape[1])
        if not fits:
            raise KinError(f"The weights in {folder} do not fit its config.json and labels. Build the kin again.")
