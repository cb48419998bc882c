"""Static students: a bag of token embeddings, with or without one gated convolution. numpy can run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minikin.base.types import Array, Outputs, Student


def config_of(
    *, hidden: int, vocabulary: int, classes: int, window: int = 0, pool: str = "mean", pair: bool = False
) -> dict[str, Any]:
    """Configuration of a static student; `window` is 0 (a bag) or the odd width of its convolution."""
    return {
        "model_type": "minikin-static",
        "hidden": hidden,
        "vocab_size": vocabulary,
        "window": window,
        "pool": pool,
        "pair": pair,
        "num_labels": classes,
    }


def features_width(config: Mapping[str, Any]) -> int:
    """Width of the vector that the head reads."""
    width = int(config["hidden"]) * (2 if config["pool"] == "mean-max" else 1)
    return width * 4 if config["pair"] else width


def grow(
    config: Mapping[str, Any],
    embeddings_VH: Array,
    tokenizer_json: str,
    labels: tuple[str, ...],
    max_length: int,
    seed: int,
) -> Student:
    """A static student that starts from `embeddings_VH`, such as the teacher's token outputs, reduced."""
    rng = np.random.default_rng(seed)
    hidden, window = int(config["hidden"]), int(config["window"])
    width = features_width(config)
    tensors: dict[str, Array] = {
        "embeddings_VH": np.asarray(embeddings_VH, np.float32),
        "head_weight": rng.normal(0, width**-0.5, (len(labels), width)).astype(np.float32),
        "head_bias": np.zeros(len(labels), np.float32),
    }
    if window:
        fan_in = window * hidden
        tensors["convolution_weight"] = rng.normal(0, fan_in**-0.5, (2 * hidden, fan_in)).astype(np.float32)
        tensors["convolution_bias"] = np.zeros(2 * hidden, np.float32)
    return Student("static", dict(config), tensors, tokenizer_json, labels, max_length)


class StaticModule(nn.Module):
    """The torch twin of runtimes/static.py, for training."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.config = dict(student.config)
        tensors = student.dequantized().tensors
        self.weights = nn.ParameterDict({k: nn.Parameter(torch.from_numpy(np.array(v))) for k, v in tensors.items()})

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, segments_BT: Tensor | None) -> Outputs:
        """Logits and the vector that the head reads."""
        x_BTH = F.embedding(ids_BT, self.weights["embeddings_VH"])
        if not self.config["pair"]:
            features_BF = self._pool(x_BTH, mask_BT)
        else:
            assert segments_BT is not None
            u_BH = self._pool(x_BTH, mask_BT * (segments_BT == 0))
            v_BH = self._pool(x_BTH, mask_BT * (segments_BT == 1))
            features_BF = torch.cat([u_BH, v_BH, (u_BH - v_BH).abs(), u_BH * v_BH], dim=-1)
        logits_BC = F.linear(features_BF, self.weights["head_weight"], self.weights["head_bias"])
        return Outputs(logits_BC, features_BF)

    def _pool(self, x_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        mask_BT1 = mask_BT.unsqueeze(-1).to(x_BTH.dtype)
        x_BTH = x_BTH * mask_BT1
        if self.config["window"]:
            x_BTH = (x_BTH + self._gated(x_BTH)) * mask_BT1
        mean_BH = x_BTH.sum(1) / mask_BT1.sum(1).clamp(min=1.0)
        if self.config["pool"] == "mean":
            return mean_BH
        max_BH = x_BTH.masked_fill(mask_BT1 == 0, -1e4).amax(1)
        max_BH = torch.where(mask_BT1.sum(1) > 0, max_BH, torch.zeros_like(max_BH))
        return torch.cat([mean_BH, max_BH], dim=-1)

    def _gated(self, x_BTH: Tensor) -> Tensor:
        half = int(self.config["window"]) // 2
        padded = F.pad(x_BTH, (0, 0, half, half))
        window = torch.cat([padded[:, i : i + x_BTH.shape[1]] for i in range(2 * half + 1)], dim=-1)
        value, gate = F.linear(window, self.weights["convolution_weight"], self.weights["convolution_bias"]).chunk(
            2, -1
        )
        return value * torch.sigmoid(gate)

    def to_student(self, like: Student) -> Student:
        """Return the trained weights as a value."""
        tensors = {k: v.detach().cpu().numpy().copy() for k, v in self.weights.items()}
        return replace(like, tensors=tensors, scheme="fp32")
