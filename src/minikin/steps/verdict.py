"""What the gates of both tasks share: pass or fail against the recipe, and the frame of the story that is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from minikin.base.types import Data
from minikin.recipe.schema import Recipe
from minikin.report import words
from minikin.steps.context import Build

KEYS: Final = ("teacher", "student", "student_without_teacher", "tfidf")
"""Who is measured, in the order of the report; `tfidf` is the lexical baseline of either task."""

Rows = Mapping[str, Mapping[str, Any]]
"""What was measured of each of `KEYS`, as plain values."""


def unhelped(interval: tuple[float, float], reached: str) -> list[str]:
    """What to say where the student is not measurably better than the same one without the teacher.

    `interval` is of the difference; `reached` says what the one without the teacher does.
    """
    low, high = interval
    how = "hurt" if high < 0 else "did not help measurably"
    return [f"The teacher {how}: the same student without it {reached}."] if low <= 0 else []


def verdict(
    recipe: Recipe,
    rows: Rows,
    scores: Mapping[str, float],
    quality: str,
    also: Sequence[str],
    *,
    memory_mib: float | None = None,
    agreement: bool = False,
) -> dict[str, Any]:
    """Pass or fail against the recipe, with the reasons and what came nearest.

    `scores` are what `quality` names, of each of `rows`; `also` are reasons that one task alone has, such as a shipped
    file that answers otherwise than the trained model. With `agreement` the scores are agreement with the teacher.
    """
    student, budget = rows["student"], recipe.budget
    limits = (
        ("size is {:.3f} MiB, the budget {:g} MiB", student["size_mib"], budget.size_mib),
        (
            "p95 latency is {:.3f} ms an answer, the budget {:g} ms",
            student.get("latency_ms_p95"),
            budget.latency_ms_p95,
        ),
        ("a fresh process takes {:.0f} MiB of memory, the budget {:g} MiB", memory_mib, budget.memory_mib),
    )
    reasons = [text.format(took, limit) for text, took, limit in limits if limit and took is not None and took > limit]
    mine, theirs, lexical = scores["student"], scores.get("teacher"), scores.get("tfidf")
    retention = gap = None
    if theirs is not None:
        retention = mine / max(theirs, 1e-9)
        gap = (mine - lexical) / (theirs - lexical) if lexical is not None and theirs > lexical else None
        if budget.keep and retention < budget.keep:
            reasons.append(
                f"it keeps {retention:.1%} of the teacher's {quality}, the recipe asks for {budget.keep:.1%} "
                f"({mine:.1%}, needed {budget.keep * theirs:.1%})"
            )
    elif agreement and budget.keep and mine < budget.keep:
        reasons.append(
            f"it gives the teacher's answer to {mine:.1%} of the test, the recipe asks for {budget.keep:.1%}"
        )
    reasons += also
    return {
        "passed": not reasons,
        "retention": retention,
        "gap_closed": gap,
        "size_ratio": _ratio(rows, "size_mib"),
        "speed_ratio": _ratio(rows, "latency_ms_p50"),
        "reasons": reasons,
    }


def _ratio(rows: Rows, key: str) -> float | None:
    """How many times the teacher's is the student's; None where either was not measured."""
    theirs, mine = rows.get("teacher", {}).get(key), rows["student"].get(key)
    return None if theirs is None or mine is None else float(theirs / mine)


def story(
    build: Build,
    data: Data,
    rows: Rows,
    gate: Mapping[str, Any],
    same: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Everything that the report tells, as plain values; `more` is what one task alone has."""
    told = {
        "name": build.recipe.name or build.out.name,
        "task": build.recipe.task,
        "passed": gate["passed"],
        "reasons": [*gate["reasons"], *build.notes],
        "labels": list(data.labels),
        "measurements": {name: dict(rows[name]) if name in rows else None for name in KEYS},
        "gate": dict(gate),
        "parity": dict(same),
        "data": {
            "counts": {k: len(getattr(data, k)) for k in ("train", "validation", "calibration", "test", "unlabelled")},
            "faults": [{"kind": f.kind, "message": f.message, "rows": list(f.rows)} for f in data.faults],
        },
        "budget": build.recipe.budget.model_dump(),
        **more,
    }
    return {**told, "verdict": words.verdict(told)}
