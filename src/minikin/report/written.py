"""What the report shows of kins that write: every figure side by side, and samples. Called by page.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from minikin.report import sections, words
from minikin.report.words import number, part

FIGURES: Final = (
    ("accuracy", "Exact", "the same JSON value as the reference, or the same text"),
    ("rouge_l", "ROUGE-L", "F₁ of the words in common, in order"),
    ("chrf", "chrF", "F₂ of the runs of 1 to 6 characters in common"),
    ("schema_valid", "As the schema says", "JSON that satisfies data.json_schema, written without being bound by it"),
    ("perplexity", "Perplexity", "of the reference’s tokens; of one tokenizer only"),
    ("bits_per_byte", "Bits per byte", "of the reference’s text; whatever the tokenizer"),
    ("looping", "Ends in a loop", "something stands three times in a row at the end, 24 characters in all"),
    ("repeated_4_grams", "Repeated runs of four", "share of runs of four words that stood in the same text before"),
    ("memorised", "Of the training text", "200 characters in a row of a training text, and not of prompt or reference"),
)
"""Of each figure its key, its name, and what it is."""

HEADS: Final = {
    "teacher": "Teacher",
    "student": "Shipped",
    "student_without_teacher": "No teacher",
    "tfidf": "Nearest",
    "references": "References",
}
LESS: Final = {"teacher": "Less teacher’s", "student_without_teacher": "Less no teacher’s"}
"""Heads of the columns: who wrote, and what is left of the student's figure less another's."""

PLAIN: Final = ("perplexity", "bits_per_byte")
"""Figures that are no shares."""


def figures(story: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row for each figure: everyone's value with its interval, and the student minus each of the others."""
    measured = part(story, "measurements") or {}
    if story.get("task") != "generate" or not part(measured, "student"):
        return None
    everyone = {**measured, "references": part(measured, "student", "references")}
    columns = {who: everyone[who] for who in HEADS if everyone.get(who)}
    minus = part(measured, "student", "minus") or {}
    rows = []
    for key, title, what in FIGURES:
        if number(part(measured, "student", key)) is None:
            continue
        shown, changed = (words.significant, _signed) if key in PLAIN else (words.percent, words.points)
        values = [(shown(row.get(key)), _interval(row.get(f"{key}_interval"), shown)) for row in columns.values()]
        less = [part(minus, who, key) or {} for who in LESS if who in minus]
        differences = [(changed(pair.get("difference")), _interval(pair.get("interval"), changed)) for pair in less]
        rows.append({"title": title, "what": what, "cells": values + differences})
    heads = [HEADS[who] for who in columns] + [title for who, title in LESS.items() if who in minus]
    return {"columns": heads, "rows": rows}


def _signed(value: Any) -> str:
    x = number(value)
    return words.NONE if x is None else f"{'+' if x > 0 else ''}{words.significant(x)}"


def _interval(pair: Any, shown: Callable[[Any], str]) -> str:
    low, high = pair or (None, None)
    unit = f"{words.NARROW}%"
    return "" if number(low) is None else f"{shown(low).removesuffix(unit)} to {shown(high).removesuffix(unit)}"


def samples(story: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Prompts chosen by a seed, with the reference and what everyone wrote."""
    names = {"truth": "reference", **{who: name.casefold() for who, (name, _, _) in sections.who(story).items()}}
    return [
        {
            "text": sections.clipped(row.get("text")),
            "said": [(names[who], sections.clipped(row[who])) for who in names if row.get(who) is not None],
        }
        for row in part(story, "samples") or []
    ]
