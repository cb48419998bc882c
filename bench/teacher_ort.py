"""The peer that most people would ship: the tuned teacher, exported by torch.onnx and quantized by ONNX Runtime."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from minikin.base.types import Array, Text
from minikin.feed.buckets import in_order
from minikin.feed.pad import padded
from minikin.teachers.local import LocalTeacher


class OrtTeacher:
    """The exported teacher behind transformers' fast tokenizer, on one thread. Meets `Runtime`."""

    def __init__(self, teacher: LocalTeacher, folder: Path, *, pair: bool = False, int8: bool = True) -> None:
        self.labels, self.max_length = teacher.labels, teacher.max_length
        started = time.perf_counter()
        model = _exported(teacher, folder / "teacher.onnx", pair)
        if int8:
            logging.getLogger().setLevel(logging.ERROR)
            quantize_dynamic(model, folder / "teacher-int8.onnx", weight_type=QuantType.QInt8)
            model = folder / "teacher-int8.onnx"
        (folder / "tokenizer.json").write_text(teacher.tokenizer_json, encoding="utf-8")
        self.build_s = time.perf_counter() - started
        self.size_mib = (model.stat().st_size + (folder / "tokenizer.json").stat().st_size) / 2**20
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.names = {entry.name for entry in self.session.get_inputs()}
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Class probabilities (N, C), batched by length."""
        if len(texts) == 1:
            return self._run(self._tokens(texts))
        order = [len(t) if isinstance(t, str) else len(t[0]) + len(t[1]) for t in texts]
        out_NC = np.zeros((len(texts), len(self.labels)), np.float32)
        for rows_B in in_order(np.array(order), 32):
            out_NC[rows_B] = self._run(self._tokens([texts[i] for i in rows_B]))
        return out_NC

    def _tokens(self, texts: Sequence[Text]) -> dict[str, Array]:
        single = isinstance(texts[0], str)
        sides: list[Any] = [list(texts)] if single else [[t[0] for t in texts], [t[1] for t in texts]]
        feed = self.tokenizer(
            *sides,
            truncation=True,
            max_length=self.max_length,
            padding=len(texts) > 1,
            return_tensors="np",
            return_token_type_ids=True,
        )
        return {name: np.asarray(value, np.int64) for name, value in feed.items() if name in self.names}

    def _run(self, feed: dict[str, Array]) -> Array:
        logits_BC = self.session.run(None, feed)[0]
        exponent_BC = np.exp(logits_BC - logits_BC.max(-1, keepdims=True))
        return np.asarray(exponent_BC / exponent_BC.sum(-1, keepdims=True))


class _Logits(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
        logits_BC: Tensor = self.module(ids_BT, mask_BT, segments_BT).logits_BC
        return logits_BC


def _exported(teacher: LocalTeacher, path: Path, pair: bool) -> Path:
    """Trace the teacher into a float32 ONNX file with free batch and length."""
    # of two lengths, so that the mask has something to hide and is traced
    example: list[Text] = ["a question about my card", "help"]
    if pair:
        example = [("a question about my card", "another one"), ("help", "me")]
    ids_BT, mask_BT, segments_BT = padded(teacher.encode(example), np.arange(2))
    inputs = (ids_BT, mask_BT) if segments_BT is None else (ids_BT, mask_BT, segments_BT)
    names = ["input_ids", "attention_mask", "token_type_ids"][: len(inputs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(teacher.module).eval(),
            inputs,
            str(path),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**{n: {0: "batch", 1: "tokens"} for n in names}, "logits": {0: "batch"}},
            opset_version=17,
            # the newer exporter writes shapes that quantize_dynamic refuses (onnxruntime 1.31)
            dynamo=False,
        )
    return path
