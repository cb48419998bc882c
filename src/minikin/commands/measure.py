"""`minikin bench` and `minikin compare`: how fast a kin is here and now, and which of two answers better."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from rich.markup import escape
from rich.table import Table

from minikin.base import machine
from minikin.base.console import console as progress
from minikin.base.errors import DataError, KinError, MissingExtra, UserError
from minikin.base.types import UNKNOWN_LABEL, Array, Runtime, Split, Text
from minikin.commands import show
from minikin.commands import texts as reading
from minikin.commands.run import data_of, usual_columns
from minikin.measure import speed
from minikin.measure.compare import Paired, paired
from minikin.measure.quality import quality
from minikin.report import words
from minikin.report.words import Columns
from minikin.runtimes import ENGINES, Kin
from minikin.runtimes import open as open_kin
from minikin.runtimes.author import Author
from minikin.runtimes.load import load_kin

TIMED_TEXTS = 256
TEACHER_CALLS = 60
TEXT_SHOWN = 90
SAMPLE = (
    "where is my order?",
    "I was charged twice this month, please look into it and send the second payment back to my card.",
    "cant log in",
    "Hello, we moved house last week and the new tenants still get our letters. Can you change the address?",
)
SPEED: Columns = (
    ("size", "size_mib", words.mib),
    *words.LATENCY,
    ("texts per second", "throughput_per_s", words.significant),
)
QUALITY: Columns = (
    ("accuracy", "accuracy", words.percent),
    ("95 % interval", "accuracy_interval", show.interval),
    ("macro-F1", "macro_f1", words.percent),
    ("ECE", "ece", words.significant),
    ("size", "size_mib", words.mib),
)
K = TypeVar("K", Kin, Author)
Change: TypeAlias = tuple[int, str, str, Sequence[tuple[str, bool]]]
"""An example that two kins answered differently: row, text, truth, and both answers with whether each is right."""


@dataclass(frozen=True)
class Ask:
    """What to measure: beside which teacher, on which texts, how, by which engines, and whether to tell it as JSON."""

    teacher: str | None = None
    on: str | None = None
    columns: tuple[str, ...] = ()
    threads: int = 1
    engines: str = ""
    prompt_tokens: int = 256
    new_tokens: int = 128
    as_json: bool = False


def bench(folder: Path, ask: Ask) -> None:
    """Measure the kin (and the teacher, if named) now, and show the build's own figures beside it."""
    threads = ask.threads
    kins = list(by_engines(folder, ask.engines, ENGINES, partial(load_kin, threads=threads)).values())
    kin = kins[0]
    checkpoint = _found(ask.teacher) if ask.teacher is not None else None
    texts, source = bench_texts(kin, ask.on, ask.columns)
    progress.print(f"measuring on {len(texts)} texts ({escape(source)})")
    took = speed.latency(kin, texts, repeats=500)
    start = speed.cold_start(kin.folder, texts[0], engine=ask.engines if ask.engines != "all" else "", threads=threads)
    found: dict[str, dict[str, Any]] = {}
    for one in kins:
        latency = took if one is kin else speed.latency(one, texts, repeats=500)
        found[f"kin, now, {one.engine}, {words.count(threads, 'thread')}"] = {
            "size_mib": one.manifest.size_mib,
            **latency.summary(),
            "throughput_per_s": speed.throughput(one, texts),
        }
    there = None
    if checkpoint is not None:
        there = found["teacher, now, PyTorch, 1 thread"] = _teacher_now(checkpoint, kin, texts)
    busy = words.busy(found)
    built = kin.manifest.raw.get("measurements") or {}
    found |= {f"{n}, when it was built": built[k] for k, n in show.SUBJECTS.items() if built.get(k)}
    stamp = machine.stamp()
    if ask.as_json:
        tell_json({"rows": found, "calls": took.n, "cold_start": start.summary(), "machine": stamp})
        return
    out = show.out()
    out.print(show.figures(found.items(), SPEED, bold=0))
    if reference := there or built.get("teacher"):
        ratio = reference["latency_ms_p50"] / took.latency_ms_p50
        when = "" if there else " (measured when it was built)"
        out.print(f"The kin is {words.times(ratio)} as fast as the teacher{when}.")
    out.print(started(start))
    out.print(
        f"[dim]{escape(stamp['processor'])}, {words.count(stamp['cores'], 'core')}; median of {took.n} calls.[/]{busy}"
    )


def tell_json(found: dict[str, Any]) -> None:
    """Write what was measured to standard output as one JSON object."""
    sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2, default=str) + "\n")


def started(start: speed.ColdStart) -> str:
    """A cold start in words."""
    return (
        f"Cold start {start.seconds:.3f} s (import {start.import_s:.3f}, load {start.load_s:.3f}, first answer "
        f"{start.answer_s:.3f}); memory {start.memory_mib:.0f} MiB, of which Python with numpy {start.base_mib:.0f}."
    )


def by_engines(folder: Path, wanted: str, known: Sequence[str], load: Callable[..., K]) -> dict[str, K]:
    """Load the kin by the engine that was asked for, or by all that can run it here, the usual one first."""
    if wanted not in ("", "all", *known):
        raise UserError(f"There is no engine {wanted!r}. Choose one of {', '.join(known)}, or all.")
    if wanted != "all":
        return {wanted or known[0]: load(folder, engine=wanted or None)}
    kins = {}
    for name in known:
        try:
            kins[name] = load(folder, engine=name)
        except (KinError, MissingExtra, ImportError) as error:
            progress.print(f"[dim]{name}: {escape(str(error))}[/]")
    if not kins:
        raise KinError(f"No engine can run the kin in {folder}.")
    return kins


def bench_texts(
    kin: Kin | Author, on: str | None, columns: tuple[str, ...], usual: tuple[str, ...] = ()
) -> tuple[list[Text], str]:
    """Return texts to time and where they are from: a file, the recipe's test file, or a few sentences."""
    source = on
    if source is None:
        source = _test_of(kin.folder)
        if source is None or not Path(source).is_file():
            pairs: list[Text] = [(a, b) for a, b in pairwise(SAMPLE)]
            return (pairs if kin.manifest.pair else list(SAMPLE)), "a few sentences; give your own with --on"
    wanted = reading.Wanted(kin.manifest.pair, columns, usual or usual_columns(kin.folder))
    with reading.arriving(Path(source), "auto", wanted) as (items, _):
        good = (item for item in items if not isinstance(item, reading.Bad))
        found = list(islice(good, TIMED_TEXTS))
    if not found:
        raise DataError(f"{source} holds no text to measure on.")
    return found, source


def _test_of(folder: Path) -> str | None:
    found = data_of(folder).get("test")
    return found if isinstance(found, str) and Path(found).suffix.lower() in reading.SUFFIXES else None


def _found(teacher: str) -> Any:
    """Find the teacher's files, before anything is measured."""
    from minikin.commands.build import need_build
    from minikin.teachers.resolve import resolve

    need_build()
    return resolve(teacher)


def _teacher_now(checkpoint: Any, kin: Kin, texts: Sequence[Text]) -> dict[str, float]:
    """Time the teacher; its head is untrained, which changes no timing."""
    from minikin.measure.footprint import teacher_size_mib
    from minikin.steps.teach import threads
    from minikin.teachers.local import LocalTeacher

    found = LocalTeacher(checkpoint, kin.labels, kin.manifest.max_length)
    with threads(1):
        took = speed.latency(found, texts, repeats=TEACHER_CALLS)
        rate = speed.throughput(found, texts)
    return {"size_mib": teacher_size_mib(checkpoint.folder), **took.summary(), "throughput_per_s": rate}


class Aligned:
    """A runtime whose columns are put in the order of other labels; what it doesn't know gets 0."""

    def __init__(self, runtime: Runtime, labels: Sequence[str]) -> None:
        self.runtime, self._labels = runtime, tuple(labels)
        self._places = [self._labels.index(label) for label in runtime.labels]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, its own and the others'."""
        return self._labels

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Return probabilities (N, C) over all labels."""
        own_NC = self.runtime.probabilities(texts)
        all_NC = np.zeros((len(own_NC), len(self._labels)), own_NC.dtype)
        all_NC[:, self._places] = own_NC
        return all_NC


def compare(a: Path, b: Path, on: str, columns: tuple[str, ...], label: str | None, examples: int) -> None:
    """Measure two kins on the same labelled texts and show how they differ."""
    kins = [open_kin(a), open_kin(b)]
    if kins[0].manifest.pair != kins[1].manifest.pair:
        raise KinError(f"Of {a} and {b} one answers to single texts, the other to pairs. They can't be compared.")
    labels = sorted(set(kins[0].labels) | set(kins[1].labels))
    split = labelled(on, columns or usual_columns(a), label or _label_of(a), labels, kins[0].manifest.pair)
    unknown = int((split.labels_N == UNKNOWN_LABEL).sum())
    if unknown:
        progress.print(f"{words.count(unknown, 'text')} with a label that neither kin knows; wrong for both")
    first, second = (quality(Aligned(kin, labels), split) for kin in kins)
    changed: list[Change] = []
    for i in np.flatnonzero(first.predictions_N != second.predictions_N).tolist():
        text, truth = split.texts[i], int(split.labels_N[i])
        answers = [(labels[q.predictions_N[i]], bool(q.predictions_N[i] == truth)) for q in (first, second)]
        whole = text if isinstance(text, str) else " | ".join(text)
        changed.append((int(split.rows_N[i]), whole, "unknown" if truth == UNKNOWN_LABEL else labels[truth], answers))
    measured = [
        (str(path), {**q.summary(), "size_mib": kin.manifest.size_mib})
        for path, q, kin in zip((a, b), (first, second), kins, strict=True)
    ]
    both = paired(first, second, split.labels_N)
    tell_difference(measured, QUALITY, both, len(split), changed, examples)


def labelled(source: str, columns: tuple[str, ...], label: str, labels: Sequence[str], pair: bool) -> Split:
    """Read a labelled file. Raises DataError with every fault when it can't be used."""
    from minikin.data.clean import tidy
    from minikin.data.faults import Bag
    from minikin.data.formats import batches

    if len(columns) != 1 + pair:
        raise UserError(f"These kins answer to {'pairs' if pair else 'single texts'}: give --text {1 + pair} time(s).")
    bag, places = Bag(), {name: i for i, name in enumerate(labels)}
    texts: list[Text] = []
    truths: list[int] = []
    rows: list[int] = []
    for batch in batches(source, (*columns, label), "test", bag):
        for row, *values in zip(batch.rows, *batch.columns, strict=True):
            parts = [tidy("" if v is None else str(v))[0] for v in values]
            if not parts[-1]:
                bag.row("missing-label", "test", row)
                continue
            texts.append((parts[0], parts[1]) if pair else parts[0])
            truths.append(places.get(parts[-1], UNKNOWN_LABEL))
            rows.append(row)
    bag.raise_if_fatal()
    for fault in bag.faults():
        progress.print(f"[yellow]{escape(fault.message)}[/]")
    if not texts:
        raise DataError(f"{source} holds no labelled text to compare on.")
    if max(truths) == UNKNOWN_LABEL:
        raise DataError(f"{source}: no label in the column '{label}' is known to either kin. Is it the right column?")
    return Split(texts, np.array(truths, np.int64), np.array(rows, np.int64))


def _label_of(folder: Path) -> str:
    data = data_of(folder)
    return str(data.get("completion" if data.get("task") == "generate" else "label") or "label")


def difference(found: Paired, texts: int) -> list[str]:
    """The paired difference in words."""
    low, high = found.interval
    span, p = f"{words.points(low)} to {words.points(high)}", words.p_value(found.mcnemar_p)
    only_a, only_b = len(found.only_a), len(found.only_b)
    lines = [
        f"First minus second: {words.points(found.difference)} points (95 % interval {span}; exact McNemar p {p})",
        f"Only the first is right on {only_a:,} of {texts:,} texts, only the second on {only_b:,}.",
    ]
    if low > 0 or high < 0:
        lines.append(f"The {'first' if low > 0 else 'second'} is better.")
    else:
        lines.append("No difference can be told on so many texts.")
    return lines


def tell_difference(
    measured: Iterable[tuple[str, Mapping[str, Any]]],
    columns: Columns,
    found: Paired,
    texts: int,
    changed: Sequence[Change],
    examples: int,
) -> None:
    """Show two kins side by side, the paired difference, and the first examples that changed."""
    out = show.out()
    out.print(show.figures(measured, columns))
    for line in difference(found, texts):
        out.print(line)
    out.print(f"{words.count(len(changed), 'answer')} of {texts:,} changed.")
    if not changed or not examples:
        return
    shown = Table("row", "text", "truth", "first", "second", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row, text, truth, answers in changed[:examples]:
        marked = [f"[{'green' if right else 'red'}]{escape(_brief(answer))}[/]" for answer, right in answers]
        shown.add_row(str(row), escape(_brief(text)), escape(_brief(truth)), *marked)
    out.print(shown)


def _brief(text: str) -> str:
    """A text on one line, cut where it is long."""
    return " ".join((text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 1] + "…").split())
