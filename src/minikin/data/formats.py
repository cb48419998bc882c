"""Every file format as one stream of batches: CSV, TSV, JSONL, Parquet, plain lines, and sets on the Hub.

`load` calls `batches`; whatever can't be read is noted in the bag, and nothing is yielded.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from minikin.base.extras import need
from minikin.data import hub
from minikin.data.delimited import records
from minikin.data.encoding import encoding, on_error, shape
from minikin.data.faults import Bag

BATCH_ROWS = 10_000
BATCH_CHARS = 16_000_000
HUB = "hf:"
KEYS_SEEN_IN = 1000


@dataclass(frozen=True)
class Batch:
    """Some rows: their 1-based numbers, and for each wanted column its values (None: not there)."""

    rows: list[int]
    columns: list[list[Any]]


def batches(source: str, wanted: Sequence[str], role: str, bag: Bag) -> Iterator[Batch]:
    """Yield the wanted columns of the file or Hub set `source`; faults of the split `role` go into `bag`."""
    try:
        if source.startswith(HUB):
            yield from _tables(*hub.opened(source.removeprefix(HUB), wanted, role, bag), wanted, role, source, bag)
            return
        path = Path(source)
        if _readable(path, role, bag):
            yield from _of_file(path, wanted, role, bag)
    except OSError as error:
        bag.fatal("unreadable", f"{role}: {source} can't be read ({error.strerror or error})")
    except UnicodeError as error:
        bag.fatal("unreadable", f"{role}: {source} is cut off or mixes encodings ({error}); save it as UTF-8")


def _readable(path: Path, role: str, bag: Bag) -> bool:
    if path.is_dir():
        inside = ", ".join(sorted(p.name for p in path.iterdir() if p.is_file())[:6]) or "no files"
        bag.fatal("folder", f"{role}: {path} is a folder; name the file in it (it holds {inside})")
    elif not path.exists():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        bag.fatal("missing-file", f"{role}: there is no file {path}{hint}")
    elif path.stat().st_size == 0:
        bag.fatal("empty-file", f"{role}: {path} is empty")
    else:
        return True
    return False


def _of_file(path: Path, wanted: Sequence[str], role: str, bag: Bag) -> Iterator[Batch]:
    with path.open("rb") as handle:
        head = handle.read(4)
    if head == b"PAR1":
        yield from _parquet(path, wanted, role, bag)
        return
    if head[:2] == b"PK" or head[:2] == b"\x1f\x8b":
        bag.fatal("format", f"{role}: {path} is a spreadsheet or an archive; save it as CSV, JSONL or Parquet")
        return
    codec = encoding(path)
    if codec == "cp1252":
        bag.note(
            "encoding",
            f"{role}: {path.name} is not UTF-8 and was read as Windows-1252; if accents look wrong, save it as UTF-8",
        )
    with path.open("r", encoding=codec, errors=on_error(codec), newline="") as handle:
        first = next((line.strip() for line in handle if line.strip()), "")
        handle.seek(0)
        if not first:
            bag.fatal("empty-file", f"{role}: {path} holds nothing but white space")
        elif path.suffix.lower() in (".jsonl", ".ndjson", ".json") or first.startswith('{"'):
            yield from _jsonl(handle, first, wanted, role, path, bag)
        else:
            yield from _delimited(handle, codec, wanted, role, path, bag)


def _delimited(
    handle: Iterable[str], codec: str, wanted: Sequence[str], role: str, path: Path, bag: Bag
) -> Iterator[Batch]:
    form = shape(path, codec, wanted)
    if path.suffix.lower() == ".txt" and len(wanted) == 1 and wanted[0] not in form.columns:
        lines = ((row, (line.rstrip("\r\n"),)) for row, line in enumerate(handle, 1))
        yield from _batched(lines)
        return
    if not _has_columns(form.columns, wanted, role, str(path), bag):
        return
    at = [form.columns.index(name) for name in wanted]
    yield from _batched((row, tuple(fields[i] for i in at)) for row, fields in records(handle, form, role, bag))


def _jsonl(
    handle: Iterable[str], first: str, wanted: Sequence[str], role: str, path: Path, bag: Bag
) -> Iterator[Batch]:
    if first.startswith("["):
        bag.fatal("format", f"{role}: {path} is a JSON array; write one object per line (jq -c '.[]' does it)")
        return
    objects = _objects(handle, role, bag)
    head = list(islice(objects, KEYS_SEEN_IN))
    if not head:
        bag.fatal("format", f"{role}: {path} has no line that is a JSON object; write one object per line")
        return
    keys = tuple(dict.fromkeys(key for _, value in head for key in value))
    if _has_columns(keys, wanted, role, str(path), bag):
        yield from _batched((row, tuple(value.get(n) for n in wanted)) for row, value in chain(head, objects))


def _objects(handle: Iterable[str], role: str, bag: Bag) -> Iterator[tuple[int, dict[str, Any]]]:
    row = 0
    for number, line in enumerate(handle, 1):
        if not line.strip():
            continue
        row += 1
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            bag.row("broken-row", role, row, f"line {number}: {getattr(error, 'msg', 'nested too deep')}")
            continue
        if isinstance(value, dict):
            yield row, value
        else:
            bag.row("broken-row", role, row, f"line {number}: not a JSON object")


def _parquet(path: Path, wanted: Sequence[str], role: str, bag: Bag) -> Iterator[Batch]:
    parquet, pa = need("pyarrow.parquet"), need("pyarrow")
    try:
        file = parquet.ParquetFile(path)
        columns = [name for name in wanted if name in file.schema_arrow.names]
        tables = file.iter_batches(BATCH_ROWS, columns=columns)
        names = _class_names(file.schema_arrow.metadata or {})
        yield from _tables(tuple(file.schema_arrow.names), tables, names, wanted, role, str(path), bag)
    except pa.ArrowException as error:
        bag.fatal("unreadable", f"{role}: {path} is not a whole Parquet file ({str(error).splitlines()[0]})")


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Return column → label names, where `datasets` wrote them into the schema."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {k: v["names"] for k, v in features.items() if isinstance(v, dict) and v.get("_type") == "ClassLabel"}


def _tables(
    columns: Sequence[str],
    tables: Iterable[Any],
    class_names: dict[str, list[str]],
    wanted: Sequence[str],
    role: str,
    source: str,
    bag: Bag,
) -> Iterator[Batch]:
    """Yield batches from Arrow tables, with class numbers turned into their names."""
    if not columns or not _has_columns(columns, wanted, role, source, bag):
        return
    row = 0
    for table in tables:
        values = [table.column(name).to_pylist() for name in wanted]
        for k, name in enumerate(wanted):
            if names := class_names.get(name):
                values[k] = [names[v] if v is not None and 0 <= v < len(names) else None for v in values[k]]
        yield Batch(list(range(row + 1, row + 1 + table.num_rows)), values)
        row += table.num_rows


def _has_columns(columns: Sequence[str], wanted: Sequence[str], role: str, source: str, bag: Bag) -> bool:
    missing = [name for name in wanted if name not in columns]
    shown = ", ".join(f"'{column[:40]}'" for column in columns[:12])
    for name in missing:
        folded = {column.casefold(): column for column in columns}
        near = difflib.get_close_matches(name.casefold(), folded, 1, 0.5)
        todo = f"did you mean '{folded[near[0]]}'?" if near else "is the first line data? Put column names above it"
        bag.fatal("missing-column", f"{role}: {source} has no column '{name}', only {shown}; {todo}")
    return not missing


def _batched(rows: Iterable[tuple[int, tuple[Any, ...]]]) -> Iterator[Batch]:
    """Gather rows into batches of bounded length and weight."""
    held: list[tuple[Any, ...]] = []
    numbers: list[int] = []
    chars = 0
    for number, values in rows:
        numbers.append(number)
        held.append(values)
        chars += len(values[0]) if isinstance(values[0], str) else 0
        if len(held) >= BATCH_ROWS or chars >= BATCH_CHARS:
            yield Batch(numbers, [list(column) for column in zip(*held, strict=True)])
            held, numbers, chars = [], [], 0
    if held:
        yield Batch(numbers, [list(column) for column in zip(*held, strict=True)])
