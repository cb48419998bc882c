"""Content hashes: of files, of arrays and of plain values; the keys of everything that is stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()


def of_value(value: Any) -> str:
    """SHA-256 of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def of_texts(texts: Iterable[Any]) -> str:
    """SHA-256 of a sequence of texts (or pairs), streamed."""
    sha = hashlib.sha256()
    for text in texts:
        for part in (text,) if isinstance(text, str) else text:
            raw = str(part).encode("utf-8", "surrogatepass")
            sha.update(len(raw).to_bytes(8, "little"))
            sha.update(raw)
        sha.update(b"\xff")
    return sha.hexdigest()


def of_arrays(arrays: Mapping[str, Any]) -> str:
    """SHA-256 of named numpy arrays: names, types, shapes and bytes, independent of their order."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"{name} {array.dtype} {array.shape};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
