"""The ONNX graph of an encoder student, written by hand for low latency at batch 1; package/kin calls it.

Chosen by measurement at batch 1, 12 tokens, one thread: attention fused with its projections (two thirds of the
time of separate products); residual sums apart from LayerNormalization (a third of the time of the fused
SkipLayerNormalization, which ONNX Runtime's CPU provider does not vectorise); DynamicQuantizeMatMul (half the time
of MatMulNBits at 8 or 4 bits); and after the last attention only the [CLS] row, as the classifier reads no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from minikin.base.errors import UserError
from minikin.base.types import Array, QuantizedTensor, Student, Weights, floats
from minikin.package.graph import MICROSOFT, Graph

ACTIVATIONS: Final = {
    "gelu": ("Gelu", MICROSOFT),
    "gelu_new": ("FastGelu", MICROSOFT),
    "gelu_pytorch_tanh": ("FastGelu", MICROSOFT),
    "relu": ("Relu", ""),
    "tanh": ("Tanh", ""),
}
INT32: Final = 6


def encoder(student: Student) -> bytes:
    """Return the ONNX model of a BertForSequenceClassification student.

    Inputs: input_ids, attention_mask, and token_type_ids where the student has more than one token type; int64
    (batch, sequence). Outputs: logits (batch, C), pooled (batch, H), and probabilities (batch, C), the
    softmax of the logits. Sequences may be up to `student.max_length` tokens. Raises UserError for an
    architecture or activation that this graph does not know.
    """
    _check(student)
    return _Bert(student).build()


def _check(student: Student) -> None:
    if student.family != "encoder":
        raise UserError(f"Only encoder students become ONNX files; this one is {student.family}.")
    activation = student.config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise UserError(f"No ONNX operator for hidden_act={activation!r}. Use one of {', '.join(ACTIVATIONS)}.")
    if student.config.get("position_embedding_type", "absolute") != "absolute":
        raise UserError("Only absolute position embeddings can be exported.")


class _Bert:
    """Writes one student's graph, part by part."""

    def __init__(self, student: Student) -> None:
        self.student, self.graph = student, Graph()
        self.layers = int(student.config["num_hidden_layers"])
        self.heads = int(student.config["num_attention_heads"])
        self.activation, self.domain = ACTIVATIONS[student.config.get("hidden_act", "gelu")]
        self.typed = len(self.array("bert.embeddings.token_type_embeddings.weight")) > 1
        self.first = self.graph.constant(np.array(0))

    def build(self) -> bytes:
        graph = self.graph
        x = self.embedded()
        mask = graph.node("Cast", ["attention_mask"], to=INT32)
        for i in range(self.layers):
            x = self.layer(f"bert.encoder.layer.{i}", x, mask, last=i == self.layers - 1)
        if not self.layers:
            x = self.cls(x)
        # in float32: a hundredth of the time, and half of what 8-bit arithmetic moves the logits by
        pooled = graph.node("Tanh", [self.linear("bert.pooler.dense", x, flat=True, exact=True)], name="pooled")
        logits = self.linear("classifier", pooled, flat=True, exact=True, name="logits")
        graph.node("Softmax", [logits], axis=-1, name="probabilities")
        classes, width = len(self.student.labels), int(self.student.config["hidden_size"])
        inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if self.typed else [])]
        return graph.serialize(inputs, [("logits", classes), ("pooled", width), ("probabilities", classes)])

    def embedded(self) -> str:
        """Words + positions + token types, normalised: (B, T, H)."""
        graph, part = self.graph, "bert.embeddings"
        words = graph.gather(self.tensor(f"{part}.word_embeddings.weight"), "input_ids")
        projection = f"{part}.word_embeddings.projection.weight"
        if projection in self.student.tensors:
            nothing_H = np.zeros(int(self.student.config["hidden_size"]), np.float32)
            words = graph.linear(words, self.tensor(projection), nothing_H)
        table = graph.table(first_rows(self.tensor(f"{part}.position_embeddings.weight"), self.student.max_length))
        types = self.array(f"{part}.token_type_embeddings.weight")
        if not self.typed:
            table = graph.node("Add", [table, graph.constant(types[0])])
        length = graph.node("Shape", ["input_ids"], start=1, end=2)
        zero = graph.constant(np.array([0]))
        addends = [words, graph.node("Slice", [table, zero, length, zero])]
        if self.typed:
            addends.append(graph.node("Gather", [graph.constant(types), "token_type_ids"]))
        return self.normalised(f"{part}.LayerNorm", addends)

    def layer(self, part: str, x: str, mask: str, last: bool) -> str:
        """One transformer layer; the last one goes on with [CLS] alone after its attention."""
        attended = self.attention(f"{part}.attention.self", x, mask)
        if last:
            attended, x = self.cls(attended), self.cls(x)
        out = self.linear(f"{part}.attention.output.dense", attended, flat=last)
        x = self.normalised(f"{part}.attention.output.LayerNorm", [out, x])
        wide = self.linear(f"{part}.intermediate.dense", x, flat=last)
        active = self.graph.node(self.activation, [wide], domain=self.domain)
        out = self.linear(f"{part}.output.dense", active, flat=last)
        return self.normalised(f"{part}.output.LayerNorm", [out, x])

    def attention(self, part: str, x: str, mask: str) -> str:
        """Queries, keys and values in one product, and the attention itself, fused."""
        graph = self.graph
        names = [f"{part}.{name}" for name in ("query", "key", "value")]
        weights = _stacked([self.tensor(f"{name}.weight") for name in names])
        bias = graph.constant(np.concatenate([self.array(f"{name}.bias") for name in names]))
        fused: dict[str, Any] = {"domain": MICROSOFT, "num_heads": self.heads}
        if not isinstance(weights, QuantizedTensor):
            return graph.node("Attention", [x, graph.constant(weights.T), bias, mask], **fused)
        integers, scales = graph.integers(weights)
        zeros = graph.constant(np.zeros(len(weights.q_RK), np.int8))
        q, scale, zero = graph.nodes("DynamicQuantizeLinear", [x], 3)
        return graph.node("QAttention", [q, integers, bias, scale, scales, mask, zero, zeros], **fused)

    def cls(self, x: str) -> str:
        """The first token's row: (B, T, H) to (B, H)."""
        return self.graph.node("Gather", [x, self.first], axis=1)

    def normalised(self, part: str, addends: Sequence[str]) -> str:
        """LayerNorm of a sum. `Sum`, since optimizers would fuse `Add` into the slower SkipLayerNormalization."""
        graph = self.graph
        scale, bias = (graph.constant(self.array(f"{part}.{name}")) for name in ("weight", "bias"))
        epsilon = float(self.student.config.get("layer_norm_eps", 1e-12))
        return graph.node("LayerNormalization", [graph.node("Sum", addends), scale, bias], epsilon=epsilon)

    def linear(self, part: str, x: str, *, flat: bool, exact: bool = False, name: str = "") -> str:
        weights, bias = self.tensor(f"{part}.weight"), self.array(f"{part}.bias")
        return self.graph.linear(x, weights, bias, flat=flat, exact=exact, name=name)

    def tensor(self, name: str) -> Weights:
        """Return a weight as the student holds it."""
        if name not in self.student.tensors:
            raise UserError(f"The student has no tensor {name}. Is it a BertForSequenceClassification?")
        return self.student.tensors[name]

    def array(self, name: str) -> Array:
        """Return a weight as float32."""
        return floats(self.tensor(name))


def first_rows(weights: Weights, count: int) -> Weights:
    """Return the first `count` rows."""
    return weights.rows(slice(count)) if isinstance(weights, QuantizedTensor) else weights[:count]


def _stacked(parts: Sequence[Weights]) -> Weights:
    """Return the rows of several weights under each other; all quantized alike, or all float32."""
    quantized = [part for part in parts if isinstance(part, QuantizedTensor)]
    if len(quantized) == len(parts):
        q_RK = np.concatenate([part.q_RK for part in quantized])
        scales = np.concatenate([part.scales for part in quantized])
        return QuantizedTensor(q_RK, scales, quantized[0].bits, quantized[0].block)
    return np.concatenate([floats(part) for part in parts])
