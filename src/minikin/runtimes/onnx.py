"""The engine of encoder kins: ONNX Runtime on the CPU, one session shared by all threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base.errors import KinError
from minikin.base.manifest import Manifest
from minikin.base.types import Array
from minikin.runtimes.batched import BatchedEngine
from minikin.runtimes.tokenize import Ids, Tokenizer


@dataclass(frozen=True, slots=True)
class Prepared:
    """Token ids of one text with its special tokens, and where the second text of a pair begins."""

    ids: Ids
    second: int
    truncated: bool

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.ids)


class Engine(BatchedEngine):
    """Answers with probabilities; holds nothing that changes between calls."""

    name = "onnx"

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        """Load tokenizer and session. Raises KinError when the model can't be loaded."""
        self._tokenizer = tokenizer_of(folder, manifest)
        self._session = _session(folder / manifest.model, threads)
        names = {entry.name for entry in self._session.get_inputs()}
        outputs = {entry.name: entry.shape[-1] for entry in self._session.get_outputs()}
        if not names <= {"input_ids", "attention_mask", "token_type_ids"} or outputs.get("probabilities") != len(
            manifest.labels
        ):
            raise KinError(f"{folder / manifest.model} does not fit {folder / 'minikin.json'}. Build the kin again.")
        self._typed = "token_type_ids" in names
        # The binding's own run saves the checks of the Python wrapper, a tenth of a small model's time.
        self._run = self._session._sess.run
        self._ones = [np.ones((1, n), np.int64) for n in range(manifest.max_length + 1)]
        self._zeros = [np.zeros((1, n), np.int64) for n in range(manifest.max_length + 1)]

    def prepare(self, parts: tuple[str, ...]) -> Prepared:
        """Turn one text, or two, into ids."""
        tokenizer = self._tokenizer
        if len(parts) == 1:
            first, truncated = tokenizer.ids(parts[0], tokenizer.max_length - 2)
            ids = [tokenizer.cls_id, *first, tokenizer.sep_id]
            return Prepared(ids, len(ids), truncated)
        first, second, truncated = tokenizer.pair_ids(parts[0], parts[1], tokenizer.max_length - 3)
        head = [tokenizer.cls_id, *first, tokenizer.sep_id]
        return Prepared([*head, *second, tokenizer.sep_id], len(head), truncated)

    def compute(self, batch: Sequence[Prepared]) -> Array:
        """Return class probabilities (B, C) of texts of similar length."""
        return self._outputs(["probabilities"], batch)[0]

    def compute_both(self, batch: Sequence[Prepared]) -> tuple[Array, Array]:
        """Return both from one run of the session."""
        rows_BC, pooled_BH = self._outputs(["probabilities", "pooled"], batch)
        return rows_BC, pooled_BH

    def _outputs(self, names: list[str], batch: Sequence[Prepared]) -> list[Array]:
        if len(batch) == 1:
            one = batch[0]
            length = len(one.ids)
            feed = {"input_ids": np.array([one.ids], np.int64), "attention_mask": self._ones[length]}
            if self._typed:
                feed["token_type_ids"] = self._zeros[length] if one.second == length else _types(batch, length)
        else:
            feed = self._padded(batch)
        results: list[Array] = self._run(names, feed, None)
        return results

    def _padded(self, batch: Sequence[Prepared]) -> dict[str, Array]:
        width = max(one.length for one in batch)
        ids_BT = np.zeros((len(batch), width), np.int64)
        mask_BT = np.zeros((len(batch), width), np.int64)
        for row, one in enumerate(batch):
            ids_BT[row, : one.length] = one.ids
            mask_BT[row, : one.length] = 1
        feed = {"input_ids": ids_BT, "attention_mask": mask_BT}
        if self._typed:
            feed["token_type_ids"] = _types(batch, width)
        return feed


def tokenizer_of(folder: Path, manifest: Manifest) -> Tokenizer:
    """Open an encoder's tokenizer. Raises KinError for one that frames no text."""
    tokenizer = Tokenizer(folder / "tokenizer.json", manifest.max_length)
    if tokenizer.cls_id < 0:
        raise KinError(f"{folder / 'tokenizer.json'} adds no [CLS] and [SEP]. Build the kin again.")
    if manifest.max_length < 4:
        raise KinError(f"{folder / 'minikin.json'} allows {manifest.max_length} tokens, too few for any text.")
    return tokenizer


def _types(batch: Sequence[Prepared], width: int) -> Array:
    types_BT = np.zeros((len(batch), width), np.int64)
    for row, one in enumerate(batch):
        types_BT[row, one.second : one.length] = 1
    return types_BT


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Without the arena a small model is as fast and holds less; idle threads sleep instead of spinning.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own classes, one per status code
        raise KinError(f"ONNX Runtime can't load {path}: {error}. Build the kin again.") from error
