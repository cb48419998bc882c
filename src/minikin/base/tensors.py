"""Reading safetensors without a dependency, and how quantized tensors lie in such a file.

The runtimes read with it, trust/ writes plain arrays; package/kin writes the same layout with the safetensors package.
"""

from __future__ import annotations

import json
import math
import mmap
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base.errors import KinError
from minikin.base.types import Array, QuantizedTensor

LAYOUT_KEY: Final = "minikin.quantized"
HEADER_LIMIT_BYTES: Final = 100 << 20
DTYPES: Final[Mapping[str, str]] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the tensors of a safetensors file (memory-mapped, read-only; bfloat16 as float32) and its metadata.

    Raises KinError, naming the file, when it is missing, cut short, or its header is inconsistent.
    """
    try:
        with path.open("rb") as handle:
            size = path.stat().st_size
            data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise KinError(f"Can't read {path}: {error.strerror or error}. Package the kin again.") from error
    header, start = _header(path, data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _corrupt(path, "its metadata is no mapping")
    spans = {name: _span(path, name, entry, len(data) - start) for name, entry in header.items()}
    _check_whole(path, [span[2:] for span in spans.values()], len(data) - start)
    tensors = {}
    for name, (dtype, shape, begin, end) in spans.items():
        tensors[name] = _array(memoryview(data)[start + begin : start + end], dtype, shape)
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def save(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of a safetensors file of plain arrays, sorted by name; same arrays, same bytes."""
    codes = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    place = 0
    for name in sorted(arrays):
        data = np.ascontiguousarray(arrays[name]).astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        raw = data.tobytes()
        header[name] = {
            "dtype": codes[data.dtype],
            "shape": list(data.shape),
            "data_offsets": [place, place + len(raw)],
        }
        place += len(raw)
        parts.append(raw)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])


def of_hashes(hashes_N: Array, **more: Array) -> bytes:
    """The bytes of a safetensors file of `rows`, 64-bit hashes in order, each once, and of more arrays as they are."""
    return save({"rows": np.unique(np.asarray(hashes_N, np.uint64)), **more})


def pack(tensors: Mapping[str, Array | QuantizedTensor]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return plain arrays and metadata for a safetensors file; 4-bit integers lie two to a byte."""
    arrays: dict[str, Array] = {}
    layout: dict[str, dict[str, Any]] = {}
    for name, value in tensors.items():
        if not isinstance(value, QuantizedTensor):
            arrays[name] = np.ascontiguousarray(value)
            continue
        rows, width = value.q_RK.shape
        q_RK = value.q_RK
        if value.bits == 4:
            even = np.zeros((rows, width + width % 2), np.uint8)
            even[:, :width] = q_RK
            q_RK = even[:, 0::2] | (even[:, 1::2] << 4)
        arrays[f"{name}.q"] = np.ascontiguousarray(q_RK, np.uint8)
        arrays[f"{name}.scales"] = np.ascontiguousarray(value.scales)
        layout[name] = {"bits": value.bits, "block": value.block, "width": width}
    metadata = {LAYOUT_KEY: json.dumps(layout, sort_keys=True, separators=(",", ":"))} if layout else {}
    return arrays, metadata


def unpack(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> dict[str, Array | QuantizedTensor]:
    """Return what `pack` was given. Raises KinError when integers and metadata do not belong together."""
    tensors: dict[str, Array | QuantizedTensor] = dict(arrays)
    try:
        for name, entry in json.loads(metadata.get(LAYOUT_KEY, "{}")).items():
            q_RK = np.asarray(tensors.pop(f"{name}.q"))
            scales = np.asarray(tensors.pop(f"{name}.scales"))
            bits, width = int(entry["bits"]), int(entry["width"])
            if bits == 4:
                q_RK = np.stack([q_RK & 15, q_RK >> 4], -1).reshape(len(q_RK), -1)[:, :width]
            block = entry["block"]
            groups = (len(q_RK),) if block is None else (len(q_RK), math.ceil(width / block))
            if scales.shape != groups or q_RK.shape[1] != width or bits not in (4, 8):
                raise ValueError(f"{name} has scales {scales.shape} for {groups}")
            tensors[name] = QuantizedTensor(q_RK, scales, bits, block)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, IndexError, AttributeError) as error:
        raise KinError(
            f"The quantized weights do not fit their description: {error}. Package the kin again."
        ) from error
    return tensors


def _header(path: Path, data: mmap.mmap | bytes) -> tuple[dict[str, Any], int]:
    """Return the parsed header and the place where the data begins."""
    if len(data) < 8:
        raise _corrupt(path, f"it has only {len(data)} bytes")
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, HEADER_LIMIT_BYTES):
        raise _corrupt(path, f"its header claims {length} bytes of {len(data)}")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _corrupt(path, "its header is no mapping")
    return header, 8 + length


def _span(path: Path, name: str, entry: Any, size: int) -> tuple[str, tuple[int, ...], int, int]:
    """Return dtype, shape, begin and end of one tensor, checked against each other and the file."""
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise _corrupt(path, f"the entry of {name} is incomplete") from error
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (*shape, begin, end))
    if dtype not in DTYPES or not whole:
        raise _corrupt(path, f"{name} has an unknown type or shape")
    expected = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if end - begin != expected or end > size:
        raise _corrupt(path, f"{name} should take {expected} bytes, and its place is {begin} to {end} of {size}")
    return dtype, shape, begin, end


def _check_whole(path: Path, spans: list[tuple[int, int]], size: int) -> None:
    """Refuse files whose tensors overlap, leave holes, or end before the file does."""
    place = 0
    for begin, end in sorted(spans):
        if begin != place:
            raise _corrupt(path, f"its tensors overlap or leave a hole at byte {min(begin, place)}")
        place = end
    if place != size:
        raise _corrupt(path, f"its tensors take {place} bytes of {size}")


def _array(view: memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    flat: Array = np.frombuffer(view, DTYPES[dtype])
    if dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    elif sys.byteorder == "big":  # pragma: no cover
        flat = flat.astype(flat.dtype.newbyteorder("="))
    return flat.reshape(shape)


def _corrupt(path: Path, why: str) -> KinError:
    return KinError(f"{path} is damaged: {why}. Copy it again, or package the kin again.")
