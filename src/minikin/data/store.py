"""Texts on disk: an Arrow file written in batches and read back memory-mapped, so that a million fit anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from minikin.base.extras import need
from minikin.base.types import Array, Text


class Texts(Sequence[Text]):
    """A read-only view of the texts (or pairs) in an Arrow file, optionally of chosen rows only."""

    def __init__(self, path: Path, indices_N: Array | None = None) -> None:
        pa = need("pyarrow")
        self.path = path
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._indices_N = indices_N

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._indices_N is None else len(self._indices_N)

    @overload
    def __getitem__(self, i: int) -> Text: ...
    @overload
    def __getitem__(self, i: slice) -> Texts: ...
    def __getitem__(self, i: int | slice) -> Text | Texts:
        if isinstance(i, slice):
            return self.take(np.arange(*i.indices(len(self))))
        if not -len(self) <= i < len(self):
            raise IndexError(f"text {i} of {len(self)}")
        at = i % len(self) if self._indices_N is None else int(self._indices_N[i])
        chunk = int(np.searchsorted(self._starts, at, side="right")) - 1
        batch, row = self._batches[chunk], at - int(self._starts[chunk])
        values = tuple(column[row].as_py() for column in batch.columns)
        return values[0] if len(values) == 1 else (values[0], values[1])

    def __iter__(self) -> Iterator[Text]:
        if self._indices_N is None:
            for batch in self._batches:
                yield from _rows(batch)
            return
        pa = need("pyarrow")
        chunk_N = np.searchsorted(self._starts, self._indices_N, side="right") - 1
        bounds = [0, *(np.flatnonzero(np.diff(chunk_N)) + 1).tolist(), len(chunk_N)]
        for low, high in pairwise(bounds):
            if high > low:
                chunk = int(chunk_N[low])
                wanted = self._indices_N[low:high] - self._starts[chunk]
                yield from _rows(self._batches[chunk].take(pa.array(wanted)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Texts, (self.path, self._indices_N)

    def take(self, indices_N: Array) -> Texts:
        """Return a view of the texts at `indices_N`, without copying any."""
        chosen = np.asarray(indices_N, np.int64)
        return Texts(self.path, chosen if self._indices_N is None else self._indices_N[chosen])


def _rows(batch: Any) -> Iterator[Text]:
    columns = [column.to_pylist() for column in batch.columns]
    return iter(columns[0]) if len(columns) == 1 else zip(*columns, strict=True)


class Writer:
    """Writes batches of texts to an Arrow file that appears only when the block ends well."""

    def __init__(self, path: Path, columns: int) -> None:
        pa = need("pyarrow")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._schema = pa.schema([(name, pa.large_string()) for name in ("text", "second")[:columns]])
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._sink = pa.OSFile(str(self._part), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)

    def write(self, columns: Sequence[Sequence[str]]) -> None:
        """Append a batch given by column."""
        if columns[0]:
            pa = need("pyarrow")
            arrays = [pa.array(column, pa.large_string()) for column in columns]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            self._sink.close()
            if kind is None:
                self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)
