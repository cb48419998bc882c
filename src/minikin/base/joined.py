"""Several sequences seen as one without copying, a few items of a long one, and texts and sides of pairs in a row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from minikin.base.types import Text


class Joined(Sequence[Any]):
    """A read-only view of sequences, one after another."""

    def __init__(self, parts: Sequence[Sequence[Any]]) -> None:
        self.parts = [p for p in parts if len(p)]
        self.ends: list[int] = []
        for part in self.parts:
            self.ends.append((self.ends[-1] if self.ends else 0) + len(part))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        if i < 0:
            i += len(self)
        if not 0 <= i < len(self):
            raise IndexError(i)
        which = bisect_right(self.ends, i)
        return self.parts[which][i - (self.ends[which - 1] if which else 0)]

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            yield from part


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items at even distances: files are often sorted by label, so the first ones are of one kind."""
    taken = min(count, len(items))
    return [items[i * len(items) // taken] for i in range(taken)]


def sides(texts: Iterable[Text]) -> Iterator[str]:
    """One text after another; of a pair, both sides."""
    for text in texts:
        yield from (text,) if isinstance(text, str) else text


def readable(text: str) -> str:
    """Return the text with U+FFFD for every lone surrogate, which no tokenizer reads; bytes not in UTF-8 make them."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
