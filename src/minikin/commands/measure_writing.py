"""`minikin bench` and `minikin compare` for kins that write: tokens a second, and which of two is exact more often."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape

from minikin.base import machine
from minikin.base.console import console as progress
from minikin.base.errors import DataError, KinError, UserError
from minikin.commands import measure, show
from minikin.measure import pace, speed
from minikin.measure.compare import paired_right
from minikin.measure.writing import written
from minikin.report import words
from minikin.report.words import Columns
from minikin.runtimes.author import ENGINES, Author, open_author

PACE: Columns = (
    ("size", "size_mib", words.mib),
    ("prefill tok/s", "prefill_tokens_per_s", words.fixed),
    ("decode tok/s", "decode_tokens_per_s", words.fixed),
    ("first token p50", "first_token_ms_p50", words.ms),
    ("p95", "first_token_ms_p95", words.ms),
    ("decode ×", "decode_ratio_to_first", lambda value: words.fixed(value, 2) + "×" * (value is not None)),
    ("memory", "memory_mib", lambda value: words.fixed(value, 0) + " MiB" * (value is not None)),
)
EXACT: Columns = (
    ("exact", "accuracy", words.percent),
    ("95 % interval", "accuracy_interval", show.interval),
    *words.LATENCY,
    ("decode tok/s", "decode_tokens_per_s", words.fixed),
    ("size", "size_mib", words.mib),
)
LEAST_CONTEXT = 4


def bench(folder: Path, ask: measure.Ask) -> None:
    """Measure the kin now, by each engine in turns, and show the build's own figures beside it."""
    if ask.teacher is not None:
        raise UserError("--teacher is for kins that sort texts. Build the teacher as a kin, and use minikin compare.")
    kins = measure.by_engines(folder, ask.engines, ENGINES, partial(open_author, threads=ask.threads))
    kin = next(iter(kins.values()))
    usual = ("text",) if kin.kind == "text" else ("prompt",)
    texts, source = measure.bench_texts(kin, ask.on, ask.columns, usual)
    prompt, new = _lengths(kin, ask.prompt_tokens, ask.new_tokens)
    ids = _ids(kin, [t for t in texts if isinstance(t, str)], prompt)
    progress.print(f"reading {prompt} tokens ({escape(source)}) and writing {new}, {len(kins)} by turns")
    cores = speed.Cores()
    paces = pace.in_turns({name: one.generator for name, one in kins.items()}, ids, new)
    share = cores.share()
    starts = {name: speed.cold_start(kin.folder, texts[0], runs=3, engine=name, threads=ask.threads) for name in kins}
    first = next(iter(paces.values()))
    found: dict[str, dict[str, Any]] = {
        f"kin, now, {name}, {words.count(ask.threads, 'thread')}": {
            "size_mib": kins[name].manifest.size_mib,
            **took.summary(),
            "decode_ratio_to_first": took.times_as_fast_as(first),
            "memory_mib": starts[name].memory_mib,
            "core_share": share,
        }
        for name, took in paces.items()
    }
    busy = words.busy(found)
    built = kin.manifest.raw.get("measurements") or {}
    found |= {f"{n}, when it was built": built[k] for k, n in show.SUBJECTS.items() if _timed(built.get(k))}
    start, stamp = next(iter(starts.values())), machine.stamp()
    if ask.as_json:
        lengths = {"prompt_tokens": prompt, "new_tokens": new, "turns": len(first.completions)}
        measure.tell_json({"rows": found, **lengths, "cold_start": start.summary(), "machine": stamp})
        return
    out = show.out()
    out.print(show.figures(found.items(), PACE, bold=0))
    out.print(measure.started(start))
    out.print(
        f"[dim]{escape(stamp['processor'])}, {words.count(stamp['cores'], 'core')}; "
        f"median of {words.count(len(first.completions), 'turn')}.[/]{busy}"
    )


def _timed(row: Any) -> bool:
    return bool(row and row.get("decode_tokens_per_s"))


def _lengths(kin: Author, prompt: int, new: int) -> tuple[int, int]:
    """Both lengths, less where the context is short, which is said."""
    context = kin.generator.context
    if prompt + new <= context:
        return prompt, new
    if context < LEAST_CONTEXT:
        raise KinError(f"The kin in {kin.folder} reads {context} tokens, too few to measure.")
    share = max(1, min(context - 1, context * prompt // (prompt + new)))
    progress.print(f"{prompt} tokens to read and {new} to write are more than its context of {context}; fewer are used")
    return share, context - share


def _ids(kin: Author, texts: Sequence[str], length: int) -> list[int]:
    found: list[int] = []
    while len(found) < length:
        before = len(found)
        for text in texts:
            found += kin.generator.tokens(text)
        if len(found) == before:
            raise DataError("The texts to measure on have no token. Give others with --on.")
    return found[:length]


def compare(a: Path, b: Path, on: str, columns: tuple[str, ...], label: str | None, examples: int) -> None:
    """Let two kins write to the same prompts, and show how often each is exact and what changed."""
    kins = [open_author(path) for path in (a, b)]
    if "text" in (kin.kind for kin in kins):
        raise UserError("A kin that continues texts has no exact answers to compare. Use minikin evaluate.")
    prompts, references, rows = answered(on, columns or (), label)
    first, second = (written(kin, prompts, references) for kin in kins)
    both = list(zip(first.answers, second.answers, first.exact_N > 0, second.exact_N > 0, strict=True))
    changed: list[measure.Change] = [
        (rows[i], prompts[i], references[i], [(x, right_x), (y, right_y)])
        for i, (x, y, right_x, right_y) in enumerate(both)
        if x != y
    ]
    measured = [
        (str(path), {**w.summary(0), "size_mib": kin.manifest.size_mib})
        for path, w, kin in zip((a, b), (first, second), kins, strict=True)
    ]
    found = paired_right(first.exact_N > 0, second.exact_N > 0)
    measure.tell_difference(measured, EXACT, found, len(prompts), changed, examples)


def answered(source: str, columns: tuple[str, ...], label: str | None) -> tuple[list[str], list[str], list[int]]:
    """Read prompts, people's answers and row numbers. Raises DataError with every fault when none can be used."""
    from minikin.data.faults import Bag
    from minikin.data.formats import batches
    from minikin.data.generate import cell

    bag = Bag()
    prompts: list[str] = []
    references: list[str] = []
    rows: list[int] = []
    for batch in batches(source, ((*columns, "prompt")[0], label or "completion"), "test", bag):
        for row, *values in zip(batch.rows, *batch.columns, strict=True):
            prompt, reference = (cell(value) or "" for value in values)
            if prompt.strip() and reference.strip():
                prompts.append(prompt.strip())
                references.append(reference.strip())
                rows.append(row)
            else:
                bag.row("empty-completion" if prompt.strip() else "empty-prompt", "test", row)
    bag.raise_if_fatal()
    for fault in bag.faults():
        progress.print(f"[yellow]{escape(fault.message)}[/]")
    if not prompts:
        raise DataError(f"{source} holds no prompt with an answer to compare on.")
    return prompts, references, rows
