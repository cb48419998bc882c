"""`minikin queue` and `minikin audit`: what waits for people, what they say, and how the certificate stands."""

from __future__ import annotations

import difflib
import getpass
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from minikin import handovers
from minikin.base import manifest as manifests
from minikin.base.errors import QueueError, UserError
from minikin.commands import show
from minikin.commands.measure import _label_of
from minikin.commands.run import usual_columns
from minikin.recipe import handover as files
from minikin.recipe.handover import HandOverFile
from minikin.report import words
from minikin.trust import rows
from minikin.trust.drift import CERTIFIED, Standing, Watch
from minikin.trust.guard import Guard
from minikin.trust.queue import AUDIT, GOLD, HANDED_OVER, LEASED, NONE, STATES, WAITING, Queue, text_of

ACTIONS = {
    "list": "what is in the queue",
    "next": "take texts on lease, as JSON lines of id and text",
    "answer": "ID LABEL, or JSON lines of id and label from standard input",
    "drop": "ID: forget a text for good",
    "export": "write training rows",
}
SHOWN = 20
TEXT_SHOWN = 70


@dataclass(frozen=True)
class Ask:
    """The options of `minikin queue` and `minikin audit`."""

    file: Path
    by: str | None = None
    most: int | None = None
    state: str | None = None
    silver: bool = False
    replace: bool = False
    new_label: bool = False
    part: str = "train"
    none_as: str | None = None
    out: Path | None = None


def queue(folder: Path, action: str, given: tuple[str, ...], ask: Ask) -> None:
    """Do one of `ACTIONS` on the queue that the hand-over file names."""
    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(f"There is no action '{action}', only {', '.join(ACTIONS)}.{hint}")
    if given and action not in ("answer", "drop"):
        raise UserError(f"`{action}` takes nothing after it: {' '.join(given)}.")
    manifest = manifests.read(folder)
    opened = Queue(files.read(ask.file).queue.at)
    try:
        if action == "list":
            _list(opened, ask)
        elif action == "next":
            _next(opened, files.read(ask.file), ask)
        elif action == "answer":
            _answer(opened, manifest.labels or None, given, ask)
        elif action == "drop":
            _drop(opened, given)
        else:
            _export(opened, folder, ask)
    finally:
        opened.close()


def _list(opened: Queue, ask: Ask) -> None:
    if ask.state is not None and ask.state not in STATES:
        raise UserError(f"There is no state '{ask.state}', only {', '.join(STATES)}.")
    out = show.out()
    counts = opened.counts()
    table = [(kind, *(f"{counts.get((kind, state), 0):,}" for state in STATES)) for kind in (HANDED_OVER, AUDIT)]
    out.print(show.table(("", *STATES), table))
    chosen = opened.items(*([ask.state] if ask.state else (WAITING, LEASED)), most=ask.most or SHOWN)
    # what the small model said is not shown, so that nobody who answers is led by it
    lines = [(row["id"], row["state"], row["gold"] or row["silver"] or "", _cut(text_of(row))) for row in chosen]
    if lines:
        out.print(show.table(("id", "state", "label", "text"), [tuple(map(escape, line)) for line in lines]))
    spent = opened.book.spent()
    if spent:
        out.print(f"Spent on large models so far: {spent:,.4f}")


def _next(opened: Queue, file: HandOverFile, ask: Ask, kind: str | None = None) -> None:
    """Print texts on lease as JSON lines, which `answer` takes back with a label."""
    tasks = opened.lease(_who(ask), ask.most or 1, file.queue.lease_s, silver=ask.silver, kind=kind)
    for task in tasks:
        print(json.dumps({"id": task.id, "text": task.text}, ensure_ascii=False))
    if not tasks:
        sys.stderr.write("Nothing waits.\n")


def _answer(opened: Queue, labels: Sequence[str] | None, given: tuple[str, ...], ask: Ask) -> None:
    """Keep one answer, or every line's; a line that is wrong is told, and the others count."""
    if given:
        if len(given) != 2:
            raise UserError("Give an id and a label: minikin queue KIN answer ID LABEL")
        _checked(given[1], labels, ask.new_label)
        fresh = opened.answer(given[0], given[1], _who(ask), replace=ask.replace)
        print("kept" if fresh else "this answer stands there already")
        return
    if sys.stdin.isatty():
        raise UserError('Give ID and LABEL, or pipe lines such as {"id": "…", "label": "…"} in.')
    kept, faults = 0, list[str]()
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            id, label = _of_line(line)
            _checked(label, labels, ask.new_label)
            kept += opened.answer(id, label, _who(ask), replace=ask.replace)
        except UserError as error:
            faults.append(f"line {number}: {error}")
    print(f"{kept:,} kept")
    if faults:
        raise QueueError("\n".join(["Some answers were not taken:", *(f"  - {fault}" for fault in faults)]))


def _of_line(line: str) -> tuple[str, str]:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("id"), str) or not isinstance(value.get("label"), str):
        raise UserError('is not {"id": "…", "label": "…"}')
    return value["id"], value["label"]


def _checked(label: str, labels: Sequence[str] | None, new: bool) -> None:
    """Raise UserError for a label that the kin lacks; to one that writes, any text is an answer."""
    if labels is None or label in labels or label == NONE or new:
        return
    near = difflib.get_close_matches(label, labels, 1, 0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UserError(f"The kin has no label '{label}'.{hint} Say {NONE} if none fits, or give --new-label.")


def _drop(opened: Queue, given: tuple[str, ...]) -> None:
    if not given:
        raise UserError("Give the ids to forget: minikin queue KIN drop ID")
    for id in given:
        opened.drop(id)
    print(f"{len(given):,} forgotten")


def _export(opened: Queue, folder: Path, ask: Ask) -> None:
    """Write training rows under the columns of the kin's own recipe."""
    if ask.out is None:
        raise UserError("Say where to write the rows: -o rows.csv (or .jsonl)")
    if ask.part not in ("train", "audit"):
        raise UserError(f"There is no part '{ask.part}', only train and audit.")
    part: rows.Part = "audit" if ask.part == "audit" else "train"
    columns = usual_columns(folder)
    label = _label_of(folder)
    number = rows.export(opened, ask.out, columns, label, part=part, silver=ask.silver, none_as=ask.none_as)
    print(f"{number:,} rows in {ask.out}, columns {', '.join((*columns, label))}")


def audit(folder: Path, action: str, ask: Ask) -> None:
    """Show how the certificate stands by its audit, or take texts of the blind sample on lease."""
    if action not in ("state", "next"):
        raise UserError(f"There is no action '{action}', only state and next.")
    file = files.read(ask.file)
    opened = Queue(file.queue.at)
    try:
        if action == "next":
            _next(opened, file, ask, kind=AUDIT)
            return
        guard = Guard.of(folder)
        watch = handovers.watch_of(guard, file, opened)
        if watch is None or guard.unaudited:
            raise UserError(f"{folder} can't be audited: {guard.reason if watch is None else guard.unaudited}")
        watch.audited(opened.audited(watch.certificate))
        _standing(guard, watch, file, opened)
    finally:
        opened.close()


def _standing(guard: Guard, watch: Watch, file: HandOverFile, opened: Queue) -> None:
    out, found = show.out(), watch.standing
    state, reason = (guard.state, guard.reason) if guard.state != CERTIFIED else (found.state, found.reason)
    out.print(f"[bold]{state.upper()}[/] {escape(reason)}")
    out.print(show.table(("", "so far", "odds against the certificate", "alarm at"), _watches(found, watch)))
    counts = opened.counts()
    waiting = sum(counts.get((AUDIT, one), 0) for one in (WAITING, LEASED))
    minutes = (waiting * file.people.seconds_each) / 60
    cost = f", {minutes / 60 * file.people.cost_per_hour:,.2f} of cost" if file.people.cost_per_hour else ""
    done = counts.get((AUDIT, GOLD), 0)
    out.print(f"Blind sample: {done:,} answered, {waiting:,} waiting ({minutes:,.0f} minutes of people's work{cost}).")
    for risk, delay in watch.delays().items():
        traffic = f", after {delay / file.audit.share:,.0f} requests" if file.audit.share else ""
        out.print(f"If {risk:.0%} of its answers were wrong, {delay:,.0f} audited answers would show it{traffic}.")
    for note in opened.book.notes():
        if note["kind"] == "transition" and note["certificate"] == watch.certificate:
            out.print(escape(f"{words.moment(note['at'])}: {note['from']} → {note['to']}: {note['reason']}"))


def _watches(found: Standing, watch: Watch) -> list[tuple[str, ...]]:
    alarm = f"{1 / watch.alarm:,.0f}"
    audited = f"{found.errors:,} wrong of {found.audited:,}"
    return [
        ("what comes in", f"{found.seen:,} texts", f"{found.drift_e:,.2f}", alarm),
        ("what people say of its answers", audited, f"{found.audit_e:,.2f}", alarm),
    ]


def _who(ask: Ask) -> str:
    if ask.by:
        return ask.by
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "someone"


def _cut(text: Any) -> str:
    shown = " | ".join((text,) if isinstance(text, str) else text).replace("\n", " ")
    return shown if len(shown) <= TEXT_SHOWN else shown[: TEXT_SHOWN - 1] + "…"
