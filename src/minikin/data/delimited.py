"""CSV and TSV row by row, where a stray quotation mark never swallows the rows after it. Called by `formats`."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

from minikin.data.encoding import Shape
from minikin.data.faults import Bag

MAX_LINES_PER_ROW = 10_000
FIELD_LIMIT_CHARS = 1 << 30


class _Lines(Iterator[str]):
    """Lines of a file that remember the current record's, so that all but the first can be read again."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._waiting: deque[str] = deque()
        self.record: list[str] = []
        self.passed = 0

    def __next__(self) -> str:
        if len(self.record) >= MAX_LINES_PER_ROW:
            raise csv.Error("a quotation that doesn't end")
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self.record.append(line)
        return line

    def begin(self) -> None:
        """Start a new record."""
        self.passed += len(self.record)
        self.record = []

    def again(self) -> str:
        """Give back all lines of the record but its first, which is returned."""
        first, *rest = self.record
        self._waiting.extendleft(reversed(rest))
        self.record = [first]
        return first


def records(lines: Iterable[str], shape: Shape, role: str, bag: Bag) -> Iterator[tuple[int, list[str]]]:
    """Yield (1-based data row, fields) of every whole row after the header; the broken ones go into `bag`."""
    csv.field_size_limit(FIELD_LIMIT_CHARS)
    source = _Lines(lines)
    mode: Literal[0, 3] = csv.QUOTE_MINIMAL if shape.quoting else csv.QUOTE_NONE
    reader = csv.reader(source, delimiter=shape.delimiter, quoting=mode, strict=shape.quoting)
    width, row = len(shape.columns), -1
    while True:
        source.begin()
        try:
            fields, wrong = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            fields, wrong = [], str(error)
        if not fields and not wrong:
            continue  # an empty line is no row
        row += 1
        if row == 0:
            continue  # the header, which `shape` holds
        if len(fields) != width:
            fields = _mended(source, fields, wrong, width, shape.delimiter, (row, role), bag)
        if fields:
            yield row, fields


def _mended(
    source: _Lines, fields: list[str], wrong: str, width: int, delimiter: str, at: tuple[int, str], bag: Bag
) -> list[str]:
    """Return the fields of a row that didn't read as it should, or none after noting it as broken."""
    row, role = at
    if len(fields) > width and not any(fields[width:]):
        return fields[:width]  # delimiters too many at the end of the line
    if wrong or len(source.record) > 1:
        plain = next(csv.reader([source.again().rstrip("\r\n")], delimiter=delimiter, quoting=csv.QUOTE_NONE), [])
        if len(plain) == width:
            bag.row("stray-quote", role, row)
            return plain
    why = wrong or f"{len(fields)} fields instead of {width}"
    bag.row("broken-row", role, row, f"line {source.passed + 1}: {why}")
    return []
