"""Answers as training rows: what people (and large models) said, in files that `data/` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from minikin.base import atomic
from minikin.base.types import Text
from minikin.trust.queue import AUDIT, DROPPED, GOLD, HANDED_OVER, NONE, SILVER, STATES, Queue, text_id, text_of

Part = Literal["train", "audit"]
SOURCE = "source"


def labelled(
    queue: Queue, part: Part = "train", *, silver: bool = False, none_as: str | None = None
) -> Iterator[tuple[Text, str, str]]:
    """Yield (text, label, "gold" or "silver"). `train`: what was handed over; `audit`: the random sample.

    A text of the audit is never in `train`, so that it can certify what was trained on the rest; and the audit is
    gold alone. Rows answered "none of these" are given the label `none_as`; without it `train` leaves them out, and
    `audit` keeps them as they are, for there they count: whatever is answered to them is wrong.
    """
    sampled = {text_id(text_of(row)) for row in queue.items(kind=AUDIT)}
    rows = queue.items(*(state for state in STATES if state != DROPPED), kind=AUDIT if part == "audit" else HANDED_OVER)
    for row in sorted(rows, key=lambda row: (row["arrived"], row["id"])):
        label = row["gold"] or (row["silver"] if silver and part == "train" else None)
        if label == NONE:
            label = none_as or (NONE if part == "audit" else None)
        if label and (part == "audit" or row["id"] not in sampled):
            yield text_of(row), label, GOLD if row["gold"] else SILVER


def export(
    queue: Queue,
    path: Path,
    columns: Sequence[str] = ("text",),
    label: str = "label",
    *,
    part: Part = "train",
    silver: bool = False,
    none_as: str | None = None,
) -> int:
    """Write training rows as CSV, or as JSON lines where `path` ends so; return their number.

    `columns` are those of the text (two for pairs); a column `source` says who labelled. The file appears whole.
    """
    names = [*columns, label, SOURCE]
    rows = []
    for text, answer, source in labelled(queue, part, silver=silver, none_as=none_as):
        parts = (text,) if isinstance(text, str) else text
        rows.append(dict(zip(names, (*parts, answer, source), strict=True)))
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        atomic.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return len(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic.write_text(path, out.getvalue())
    return len(rows)
