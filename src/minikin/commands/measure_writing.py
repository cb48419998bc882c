"""`minikin bench` and `minikin compare` for kins that write: tokens a second, and which of two is exact more often."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from minikin.base import machine
from minikin.base.console import console as progress
from minikin.base.errors import DataError, KinError, MissingExtra, UserError
from minikin.commands import measure, show
from minikin.measure import compare as comparing
from minikin.measure import pace, speed
from minikin.measure.writing import Written, written
from minikin.report import words
from minikin.runtimes.author import ENGINES, Author, open_author

COLUMNS = ("", "size", "prefill tok/s", "decode tok/s", "first token p50", "p95", "decode ×", "memory")
KEYS = ("prefill_tokens_per_s", "decode_tokens_per_s")
LEAST_CONTEXT = 4


def bench(folder: Path, ask: measure.Ask) -> None:
    """Measure the kin now, by each engine in turns, and show the build's own figures beside it."""
    if ask.teacher is not None:
        raise UserError("--teacher is for kins that sort texts. Build the teacher as a kin, and use minikin compare.")
    kins = _engines(folder, ask.engines, ask.threads)
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
    out.print(show.table(COLUMNS, [_row(name, row) for name, row in found.items()], bold=0))
    out.print(measure.started(start))
    out.print(
        f"[dim]{escape(stamp['processor'])}, {words.count(stamp['cores'], 'core')}; "
        f"median of {words.count(len(first.completions), 'turn')}.[/]{busy}"
    )


def _timed(row: Any) -> bool:
    return bool(row and row.get(KEYS[1]))


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    ratio, memory = words.number(row.get("decode_ratio_to_first")), words.number(row.get("memory_mib"))
    return (
        name,
        words.mib(row.get("size_mib")),
        *(words.fixed(row.get(key)) for key in KEYS),
        words.ms(row.get("first_token_ms_p50")),
        words.ms(row.get("first_token_ms_p95")),
        words.NONE if ratio is None else f"{ratio:.2f}×",
        words.NONE if memory is None else f"{memory:.0f} MiB",
    )


def _engines(folder: Path, wanted: str, threads: int) -> dict[str, Author]:
    """Open the kin by the engine that was asked for, or by every one that can run it here."""
    if wanted != "all":
        return {wanted or ENGINES[0]: open_author(folder, threads=threads, engine=wanted or None)}
    kins: dict[str, Author] = {}
    for name in ENGINES:
        try:
            kins[name] = open_author(folder, threads=threads, engine=name)
        except (MissingExtra, ImportError) as error:
            progress.print(f"[dim]{name}: {escape(str(error))}[/]")
    if not kins:
        raise KinError(f"No engine can run the kin in {folder}.")
    return kins


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
    out = show.out()
    table = [_exact(str(p), w, k) for p, w, k in zip((a, b), (first, second), kins, strict=True)]
    out.print(show.table(("", "exact", "95 % interval", "p50", "p95", "decode tok/s", "size"), table))
    for line in measure.difference(comparing.paired_right(first.exact_N > 0, second.exact_N > 0), len(prompts)):
        out.print(line)
    changed = [i for i, (x, y) in enumerate(zip(first.answers, second.answers, strict=True)) if x != y]
    out.print(f"{words.count(len(changed), 'answer')} of {len(prompts):,} changed.")
    if changed and examples:
        out.print(_changed(prompts, references, rows, first, second, changed[:examples]))


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


def _exact(name: str, found: Written, kin: Author) -> tuple[str, ...]:
    row = found.summary(0)
    return (
        escape(name),
        words.percent(row["accuracy"]),
        show.interval(row["accuracy_interval"]),
        words.ms(row["latency_ms_p50"]),
        words.ms(row["latency_ms_p95"]),
        words.fixed(row["decode_tokens_per_s"]),
        words.mib(kin.manifest.size_mib),
    )


def _changed(
    prompts: Sequence[str], truths: Sequence[str], rows: Sequence[int], a: Written, b: Written, places: Sequence[int]
) -> Any:
    from rich.table import Table

    shown = Table("row", "prompt", "truth", "first", "second", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i in places:
        marked = [f"[{'green' if w.exact_N[i] else 'red'}]{escape(measure.brief(w.answers[i]))}[/]" for w in (a, b)]
        shown.add_row(str(rows[i]), escape(measure.brief(prompts[i])), escape(measure.brief(truths[i])), *marked)
    return shown
