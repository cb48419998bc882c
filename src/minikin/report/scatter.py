"""The chart of the front: accuracy over a cost on a logarithmic axis. Called by report/sections.py."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from minikin.report.charts import shape, svg

CHARACTER = 6.3
"""Mean width of a character of a chart label, in user units at 12 px."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom in user units."""


@dataclass(frozen=True)
class Mark:
    """A point of a scatter chart; `interval` is a vertical whisker, `label` is written beside it."""

    x: float
    y: float
    role: str
    title: str
    label: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Frame:
    """Maps values to user units: x by logarithm, y linearly, inside the margins of a chart."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float = 46
    top: float = 18
    right: float = 428
    bottom: float = 312

    def x(self, value: float) -> float:
        """Horizontal position of a value above 0."""
        share = math.log(value / self.x_low) / math.log(self.x_high / self.x_low)
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        """Vertical position of a value."""
        return self.bottom - (value - self.y_low) / (self.y_high - self.y_low) * (self.bottom - self.top)


def scatter(
    marks: Sequence[Mark],
    *,
    title: str,
    x_label: str,
    line: Sequence[tuple[float, float]] = (),
    limit: tuple[float, str] | None = None,
    floor: tuple[float, str] | None = None,
) -> str:
    """Accuracy over a cost on a logarithmic axis, with a step line along the front and the budget's limits.

    `limit` is a cost and `floor` an accuracy, each with its words. Returns an empty string without marks.
    """
    marks = [m for m in marks if m.x > 0 and math.isfinite(m.x) and math.isfinite(m.y)]
    if not marks:
        return ""
    frame = _frame(marks, limit, floor)
    body = [_axes(frame, x_label)]
    if limit and limit[0] > 0:
        body.append(_limit(frame, *limit))
    if floor:
        body.append(_floor(frame, *floor))
    steps = _steps(frame, [p for p in line if p[0] > 0])
    body.append(_polyline(steps))
    body += [_whisker(frame, m) for m in marks if m.interval]
    quiet_first = sorted(marks, key=lambda m: (bool(m.label), m.role == "student"))
    body += [shape(m.role, frame.x(m.x), frame.y(m.y), m.title) for m in quiet_first]
    body.append(_labels(frame, marks, _obstacles(frame, marks, steps, limit, floor)))
    return svg(440, 358, title, "".join(body), "chart")


def _frame(marks: Sequence[Mark], limit: tuple[float, str] | None, floor: tuple[float, str] | None) -> Frame:
    """Axes that hold all marks with some air."""
    xs = [m.x for m in marks] + ([limit[0]] if limit and limit[0] > 0 else [])
    ys = [y for m in marks for y in (m.y, *(m.interval or ()))] + ([floor[0]] if floor else [])
    spread = max(max(ys) - min(ys), 0.02)
    return Frame(
        x_low=min(xs) / 3.0,  # room for labels to the left
        x_high=max(xs) * 2.0,
        y_low=max(-0.02, min(ys) - 0.08 * spread),
        y_high=min(1.02, max(ys) + 0.10 * spread),
    )


def _axes(frame: Frame, x_label: str) -> str:
    body = []
    for value in _linear_ticks(frame.y_low, frame.y_high):
        y = frame.y(value)
        body.append(
            f'<line class="grid" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick end" x="{frame.left - 7}" y="{y + 4:.1f}">{100 * value:.4g}</text>'
        )
    for value in _log_ticks(frame.x_low, frame.x_high):
        x = frame.x(value)
        body.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.bottom}" y2="{frame.bottom + 4}"/>'
            f'<text class="tick mid" x="{x:.1f}" y="{frame.bottom + 18}">{value:,g}</text>'
        )
    return "".join(body) + (
        f'<line class="axis" x1="{frame.left}" x2="{frame.right}" y1="{frame.bottom}" y2="{frame.bottom}"/>'
        f'<text class="note" x="4" y="{frame.top - 6}">accuracy, %</text>'
        f'<text class="note end" x="{frame.right}" y="{frame.bottom + 38}">{escape(x_label)} →</text>'
    )


def _limit(frame: Frame, value: float, words: str) -> str:
    x = frame.x(value)
    side = ("end", -5) if x > (frame.left + frame.right) / 2 else ("", 5)
    return (
        f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.bottom}"/>'
        f'<text class="note {side[0]}" x="{x + side[1]:.1f}" y="{frame.bottom - 8}">{escape(words)}</text>'
    )


def _floor(frame: Frame, value: float, words: str) -> str:
    y = frame.y(value)
    return (
        f'<line class="limit" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="note end" x="{frame.right}" y="{y + 14:.1f}">{escape(words)}</text>'
    )


def _steps(frame: Frame, line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the best accuracy that each cost buys: right, then up."""
    corners: list[tuple[float, float]] = []
    for cost, accuracy in sorted(line):
        x, y = frame.x(cost), frame.y(accuracy)
        if not corners:
            corners = [(x, y)]
        elif y < corners[-1][1]:
            corners += [(x, corners[-1][1]), (x, y)]
    return corners


def _polyline(corners: Sequence[tuple[float, float]]) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return f'<polyline class="front-line" points="{places}"/>' if len(corners) > 1 else ""


def _whisker(frame: Frame, mark: Mark) -> str:
    assert mark.interval is not None
    x, low, high = frame.x(mark.x), frame.y(mark.interval[0]), frame.y(mark.interval[1])
    return f'<line class="whisker {escape(mark.role)}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'


def _obstacles(
    frame: Frame,
    marks: Sequence[Mark],
    steps: Sequence[tuple[float, float]],
    limit: tuple[float, str] | None,
    floor: tuple[float, str] | None,
) -> list[Box]:
    """Boxes of everything drawn that a label should not lie on."""
    boxes = [(frame.x(m.x) - 7, frame.y(m.y) - 7, frame.x(m.x) + 7, frame.y(m.y) + 7) for m in marks]
    boxes += [
        (frame.x(m.x) - 1, frame.y(m.interval[1]), frame.x(m.x) + 1, frame.y(m.interval[0]))
        for m in marks
        if m.interval
    ]
    boxes += [
        (min(x, u) - 1, min(y, v) - 1, max(x, u) + 1, max(y, v) + 1) for (x, y), (u, v) in itertools.pairwise(steps)
    ]
    if limit and limit[0] > 0:
        boxes.append((frame.x(limit[0]) - 1, frame.top, frame.x(limit[0]) + 1, frame.bottom))
    if floor:
        y = frame.y(floor[0])
        boxes.append((frame.left, y - 1, frame.right, y + 1))
        boxes.append((frame.right - CHARACTER * len(floor[1]), y, frame.right, y + 16))
    return boxes


def _labels(frame: Frame, marks: Sequence[Mark], obstacles: Sequence[Box]) -> str:
    """Write labels beside their marks, where they cover least."""
    taken = list(obstacles)
    body = []
    for mark in sorted((m for m in marks if m.label), key=lambda m: m.role in ("front", "winner")):
        x, y, width = frame.x(mark.x), frame.y(mark.y), CHARACTER * len(mark.label)
        places = [
            (x + 11, y + 4),
            (x - 11 - width, y + 4),
            (x + 9, y - 9),
            (x + 9, y + 18),
            (x - 9 - width, y - 9),
            (x - 9 - width, y + 18),
            (x - width / 2, y - 13),
            (x - width / 2, y + 22),
            (x + 14, y - 24),
            (x + 14, y + 33),
        ]
        boxes = [(left, base - 11, left + width, base + 3) for left, base in places]
        costs = [
            sum(_overlap(box, other) for other in taken) + 50 * _outside(box, frame) + 12 * i
            for i, box in enumerate(boxes)
        ]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        left, base = places[best]
        if best > 1:
            u, v = min(max(x, left), left + width), min(max(y, base - 9), base + 2)
            body.append(f'<line class="leader" x1="{x:.1f}" x2="{u:.1f}" y1="{y:.1f}" y2="{v:.1f}"/>')
        body.append(f'<text class="name {escape(mark.role)}" x="{left:.1f}" y="{base:.1f}">{escape(mark.label)}</text>')
    return "".join(body)


def _overlap(a: Box, b: Box) -> float:
    """Shared area of two boxes."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, frame: Frame) -> float:
    """How far a box reaches out of the chart."""
    return (
        max(0.0, frame.left - box[0])
        + max(0.0, box[2] - frame.right - 10)
        + max(0.0, frame.top - 14 - box[1])
        + max(0.0, box[3] - frame.bottom)
    )


def _linear_ticks(low: float, high: float) -> list[float]:
    """About five round values."""
    raw = (high - low) / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with their doubles and fives when the axis is short."""
    wide = math.log10(high / low) > 2.4
    values = [
        m * 10.0**e
        for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for m in ((1,) if wide else (1, 2, 5))
    ]
    return [round(v, 10) for v in values if low <= v <= high]
