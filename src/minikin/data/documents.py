"""Plain text files as documents, streamed: what stands between end-of-text lines, else between empty lines.

Called by `generate`. A document that is too long to hold comes in parts of one number, cut at a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, TextIO

from minikin.data.encoding import encoding, on_error
from minikin.data.faults import Bag
from minikin.data.formats import BATCH_CHARS, BATCH_ROWS, HUB, Batch

END: Final = "<|endoftext|>"
PART_CHARS: Final = 1_000_000
SEEN_LINES: Final = 10_000


def is_plain(source: str) -> bool:
    """Whether a source is a file of running text."""
    return not source.startswith(HUB) and Path(source).suffix.lower() in (".txt", ".text", ".md")


def documents(path: Path, role: str, bag: Bag) -> Iterator[Batch]:
    """Yield the documents of a text file in batches; their numbers count from 1."""
    if not path.is_file() or path.stat().st_size == 0:
        bag.fatal("missing-file", f"{role}: there is no text in {path}")
        return
    codec = encoding(path)
    try:
        with path.open("r", encoding=codec, errors=on_error(codec)) as handle:
            marked = any(END in line for line in islice(handle, SEEN_LINES))
            handle.seek(0)
            yield from _batched(_parts(_bounded(handle), marked))
    except (OSError, UnicodeError) as error:
        bag.fatal("unreadable", f"{role}: {path} can't be read ({error}); save it as UTF-8")


def _bounded(handle: TextIO) -> Iterator[str]:
    """Lines, the longest in pieces that fit in memory."""
    while line := handle.readline(PART_CHARS):
        yield line


def _parts(lines: Iterable[str], marked: bool) -> Iterator[tuple[int, str]]:
    """Yield (number, text): a document, or as much of one as is held at once."""
    number, chars, begun = 1, 0, False
    held: list[str] = []
    for line in lines:
        before, *after = line.split(END) if marked else ([line] if line.strip() else ["", ""])
        held.append(before)
        chars += len(before)
        if after or chars >= PART_CHARS:
            text = "".join(held)
            if text.strip():
                yield number, text
                begun = True
            number, begun = (number + 1, False) if after and begun else (number, begun)
            for whole in filter(str.strip, after[:-1]):
                yield number, whole
                number += 1
            held, chars = after[-1:], sum(map(len, after[-1:]))
    if "".join(held).strip():
        yield number, "".join(held)


def _batched(parts: Iterable[tuple[int, str]]) -> Iterator[Batch]:
    rows: list[int] = []
    texts: list[str] = []
    chars = 0
    for row, text in parts:
        rows.append(row)
        texts.append(text)
        chars += len(text)
        if len(rows) >= BATCH_ROWS or chars >= BATCH_CHARS:
            yield Batch(rows, [texts])
            rows, texts, chars = [], [], 0
    if rows:
        yield Batch(rows, [texts])
