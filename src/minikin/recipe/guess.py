"""Which columns hold the text and the label, told by their names and by what is in them. Called by `minikin new`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

TEXT_NAMES = (
    "text", "texts", "sentence", "utterance", "message", "query", "content", "body", "comment", "review", "question",
    "description", "title", "input", "prompt", "tweet", "transcript",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "category", "intent", "class", "target", "tag", "topic", "sentiment", "type", "y", "answer",
    "queue", "team", "coarse_label", "label_text",
)  # fmt: skip
PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("text1", "text2"),
    ("text_a", "text_b"), ("question", "sentence"), ("query", "passage"), ("text", "text_pair"),
)  # fmt: skip
LABELS_AT_MOST = 1000
ROWS_PER_LABEL = 2
LONG_TEXT = 12
"""Characters from which a column without a telling name may be the text."""


class Column(Protocol):
    """What is known of a column."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def filled(self) -> int:
        """Rows that have a value."""
        ...

    @property
    def mean_length(self) -> float:
        """Characters of a value, on average."""
        ...

    @property
    def values(self) -> dict[str, int] | None:
        """Value → how often it stands there, or None when there are too many."""
        ...


def labels(columns: Sequence[Column]) -> list[str]:
    """Names of the columns that can be the label, the likeliest first."""
    return [c.name for c in sorted(filter(_can_be_label, columns), key=_label_rank)]


def texts(columns: Sequence[Column], label: str | None = None) -> list[tuple[str, ...]]:
    """Columns that can be the text, the likeliest first; two names stand for a pair. `label` is none of them."""
    free = [c for c in columns if c.name != label and c.filled]
    lower = {c.name.lower(): c.name for c in free}
    found: list[tuple[str, ...]] = [(lower[a], lower[b]) for a, b in PAIRS if a in lower and b in lower]
    told = sorted((c for c in free if c.name.lower() in TEXT_NAMES), key=lambda c: TEXT_NAMES.index(c.name.lower()))
    long = sorted((c for c in free if c.mean_length >= LONG_TEXT and c not in told), key=lambda c: -c.mean_length)
    return found + [(c.name,) for c in [*told, *long]]


def is_clear(found: Sequence[str] | Sequence[tuple[str, ...]]) -> bool:
    """Whether the first of some candidates is the only one, or bears a name that tells."""
    if not found:
        return False
    first = found[0] if isinstance(found[0], str) else found[0][0]
    return len(found) == 1 or len(found[0]) == 2 or first.lower() in (*TEXT_NAMES, *LABEL_NAMES)


def _can_be_label(column: Column) -> bool:
    if column.values is None or not 2 <= len(column.values) <= LABELS_AT_MOST:
        return False
    return len(column.values) * ROWS_PER_LABEL <= column.filled or column.name.lower() in LABEL_NAMES


def _label_rank(column: Column) -> tuple[int, float]:
    name = column.name.lower()
    named = LABEL_NAMES.index(name) if name in LABEL_NAMES else len(LABEL_NAMES)
    return named, column.mean_length
