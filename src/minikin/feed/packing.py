"""Documents packed into rows of equal length.

Each row is filled with whole documents by best fit (the longest first, each into the row with the least room that
takes it), so that little is padded; documents longer than a row are cut, and each part starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base import atomic
from minikin.base.types import Array, Ragged
from minikin.base.writing import Packed

FIELDS: Final = {"ids": np.int32, "learnt": np.bool_}
ROWS: Final = {"ids": np.int32, "documents": np.int32, "learnt": np.bool_}


@dataclass(frozen=True)
class Documents:
    """Token ids of D documents, and which tokens are learnt; arrays may be memory-mapped."""

    ids: Ragged
    learnt: Ragged

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Number of tokens of all documents."""
        return len(self.ids.values)


def read(folder: Path) -> Documents:
    """Open documents that data/tokens.py wrote, memory-mapped."""
    offsets = np.load(folder / "offsets.npy")
    ids, learnt = (Ragged(_mapped(folder / f"{name}.npy"), offsets) for name in FIELDS)
    return Documents(ids, learnt)


def pack(documents: Documents, length: int, *, seed: int = 0, folder: Path | None = None) -> Packed:
    """Pack documents into rows of `length` tokens (N, T); with `folder` the rows are written there and mapped.

    Every token is in exactly one place. Which document stands where, and the order of rows, is drawn by `seed`.
    """
    starts_P, sizes_P = _parts(documents.ids, length)
    row_P, at_P, rows = _placed(sizes_P, length, np.random.default_rng(seed))
    if folder is None:
        arrays: dict[str, Array] = {name: np.zeros((rows, length), dtype) for name, dtype in ROWS.items()}
        _fill(arrays, documents, starts_P, sizes_P, row_P, at_P)
        return Packed(arrays["ids"], arrays["documents"], arrays["learnt"])
    with atomic.folder(folder) as fresh:
        arrays = {
            name: np.lib.format.open_memmap(fresh / f"{name}.npy", "w+", dtype, (rows, length))
            for name, dtype in ROWS.items()
        }
        _fill(arrays, documents, starts_P, sizes_P, row_P, at_P)
        for array in arrays.values():
            array.flush()  # type: ignore[attr-defined]
    return opened(folder)


def opened(folder: Path) -> Packed:
    """Open rows that `pack` wrote, memory-mapped."""
    return Packed(*(_mapped(folder / f"{name}.npy") for name in ROWS))


def _mapped(path: Path) -> Array:
    """A memory-mapped array; an empty file can't be mapped."""
    array: Array = np.load(path, mmap_mode="r") if path.stat().st_size > 128 else np.load(path)
    return array


def _parts(ids: Ragged, length: int) -> tuple[Array, Array]:
    """Where each part begins in the flat tokens, and its length: documents cut into parts of at most `length`."""
    sizes_D = ids.lengths_N
    counts_D = -(-sizes_D // length)
    document_P = np.repeat(np.arange(len(sizes_D)), counts_D)
    first_D = np.cumsum(counts_D) - counts_D
    within_P = (np.arange(len(document_P)) - first_D[document_P]) * length
    return ids.offsets[document_P] + within_P, np.minimum(length, sizes_D[document_P] - within_P)


def _placed(sizes_P: Array, length: int, rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Row and place in it of each part, and the number of rows."""
    row_P, at_P = np.zeros(len(sizes_P), np.int64), np.zeros(len(sizes_P), np.int64)
    drawn = rng.permutation(len(sizes_P))
    order = drawn[np.argsort(-sizes_P[drawn], kind="stable")]
    rooms: list[list[int]] = [[] for _ in range(length + 1)]
    open_rooms = 0  # bit r is set while some row has room for exactly r more tokens
    rows = 0
    for part in order.tolist():
        size = int(sizes_P[part])
        fitting = open_rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = rooms[room].pop()
            if not rooms[room]:
                open_rooms ^= 1 << room
        else:
            row, room, rows = rows, length, rows + 1
        row_P[part], at_P[part] = row, length - room
        if room > size:
            rooms[room - size].append(row)
            open_rooms |= 1 << (room - size)
    return rng.permutation(rows)[row_P] if rows else row_P, at_P, rows


def _fill(
    arrays: dict[str, Any], documents: Documents, starts_P: Array, sizes_P: Array, row_P: Array, at_P: Array
) -> None:
    """Copy the parts into their rows, row after row; a part's first token has nothing to be predicted from."""
    last_row, number = -1, 0
    for part in np.lexsort((at_P, row_P)).tolist():
        row, at, size, start = int(row_P[part]), int(at_P[part]), int(sizes_P[part]), int(starts_P[part])
        number = number + 1 if row == last_row else 1
        last_row = row
        arrays["ids"][row, at : at + size] = documents.ids.values[start : start + size]
        arrays["documents"][row, at : at + size] = number
        arrays["learnt"][row, at + 1 : at + size] = documents.learnt.values[start + 1 : start + size]
