"""The verbs that make a kin, and write it in other forms: new, check, build, report, export, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from minikin.cli import options


def new(
    data: Annotated[str, typer.Argument(help="Examples: CSV, TSV, JSONL, Parquet, or hf:owner/name")],
    text: options.Texts = None,
    label: options.Truths = None,
    teacher: Annotated[
        str | None, typer.Option(help="Folder or Hub name; 'none' for gold labels alone", metavar="NAME")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Test file; absent: a part of the data", metavar="FILE")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="More text, which the teacher will label", metavar="FILE")
    ] = None,
    size_mib: options.Size = None,
    latency_ms_p95: options.P95 = None,
    keep: options.Keep = None,
    name: Annotated[str | None, typer.Option(help="Name of the kin")] = None,
    task: options.Task = "classify",
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to write it", metavar="FILE")] = Path("recipe.yaml"),
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing recipe")] = False,
) -> None:
    """Look at the data, ask what it can't tell, and write recipe.yaml."""
    from minikin.commands import new as command

    wishes = command.Wishes(
        data, tuple(text or ()), label, teacher, test, unlabelled, size_mib, latency_ms_p95, keep, name
    )
    if task == "generate":
        from minikin.commands import new_writing

        new_writing.new(wishes, out, force=force)
        return
    command.new(wishes, out, ask=not yes and sys.stdin.isatty(), force=force)


def check(
    recipe: options.RecipePath,
    overrides: options.Overrides = None,
) -> None:
    """Show the resolved recipe, every fault at once, and a forecast of time, memory and size."""
    from minikin.commands import check as command

    command.check(recipe, tuple(overrides or ()))


def build(
    recipe: options.RecipePath,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the kin", metavar="DIR")] = Path("kin"),
    overrides: options.Overrides = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of finished steps; absent: OUT.run", metavar="DIR")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Make the kin that the recipe describes; a build that was stopped goes on where it stopped."""
    from minikin.commands import build as command

    command.build(recipe, out, tuple(overrides or ()), run, quiet)


def report(kin: options.Folder) -> None:
    """Write report.html and the model card again from what the build measured, and name the file."""
    from minikin.commands import build as command

    command.report(kin)


def export(
    kin: options.Folder,
    to: Annotated[str, typer.Option("--to", help="c, html, web or gguf-lora", metavar="FORM")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or the file of html, gguf-lora", metavar="PATH")],
    base: Annotated[
        Path | None, typer.Option("--for", help="gguf-lora: the kin that the adapter is for", metavar="DIR")
    ] = None,
) -> None:
    """Write the kin as C99 without dependencies, as one HTML page that works offline, or as a folder for a server.

    With --to gguf-lora, KIN is the folder of a LoRA adapter that peft saved; `run --lora` and llama.cpp read the file.
    """
    from minikin.commands import export as command

    command.export(kin, to, out, base)


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for data, recipe, run and kin", metavar="DIR")
    ] = Path("demo"),
    size_mib: options.Size = None,
    latency_ms_p95: options.P95 = None,
    keep: options.Keep = None,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    task: options.Task = "classify",
) -> None:
    """Do the main job on the data in the box, without any network.

    helpdesk has 24 intents of messages to sort; homes, with --task generate, has commands to turn into calls.
    """
    from minikin.commands import build as command

    budget = {"size_mib": size_mib, "latency_ms_p95": latency_ms_p95, "keep": keep}
    given = tuple(f"budget.{key}={value}" for key, value in budget.items() if value is not None)
    command.demo(out, given + tuple(overrides or ()), quiet, task)
