"""`minikin new`: look at the data, ask what can't be seen, write a recipe with comments."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from minikin.base import atomic
from minikin.base.console import console
from minikin.base.errors import DataError, UserError
from minikin.data.peek import Peek, example_faults, peek
from minikin.recipe import guess
from minikin.recipe.read import HUB, of_values

TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
NO_TEACHER = ("none", "null", "")
ABSENT, TESTED = "absent: 20 % of the training rows", "measured on it; nothing is learnt or chosen from it"


@dataclass(frozen=True)
class Wishes:
    """What the user said; None where it is to be seen, asked, or left out."""

    data: str
    text: tuple[str, ...] = ()
    label: str | None = None
    teacher: str | None = None
    test: str | None = None
    unlabelled: str | None = None
    size_mib: float | None = None
    latency_ms_p95: float | None = None
    keep: float | None = None
    name: str | None = None


def new(wishes: Wishes, out: Path, *, ask: bool, force: bool) -> None:
    """Write the recipe `out`. Raises UserError when it is there already, DataError when the data can't be used."""
    refuse_taken(out, force)
    seen = peek(wishes.data)
    show(wishes.data, seen)
    wishes = with_columns(wishes, seen, ask)
    assert wishes.label is not None
    found = [*seen.faults, *example_faults(wishes.data, wishes.text, wishes.label)]
    for fault in [*found, *label_faults(seen, wishes.label)]:
        console.print(f"  {fault}", style="yellow", markup=False)
    if ask:
        wishes = asked(wishes)
    values = values_of(wishes, out.absolute().parent)
    of_values(values)
    atomic.write_text(out, written(values, seen, wishes))
    console.print(f"Wrote {out}. Next: minikin check {out}", markup=False, soft_wrap=True)


def refuse_taken(out: Path, force: bool) -> None:
    """Raise UserError when there is a recipe already that may not be overwritten, or a folder of that name."""
    if out.exists() and not force:
        raise UserError(f"{out} is there already. Use --force to overwrite it, or -o for another name.")
    if out.is_dir():
        raise UserError(f"{out} is a folder. Name a file with -o, for instance {out / 'recipe.yaml'}.")


def show(source: str, seen: Peek) -> None:
    """Print what every column holds."""
    console.print(f"{source}: {seen.rows:,} rows", markup=False, soft_wrap=True)
    for column in seen.columns:
        kinds = f"{len(column.values):,} different" if column.values is not None else "many different"
        lengths = f"{column.mean_length:.0f} characters on average, at most {column.longest:,}"
        console.print(f"  {column.name}: {column.filled:,} filled, {kinds}, {lengths}", markup=False, soft_wrap=True)


def with_columns(wishes: Wishes, seen: Peek, ask: bool) -> Wishes:
    """Find the columns of label and text. Raises DataError when they can't be told and nobody can be asked."""
    names = [column.name for column in seen.columns]
    for name in (*wishes.text, *((wishes.label,) if wishes.label else ())):
        if name not in names:
            raise DataError(f"{wishes.data} has no column '{name}', only {', '.join(map(repr, names))}.")
    if len(wishes.text) > 2:
        raise UserError("Give --text once, or twice for pairs of texts.")
    rest = [column for column in seen.columns if column.name not in wishes.text]
    label = wishes.label or _pick("label", [(name,) for name in guess.labels(rest)], rest, names, ask)[0]
    text = wishes.text or _pick("text", guess.texts(seen.columns, label), seen.columns, names, ask)
    if label in text:
        raise UserError(
            f"The column '{label}' can't be both text and label. Say which is which with --text and --label."
        )
    return replace(wishes, text=text, label=label)


def _pick(
    what: str, found: Sequence[tuple[str, ...]], columns: Sequence[Any], names: Sequence[str], ask: bool
) -> tuple[str, ...]:
    if found and (not ask or guess.is_clear(found)):
        return found[0]
    if not ask:
        shown = ", ".join(map(repr, names))
        raise DataError(f"Which column holds the {what}? There are {shown}. Say it with --{what} NAME.")
    while True:
        given = _question(f"Column of the {what}", " ".join(found[0]) if found else None)
        chosen = (given,) if given in names else tuple(given.split())
        if chosen and set(chosen) <= set(names):
            return chosen
        console.print(f"  There are only {', '.join(names)}.", markup=False)


def label_faults(seen: Peek, label: str) -> list[str]:
    """What is noteworthy about the labels. Raises DataError when they can't be learned."""
    values = seen.column(label).values
    if values is None:
        raise DataError(f"The column '{label}' holds too many different values to be a label. Give another --label.")
    if len(values) < 2:
        only = next(iter(values), "")
        raise DataError(f"Every row has the label '{only}'; a classifier needs at least two.")
    once = [value for value, count in values.items() if count == 1]
    if not once:
        return []
    shown = ", ".join(f"'{value[:40]}'" for value in once[:5]) + (", …" if len(once) > 5 else "")
    return [f"data: labels that stand there once: {shown}; give them more examples"]


def asked(wishes: Wishes) -> Wishes:
    """Ask for the teacher and the budget, where no option gave them."""
    if wishes.teacher is None:
        wishes = replace(wishes, teacher=_question("Teacher: folder, Hub name, or 'none'", TEACHER))
    if wishes.size_mib is None:
        wishes = replace(wishes, size_mib=_number("Size of model and tokenizer in MiB, or Enter for no limit"))
    if wishes.keep is None and wishes.teacher not in NO_TEACHER:
        wishes = replace(wishes, keep=_number("Share of the teacher's accuracy to keep (0.98), or Enter for no floor"))
    return wishes


def _question(words: str, default: str | None) -> str:
    sys.stderr.write(f"{words}{f' [{default}]' if default else ''}: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise UserError("The answers ended before the questions. Give the options instead: minikin new --help")
    return line.strip() or default or ""


def _number(words: str) -> float | None:
    while True:
        given = _question(words, None).replace(",", ".")
        if not given:
            return None
        try:
            return float(given)
        except ValueError:
            console.print("  That is no number.")


def values_of(wishes: Wishes, folder: Path) -> dict[str, Any]:
    """The recipe's values; paths of files relative to the recipe's own folder."""
    data: dict[str, Any] = {"train": relative(wishes.data, folder)}
    for key in ("test", "unlabelled"):
        if source := getattr(wishes, key):
            data[key] = relative(source, folder)
    data["text"] = wishes.text[0] if len(wishes.text) == 1 else list(wishes.text)
    data["label"] = wishes.label
    teacher = TEACHER if wishes.teacher is None else wishes.teacher
    if Path(teacher).expanduser().is_dir():
        teacher = relative(teacher, folder)
    keys = ("size_mib", "latency_ms_p95", "keep")
    budget = {key: value for key in keys if (value := getattr(wishes, key)) is not None}
    named = {"name": wishes.name} if wishes.name else {}
    none = teacher.lower() in NO_TEACHER
    return {"task": "classify", **named, "data": data, "teacher": None if none else teacher, "budget": budget}


def relative(source: str, folder: Path) -> str:
    """A path as seen from the recipe's folder; names on the Hub stay."""
    if source.startswith(HUB):
        return source
    path = Path(source).expanduser().resolve()
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return str(path)


def written(values: Mapping[str, Any], seen: Peek, wishes: Wishes) -> str:
    """The recipe as YAML with comments: what was seen, and what else could be set."""
    data, budget = values["data"], values["budget"]
    count = len(seen.column(str(data["label"])).values or {})
    texts = " and ".join(wishes.text)
    lines = [
        f"# Written by minikin new: {seen.rows:,} rows; text in {texts}; {count:,} labels in {data['label']}.",
        "# `minikin check` shows everything that can be set, and a forecast.",
        "task: classify",
        *([f"name: {scalar(values['name'])}"] if "name" in values else []),
        "data:",
        f"  train: {scalar(data['train'])}",
        *line(data, "test", "test.csv", ABSENT, TESTED),
        *line(data, "unlabelled", "more.csv", "more text, which the teacher will label: helps most"),
        f"  text: {scalar(data['text'])}",
        f"  label: {scalar(data['label'])}",
        f"teacher: {scalar(values['teacher'])}" + ("" if values["teacher"] else "   # gold labels alone"),
        "budget:" + ("" if budget else "   # no limit given: the best trade-off of size, speed and accuracy"),
        *line(budget, "size_mib", "2", "model and tokenizer, in MiB (1,048,576 bytes)"),
        *line(budget, "latency_ms_p95", "1", "raw text to answer on one thread, in ms"),
        *line(budget, "keep", "0.98", "accuracy, as a share of the teacher's; less fails the gate"),
    ]
    return "\n".join(lines) + "\n"


def line(values: Mapping[str, Any], key: str, example: str, words: str, given: str = "") -> list[str]:
    """A key with its value, or commented out with an example, and what it means; `given`: what to say with a value."""
    if key in values:
        return [f"  {key}: {scalar(values[key])}   # {given or words}"]
    return [f"  # {key}: {example}   # {words}"]


def scalar(value: Any) -> str:
    """A value as YAML writes it on one line."""
    flow = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return str(flow).strip().removesuffix("...").strip()
