"""Charts as strings of SVG: pure functions of numbers, coloured by the page's style sheet. Called by page.py
and sections.py; the chart of the front is in scatter.py.

Every mark has a role (student, teacher, control, lexical, front, dominated, eliminated) that sets both its
shape and its colour, so that no chart needs colour to be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def reliability(bins: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """Accuracy over confidence with the diagonal of perfect calibration, and how many answers each bin holds."""
    bins = [b for b in bins if b["n"] > 0]
    if not bins:
        return ""
    size, left, top = 300.0, 46.0, 12.0
    most = max(b["n"] for b in bins)
    body = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + tick * size, top + (1 - tick) * size
        body.append(f'<line class="grid" x1="{left}" x2="{left + size}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text class="tick end" x="{left - 8}" y="{y + 4:.1f}">{tick:.0%}</text>')
        body.append(f'<text class="tick mid" x="{x:.1f}" y="{top + size + 92:.1f}">{tick:.0%}</text>')
    body.append(f'<line class="ideal" x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}"/>')
    places = [(left + b["confidence"] * size, top + (1 - b["accuracy"]) * size, b) for b in bins]
    body.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)}"/>')
    base = top + size + 74
    for x, y, b in places:
        words = f"sure {b['confidence']:.0%}, right {b['accuracy']:.0%}, {b['n']:,} answers"
        height = max(1.5, 58 * b["n"] / most)
        body.append(
            f'<rect class="count" x="{x - 6:.1f}" y="{base - height:.1f}" width="12" height="{height:.1f}"/>'
            f'<circle class="student" cx="{x:.1f}" cy="{y:.1f}" r="{3 + 5 * math.sqrt(b["n"] / most):.1f}">'
            f"<title>{words}</title></circle>"
        )
    body.append(f'<line class="axis" x1="{left}" x2="{left + size}" y1="{base}" y2="{base}"/>')
    body.append(f'<text class="note" x="{left + 4}" y="{top + size + 24}">answers</text>')
    body.append(f'<text class="note" x="{left + 4}" y="{top + 12}">right</text>')
    body.append(f'<text class="note mid" x="{left + size / 2}" y="{base + 40}">how sure it says it is</text>')
    return svg(364, 442, title, "".join(body), "chart square")


def strip(
    value: float, interval: tuple[float, float] | None, domain: tuple[float, float], role: str, mark_at: float | None
) -> str:
    """A dot with its interval on a shared scale, and a hairline at `mark_at`; stretches to its cell's width."""

    def x(v: float) -> float:
        return 6 + 168 * min(1.0, max(0.0, (v - domain[0]) / ((domain[1] - domain[0]) or 1.0)))

    body = '<line class="grid" x1="6" x2="174" y1="11" y2="11"/>'
    if mark_at is not None:
        body += f'<line class="ideal" x1="{x(mark_at):.1f}" x2="{x(mark_at):.1f}" y1="1" y2="21"/>'
    if interval:
        low, high = x(interval[0]), x(interval[1])
        body += f'<line class="whisker {escape(role)}" x1="{low:.1f}" x2="{high:.1f}" y1="11" y2="11"/>'
    return svg(180, 22, "", body + shape(role, x(value), 11, ""), "strip")


def bar(share: float, role: str = "student") -> str:
    """A horizontal bar that fills `share` of its cell."""
    width = 100 * min(1.0, max(0.0, share))
    body = f'<rect class="{escape(role)}" width="{max(width, 0.6):.2f}" height="8" rx="0"/>'
    return svg(100, 8, "", body, "bar", stretch=True)


def diverging(change: float, extent: float) -> str:
    """A bar from the middle of its cell: to the left for a loss, to the right for a gain."""
    width = 50 * min(1.0, abs(change) / (extent or 1.0))
    x = 50 - width if change < 0 else 50
    body = '<line class="middle" x1="50" x2="50" y1="0" y2="14"/>'
    if width:
        body += f'<rect class="{"loss" if change < 0 else "gain"}" x="{x:.2f}" y="2" width="{width:.2f}" height="10"/>'
    return svg(100, 14, "", body, "bar diverging", stretch=True)


def key(role: str) -> str:
    """The mark of a role alone, for legends and tables."""
    return svg(18, 16, "", shape(role, 9, 8, ""), "key")


def shape(role: str, x: float, y: float, title: str) -> str:
    """The mark of a role at a place: each role has its own shape."""
    at = f'class="{escape(role)}"'
    if role == "teacher":
        body = f'<path {at} d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"'
    elif role == "lexical":
        body = f'<rect {at} x="{x - 5.2:.1f}" y="{y - 5.2:.1f}" width="10.4" height="10.4"'
    elif role == "eliminated":
        body = f'<path {at} d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"'
    else:
        radius = {"student": 6.8, "control": 5.8, "front": 4.2, "winner": 4.2}.get(role, 3.6)
        body = f'<circle {at} cx="{x:.1f}" cy="{y:.1f}" r="{radius}"'
    return f"{body}><title>{escape(title)}</title></{body[1:].split(' ', 1)[0]}>" if title else body + "/>"


def svg(width: float, height: float, title: str, body: str, kind: str, stretch: bool = False) -> str:
    """An SVG element of a size in user units; `kind` is its class, `stretch` lets it fill its box unevenly."""
    named = f'role="img" aria-label="{escape(title)}"' if title else 'aria-hidden="true"'
    fit = ' preserveAspectRatio="none"' if stretch else ""
    return f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}"{fit} {named}>{body}</svg>'
