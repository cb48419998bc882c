"""`minikin run`: texts in, JSON lines out, in order and as they come. Needs the base install only.

With a hand-over file, the kin answers what its certificate covers, and those the file names answer the rest.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minikin.base.errors import UserError
from minikin.base.types import Answer, Text
from minikin.commands import texts as reading
from minikin.commands.texts import Arriving, Bad, Wanted
from minikin.runtimes import Kin
from minikin.runtimes.load import load_kin

TOGETHER = 256
"""At most so many texts are answered together; fewer when no more have arrived."""


@dataclass(frozen=True)
class How:
    """How to answer: all labels or the best one, threads, engine, whether to say so, and who answers the rest."""

    everything: bool = False
    threads: int = 1
    engine: str | None = None
    verbose: bool = False
    hand_over: Path | None = None


def run(folder: Path, given: tuple[str, ...], file: Path | None, form: str, columns: tuple[str, ...], how: How) -> None:
    """Answer the texts given, those of a file, or those of standard input.

    A line that holds no text gets `{"error": …, "line": …}` in its place; UserError tells of them at the end.
    """
    reading.one_source(given, file, form, "text")
    started = time.perf_counter()
    kin = load_kin(folder, threads=how.threads, engine=how.engine)
    loaded_s = time.perf_counter() - started
    wanted = Wanted(kin.manifest.pair, columns, usual_columns(kin.folder))
    tally = Tally()
    if given and len(given) == 1 + kin.manifest.pair and sys.stdout.isatty() and how.hand_over is None:
        _readable(kin, _positional(given, kin.manifest.pair)[0], how.everything)
        return
    with _source(given, file, form, wanted) as (items, lines), answering(kin, how) as both:
        _stream(both, items, lines, how.everything, tally)
    if how.verbose:
        took = time.perf_counter() - started - loaded_s
        rate = tally.answered / max(took, 1e-9)
        sys.stderr.write(
            f"{kin!r}, engine {kin.engine}, loaded in {loaded_s * 1e3:.0f} ms; {tally.answered:,} texts, "
            f"{rate:,.0f} per second\n"
        )
    if tally.truncated:
        sys.stderr.write(
            f"{tally.truncated:,} of {tally.answered:,} texts are longer than the {kin.manifest.max_length} tokens "
            'that this kin reads; the rest was cut off ("truncated": true).\n'
        )
    if tally.bad:
        one = tally.bad == 1
        raise UserError(
            f"{tally.bad:,} {'line holds' if one else 'lines hold'} no text (the first is line {tally.first_bad}); "
            'an {"error": …} stands in the place of each answer.'
        )


@contextmanager
def answering(kin: Any, how: How) -> Iterator[Callable[[list[Text]], list[Answer]]]:
    """Yield what answers: the kin alone, or the kin and those behind it; at the end say who answered how many."""
    if how.hand_over is None:
        yield kin
        return
    from minikin import handovers
    from minikin.trust.guard import not_standing

    both = handovers.open(kin, how.hand_over)
    try:
        yield both
    finally:
        both.close()
    state, reason = both.state
    if state != "certified":
        why = not_standing(state, reason)
        sys.stderr.write(f"The kin answered nothing itself from here on: {why}\n")
    if how.verbose:
        sys.stderr.write(", ".join(f"{n:,} {who}" for who, n in both.tally.most_common()) + "\n")


class Tally:
    """What was answered so far."""

    def __init__(self) -> None:
        self.answered = self.truncated = self.bad = self.first_bad = 0

    def note(self, item: Answer | Bad) -> None:
        """Count one answer, or one line without a text."""
        if isinstance(item, Bad):
            self.first_bad = self.first_bad or item.line
            self.bad += 1
        else:
            self.answered += 1
            self.truncated += item.truncated


def data_of(folder: Path) -> dict[str, Any]:
    """What the recipe that the kin was built from says of its data, and its `task`; nothing where it can't be read."""
    import yaml

    try:
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        return {**recipe["data"], "task": recipe.get("task")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return {}


def usual_columns(folder: Path) -> tuple[str, ...]:
    """The text columns of the recipe that the kin was built from; ('text',) when it doesn't say."""
    data = data_of(folder)
    text = data.get("prompt" if data.get("task") == "generate" else "text") or "text"
    return (text,) if isinstance(text, str) else tuple(str(name) for name in text)


def _positional(given: tuple[str, ...], pair: bool) -> list[Text]:
    if not pair:
        return list(given)
    if len(given) % 2:
        raise UserError("This kin answers to pairs of texts: give them two by two.")
    return list(zip(given[::2], given[1::2], strict=True))


@contextmanager
def _source(
    given: tuple[str, ...], file: Path | None, form: str, wanted: Wanted
) -> Iterator[tuple[Iterator[Text | Bad], Arriving | None]]:
    """Yield the texts, and the lines that they come from where they arrive one by one."""
    if given:
        yield iter(_positional(given, wanted.pair)), None
        return
    with reading.arriving(file, form, wanted) as both:
        yield both


def _stream(
    answering: Callable[[list[Text]], list[Answer]],
    items: Iterator[Text | Bad],
    lines: Arriving | None,
    everything: bool,
    tally: Tally,
) -> None:
    """Answer what has arrived, write it out, and only then wait for more."""
    held: list[Text | Bad] = []
    for item in items:
        held.append(item)
        if len(held) >= TOGETHER or (lines is not None and not lines.ready()):
            _answer(answering, held, everything, tally)
            held = []
    _answer(answering, held, everything, tally)


def _answer(
    answering: Callable[[list[Text]], list[Answer]], held: list[Text | Bad], everything: bool, tally: Tally
) -> None:
    if not held:
        return
    asked: list[Text] = [item for item in held if not isinstance(item, Bad)]
    answers = iter(answering(asked))
    for item in held:
        one = item if isinstance(item, Bad) else next(answers)
        tally.note(one)
        sys.stdout.write(json.dumps(row_of(one, everything), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def row_of(item: Answer | Bad, everything: bool) -> dict[str, Any]:
    """What is printed for one answer, or in the place of one."""
    if isinstance(item, Bad):
        return {"error": f"line {item.line} {item.why}", "line": item.line}
    known = not math.isnan(item.confidence)
    row: dict[str, Any] = {
        "label": item.label or None,
        "confidence": round(item.confidence, 6) if known else None,
        "truncated": item.truncated,
    }
    if item.certified or item.handed_over or item.reason:
        row |= {"certified": item.certified, "handed_over": item.handed_over, "reason": item.reason}
    if item.candidates:
        row["candidates"] = list(item.candidates)
    if everything:
        row["probabilities"] = {label: round(p, 6) for label, p in item.probabilities.items()}
    return row


def _readable(kin: Kin, text: Text, everything: bool) -> None:
    """Show one answer to a person."""
    answer = kin(text)
    likely = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
    for label, share in likely if everything else likely[:3]:
        sys.stdout.write(f"{share:7.1%}  {label}\n")
    if answer.truncated:
        sys.stderr.write(f"Only the first {kin.manifest.max_length} tokens of the text were read.\n")
