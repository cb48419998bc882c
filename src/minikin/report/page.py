"""The report: one self-contained HTML page made from the story of a build. Called by the pipeline and `minikin report`.

The page asks for nothing from outside and runs no script; a story with parts missing gives a shorter page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from minikin.base.extras import need
from minikin.report import certified, charts, sections, words, written
from minikin.report.sections import LATENCY, SIZE
from minikin.report.words import number, part

UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def page(story: Mapping[str, Any]) -> str:
    """Render the report of a build, the value kept in report.json, as one HTML document.

    Any part of the story may be missing or None. Raises MissingExtra without jinja2.
    """
    here = Path(__file__).parent
    values = {
        "css": "".join((here / name).read_text(encoding="utf-8") for name in ("look.css", "page.css")),
        "story": story,
        "head": _head(story),
        "sides": _sides(story),
        "paired": _paired(story),
        "front": sections.front(story),
        "stages": sections.stages(story),
        "classes": sections.classes(story),
        "written": written.figures(story),
        "samples": written.samples(story),
        "parted": sections.parted(story),
        "certified": certified.section(story["certificate"]) if part(story, "certificate") else None,
        "data": part(story, "data") or {},
        "making": sections.making(story),
    }
    html: str = _template().render(values)
    return UNPRINTABLE.sub("\ufffd", html)


@cache
def _template() -> Any:
    """The page's template, parsed once."""
    jinja2 = need("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    markup = need("markupsafe")
    raw, escape = markup.Markup, markup.escape
    environment.filters["label"] = lambda name: escape(name).replace("_", raw("_<wbr>"))
    environment.globals.update(words=words, charts=charts)
    return environment.get_template("page.html")


def _head(story: Mapping[str, Any]) -> dict[str, Any]:
    """Verdict, badge and the four figures at the top."""
    passed = story.get("passed")
    lexical = "the nearest prompt’s answer" if story.get("task") == "generate" else "TF-IDF"
    student, budget, gate = (
        part(story, "measurements", "student") or {},
        part(story, "budget") or {},
        part(story, "gate") or {},
    )
    figures = [
        (
            words.percent(gate.get("retention")),
            f"of the teacher’s {words.measure(story)} kept",
            _asked(budget.get("keep"), "floor", words.share),
        ),
        (
            words.mib(student.get(SIZE), 2),
            _against("smaller", gate.get("size_ratio")),
            _asked(budget.get(SIZE), "budget", words.plain_mib),
        ),
        (
            words.ms(student.get(LATENCY), 2),
            _against("faster", gate.get("speed_ratio"), "p50, text to answer"),
            _asked(budget.get("latency_ms_p95"), "p95 budget", words.plain_ms),
        ),
        (words.percent(gate.get("gap_closed"), 0), f"of the gap from {lexical} to the teacher closed", ""),
    ]
    if number(gate.get("retention")) is None:
        what = "agreement with the teacher" if story.get("agreement") else "accuracy"
        figures[0] = (words.percent(student.get("accuracy")), f"{what} on the test split", "")
    return {
        "name": story.get("name") or "unnamed",
        "task": story.get("task") or "classify",
        "labels": len(story.get("labels") or ()),
        "badge": "Passed" if passed else "Failed" if passed is False else "Not judged",
        "state": "passed" if passed else "failed" if passed is False else "open",
        "verdict": story.get("verdict") or words.verdict(story),
        "reasons": list(story.get("reasons") or gate.get("reasons") or ()),
        "figures": [figure for figure in figures if figure[0] != words.NONE],
    }


def _asked(value: Any, word: str, shown: Any) -> str:
    return f"{word} {shown(value)}" if number(value) is not None else ""


def _against(word: str, ratio: Any, otherwise: str = "model and tokenizer") -> str:
    """How it compares with the teacher: "58× faster than the teacher", or what the number is."""
    x = number(ratio)
    return f"{words.times(x)} {word} than the teacher" if x is not None and x >= 1 else otherwise


def _sides(story: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and columns of the table that sets teacher, student and baselines side by side."""
    measured = part(story, "measurements") or {}
    names = sections.who(story)
    there = [(who, measured[who]) for who in names if isinstance(measured.get(who), Mapping)]
    accuracies = [
        a for _, m in there for a in (m.get("accuracy"), *(m.get("accuracy_interval") or ())) if number(a) is not None
    ]
    columns = [
        ("macro_f1", "Macro-F1", words.percent),
        ("typo_accuracy", "With a typo", words.percent),
        ("ece", "ECE", words.percent),
        ("agreement_with_teacher", "Agrees", words.percent),
        (SIZE, "Size", words.mib),
        (LATENCY, "p50", words.ms),
        ("latency_ms_p95", "p95", words.ms),
        ("throughput_per_s", "Texts/s", words.significant),
        ("rouge_l", "ROUGE-L", words.percent),
        ("perplexity", "Perplexity", words.significant),
        ("decode_tokens_per_s", "Tokens/s", words.significant),
    ]
    columns = [c for c in columns if any(number(m.get(c[0])) is not None for _, m in there)]
    domain = (min(accuracies), max(accuracies)) if accuracies else (0.0, 1.0)
    rows = []
    for who, m in there:
        name, role, _ = names[who]
        accuracy, interval = number(m.get("accuracy")), m.get("accuracy_interval")
        at = number(part(measured, "teacher", "accuracy"))
        rows.append(
            {
                "name": name,
                "role": role,
                "accuracy": words.percent(accuracy),
                "interval": f"{words.percent(interval[0])[:-2]} to {words.percent(interval[1])[:-2]}"
                if interval
                else "",
                "strip": charts.strip(accuracy, interval and tuple(interval), domain, role, at)
                if accuracy is not None
                else "",
                "cells": [(title, shown(m.get(column))) for column, title, shown in columns],
            }
        )
    return {"rows": rows, "columns": [title for _, title, _ in columns]}


def _paired(story: Mapping[str, Any]) -> list[dict[str, str]]:
    """The student minus each of the others, with interval and test."""
    rows = []
    for who, (_, _, name) in sections.who(story).items():
        pair = part(story, "paired", who)
        if not isinstance(pair, Mapping) or number(pair.get("difference")) is None:
            continue
        low, high = pair.get("interval") or (None, None)
        rows.append(
            {
                "name": name,
                "difference": words.points(pair["difference"]),
                "interval": f"{words.points(low)} to {words.points(high)}" if number(low) is not None else "",
                "p": words.p_value(pair.get("mcnemar_p")),
            }
        )
    return rows
