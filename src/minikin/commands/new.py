"""`minikin new`: look at the data, ask what can't be seen, write a recipe with comments."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
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
FILES = {"train": "data", "test": "test", "unlabelled": "unlabelled"}
"""Keys of the recipe's files, and what the user calls them."""

BUDGET = ("size_mib", "latency_ms_p95", "keep")
MEANS = {
    "unlabelled": ("more.csv", "more text, which the teacher will label: helps most"),
    "size_mib": ("2", "model and tokenizer, in MiB (1,048,576 bytes)"),
    "latency_ms_p95": ("1", "raw text to answer on one thread, in ms"),
    "keep": ("0.98", "accuracy, as a share of the teacher's; less fails the gate"),
}
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
    seen = looked(wishes.data, out, force)
    wishes = with_columns(wishes, seen, ask)
    label, text = str(wishes.label), wishes.text
    for fault in [*seen.faults, *example_faults(wishes.data, text, label), *label_faults(seen, label)]:
        console.print(f"  {fault}", style="yellow", markup=False)
    if ask:
        wishes = asked(wishes)
    holds = {"text": text[0] if len(text) == 1 else list(text), "label": label}
    values = values_of(wishes, out, "classify", holds, TEACHER if wishes.teacher is None else wishes.teacher)
    count = len(seen.column(label).values or {})
    told = f"{seen.rows:,} rows; text in {' and '.join(text)}; {count:,} labels in {label}"
    free = "no limit given: the best trade-off of size, speed and accuracy"
    write(out, values, told, MEANS, "" if values["teacher"] else "gold labels alone", free)


def looked(source: str, out: Path, force: bool, look: Callable[[str], Peek] = peek) -> Peek:
    """Look at the data and print what every column holds.

    Raises UserError when there is a recipe already that may not be overwritten, or a folder of that name.
    """
    if out.exists() and not force:
        raise UserError(f"{out} is there already. Use --force to overwrite it, or -o for another name.")
    if out.is_dir():
        raise UserError(f"{out} is a folder. Name a file with -o, for instance {out / 'recipe.yaml'}.")
    seen = look(source)
    console.print(f"{source}: {seen.rows:,} rows", markup=False, soft_wrap=True)
    for column in seen.columns:
        kinds = f"{len(column.values):,} different" if column.values is not None else "many different"
        lengths = f"{column.mean_length:.0f} characters on average, at most {column.longest:,}"
        console.print(f"  {column.name}: {column.filled:,} filled, {kinds}, {lengths}", markup=False, soft_wrap=True)
    return seen


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


def values_of(wishes: Wishes, out: Path, task: str, holds: Mapping[str, Any], teacher: Any) -> dict[str, Any]:
    """The recipe's values: `holds` says what its data holds. Paths of files are relative to the recipe's own folder."""
    folder = out.absolute().parent
    data = {key: relative(source, folder) for key in FILES if (source := getattr(wishes, FILES[key]))}
    if isinstance(teacher, str) and teacher.lower() in NO_TEACHER:
        teacher = None
    elif isinstance(teacher, str) and Path(teacher).expanduser().is_dir():
        teacher = relative(teacher, folder)
    budget = {key: value for key in BUDGET if (value := getattr(wishes, key)) is not None}
    named = {"name": wishes.name} if wishes.name else {}
    return {"task": task, **named, "data": {**data, **holds}, "teacher": teacher, "budget": budget}


def relative(source: str, folder: Path) -> str:
    """A path as seen from the recipe's folder; names on the Hub stay."""
    if source.startswith(HUB):
        return source
    path = Path(source).expanduser().resolve()
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return str(path)


def write(
    out: Path, values: Mapping[str, Any], seen: str, means: Mapping[str, tuple[str, str]], teacher: str, free: str
) -> None:
    """Write the recipe as YAML with comments: what was seen, and what else could be set.

    `means` holds an example and a meaning of keys, `teacher` is about the teacher, `free` about no budget at all.
    """
    of_values(values)
    data, budget = values["data"], values["budget"]
    lines = [
        f"# Written by minikin new: {seen}.",
        "# `minikin check` shows everything that can be set, and a forecast.",
        f"task: {values['task']}",
        *([f"name: {scalar(values['name'])}"] if "name" in values else []),
        "data:",
        f"  train: {scalar(data['train'])}",
        *_line(data, "test", "test.csv", TESTED if "test" in data else ABSENT),
        *_line(data, "unlabelled", *means["unlabelled"]),
        *(line for key in data if key not in FILES for line in _line(data, key, *means.get(key, ()))),
        f"teacher: {scalar(values['teacher'])}" + (f"   # {teacher}" if teacher else ""),
        "budget:" + ("" if budget else f"   # {free}"),
        *(line for key in BUDGET for line in _line(budget, key, *means[key])),
    ]
    atomic.write_text(out, "\n".join(lines) + "\n")
    console.print(f"Wrote {out}. Next: minikin check {out}", markup=False, soft_wrap=True)


def _line(values: Mapping[str, Any], key: str, example: str = "", means: str = "") -> list[str]:
    """A key with its value, or commented out with an example, and what it means."""
    shown = f"{key}: {scalar(values[key])}" if key in values else f"# {key}: {example}"
    return [f"  {shown}" + (f"   # {means}" if means else "")]


def scalar(value: Any) -> str:
    """A value as YAML writes it on one line."""
    flow = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return str(flow).strip().removesuffix("...").strip()
