"""How each weight of a GGUF file is stored: llama.cpp's mixes of block formats, and the quantizers that fill them."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import c_void_p
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from minikin.base.errors import UserError
from minikin.base.extras import need
from minikin.base.llama import library
from minikin.base.types import Array

BLOCK: Final = 256
"""Weights in a block of the K and I formats; a row of another length falls back."""

SMALL_BLOCK: Final = 32


@dataclass(frozen=True)
class Mix:
    """A file type: the format of most weights, of the output layer, and of those that suffer most (`better`).

    `number` is llama.cpp's own for the mix; `needs_importance` says that it is no use without a matrix, and `table` is
    then the format of embeddings that are no output layer, since nothing goes into their columns.
    """

    most: str
    number: int
    output: str = ""
    better: str = ""
    needs_importance: bool = False
    table: str = ""


MIXES: Final[Mapping[str, Mix]] = {
    "F32": Mix("F32", 0),
    "F16": Mix("F16", 1),
    "Q8_0": Mix("Q8_0", 7),
    "Q6_K": Mix("Q6_K", 18),
    "Q5_K_M": Mix("Q5_K", 17, "Q6_K", "Q6_K"),
    "Q4_K_M": Mix("Q4_K", 15, "Q6_K", "Q6_K"),
    "Q3_K_M": Mix("Q3_K", 12, "Q6_K", "Q5_K"),
    "Q2_K": Mix("Q2_K", 10, "Q6_K", "Q4_K"),
    "IQ4_XS": Mix("IQ4_XS", 30, "Q6_K", "Q5_K"),
    "IQ4_NL": Mix("IQ4_NL", 25, "IQ4_NL"),
    "IQ3_S": Mix("IQ3_S", 26, "Q6_K", "Q4_K", needs_importance=True, table="Q3_K"),
    "IQ2_XS": Mix("IQ2_XS", 20, "Q5_K", "Q4_K", needs_importance=True, table="Q2_K"),
}
SMALLER_ROWS: Final[Mapping[str, str]] = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0"}
"""What takes a K format's place where rows are no multiple of 256 (llama.cpp's choice); IQ4_NL for all others."""

UNAIDED: Final = frozenset({"IQ2_XS"})
"""Formats that llama.cpp's quantizer writes by an importance matrix alone."""

IN_NUMPY: Final = frozenset({"F32", "F16", "Q8_0"})


def check(mix: str, importance: Mapping[str, Array] | None) -> None:
    """Raise UserError for a file type that is none, or that an importance matrix is missing for."""
    if mix not in MIXES:
        raise UserError(f"{mix!r} is no GGUF type. Use one of {', '.join(MIXES)}.")
    if MIXES[mix].needs_importance and not importance:
        raise UserError(f"{mix} needs an importance matrix, from calibration texts. Give texts, or use Q2_K or larger.")


def chosen(mix: str, name: str, array: Array, layer: tuple[int, int], tied: bool) -> str:
    """Return the format of one weight.

    `layer` is (index, number of layers), index -1 outside the layers; `tied` says that the embeddings are also the
    output layer. Vectors stay float32; position tables stay float16 or better.
    """
    if array.ndim < 2:
        return "F32"
    kind = MIXES[mix]
    wanted = kind.most
    if name == "output.weight" or (name == "token_embd.weight" and tied):
        wanted = kind.output or wanted
    elif name == "token_embd.weight":
        wanted = kind.table or wanted
    elif kind.better and (".attn_v." in name or ".attn_qkv." in name or ".ffn_down." in name) and _dear(*layer):
        wanted = kind.better
    if name == "position_embd.weight" and wanted not in IN_NUMPY:
        wanted = "F16"
    return fitting(wanted, array.shape[-1])


def _dear(i: int, layers: int) -> bool:
    """Whether a layer gets more bits: the first and last eighths, and every third between, as in llama.cpp."""
    eighth = layers // 8
    return i < eighth or i >= 7 * layers // 8 or (i - eighth) % 3 == 2


def fitting(wanted: str, width: int) -> str:
    """Return `wanted`, or what takes its place for rows of `width` weights."""
    if wanted in ("F32", "F16"):
        return wanted
    if wanted != "Q8_0" and width % BLOCK:
        wanted = SMALLER_ROWS.get(wanted, "IQ4_NL")
    return "F16" if width % SMALL_BLOCK else wanted


def packed(array: Array, kind: str, importance_K: Array | None = None) -> tuple[Array, Any]:
    """Return a weight's bytes in a format, with the format as gguf names it.

    `importance_K` weights the squared error of each column (the mean square of what goes into it).
    """
    gguf = need("gguf", "gguf")
    number = gguf.GGMLQuantizationType[kind]
    if kind in IN_NUMPY:
        return gguf.quants.quantize(array, number), number
    rows_RK = np.ascontiguousarray(array.reshape(-1, array.shape[-1]), np.float32)
    rows, width = rows_RK.shape
    llama = library()
    bytes_RB = np.empty((rows, llama.ggml_row_size(int(number), width)), np.uint8)
    weights = None if importance_K is None else np.ascontiguousarray(importance_K, np.float32)
    if weights is None and kind in UNAIDED:
        raise UserError(f"{kind} needs the importance of every weight, and one has none. Use Q2_K or larger.")
    if weights is not None and weights.shape != (width,):
        raise UserError(f"The importance of a weight with {width} columns has the shape {weights.shape}.")
    llama.ggml_quantize_chunk(
        int(number),
        rows_RK.ctypes.data_as(c_void_p),
        bytes_RB.ctypes.data_as(c_void_p),
        0,
        rows,
        width,
        None if weights is None else weights.ctypes.data_as(c_void_p),
    )
    return bytes_RB.reshape(*array.shape[:-1], -1), number
