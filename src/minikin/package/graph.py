"""A small builder of ONNX graphs whose quantized weights unpack while the session loads; used by package/onnx.

4-bit weights are stored packed and unpacked by standard operators on constants. ONNX Runtime folds those once,
at load, so that a 4-bit file computes with the int8 kernels: smaller on disk, never slower to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from minikin.base import extras
from minikin.base.types import Array, QuantizedTensor, Weights, floats

MICROSOFT: Final = "com.microsoft"
OPSET: Final = 18
IR_VERSION: Final = 8
UNPACKED_LIMIT_BYTES: Final = 8 << 20
"""Embedding tables up to this size are unpacked to float32 at load; larger ones are dequantized row by row."""
REQUANTIZED_LIMIT: Final = 63.5
"""Largest int8 that 4-bit weights unpack to (64 after rounding): no saturation on processors without VNNI."""


class Graph:
    """Collects nodes and constants; every value gets the next number as its name, so bytes are repeatable."""

    def __init__(self) -> None:
        self._onnx = extras.need("onnx")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._names = 0

    def constant(self, value: Array) -> str:
        """Store `value` and return its name."""
        self._names += 1
        name = f"c{self._names}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], *, domain: str = "", name: str = "", **attributes: Any) -> str:
        """Add an operator with one output and return the name of that output (`name`, or the next number)."""
        return self.nodes(kind, inputs, 1, domain=domain, name=name, **attributes)[0]

    def nodes(
        self, kind: str, inputs: Sequence[str], outputs: int, *, domain: str = "", name: str = "", **attributes: Any
    ) -> list[str]:
        """Add an operator with several outputs and return their names."""
        self._names += 1
        names = [name] if name else [f"v{self._names}_{i}" for i in range(outputs)]
        self._nodes.append(
            self._onnx.helper.make_node(kind, list(inputs), names, f"n{self._names}", domain=domain, **attributes)
        )
        return names

    def serialize(self, inputs: Sequence[str], outputs: Sequence[tuple[str, int]]) -> bytes:
        """Return the model: `inputs` are int64 (batch, sequence); `outputs` are float (batch, width)."""
        helper, proto = self._onnx.helper, self._onnx.TensorProto
        graph = helper.make_graph(
            self._nodes,
            "minikin",
            [helper.make_tensor_value_info(name, proto.INT64, ["batch", "sequence"]) for name in inputs],
            [helper.make_tensor_value_info(name, proto.FLOAT, ["batch", width]) for name, width in outputs],
            self._constants,
        )
        model = helper.make_model(
            graph,
            producer_name="minikin",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        )
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def linear(
        self, x: str, weights_RK: Weights, bias_R: Array, *, flat: bool = False, exact: bool = False, name: str = ""
    ) -> str:
        """Return x · Wᵀ + b; integers multiply as u8·s8 with activations quantized on the fly.

        `flat` says that `x` is (B, K), where float32 weights take one fused operator; `exact`, that integers are
        unpacked to float32 while the session loads.
        """
        bias = self.constant(np.asarray(bias_R, np.float32))
        if isinstance(weights_RK, QuantizedTensor) and not exact:
            weights, scales = self.integers(weights_RK)
            return self.node("DynamicQuantizeMatMul", [x, weights, scales, "", bias], domain=MICROSOFT, name=name)
        if flat:
            return self.node("Gemm", [x, self.table(weights_RK), bias], transB=1, name=name)
        product = self.node("MatMul", [x, self.constant(floats(weights_RK).T)])
        return self.node("Add", [product, bias], name=name)

    def integers(self, weights: QuantizedTensor) -> tuple[str, str]:
        """Return the names of int8 weights (K, R) and of their float32 scales (R,)."""
        if weights.block is None:
            q_KR = (weights.q_RK.astype(np.int16) - weights.zero).astype(np.int8).T
            return self.constant(q_KR), self.constant(weights.scales.astype(np.float32))
        ratio_RG, scales_R = _rescaled(weights)
        rows, width = weights.q_RK.shape
        groups = ratio_RG.shape[1]
        padded_KR = np.full((groups * weights.block, rows), weights.zero, np.uint8)
        padded_KR[:width] = weights.q_RK.T
        centred = self._unpacked(padded_KR, axis=0, zero=weights.zero)
        shaped = self.node("Reshape", [centred, self.constant(np.array([groups, weights.block, rows]))])
        ratio = self.node("Cast", [self.constant(ratio_RG.T[:, None, :])], to=1)
        scaled = self.node("Mul", [shaped, ratio])
        flat = self.node("Reshape", [scaled, self.constant(np.array([groups * weights.block, rows]))])
        if width != groups * weights.block:
            flat = self._first(flat, self.constant(np.array([width])))
        whole = self.node("Round", [flat])
        return self.node("Cast", [whole], to=3), self.constant(scales_R)

    def table(self, weights_VH: Weights) -> str:
        """Return the name of a float32 table (V, H) that is unpacked while the session loads."""
        if not isinstance(weights_VH, QuantizedTensor):
            return self.constant(weights_VH.astype(np.float32))
        rows, width = weights_VH.q_RK.shape
        block = weights_VH.block or width
        groups = -(-width // block)
        if weights_VH.bits == 4:
            padded_VH = np.full((rows, groups * block), weights_VH.zero, np.uint8)
            padded_VH[:, :width] = weights_VH.q_RK
            centred = self._unpacked(padded_VH, axis=1, zero=weights_VH.zero)
        else:
            q_VH = (weights_VH.q_RK.astype(np.int16) - weights_VH.zero).astype(np.int8)
            centred = self.node("Cast", [self.constant(q_VH)], to=1)
        shaped = self.node("Reshape", [centred, self.constant(np.array([rows, groups, block]))])
        scales = self._float(weights_VH.scales.reshape(rows, groups, 1))
        scaled = self.node("Mul", [shaped, scales])
        flat = self.node("Reshape", [scaled, self.constant(np.array([rows, groups * block]))])
        if width == groups * block:
            return flat
        ends = self.constant(np.array([width]))
        return self.node("Slice", [flat, self.constant(np.array([0])), ends, self.constant(np.array([1]))])

    def gather(self, weights_VH: Weights, ids: str) -> str:
        """Return the rows of a table for `ids` (B, T) as float32 (B, T, H)."""
        large = weights_VH.q_RK.size * 4 > UNPACKED_LIMIT_BYTES if isinstance(weights_VH, QuantizedTensor) else False
        if not large or not isinstance(weights_VH, QuantizedTensor):
            return self.node("Gather", [self.table(weights_VH), ids])
        rows, width = weights_VH.q_RK.shape
        q_VH = weights_VH.q_RK
        if weights_VH.bits == 4:
            q_VH = (q_VH[:, 0::2] | (q_VH[:, 1::2] << 4)).astype(np.uint8)
        block = weights_VH.block or max(16, 1 << (width - 1).bit_length())
        inputs = [self.constant(q_VH), ids, self._float(weights_VH.scales.reshape(rows, -1))]
        return self.node(
            "GatherBlockQuantized",
            inputs,
            domain=MICROSOFT,
            bits=weights_VH.bits,
            block_size=block,
            quantize_axis=1,
            gather_axis=0,
        )

    def _float(self, value: Array) -> str:
        """Return a constant as float32, stored as it is (float16 scales stay half the size in the file)."""
        name = self.constant(value)
        return name if value.dtype == np.float32 else self.node("Cast", [name], to=1)

    def _first(self, x: str, count: str) -> str:
        """Return the first `count` rows of `x`."""
        zero = self.constant(np.array([0]))
        return self.node("Slice", [x, zero, count, zero])

    def _unpacked(self, q: Array, axis: int, zero: int) -> str:
        """Store 4-bit integers two to a byte (halves along `axis`); return them minus `zero` as float32."""
        low, high = np.split(q, 2, axis=axis)
        packed = self.constant((low | (high << 4)).astype(np.uint8))
        lows = self.node("BitwiseAnd", [packed, self.constant(np.array(15, np.uint8))])
        highs = self.node("BitShift", [packed, self.constant(np.array(4, np.uint8))], direction="RIGHT")
        joined = self.node("Concat", [lows, highs], axis=axis)
        return self.node("Sub", [self.node("Cast", [joined], to=1), self.constant(np.array(zero, np.float32))])


def _rescaled(weights: QuantizedTensor) -> tuple[Array, Array]:
    """Return block scales relative to the row's int8 scale, float16 (R, K / block), and row scales (R,)."""
    values_RK = weights.dequantize()
    peak_R = np.abs(values_RK).max(1)
    scales_R = np.where(peak_R == 0, 1.0, peak_R / REQUANTIZED_LIMIT).astype(np.float32)
    ratio_RG = weights.scales.astype(np.float32) / np.where(peak_R == 0, 1e4, scales_R)[:, None]
    return ratio_RG.astype(np.float16), scales_R
