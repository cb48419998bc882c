"""The verbs that judge a kin: bench, evaluate, compare, certify, advise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minikin.base.errors import UserError
from minikin.cli import options


def bench(
    ctx: typer.Context,
    kin: options.Folder,
    teacher: Annotated[
        str | None, typer.Option(help="Measure this teacher (folder or Hub name) here and now too", metavar="NAME")
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="File of texts; absent: the test texts of its recipe", metavar="FILE")
    ] = None,
    text_column: options.Keys = None,
    threads: options.Threads = 1,
    engines: Annotated[
        str,
        typer.Option(help="kernel, onnx, torch, llama.cpp or all; absent: what would answer", metavar="NAME"),
    ] = "",
    prompt_tokens: Annotated[int, typer.Option(help="A kin that writes: tokens to read", min=1, metavar="N")] = 256,
    new_tokens: Annotated[int, typer.Option(help="A kin that writes: tokens to write", min=2, metavar="N")] = 128,
    as_json: options.AsJson = False,
) -> None:
    """Measure latency, throughput, cold start and memory on this machine, beside the teacher's figures.

    Of a kin that writes: prefill and decode tokens a second, time to the first token, cold start and memory.
    """
    from minikin.commands import measure, measure_writing, write

    writes = write.writes(kin)
    options.refuse(ctx, set() if writes else {"prompt_tokens", "new_tokens"}, kin, writes)
    ask = measure.Ask(
        teacher, on, tuple(text_column or ()), threads, engines, prompt_tokens, new_tokens, as_json=as_json
    )
    (measure_writing if writes else measure).bench(kin, ask)


def evaluate(
    kin: options.Folder,
    tasks: Annotated[str, typer.Option(help="Names of tasks, separated by commas", metavar="NAMES")],
    include: Annotated[
        Path | None, typer.Option(help="Folder of YAML tasks of your own, on local files", metavar="FOLDER")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Examples before each; absent: the task's", min=0, metavar="N")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many of each task", min=1, metavar="N")] = None,
    threads: options.Threads = 1,
    engine: Annotated[str | None, typer.Option(help="llama.cpp or torch", metavar="NAME")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Score a kin that writes on tasks of lm-evaluation-harness, by the file and the runtime that ship.

    Stays offline: data comes from the Hub's cache on this machine, or from files. HF_HUB_OFFLINE=0 lets it be fetched.
    """
    from minikin.commands import evaluate as command

    command.evaluate(kin, tasks, include, shots, limit, threads, engine, as_json)


def compare(
    a: Annotated[Path, typer.Argument(metavar="KIN_A", help="One kin")],
    b: Annotated[Path, typer.Argument(metavar="KIN_B", help="Another kin")],
    on: Annotated[str, typer.Option(help="Labelled test file", metavar="FILE")],
    text: options.Texts = None,
    label: options.Truths = None,
    examples: Annotated[int, typer.Option(help="How many changed examples to show", min=0, metavar="N")] = 20,
) -> None:
    """Compare two kins on the same texts: paired difference with interval, McNemar, and what changed."""
    from minikin.commands import measure, measure_writing, write

    kinds = {write.writes(a), write.writes(b)}
    if len(kinds) == 2:
        raise UserError(f"Of {a} and {b} one sorts texts, the other writes. They can't be compared.")
    (measure_writing if True in kinds else measure).compare(a, b, on, tuple(text or ()), label, examples)


def certify(
    kin: options.Folder,
    on: Annotated[str, typer.Option(help="Labelled file that no build has read", metavar="FILE")],
    risk: Annotated[
        str, typer.Option(help="Share of wrong answers among those given, at most", metavar="SHARE")
    ] = "2%",
    confidence: options.Confidence = "95%",
    method: Annotated[
        str,
        typer.Option(
            help="ltt: risk among answers, with that confidence; crc: wrong answers among all texts, in expectation",
            metavar="METHOD",
        ),
    ] = "ltt",
    sets: Annotated[
        str | None, typer.Option(help="Also give candidates that hold the true label so often", metavar="SHARE")
    ] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="--sets: so often within each class")] = False,
    verdict: Annotated[
        str | None,
        typer.Option(help="A kin that writes: column of true or false on its own answers", metavar="COLUMN"),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column: a bound for each of its values", metavar="COLUMN")] = None,
    expires: Annotated[int, typer.Option(help="Days until the certificate is void", metavar="DAYS")] = 90,
    reject: options.Reject = None,
    text: options.TextColumns = None,
    label: options.LabelColumn = None,
    labels_checked: Annotated[
        bool, typer.Option("--labels-checked", help="A person looked at the labels that look wrong")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="kernel or onnx; absent: the one that will answer", metavar="NAME")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split of the labels", metavar="N")] = 0,
) -> None:
    """Find when the kin may answer by itself, prove it on labelled texts, and write certificate.json.

    A kin that writes is compared with the answers in the file, or judged by --verdict.
    """
    from minikin.commands import trust as command

    ask = command.Ask(
        command.share(risk, "--risk"),
        command.share(confidence, "--confidence"),
        group,
        expires,
        reject,
        tuple(text or ()),
        label,
        labels_checked,
        engine,
        seed,
        method,
        command.share(sets, "--sets") if sets else None,
        by_class,
        verdict,
    )
    command.certify(kin, on, ask)


def advise(
    target: Annotated[Path, typer.Argument(metavar="RECIPE|KIN", help="A recipe, or a folder that a build wrote")],
    on: Annotated[
        str | None, typer.Option(help="Labelled file; absent: the test file of its recipe", metavar="FILE")
    ] = None,
    risk: Annotated[str, typer.Option(help="Risk that would be asked for", metavar="SHARE")] = "2%",
    confidence: options.Confidence = "95%",
    reject: options.Reject = None,
    text: options.TextColumns = None,
    label: options.LabelColumn = None,
) -> None:
    """Say what the labels at hand can prove: the risk in reach, the share kept local, the labels missing."""
    from minikin.commands import trust as command

    columns = tuple(text or ())
    ask = command.Ask(
        command.share(risk, "--risk"),
        command.share(confidence, "--confidence"),
        reject=reject,
        columns=columns,
        label=label,
    )
    command.advise(target, on, ask)
