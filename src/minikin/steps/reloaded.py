"""A kin in PyTorch, reloaded by transformers from its own folder: the engine `torch`, to compare the others with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from minikin.base.errors import KinError
from minikin.base.manifest import Manifest
from minikin.base.types import Array
from minikin.runtimes import onnx


class Engine(onnx.Engine):
    """Answers as `AutoModelForSequenceClassification` does, from model.safetensors in float32."""

    name = "torch"

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        """Load tokenizer and weights. Raises KinError for a static kin, which transformers has no class for."""
        if manifest.family != "encoder":
            raise KinError(f"The kin in {folder} is {manifest.family}: PyTorch has no class for it. Use --engine onnx.")
        self._tokenizer = onnx.tokenizer_of(folder, manifest)
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self._model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
        self._model.eval()
        self._typed = self._model.config.type_vocab_size > 1

    def compute(self, batch: Sequence[onnx.Prepared]) -> Array:
        """Return class probabilities (B, C) of texts of similar length."""
        return self.compute_both(batch)[0]

    @torch.inference_mode()
    def compute_both(self, batch: Sequence[onnx.Prepared]) -> tuple[Array, Array]:
        """Return both from one forward pass."""
        feed: dict[str, Tensor] = {name: torch.from_numpy(rows) for name, rows in self._padded(batch).items()}
        pooled_BH = self._model.bert(**feed).pooler_output
        probabilities_BC = torch.softmax(self._model.classifier(pooled_BH), -1)
        return probabilities_BC.numpy(), pooled_BH.numpy()
