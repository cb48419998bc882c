"""Texts as they arrive: lines, JSONL or CSV from a file or a pipe, told apart and read one by one. Called by `run`."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from minikin.base.errors import UserError
from minikin.base.types import Text
from minikin.base.writing import no_chat

FORMATS = ("auto", "lines", "jsonl", "csv")
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "lines",
}
DELIMITERS = ",\t;|"
CHUNK_BYTES = 1 << 16
FIELD_LIMIT_CHARS = 1 << 30
HEAD_CHARS, NULS = 4096, 4
"""So many NULs in the first characters are no text; images, models and archives have them, a text a stray one."""

NO_TEXT = (b"PK", b"\x1f\x8b", b"PAR1", b"%PDF")


@dataclass(frozen=True)
class Bad:
    """A line that holds no text, in the place where its answer would stand."""

    line: int
    why: str


@dataclass(frozen=True)
class Wanted:
    """What the kin needs: one text or a pair, and the names under which to look for it; with `chats`, messages too."""

    pair: bool
    columns: tuple[str, ...] = ()
    usual: tuple[str, ...] = ("text",)
    """Names to try when none are given: those of the kin's own recipe."""

    chats: bool = False


class Arriving(Iterator[str]):
    """Decoded lines with their ends, as soon as they are there; reads no further than it must."""

    def __init__(self, stream: IO[bytes], codec: str = "utf-8-sig") -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(codec)("replace" if "16" in codec else "surrogateescape")
        self._lines: list[str] = []
        self._rest, self._ended = "", False
        self.head, self.number = "", 0

    def __next__(self) -> str:
        while not self._lines:
            if self._ended:
                raise StopIteration
            self._fill()
        self.number += 1
        return self._lines.pop()

    def ready(self) -> bool:
        """Whether a whole line is at hand, so that more can be answered together."""
        return bool(self._lines)

    def peek(self) -> str:
        """Return the first line that is not blank, without taking it; '' when there is none."""
        while True:
            found = next((line for line in reversed(self._lines) if line.strip()), None)
            if found is not None or self._ended:
                return found or ""
            self._fill()

    def _fill(self) -> None:
        raw = self._stream.read1(CHUNK_BYTES)  # type: ignore[attr-defined]
        self._ended = not raw
        text = self._decoder.decode(raw, final=self._ended)
        self.head = self.head or text[:HEAD_CHARS]
        # Only \n ends a line, so that the other separators of Unicode can stand inside a text.
        *whole, rest = (self._rest + text).split("\n")
        fresh = [line + "\n" for line in whole]
        self._rest = rest
        if self._ended and rest:
            fresh, self._rest = [*fresh, rest], ""
        self._lines = fresh[::-1] + self._lines  # the next line stands last


def of_file(path: Path) -> tuple[IO[bytes], str]:
    """Open a file of texts; return the stream and its encoding. Raises UserError when it can't be read."""
    from minikin.data.encoding import encoding

    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder. Name the file in it.")
        stream = path.open("rb")
        codec = encoding(path) if path.is_file() else "utf-8"
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}). Check the path.") from error
    head = stream.peek(4)[:4] if hasattr(stream, "peek") else b""
    if head.startswith(NO_TEXT):
        stream.close()
        raise UserError(f"{path} is a spreadsheet, PDF, archive or Parquet. Save it as CSV, JSONL or lines of text.")
    return stream, "utf-8-sig" if codec == "utf-8" else codec


def one_source(given: Sequence[str], file: Path | None, form: str, what: str) -> None:
    """Raise UserError unless texts come from one place, in a form that is known; `what` is what a text is to be.

    A single text that is also the name of a file is a text; that it was not opened is said.
    """
    if form not in FORMATS:
        raise UserError(f"--format {form}: give one of {', '.join(FORMATS)}.")
    if given and file is not None:
        raise UserError(f"Give {what}s or --file, not both.")
    if not given and file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UserError(f'Give a {what} ("…"), a file with --file, or pipe lines, JSONL or CSV in.')
    if len(given) == 1 and os.path.isfile(given[0]):
        sys.stderr.write(f"{given[0]} is taken as a {what}; --file {given[0]} reads the file of that name.\n")


@contextmanager
def arriving(file: Path | None, form: str, wanted: Wanted) -> Iterator[tuple[Iterator[Any], Arriving]]:
    """Yield the texts of a file, or of standard input, and the lines that they come from."""
    stream: IO[bytes]
    stream, codec = of_file(file) if file else (sys.stdin.buffer, "utf-8-sig")
    try:
        lines = Arriving(stream, codec)
        yield texts(lines, form, file, wanted), lines
    finally:
        if file:
            stream.close()


def texts(lines: Arriving, form: str, file: Path | None, wanted: Wanted) -> Iterator[Any]:
    """Yield each text (or pair, or list of messages), or what is wrong with its line, in order.

    `file` is where the lines stand, if in one.

    Raises UserError when the columns that are wanted are not there, and when what arrives is no text.
    """
    if form == "auto":
        first = lines.peek()
        if lines.head.count("\0") >= NULS:
            raise UserError(
                f"{file or 'Standard input'} holds no text: there are NUL bytes, as in images, models and archives. "
                "Give CSV, JSONL or lines of text; --format lines reads it all the same."
            )
        form = SUFFIXES.get(file.suffix.lower() if file else "", "") or guessed(first, wanted)
    if form == "csv":
        yield from _csv(lines, wanted)
    elif form == "jsonl":
        yield from _jsonl(lines, wanted)
    else:
        for line in lines:
            yield of_line(line.rstrip("\r\n"), lines.number, wanted.pair)


def guessed(first: str, wanted: Wanted) -> str:
    """Tell the format by the first line: a JSON value, a CSV header that names the text, else lines."""
    try:
        if isinstance(json.loads(first), dict | list | str):
            return "jsonl"
    except (ValueError, RecursionError):
        pass
    names = set(wanted.columns or wanted.usual)
    header = _header(first)[1]
    if names <= set(header) and (len(header) > 1 or wanted.columns):
        return "csv"
    return "lines"


def of_line(line: str, number: int, pair: bool) -> Text | Bad:
    """Return the text of a plain line; a pair stands there as a JSON array or with a tab between."""
    if not pair:
        return line
    parts: Any = line.split("\t")
    if line.lstrip().startswith("["):
        try:
            parts = json.loads(line)
        except (ValueError, RecursionError):
            return Bad(number, "is not a whole JSON array")
    return _pair(parts, number)


def _pair(parts: Any, number: int) -> Text | Bad:
    if isinstance(parts, list | tuple) and len(parts) == 2 and all(isinstance(part, str) for part in parts):
        return (parts[0], parts[1])
    return Bad(number, "is no pair: write two texts with a tab between them, or a JSON array of two")


def _jsonl(lines: Arriving, wanted: Wanted) -> Iterator[Any]:
    names: tuple[str, ...] = ()
    for line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Bad(lines.number, f"is not JSON ({getattr(error, 'msg', 'nested too deep')})")
            continue
        if isinstance(value, dict):
            names = names or chosen(tuple(value), wanted)
            if wanted.chats and isinstance(value.get(names[0]), list):
                value = value[names[0]]
        if wanted.chats and isinstance(value, list):
            while value and isinstance(value[-1], dict) and value[-1].get("role") == "assistant":
                value.pop()  # the answer of an example: it is what is asked for
            reason = no_chat(value)
            yield Bad(lines.number, f"holds no chat to answer: {reason}") if reason else value
        elif isinstance(value, dict):
            parts = [part for name in names if isinstance(part := value.get(name), str)]
            if len(parts) < len(names):
                yield Bad(lines.number, f"has no text under {' and '.join(map(repr, names))}")
            else:
                yield (parts[0], parts[1]) if wanted.pair else parts[0]
        elif wanted.pair:
            yield _pair(value, lines.number)
        elif isinstance(value, str):
            yield value
        else:
            yield Bad(lines.number, "holds neither a text nor an object with one")


def _csv(lines: Arriving, wanted: Wanted) -> Iterator[Text | Bad]:
    csv.field_size_limit(FIELD_LIMIT_CHARS)
    delimiter, header = _header(lines.peek())
    if not header:
        return
    at = [header.index(name) for name in chosen(tuple(header), wanted)]
    reader = csv.reader(lines, delimiter=delimiter)
    header_is_read = False
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Bad(lines.number, f"can't be read ({error})")
            continue
        if not fields:
            continue
        if not header_is_read:
            header_is_read = True
        elif len(fields) <= max(at):
            yield Bad(lines.number, f"has {len(fields)} fields instead of {len(header)}")
        else:
            yield (fields[at[0]], fields[at[1]]) if wanted.pair else fields[at[0]]


def _header(first: str) -> tuple[str, list[str]]:
    """Return delimiter and column names of a header line."""
    best: tuple[str, list[str]] = (",", [])
    for delimiter in DELIMITERS:
        try:
            fields = next(csv.reader(io.StringIO(first), delimiter=delimiter), [])
        except csv.Error:
            continue
        if len(fields) > len(best[1]):
            best = (delimiter, [field.strip() for field in fields])
    return best


def chosen(columns: Sequence[str], wanted: Wanted) -> tuple[str, ...]:
    """Return the columns (or keys) that hold the text: those given, the usual ones, or the only one.

    Raises UserError, listing what is there, when they can't be told.
    """
    count = 2 if wanted.pair else 1
    shown = ", ".join(f"'{column[:40]}'" for column in columns[:12])
    if wanted.columns:
        if len(wanted.columns) != count:
            raise UserError(
                f"This kin answers to {'pairs' if wanted.pair else 'single texts'}; give --text-column {count} time(s)."
            )
        missing = [name for name in wanted.columns if name not in columns]
        if missing:
            raise UserError(f"There is no column '{missing[0]}', only {shown}. Give another --text-column.")
        return wanted.columns
    asked = (("messages",), ("prompt",)) if wanted.chats else ()
    for names in (wanted.usual, *asked, ("text",) if count == 1 else ("text", "text_pair")):
        if len(names) == count and set(names) <= set(columns):
            return tuple(names)
    if len(columns) == count:
        return tuple(columns)
    raise UserError(f"Which column holds the text? There are {shown}. Say it with --text-column NAME.")
