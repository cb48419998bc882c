"""One pass over a file of unknown columns: what each holds, which rows are broken. Called by `minikin new`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from minikin.base.errors import DataError
from minikin.base.extras import need
from minikin.data import hub
from minikin.data.clean import hash64, tidy
from minikin.data.documents import documents, is_plain
from minikin.data.encoding import encoding, on_error, shape
from minikin.data.faults import Bag
from minikin.data.formats import HUB, KEYS_SEEN_IN, Batch, batches

VALUES_KEPT = 2000
"""Distinct values counted of each column; one with more is no label."""


@dataclass
class Column:
    """What one column holds: rows with a value, their lengths in characters, and its values while they are few."""

    name: str
    filled: int = 0
    characters: int = 0
    longest: int = 0
    values: dict[str, int] | None = field(default_factory=dict)

    @property
    def mean_length(self) -> float:
        """Characters of a value, on average."""
        return self.characters / max(1, self.filled)

    def note(self, value: str) -> None:
        """Count one value that is not empty."""
        self.filled += 1
        self.characters += len(value)
        self.longest = max(self.longest, len(value))
        if self.values is not None:
            self.values[value] = self.values.get(value, 0) + 1
            if len(self.values) > VALUES_KEPT:
                self.values = None


@dataclass(frozen=True)
class Peek:
    """All columns of a file, its number of rows, and the faults found on the way."""

    rows: int
    columns: tuple[Column, ...]
    faults: tuple[str, ...]

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)


def peek(source: str) -> Peek:
    """Read every column of a file or Hub set, row by row. Raises DataError when it can't be read."""
    bag = Bag()
    names = columns_of(source, bag)
    return _seen(source, names, batches(source, names, "data", bag) if names else (), bag)


def peek_writing(source: str, telling: Collection[str], *, prompts: bool) -> Peek:
    """The same for what a kin that writes learns from, where chats and calls are no text but count as it.

    A file of running text whose first line names none of the `telling` columns is one column `text` of its documents,
    or one column `prompt` of its lines if it holds `prompts`.
    """
    bag = Bag()
    names = columns_of(source, bag)
    if not is_plain(source) or (len(names) > 1 and any(name.lower() in telling for name in names)):
        return _seen(source, names, batches(source, names, "data", bag) if names else (), bag, objects=True)
    if prompts:
        return _seen(source, ("prompt",), batches(source, ("prompt",), "data", bag), bag)
    return _seen(source, ("text",), documents(Path(source), "data", bag), bag)


def _seen(source: str, names: Sequence[str], stream: Iterable[Batch], bag: Bag, *, objects: bool = False) -> Peek:
    columns = tuple(Column(name) for name in names)
    rows = 0
    for batch in stream:
        rows += len(set(batch.rows))  # a long document comes in parts of one number
        for column, values in zip(columns, batch.columns, strict=True):
            for value in values:
                text = _text(value, objects=objects)
                if text:
                    column.note(text)
    bag.raise_if_fatal()
    if not rows:
        raise DataError(f"{source} holds no rows. Give a file with a line of column names and examples below it.")
    return Peek(rows, columns, tuple(fault.message for fault in bag.faults()))


def example_faults(source: str, texts: Sequence[str], label: str) -> list[str]:
    """Say which rows lack text or label, repeat a text, or stand under two labels, once the columns are known."""
    bag = Bag()
    seen: dict[int, str] = {}
    for batch in batches(source, (*texts, label), "data", bag):
        for row, *values in zip(batch.rows, *batch.columns, strict=True):
            parts = [_text(value) for value in values]
            kind = "empty-text" if not all(parts[:-1]) else "" if parts[-1] else "missing-label"
            if not kind:
                key = hash64((parts[0], parts[1]) if len(texts) == 2 else parts[0])
                if key in seen:
                    kind = "duplicate" if seen[key] == parts[-1] else "conflict"
                seen.setdefault(key, parts[-1])
            if kind:
                bag.row(kind, "data", row)
    told = ("empty-text", "missing-label", "duplicate", "conflict")
    return [fault.message for fault in bag.faults() if fault.kind in told]


def _text(value: Any, *, objects: bool = False) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False) if objects and value else ""
    if value is None or value != value:
        return ""
    return tidy(value if isinstance(value, str) else str(value))[0]


def columns_of(source: str, bag: Bag) -> tuple[str, ...]:
    """Return the names of all columns; none, with the fault in the bag, when the source can't be read."""
    if source.startswith(HUB):
        return hub.opened(source.removeprefix(HUB), (), "data", bag)[0]
    path = Path(source)
    if not path.is_file() or not path.stat().st_size:
        # The reader itself says best what is wrong with the path.
        for _ in batches(source, (), "data", bag):
            break
        return ()
    with path.open("rb") as handle:
        head = handle.read(4)
    if head == b"PAR1":
        pa = need("pyarrow")
        try:
            return tuple(need("pyarrow.parquet").ParquetFile(path).schema_arrow.names)
        except pa.ArrowException as error:
            raise DataError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]}).") from error
    if head[:2] in (b"PK", b"\x1f\x8b"):
        raise DataError(f"{path} is a spreadsheet or an archive. Save it as CSV, JSONL or Parquet.")
    codec = encoding(path)
    with path.open("r", encoding=codec, errors=on_error(codec)) as lines:
        first = next((line.strip() for line in lines if line.strip()), "")
        lines.seek(0)
        if path.suffix.lower() in (".jsonl", ".ndjson", ".json") or first.startswith('{"'):
            return tuple(dict.fromkeys(key for value in islice(_objects(lines), KEYS_SEEN_IN) for key in value))
    found = shape(path, codec, ()).columns
    return tuple(dict.fromkeys(name for name in found if name))


def _objects(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
