"""What each section of the report shows, as plain values for the template. Called by page.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minikin.report import charts, words
from minikin.report.scatter import Mark, scatter
from minikin.report.words import number, part

WHO = {
    "teacher": ("Teacher", "teacher", "the teacher"),
    "student": ("Student, as shipped", "student", "itself"),
    "student_without_teacher": ("Same student, no teacher", "control", "the same student without a teacher"),
    "tfidf": ("TF-IDF + logistic regression", "lexical", "TF-IDF with logistic regression"),
}
NEAREST = ("Answer of the nearest prompt", "lexical", "the answer of the nearest training prompt")
"""What stands in the lexical baseline's place where answers are written."""

SHORT = {"teacher": "teacher", "student": "shipped", "student_without_teacher": "no teacher", "tfidf": "TF-IDF"}
LATENCY, SIZE = "latency_ms_p50", "size_mib"
DRAWN = {"front": ("front", "winner"), "dominated": ("dominated",), "eliminated": ("eliminated",)}
WHOLE_TABLE = 40
FIRST_EXAMPLES = 10
LONGEST_TEXT = 400
NEITHER = "Neither is right"


def who(story: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Everyone who was measured: name, role, and name in a sentence."""
    return {**WHO, "tfidf": NEAREST} if story.get("task") == "generate" else WHO


def front(story: Mapping[str, Any]) -> dict[str, Any] | None:
    """Both charts of the front, and the candidates by what became of them."""
    candidates: Sequence[Mapping[str, Any]] = part(story, "front") or []
    if not candidates:
        return None
    budget = part(story, "budget") or {}
    limits = {
        SIZE: (budget.get(SIZE), "budget " + words.plain_mib(budget.get(SIZE))),
        LATENCY: (budget.get("latency_ms_p95"), "p95 budget " + words.plain_ms(budget.get("latency_ms_p95"))),
    }
    labels = {SIZE: "model and tokenizer, MiB", LATENCY: "one answer, ms (p50)"}
    keep, teacher = number(budget.get("keep")), number(part(story, "measurements", "teacher", "accuracy"))
    floor = (keep * teacher, f"floor: {words.share(keep)} of the teacher") if keep and teacher else None
    drawn = [
        scatter(
            _marks(story, candidates, column),
            title=f"Accuracy against {labels[column]}, logarithmic",
            x_label=labels[column],
            line=[
                (c[column], c["accuracy"])
                for c in candidates
                if c.get("state") in ("front", "winner") and _placed(c, column)
            ],
            limit=limits[column] if number(limits[column][0]) is not None else None,  # type: ignore[arg-type]
            floor=floor,
        )
        for column in (SIZE, LATENCY)
    ]
    states = [str(c.get("state")) for c in candidates]
    on_front = sum(state in ("front", "winner") for state in states)
    dropped = states.count("dropped")
    tried = [c for c in candidates if number(c.get("accuracy")) is not None]
    return {
        "charts": drawn,
        "finding": f"{words.count(len(states), 'candidate')} measured on this machine before any training; "
        f"{dropped} did not fit the budget, {on_front} make up the front.",
        "dropped": [c for c in candidates if c.get("state") == "dropped"],
        "all": candidates,
        "roles": [role for role, named in DRAWN.items() if any(c.get("state") in named for c in tried)],
    }


def _placed(candidate: Mapping[str, Any], column: str) -> bool:
    return number(candidate.get("accuracy")) is not None and (number(candidate.get(column)) or 0) > 0


def _marks(story: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]], column: str) -> list[Mark]:
    """Candidates as small marks, and what was measured on the test split as large ones with whiskers."""
    # Where the shipped student is drawn, its label stands for the winner's too.
    labelled = ("front",) if _placed(part(story, "measurements", "student") or {}, column) else ("front", "winner")
    marks = [
        Mark(
            c[column],
            c["accuracy"],
            str(c.get("state") or "dominated"),
            f"{c.get('name')}: {words.percent(c['accuracy'])}, {words.mib(c.get(SIZE))}, {words.ms(c.get(LATENCY))}",
            str(c.get("name")) if str(c.get("state")) in labelled else "",
        )
        for c in candidates
        if _placed(c, column)
    ]
    for who, (name, role, _) in WHO.items():
        m = part(story, "measurements", who)
        if isinstance(m, Mapping) and _placed(m, column):
            # Shipped student and control share their costs: two whiskers on one spot could not be told apart.
            interval = m.get("accuracy_interval") if role != "control" else None
            title = f"{name}: {words.percent(m['accuracy'])}"
            marks.append(Mark(m[column], m["accuracy"], role, title, SHORT[who], interval and tuple(interval)))
    return marks


def stages(story: Mapping[str, Any]) -> dict[str, Any] | None:
    """Each stage with its bars, scaled to the largest of the students (the teacher's would dwarf them)."""
    stages: Sequence[Mapping[str, Any]] = part(story, "stages") or []
    if not stages:
        return None
    columns = ((SIZE, "Size", words.mib), (LATENCY, "Latency p50", words.ms))
    ours = [s for s in stages if s.get("name") != "teacher"] or stages
    most = {c: max((number(s.get(c)) or 0.0 for s in ours), default=0.0) or 1.0 for c, _, _ in columns}
    rows = []
    before: float | None = None
    for stage in stages:
        accuracy, is_teacher = number(stage.get("accuracy")), stage.get("name") == "teacher"
        change = accuracy - before if accuracy is not None and before is not None else None
        cells = []
        for column, title, shown in columns:
            value = number(stage.get(column))
            share = None if value is None else value / most[column]
            cells.append((title, shown(value), share, is_teacher and share is not None and share > 1))
        rows.append(
            {
                "name": stage.get("name"),
                "note": stage.get("note") or "",
                "accuracy": words.percent(accuracy),
                "change": "" if change is None else words.points(change),
                "worse": change is not None and change < -0.0005,
                "role": "teacher" if is_teacher else "student",
                "cells": cells,
            }
        )
        before = accuracy if accuracy is not None else before
    return {"rows": rows, "finding": words.finding_stages(stages)}


def classes(story: Mapping[str, Any]) -> dict[str, Any] | None:
    """Classes by their change in recall, greatest loss first (without a teacher: weakest first)."""
    rows: Sequence[Mapping[str, Any]] = part(story, "per_class") or []
    if not rows:
        return None
    taught = any(number(row.get("teacher_recall")) is not None for row in rows)

    def change(row: Mapping[str, Any]) -> float:
        ours, theirs = number(row.get("student_recall")), number(row.get("teacher_recall"))
        return 0.0 if ours is None or theirs is None else ours - theirs

    ordered = sorted(rows, key=lambda row: (change(row), number(row.get("student_recall")) or 0.0, str(row["label"])))
    extent = max((abs(change(row)) for row in rows), default=0.0)
    shown = [
        {
            "label": row["label"],
            "n": row.get("n"),
            "teacher": words.percent(row.get("teacher_recall"), 0),
            "student": words.percent(row.get("student_recall"), 0),
            "f1": words.percent(row.get("student_f1"), 0),
            "change": words.points(change(row)) if taught else "",
            "bar": charts.diverging(change(row), extent)
            if taught
            else charts.bar(number(row.get("student_recall")) or 0.0),
        }
        for row in ordered
    ]
    cut = WHOLE_TABLE if len(shown) <= WHOLE_TABLE else WHOLE_TABLE // 2
    return {
        "taught": taught,
        "rows": shown[:cut],
        "more": shown[cut:],
        "finding": words.finding_classes(rows),
    }


def parted(story: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The texts that student and teacher answer differently, by who is right."""
    groups: dict[str, list[dict[str, Any]]] = {
        "The teacher is right, the student is not": [],
        "The student is right, the teacher is not": [],
        NEITHER: [],
    }
    for row in part(story, "differences") or []:
        truth, teacher, student = row.get("truth"), row.get("teacher"), row.get("student")
        text = row.get("text")
        sides = text if isinstance(text, list | tuple) else [text]
        which = 0 if teacher == truth else 1 if student == truth else 2
        list(groups.values())[which].append(
            {
                "sides": [clipped(t) for t in sides],
                "truth": truth if truth is not None else words.NONE,
                "teacher": teacher,
                "student": student,
                "confidence": words.percent(row.get("confidence"), 0),
            }
        )
    return [
        {
            "title": title,
            "rows": rows[:FIRST_EXAMPLES],
            "more": rows[FIRST_EXAMPLES:],
            "n": len(rows),
            "truth": title == NEITHER,
        }
        for title, rows in groups.items()
        if rows
    ]


def clipped(text: Any) -> str:
    """A text, or its beginning."""
    whole = str(text)
    return whole if len(whole) <= LONGEST_TEXT else whole[:LONGEST_TEXT] + " …"


def making(story: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe, seeds, machine and times."""
    seconds = {str(k): number(v) or 0.0 for k, v in (part(story, "seconds") or {}).items()}
    longest = max(seconds.values(), default=0.0) or 1.0
    machine = part(story, "machine") or {}
    facts = [
        ("Processor", machine.get("processor")),
        ("Cores", machine.get("cores")),
        ("Memory", f"{machine['memory_gib']} GiB" if number(machine.get("memory_gib")) else None),
        ("System", machine.get("system")),
        ("Python", machine.get("python")),
        *((machine.get("packages") or {}).items()),
        *((f"Seed: {name}", seed) for name, seed in (part(story, "seeds") or {}).items()),
    ]
    return {
        "recipe": str(story.get("recipe") or "").strip(),
        "facts": [(name, str(value)) for name, value in facts if value not in (None, "")],
        "times": [(name, words.duration(s), charts.bar(s / longest, "quiet")) for name, s in seconds.items()],
        "total": words.duration(sum(seconds.values())) if seconds else "",
    }
