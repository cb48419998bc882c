"""`minikin build`, `demo` and `report`: make a kin, show what it is worth, and name the report."""

from __future__ import annotations

import json
import os
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from rich.markup import escape

from minikin.base import extras
from minikin.base.errors import GateFailed, KinError, MissingExtra, UserError
from minikin.commands import show
from minikin.report import words

BUILD_PACKAGES = ("torch", "transformers", "accelerate", "pyarrow", "safetensors", "sklearn", "onnx", "jinja2")
BOXES = {"classify": "helpdesk", "generate": "homes"}
"""The data in the box, by task."""


def need_build() -> None:
    """Raise MissingExtra when a package that building needs is not installed."""
    for module in BUILD_PACKAGES:
        if not extras.has(module):
            raise MissingExtra(module, "build")


def build(recipe: Path, out: Path, overrides: tuple[str, ...], run: Path | None, quiet: bool) -> None:
    """Build, then show the table and the report's path. Raises GateFailed after showing them too."""
    need_build()
    from minikin import pipeline

    try:
        pipeline.build(recipe, out, overrides=overrides, run=run, quiet=quiet)
    except GateFailed:
        _show(out)
        raise
    _show(out)


def demo(out: Path, overrides: tuple[str, ...], quiet: bool, task: str = "classify") -> None:
    """Copy the data in the box and its recipe into `out` and build it there, without the network."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "recipe.yaml").is_file())):
        raise UserError(f"{out} holds something else than a demo. Give an empty folder with --out.")
    # Nothing may ask the Hub: the teacher lies in an installed wheel or in the local cache.
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    need_build()
    out.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("minikin") / "box" / BOXES[task]) as box:
        for source in sorted(box.iterdir()):
            if source.is_file() and source.suffix != ".py":
                shutil.copyfile(source, out / source.name)
    build(out / "recipe.yaml", out / "kin", overrides, out / "run", quiet)


def report(folder: Path) -> None:
    """Write report.html and README.md of a kin again and print the report's path."""
    story_of(folder)
    need_build()
    from minikin import pipeline

    print(pipeline.write_report(folder))


def story_of(folder: Path) -> dict[str, Any]:
    """What the build measured. Raises KinError when the folder is no kin or holds no readable report.json."""
    from minikin.base import manifest

    manifest.read(folder)
    path = folder / "report.json"
    try:
        story: dict[str, Any] = json.loads(path.read_bytes())
        if not isinstance(story, dict):
            raise ValueError("it holds no mapping")
    except FileNotFoundError as error:
        raise KinError(f"{folder} has no report.json: its build did not reach the gate. Build it again.") from error
    except (ValueError, RecursionError) as error:
        raise KinError(f"{path} is damaged: {error}. Build the kin again.") from error
    return story


def _show(folder: Path) -> None:
    story = story_of(folder)
    console = show.out()
    console.print(show.measurements(story["measurements"], str(story.get("task"))))
    for reason in (*story.get("reasons", ()), words.busy(story["measurements"]).strip()):
        if reason:
            console.print(f"[yellow]•[/] {escape(reason)}")
    colour = "green" if story.get("passed") else "red"
    console.print(f"[{colour}]{escape(str(story.get('verdict', '')))}[/]")
    console.print(f"kin     {escape(str(folder))}", soft_wrap=True)
    console.print(f"report  {escape(str(folder / 'report.html'))}", soft_wrap=True)
