"""A student as a torch module, whatever its family, and as a runtime: the training-time reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from minikin.base.types import Array, Encoded, Student, Text
from minikin.equations.calibration import softmax
from minikin.feed.buckets import in_order
from minikin.feed.pad import padded
from minikin.feed.tokens import encode
from minikin.students.encoder import EncoderModule
from minikin.students.static import StaticModule, features_width


def to_module(student: Student, *, inside: bool = False) -> EncoderModule | StaticModule:
    """The module that trains a classifier; `inside` makes an encoder return hidden states, attention and relations.

    A decoder becomes a model of transformers (feed/causal.py).
    """
    if student.family == "static":
        return StaticModule(student)
    return EncoderModule(student, inside=inside)


def widths(student: Student) -> dict[str, int]:
    """Widths of the `pooled` vector and of the `hidden` states."""
    if student.family == "static":
        return {"pooled": features_width(student.config)}
    return {"pooled": int(student.config["hidden_size"]), "hidden": int(student.config["hidden_size"])}


def tokens(student: Student, texts: Sequence[Text]) -> Encoded:
    """Token ids as the student reads them."""
    return encode(student.tokenizer_json, texts, student.max_length, special=student.family == "encoder")


class TorchRuntime:
    """A student in PyTorch, in float32: what the shipped file is compared with. Meets `Runtime`."""

    def __init__(self, student: Student) -> None:
        self.student, self.labels = student, student.labels
        self.module: nn.Module = to_module(student)
        self.module.eval()

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Class probabilities (N, C)."""
        encoded = tokens(self.student, texts)
        out_NC = np.zeros((len(encoded), len(self.labels)), np.float32)
        for rows_B in in_order(encoded.ids.lengths_N, 64):
            out_NC[rows_B] = self.module(*padded(encoded, rows_B)).logits_BC.numpy()
        return softmax(out_NC, self.student.temperature)
