"""Tables and lines that several verbs share, so that they all say a figure in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minikin.report import words
from minikin.report.words import Columns

SUBJECTS = {
    "teacher": "teacher",
    "student": "student (the kin)",
    "student_without_teacher": "student without teacher",
    "tfidf": "TF-IDF + logistic regression",
}


def out() -> Console:
    """A console on standard output; where that is no terminal, wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, bold: int = -1, words_last: bool = False) -> Table:
    """A table whose first column is words (and its last, if so) and whose others are figures; row `bold` stands out."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        is_words = i == 0 or (words_last and i == len(columns) - 1)
        shown.add_column(column, justify="left" if is_words else "right", no_wrap=not is_words or i == 0)
    for i, row in enumerate(rows):
        shown.add_row(*row, style="bold" if i == bold else None)
    return shown


def figures(rows: Iterable[tuple[str, Mapping[str, Any]]], columns: Columns, bold: int = -1) -> Table:
    """A table of what was measured of each subject, in these columns."""
    cells = [(escape(name), *(shown(row.get(key)) for _, key, shown in columns)) for name, row in rows]
    return table(("", *(title for title, _, _ in columns)), cells, bold=bold)


def interval(pair: Any) -> str:
    """A 95 % interval of shares: 91.2–93.4."""
    if not pair or any(words.number(x) is None for x in pair):
        return words.NONE
    return f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}"


SORTED: Columns = (
    ("accuracy", "accuracy", words.percent),
    ("95 % interval", "accuracy_interval", interval),
    ("with typos", "typo_accuracy", words.percent),
    ("size", "size_mib", words.mib),
    *words.LATENCY,
)
WRITTEN: Columns = (
    ("exact", "accuracy", words.percent),
    ("95 % interval", "accuracy_interval", interval),
    ("perplexity", "perplexity", partial(words.fixed, digits=3)),
    ("size", "size_mib", words.mib),
    *words.LATENCY,
    ("tokens/s", "decode_tokens_per_s", words.fixed),
)


def measurements(found: Mapping[str, Any], task: str) -> Table:
    """Teacher, student, student without the teacher and baseline: how good, how large and how fast each is."""
    writes = task == "generate"
    columns, names = WRITTEN if writes else SORTED, SUBJECTS
    if writes:
        names = {**SUBJECTS, "tfidf": "answer of the nearest prompt"}
    there = [key for key in names if found.get(key)]
    place = there.index("student") if "student" in there else -1
    return figures(((names[key], found[key]) for key in there), columns, bold=place)
