"""Which encoding, delimiter and quoting a text file has; `formats` asks before it reads."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

SAMPLE_LINES = 1000
SAMPLE_BYTES = 4096
CHUNK_BYTES = 1 << 20
DELIMITERS = ",\t;|"
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_FOREIGN = re.compile("[^\x00-\x7f]")
_ESCAPED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Shape:
    """How a delimited file is written: its delimiter, whether `"` quotes, and the columns of its header."""

    delimiter: str
    quoting: bool
    columns: tuple[str, ...]


def encoding(path: Path) -> str:
    """Return the Python codec that reads the file: by byte order mark, by the place of NULs, else by trying.

    A file whose bytes are UTF-8 more often than not is UTF-8 (its broken bytes are told by row); else it is
    read as Windows-1252, which is what spreadsheets write.
    """
    with path.open("rb") as handle:
        head = handle.read(SAMPLE_BYTES)
        for mark, name in BYTE_ORDER_MARKS:
            if head.startswith(mark):
                return name
        even, odd = head[0::2].count(0), head[1::2].count(0)
        if max(even, odd) > 0.3 * len(head) / 2 > 4 * min(even, odd):
            return "utf-16-be" if even > odd else "utf-16-le"
        handle.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        good = bad = 0
        while chunk := handle.read(CHUNK_BYTES):
            text = decoder.decode(chunk)
            if not text.isascii():
                wrong = len(_ESCAPED.findall(text))
                good, bad = good + len(_FOREIGN.findall(text)) - wrong, bad + wrong
    return "cp1252" if bad > good else "utf-8"


def on_error(codec: str) -> str:
    """Return the error handler under which broken bytes survive decoding and can be told by row."""
    return "replace" if codec.startswith(("utf-16", "utf-32")) else "surrogateescape"


def shape(path: Path, codec: str, wanted: Sequence[str]) -> Shape:
    """Return the reading of the file's first lines that knows most wanted columns and breaks fewest rows."""
    with path.open("r", encoding=codec, errors=on_error(codec), newline="") as handle:
        lines = list(islice(handle, SAMPLE_LINES))
    best, best_score = Shape(",", True, ()), (-1, 0.0, 0)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    for delimiter in sorted(DELIMITERS, key=lambda d: d != usual):
        for quoting in (True, False):
            columns, whole = _try(lines, delimiter, quoting)
            score = (len({*columns} & {*wanted}), whole if len(columns) > 1 else 0.0, len(columns) > 1)
            if score > best_score:
                best, best_score = Shape(delimiter, quoting, columns), score
    return best


def _try(lines: list[str], delimiter: str, quoting: bool) -> tuple[tuple[str, ...], float]:
    """Return the header under this reading and the share of physical lines in rows of its length."""
    quotes: Literal[0, 3] = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quotes, strict=quoting)
    columns: tuple[str, ...] = ()
    whole = before = 0
    try:
        for fields in reader:
            if not columns:
                columns = tuple(field.strip() for field in fields)
            elif len(fields) == len(columns):
                whole += reader.line_num - before
            before = reader.line_num
    except csv.Error:  # an unbalanced quotation mark; what was whole before it counts
        pass
    return columns, whole / max(len(lines) - 1, 1)
