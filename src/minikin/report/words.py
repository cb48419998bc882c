"""Numbers and findings in words, so that the page, the card and the command line say the same thing."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NONE = "–"
NARROW = "\u202f"
"""No-break space between a number and its unit."""

Columns = Sequence[tuple[str, str, Callable[[Any], str]]]
"""Of a table of measurements: a heading, the key of the figure, and how it is written."""

FREE = 0.9
"""A timed thread that has a core for less of the time was kept waiting by other work."""


def number(value: Any) -> float | None:
    """The value as a finite float, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def significant(value: Any, digits: int = 3) -> str:
    """A number to so many significant digits, without exponent: 0.0412, 9.94, 87.1, 9,120."""
    x = number(value)
    if x is None:
        return NONE
    if x == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(x))))
    return f"{x:,.{min(places, 6)}f}".replace("-", "−")


def fixed(value: Any, digits: int = 0) -> str:
    """A number to so many places, its thousands apart: 1,284 or 3.402."""
    x = number(value)
    return NONE if x is None else f"{x:,.{digits}f}"


def percent(value: Any, digits: int = 1) -> str:
    """A share as a percentage: 0.9119 is 91.2 %."""
    x = number(value)
    return NONE if x is None else f"{100 * x:.{digits}f}{NARROW}%".replace("-", "−")


def points(value: Any, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign: +4.0 or −0.9."""
    x = number(value)
    if x is None:
        return NONE
    text = f"{100 * x:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")


def mib(value: Any, digits: int = 3) -> str:
    """A size in MiB."""
    return NONE if number(value) is None else f"{significant(value, digits)}{NARROW}MiB"


def ms(value: Any, digits: int = 3) -> str:
    """A time in milliseconds."""
    return NONE if number(value) is None else f"{significant(value, digits)}{NARROW}ms"


LATENCY: Columns = (("p50", "latency_ms_p50", ms), ("p95", "latency_ms_p95", ms))


def plain_mib(value: Any) -> str:
    """A size as the recipe states it: 1 MiB, 0.75 MiB."""
    return NONE if number(value) is None else f"{value:g}{NARROW}MiB"


def plain_ms(value: Any) -> str:
    """A time as the recipe states it: 1 ms, 0.5 ms."""
    return NONE if number(value) is None else f"{value:g}{NARROW}ms"


def share(value: Any) -> str:
    """A share as the recipe states it: 0.97 is 97 %, 0.985 is 98.5 %."""
    return NONE if number(value) is None else f"{100 * value:.4g}{NARROW}%"


def times(value: Any) -> str:
    """A ratio: 58×, or 1.4× when it is small."""
    x = number(value)
    return NONE if x is None else f"{significant(x, 2) if x < 10 else format(round(x), ',')}×"


def duration(seconds: Any) -> str:
    """A time for people: 0.8 s, 74 s, 5 min 6 s, 1 h 12 min."""
    x = number(seconds)
    if x is None:
        return NONE
    if x < 10:
        return f"{x:.1f}{NARROW}s"
    whole = round(x)
    if whole < 120:
        return f"{whole}{NARROW}s"
    if whole < 7200:
        return f"{whole // 60}{NARROW}min {whole % 60}{NARROW}s"
    return f"{whole // 3600}{NARROW}h {whole % 3600 // 60}{NARROW}min"


def moment(seconds: Any) -> str:
    """A moment in UTC, from seconds since 1970: 2026-11-21 17:40."""
    found = number(seconds)
    return "" if found is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(found))


def p_value(value: Any) -> str:
    """A p value to two digits, or that it is below 0.001."""
    x = number(value)
    if x is None:
        return NONE
    return "< 0.001" if x < 0.001 else f"{x:.3f}" if x < 0.1 else f"{x:.2f}"


def join(parts: Sequence[str]) -> str:
    """Join with commas and a last "and"."""
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun: 1 class, 3 classes."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def part(story: Mapping[str, Any], *path: str) -> Any:
    """The value at a path of keys, or None where one is missing."""
    value: Any = story
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def measure(story: Mapping[str, Any]) -> str:
    """What quality is measured by: accuracy, of answers that are written exactness, of running text likelihood."""
    if story.get("task") != "generate":
        return "accuracy"
    return "likelihood" if story.get("kind") == "text" else "exact answers"


def busy(measurements: Mapping[str, Any] | None) -> str:
    """That other work had the cores while these measurements were timed, as a sentence after others; else ''."""
    shares = [share for row in (measurements or {}).values() if (share := number(part(row, "core_share"))) is not None]
    least = min(shares, default=1.0)
    if least >= FREE:
        return ""
    return (
        f" Other work kept the cores busy: the timed thread had one for {percent(least, 0)} of the time, so latencies "
        "are upper bounds."
    )


def verdict(story: Mapping[str, Any]) -> str:
    """One sentence with the numbers that people care about: quality kept, size, speed."""
    student, gate = part(story, "measurements", "student") or {}, part(story, "gate") or {}
    retention = number(gate.get("retention"))
    if retention is not None:
        quality = f"Keeps {percent(retention)} of the teacher’s {measure(story)}"
    elif number(student.get("accuracy")) is not None and story.get("agreement"):
        quality = f"Gives the teacher’s answer to {percent(student['accuracy'])} of the test"
    elif number(student.get("accuracy")) is not None:
        quality = f"Answers {percent(student['accuracy'])} of the test rightly"
    elif number(student.get("perplexity")) is not None:
        quality = f"Has a perplexity of {student['perplexity']:,.2f} on the test"
    else:
        return "Not measured yet."
    room = f" in {mib(student['size_mib'], 2)}" if number(student.get("size_mib")) is not None else ""
    speed, ratio = "", number(gate.get("speed_ratio"))
    if ratio is not None and ratio >= 1:
        speed = f", {times(ratio)} faster"
    elif number(student.get("latency_ms_p50")) is not None:
        speed = f", answering in {ms(student['latency_ms_p50'], 2)}"
    return f"{quality}{room}{speed}."


def finding_classes(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many classes lost or gained recall against the teacher, and which lost most."""
    changes = [(row["student_recall"] - row["teacher_recall"], str(row["label"])) for row in rows if _both(row)]
    if not changes:
        return f"The weakest of {count(len(rows), 'class', 'classes')} stand first."
    lost = [change for change in changes if change[0] < -1e-9]
    gained = sum(change[0] > 1e-9 for change in changes)
    if not lost:
        return f"No class lost recall; {gained} gained."
    worst = min(lost)
    return (
        f"Of {count(len(changes), 'class', 'classes')}, {len(lost)} lost recall against the teacher and {gained} "
        f"gained. {worst[1]} lost most, {points(-worst[0])[1:]} points."
    )


def finding_stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """The step that took most of the size away, and what it cost."""
    steps = [(number(b.get("size_mib")), number(a.get("size_mib")), a, b) for a, b in itertools.pairwise(stages)]
    shrunk = [(size / before, a, b) for size, before, a, b in steps if size and before]
    if not shrunk:
        return "What each step did to accuracy, size and latency."
    ratio, before, after = min(shrunk, key=lambda step: step[0])
    if ratio >= 1:
        return "No step made the model smaller."
    words = f"The greatest cut in size came at “{after['name']}”: {times(1 / ratio)} smaller"
    a, b = number(before.get("accuracy")), number(after.get("accuracy"))
    return words + (f", for {points(b - a)} points of accuracy." if a is not None and b is not None else ".")


def finding_calibration(calibration: Mapping[str, Any]) -> str:
    """What the confidence is worth on average, and in which direction it errs."""
    bins = [b for b in calibration.get("bins") or [] if number(b.get("n"))]
    total = sum(b["n"] for b in bins)
    ece = number(calibration.get("ece"))
    if not total or ece is None:
        return "How often it is right when it says how sure it is."
    gap = sum(b["n"] * (b["confidence"] - b["accuracy"]) for b in bins) / total
    leaning = (
        "a little too sure"
        if gap > 0.005
        else "a little too modest"
        if gap < -0.005
        else "about as sure as it is right"
    )
    return f"Its confidence misses its accuracy by {percent(ece)} on average (ECE); on the whole it is {leaning}."


def _both(row: Mapping[str, Any]) -> bool:
    return number(row.get("teacher_recall")) is not None and number(row.get("student_recall")) is not None
