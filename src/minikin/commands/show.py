"""Tables and lines that several verbs share, so that they all say a figure in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from minikin.report import words

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


def interval(pair: Any) -> str:
    """A 95 % interval of shares: 91.2–93.4."""
    if not pair or any(words.number(x) is None for x in pair):
        return words.NONE
    return f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}"


def writings(found: Mapping[str, Any]) -> Table:
    """Teacher, student, student without the teacher and nearest answer: exactness, perplexity, size and speed."""
    rows: list[tuple[str, ...]] = []
    place = -1
    for key, name in {**SUBJECTS, "tfidf": "answer of the nearest prompt"}.items():
        if not (row := found.get(key)):
            continue
        if key == "student":
            place = len(rows)
        rows.append(
            (
                name,
                words.percent(row.get("accuracy")),
                interval(row.get("accuracy_interval")),
                words.fixed(row.get("perplexity"), 3),
                words.mib(row.get("size_mib")),
                words.ms(row.get("latency_ms_p50")),
                words.ms(row.get("latency_ms_p95")),
                words.fixed(row.get("decode_tokens_per_s")),
            )
        )
    columns = ("", "exact", "95 % interval", "perplexity", "size", "p50", "p95", "tokens/s")
    return table(columns, rows, bold=place)


def measurements(found: Mapping[str, Any]) -> Table:
    """Teacher, student, student without the teacher and TF-IDF: accuracy, size and latency."""
    rows: list[tuple[str, ...]] = []
    place = -1
    for key, name in SUBJECTS.items():
        row = found.get(key)
        if not row:
            continue
        if key == "student":
            place = len(rows)
        rows.append(
            (
                name,
                words.percent(row.get("accuracy")),
                interval(row.get("accuracy_interval")),
                words.percent(row.get("typo_accuracy")),
                words.mib(row.get("size_mib")),
                words.ms(row.get("latency_ms_p50")),
                words.ms(row.get("latency_ms_p95")),
            )
        )
    return table(("", "accuracy", "95 % interval", "with typos", "size", "p50", "p95"), rows, bold=place)
