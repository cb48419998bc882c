"""Post-training quantization of a student's weights to 8 or 4 bits; the pipeline and the planner call it.

Normalisations, biases and token types stay float32; the integers are unpacked by the runtimes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from minikin.base.errors import UserError
from minikin.base.types import Array, QuantizedTensor, Scheme, Student
from minikin.equations import rounding
from minikin.equations.rounding import SHRINK

BLOCK: Final = 32
LINEAR_LIMIT: Final = 64
"""Largest integer of 8-bit linear weights: 255 · 64 · 2 fits int16, so processors without VNNI never saturate."""

MOMENT_TEXTS: Final = 4096
"""Texts whose passage through the layers 4-bit weights are rounded by."""

WORDS: Final = ("bert.embeddings.word_embeddings.weight", "embeddings_VH")
POSITIONS: Final = "bert.embeddings.position_embeddings.weight"
FLOAT_PARTS: Final = ("LayerNorm", "token_type_embeddings", ".bias", "_bias")
BITS: Final[Mapping[Scheme, tuple[int, int]]] = {"int8": (8, 8), "int4": (4, 4), "int4-int8": (4, 8)}
"""Bits of (embeddings, linear layers) by scheme."""


def quantize(
    student: Student,
    scheme: Scheme | None = None,
    *,
    bits: int | None = None,
    search: bool = True,
    moments: Mapping[str, Array] | None = None,
) -> Student:
    """Return `student` with its matrices rounded as `scheme` says (or `bits`: 8 is int8, 4 is int4).

    `moments` holds Σ x xᵀ of the inputs of linear layers by their weight's name: their 4-bit weights are then rounded
    so that the layer's outputs change least (equations/rounding.py: compensated). Without `search` the range of each
    group ends at its largest weight: quicker, for measuring size and speed.
    Raises UserError for an unknown scheme, or a student that is quantized already.
    """
    chosen = _scheme(scheme, bits)
    if student.scheme != "fp32":
        raise UserError(f"This student is quantized already ({student.scheme}). Quantize the float32 one.")
    if chosen == "fp32":
        return student
    embedding_bits, linear_bits = BITS[chosen]
    tensors: dict[str, Array | QuantizedTensor] = {}
    for name, value in student.tensors.items():
        if isinstance(value, QuantizedTensor):
            raise UserError(f"The tensor {name} is quantized already. Quantize the float32 student.")
        shares = SHRINK if search else SHRINK[:1]
        if moments and name in moments and linear_bits == 4:
            tensors[name] = rounding.compensated(value, moments[name], 4, BLOCK, shares=shares)
        else:
            tensors[name] = _round(name, value, embedding_bits, linear_bits, shares)
    return replace(student, tensors=tensors, scheme=chosen)


def _scheme(scheme: Scheme | None, bits: int | None) -> Scheme:
    by_bits: dict[int, Scheme] = {8: "int8", 4: "int4"}
    if scheme is None and bits in by_bits:
        return by_bits[bits]
    if scheme is not None and bits is None and (scheme == "fp32" or scheme in BITS):
        return scheme
    raise UserError(
        f"No quantization scheme for scheme={scheme!r}, bits={bits!r}. Give one of fp32, int8, int4, int4-int8, "
        "or bits=8 or bits=4."
    )


def _round(
    name: str, weights: Array, embedding_bits: int, linear_bits: int, shares: Sequence[float]
) -> Array | QuantizedTensor:
    if weights.ndim != 2 or any(part in name for part in FLOAT_PARTS):
        return np.asarray(weights, np.float32)
    if name == POSITIONS or (name in WORDS and embedding_bits == 8):
        return rounding.per_channel(weights, 8, shares=shares)
    if name not in WORDS and linear_bits == 8:
        return rounding.per_channel(weights, 8, LINEAR_LIMIT, shares=shares)
    return rounding.blockwise(weights, 4, BLOCK, shares=shares)
