"""The verbs that ask a kin, and look after what it hands over: run, chat, queue, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from minikin.cli import options

WRITING: Final = frozenset(
    {"draft", "schema", "grammar", "lora", "parallel", "n"}
    | {"temperature", "top_p", "top_k", "stop", "seed", "max_tokens"}
)
"""Options of `run` that only a kin that writes can follow; those of `SORTING` only one that sorts texts."""

SORTING: Final = frozenset({"everything"})


def run(
    ctx: typer.Context,
    kin: options.Folder,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; pairs two by two")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read texts from a file", metavar="FILE")] = None,
    form: Annotated[str, typer.Option("--format", help="lines, jsonl, csv or auto", metavar="FORMAT")] = "auto",
    text_column: options.Keys = None,
    everything: Annotated[bool, typer.Option("--all", help="Give the probabilities of all labels")] = False,
    threads: options.Threads = 1,
    engine: Annotated[
        str | None,
        typer.Option(help="kernel, onnx or torch; one that writes: llama.cpp or torch", metavar="NAME"),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say what answered and how fast it was")] = False,
    hand_over: Annotated[
        Path | None,
        typer.Option(help="Hand-over file: answer only what is certified, the rest by whom it names", metavar="FILE"),
    ] = None,
    draft: Annotated[
        Path | None, typer.Option(help="Smaller kin whose guesses save a larger one time", metavar="DIR")
    ] = None,
    lora: options.Lora = None,
    parallel: Annotated[
        int, typer.Option(help="Prompts of a file that are written to at a time", metavar="N", min=1)
    ] = 1,
    schema: options.Schema = None,
    grammar: options.Grammar = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Completions of each prompt", metavar="N")] = 1,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    stop: options.Stop = None,
    seed: options.Seed = 0,
    max_tokens: options.MaxTokens = None,
) -> None:
    """Answer texts, a file, or standard input: one JSON object per text, in order, as they come.

    The options from --draft on are for a kin that writes, --all is for one that sorts texts.
    """
    from minikin.commands import write

    columns, writes = tuple(text_column or ()), write.writes(kin)
    options.refuse(ctx, SORTING if writes else WRITING, kin, writes)
    if writes:
        writing = write.How(
            schema=schema,
            grammar=grammar,
            n=n,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            stop=tuple(stop or ()),
            seed=seed,
            max_tokens=max_tokens,
            threads=threads,
            verbose=verbose,
            engine=engine,
            hand_over=hand_over,
            draft=draft,
            lora=lora,
            parallel=parallel,
        )
        write.run(kin, tuple(texts or ()), file, form, columns, writing)
        return
    from minikin.commands import run as command

    how = command.How(everything=everything, threads=threads, engine=engine, verbose=verbose, hand_over=hand_over)
    command.run(kin, tuple(texts or ()), file, form, columns, how)


def chat(
    kin: options.Folder,
    system: Annotated[str | None, typer.Option(help="What it is told before anything is said", metavar="TEXT")] = None,
    lora: options.Lora = None,
    schema: options.Schema = None,
    grammar: options.Grammar = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    stop: options.Stop = None,
    seed: options.Seed = 0,
    max_tokens: options.MaxTokens = None,
    threads: options.Threads = 1,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say at the end how fast it was")] = False,
) -> None:
    """Talk with a kin that writes, in the terminal; answers appear as they are written."""
    from minikin.commands import write

    how = write.How(
        schema=schema,
        grammar=grammar,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=tuple(stop or ()),
        seed=seed,
        max_tokens=max_tokens,
        threads=threads,
        verbose=verbose,
        lora=lora,
    )
    write.chat(kin, system, how)


def queue(
    kin: options.Folder,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="list, next, answer, drop or export")],
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID [LABEL]]...", help="answer: ID LABEL, or lines piped in; drop: IDs"),
    ] = None,
    file: options.HandOverPath = Path("handover.yaml"),
    by: options.By = None,
    most: options.Most = None,
    state: Annotated[
        str | None, typer.Option(help="list: only waiting, leased, silver, gold or dropped", metavar="STATE")
    ] = None,
    silver: Annotated[
        bool, typer.Option("--silver", help="next, export: also what only a large model answered")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="answer: change an answer that was given")] = False,
    new_label: Annotated[bool, typer.Option("--new-label", help="answer: take a label that the kin lacks")] = False,
    part: Annotated[
        str, typer.Option(help="export: train (handed over), or audit (the random sample, for certify)", metavar="PART")
    ] = "train",
    none_as: Annotated[
        str | None, typer.Option(help="export: label of texts that no label fits; absent: left out", metavar="LABEL")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="export: CSV or JSONL file", metavar="FILE")] = None,
) -> None:
    """List, take, answer or forget what was handed over, or export the answers as training rows."""
    from minikin.commands import handover as command

    ask = command.Ask(file, by, most, state, silver, replace, new_label, part, none_as, out)
    command.queue(kin, action, tuple(given or ()), ask)


def audit(
    kin: options.Folder,
    action: Annotated[
        str, typer.Argument(metavar="[ACTION]", help="state, or next: take texts of the sample")
    ] = "state",
    file: options.HandOverPath = Path("handover.yaml"),
    by: options.By = None,
    most: options.Most = None,
) -> None:
    """Show how the certificate stands by what comes in and by its blind audit, or take texts of the audit."""
    from minikin.commands import handover as command

    command.audit(kin, action, command.Ask(file, by, most))
