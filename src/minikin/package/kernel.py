"""Writes a student as the flat file that the kernel maps: `kernel/model.c` reads it, docs/kernel.md explains it.

Integers are the quantizer's own, laid out in tiles of 16 outputs by 4 inputs, so that loading is a map.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from minikin.base.errors import UserError
from minikin.base.types import Array, QuantizedTensor, Student, Weights, floats
from minikin.package import onnx, tokenizer_section

VERSION: Final = 2
"""Newest version that is written: files without a projection are version 1, which older kernels read too."""

ALIGN: Final = 64
GROUP: Final = 32
LANES: Final = 16
HEADER: Final = struct.Struct("<8sIIII9if")
SECTION: Final = struct.Struct("<HHIIIII")
KINDS: Final = {"encoder": 0, "static": 1}
ACTIVATIONS: Final = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "relu": 2, "tanh": 3}
NAMES: Final = {
    name: number
    for number, name in enumerate(
        (
            "tokenizer",
            "words",
            "places",
            "types",
            "norm",
            "query",
            "key_value",
            "out",
            "norm1",
            "up",
            "down",
            "norm2",
            "pooler",
            "convolution",
            "head",
            "projection",
        ),
        1,
    )
}
MOST_LAYERS: Final = 48


def why_not(student: Student) -> str | None:
    """Return what keeps the kernel from running a student, in words; None if it can."""
    config = student.config if student.family == "encoder" else {}
    if reason := obstacle(student.scheme, student.tokenizer_json, config):
        return reason
    if student.family == "encoder" and not 1 <= int(config["num_hidden_layers"]) <= MOST_LAYERS:
        return f"it has room for 1 to {MOST_LAYERS} layers"
    return None


def obstacle(scheme: str, tokenizer_json: str, config: Mapping[str, Any]) -> str | None:
    """Return what keeps the kernel from students of a scheme, a tokenizer and an encoder's configuration; or None."""
    if scheme == "fp32":
        return "the weights are float32, and the kernel multiplies integers (quantize: int8 or int4)"
    if reason := tokenizer_section.can_run(tokenizer_json):
        return reason
    if config.get("hidden_act", "gelu") not in ACTIVATIONS:
        return f"it has no {config['hidden_act']}"
    if config.get("position_embedding_type", "absolute") != "absolute":
        return "it knows absolute positions only"
    return None


def kernel_file(student: Student, *, pair: bool) -> bytes:
    """Return the flat file of a quantized student. Raises UserError for one that the kernel can't run."""
    if reason := why_not(student):
        raise UserError(f"The kernel can't run this student: {reason}.")
    writer = _Writer(student, pair)
    writer.add("tokenizer", tokenizer_section.section(student.tokenizer_json, student.max_length))
    (writer.encoder if student.family == "encoder" else writer.static)()
    return writer.finished()


class _Writer:
    """Collects the sections of one file."""

    def __init__(self, student: Student, pair: bool) -> None:
        self.student, self.tensors, self.pair = student, student.tensors, pair
        self.sections: list[tuple[int, int, int, int, int, bytes]] = []
        self.numbers: dict[str, int] = {}

    def encoder(self) -> None:
        config, part = self.student.config, "bert.embeddings"
        heads, layers = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
        self.numbers = {"layers": layers, "activation": ACTIVATIONS[config.get("hidden_act", "gelu")]}
        self.table("words", self.tensors[f"{part}.word_embeddings.weight"])
        if (projection := self.tensors.get(f"{part}.word_embeddings.projection.weight")) is not None:
            self.product("projection", _joined([projection]), np.zeros(int(config["hidden_size"]), np.float32))
        self.table(
            "places", onnx.first_rows(self.tensors[f"{part}.position_embeddings.weight"], self.student.max_length)
        )
        types_2H = floats(self.tensors[f"{part}.token_type_embeddings.weight"])
        self.rows("types", [types_2H[0], types_2H[-1]])
        self.norm("norm", f"{part}.LayerNorm")
        for i in range(layers):
            part = f"bert.encoder.layer.{i}"
            attention = f"{part}.attention.self"
            self.linear("query", [f"{attention}.query"], i, heads=heads)
            self.linear("key_value", [f"{attention}.key", f"{attention}.value"], i)
            self.linear("out", [f"{part}.attention.output.dense"], i)
            self.norm("norm1", f"{part}.attention.output.LayerNorm", i)
            self.linear("up", [f"{part}.intermediate.dense"], i)
            self.linear("down", [f"{part}.output.dense"], i)
            self.norm("norm2", f"{part}.output.LayerNorm", i)
        self.linear("pooler", ["bert.pooler.dense"])
        self.linear("head", ["classifier"])

    def static(self) -> None:
        config = self.student.config
        window = int(config.get("window", 0))
        self.numbers = {"window": window, "mean_max": int(config.get("pool", "mean") == "mean-max")}
        self.table("words", self.tensors["embeddings_VH"])
        if window:
            weights = _joined([self.tensors["convolution_weight"]])
            self.product("convolution", weights, floats(self.tensors["convolution_bias"]))
        self.product("head", _joined([self.tensors["head_weight"]]), floats(self.tensors["head_bias"]))

    def add(self, name: str, data: bytes, layer: int = 0, bits: int = 0, rows: int = 0, columns: int = 0) -> None:
        self.sections.append((NAMES[name], layer, bits, rows, columns, data))

    def rows(self, name: str, rows: Sequence[Array], layer: int = 0) -> None:
        """Rows of floats, each padded to 32."""
        padded = [np.pad(np.asarray(row, np.float32), (0, -len(row) % GROUP)) for row in rows]
        self.add(name, np.concatenate(padded).astype("<f4").tobytes(), layer)

    def norm(self, name: str, part: str, layer: int = 0) -> None:
        self.rows(name, [floats(self.tensors[f"{part}.{which}"]) for which in ("weight", "bias")], layer)

    def linear(self, name: str, parts: Sequence[str], layer: int = 0, heads: int = 0) -> None:
        """One product made of the rows of several."""
        weights = _joined([self.tensors[f"{part}.weight"] for part in parts])
        bias = np.concatenate([floats(self.tensors[f"{part}.bias"]) for part in parts])
        self.product(name, weights, bias, layer, heads)

    def product(self, name: str, weights: QuantizedTensor, bias_N: Array, layer: int = 0, heads: int = 0) -> None:
        rows, columns = weights.q_RK.shape
        data = tiles(weights, bias_N)
        # the number of heads stands in the upper half of `bits`
        self.add(name, data, layer, weights.bits | heads << 16, rows, columns)

    def table(self, name: str, weights: Weights) -> None:
        """Rows that are looked up: integers, then their scales."""
        if not isinstance(weights, QuantizedTensor):
            raise UserError(f"The kernel reads {name} as integers, and this student's are float32.")
        rows, width = weights.q_RK.shape
        if weights.bits == 8:
            integers = _padded(weights.q_RK, GROUP, weights.zero).astype(np.uint8).tobytes()
            scales = weights.scales.astype("<f4").tobytes()
        else:
            q_RG = _padded(weights.q_RK, GROUP, weights.zero).reshape(rows, -1, GROUP)
            integers = (q_RG[..., :16] | q_RG[..., 16:] << 4).astype(np.uint8).tobytes()
            scales = weights.scales.astype("<f2").tobytes()
        self.add(name, integers + scales, 0, weights.bits, rows, width)

    def finished(self) -> bytes:
        """Lay header, list and sections out, and close with the checksum."""
        config = self.student.config
        at = HEADER.size + SECTION.size * len(self.sections)
        listed, body = b"", b""
        for number, layer, bits, rows, columns, data in self.sections:
            gap = -at % ALIGN
            listed += SECTION.pack(number, layer, bits, rows, columns, at + gap, len(data))
            body += bytes(gap) + data
            at += gap + len(data)
        body += bytes(-at % ALIGN)
        at += -at % ALIGN
        values = [
            KINDS[self.student.family],
            self.numbers.get("layers", 0),
            int(config["hidden_size"] if self.student.family == "encoder" else config["hidden"]),
            len(self.student.labels),
            self.student.max_length,
            int(self.pair),
            self.numbers.get("activation", 0),
            self.numbers.get("window", 0),
            self.numbers.get("mean_max", 0),
        ]
        version = VERSION if any(number == NAMES["projection"] for number, *_ in self.sections) else 1
        rest = HEADER.pack(
            b"minikin\0", version, 0, at, len(self.sections), *values, float(config.get("layer_norm_eps", 1e-12))
        )[16:]
        whole = rest + listed + body
        return struct.pack("<8sII", b"minikin\0", version, zlib.crc32(whole)) + whole


def tiles(weights: QuantizedTensor, bias_N: Array) -> bytes:
    """Lay a product's integers out in tiles of 16 outputs by 4 inputs, and its scales and bias beside them."""
    q_NK = _padded(weights.q_RK, GROUP, weights.zero)
    q_NK = np.pad(q_NK, ((0, -len(q_NK) % GROUP), (0, 0)), constant_values=weights.zero)
    n, k = q_NK.shape
    bias = np.pad(np.asarray(bias_N, np.float32), (0, n - len(bias_N))).astype("<f4").tobytes()
    # tile, group of four inputs, output within the tile, input within the four
    quads = q_NK.reshape(n // LANES, LANES, k // 4, 4).transpose(0, 2, 1, 3)
    if weights.bits == 8:
        scales = np.pad(weights.scales.astype(np.float32), (0, n - len(weights.scales))).astype("<f4").tobytes()
        return quads.astype(np.uint8).tobytes() + bias + scales
    pairs = (quads[:, 0::2] | quads[:, 1::2] << 4).astype(np.uint8)  # two groups of four in one byte
    blocks = pairs.reshape(n // LANES, k // GROUP, 4 * 64)
    scales_NG = np.pad(weights.scales.astype("<f2"), ((0, n - len(weights.scales)), (0, 0)))
    scales_16 = scales_NG.reshape(n // LANES, LANES, k // GROUP).transpose(0, 2, 1)
    inline = np.ascontiguousarray(scales_16).view(np.uint8).reshape(n // LANES, k // GROUP, 2 * LANES)
    return np.concatenate([blocks, inline], axis=2).tobytes() + bias


def _joined(parts: Sequence[Any]) -> QuantizedTensor:
    """Return the rows of several quantized weights under each other."""
    for part in parts:
        if not isinstance(part, QuantizedTensor):
            raise UserError("The kernel multiplies integers, and a matrix of this student is float32.")
    scales = [part.scales.astype(np.float32) if part.bits == 8 else part.scales for part in parts]
    return QuantizedTensor(
        np.concatenate([part.q_RK for part in parts]), np.concatenate(scales), parts[0].bits, parts[0].block
    )


def _padded(q_RK: Array, multiple: int, fill: int) -> Array:
    return np.pad(q_RK, ((0, 0), (0, -q_RK.shape[1] % multiple)), constant_values=fill)
