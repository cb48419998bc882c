"""What the benchmark scripts share: recipes by name, the tuned teacher of a run folder, rows kept as JSON lines."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data import ROOT, RUNS, SETS, TEXTS, prepare, prepare_texts
from minikin.base import machine
from minikin.base.console import Stages
from minikin.base.folders import RunFolder
from minikin.base.types import Data, no_progress
from minikin.recipe.read import read
from minikin.recipe.schema import Recipe
from minikin.steps import material, teach
from minikin.steps.context import Build
from minikin.teachers.local import LocalTeacher

BOX = ROOT / "src" / "minikin" / "box" / "helpdesk" / "recipe.yaml"


def recipe_of(dataset: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a benchmark set, of `helpdesk` (in the box), or of a YAML file; its data is made ready."""
    if dataset == "helpdesk":
        return read(BOX, overrides)
    if dataset in SETS or dataset in TEXTS:
        (prepare if dataset in SETS else prepare_texts)(dataset)
        return read(ROOT / "bench" / "recipes" / f"{dataset}.yaml", overrides)
    if Path(dataset).is_file():
        return read(dataset, overrides)
    raise SystemExit(
        f"There is no set '{dataset}'. Known: helpdesk, {', '.join([*SETS, *TEXTS])}, or the path of a recipe."
    )


def name_of(dataset: str) -> str:
    """Short name of a set, or of a recipe file: what run folders and rows are called."""
    return Path(dataset).stem


def run_of(dataset: str) -> Path:
    """The run folder that all scripts share for a set, so that its teacher is tuned once."""
    return RUNS / name_of(dataset) / "run"


def binding(recipe: Recipe, run: Path, quiet: bool = True) -> Build:
    """Recipe and run folder as the steps take them."""
    return Build(recipe, RUNS / "unused", RunFolder(run), Stages(quiet))


def data_of(build: Build, role: str) -> Data:
    """The recipe's data in a cache of this script's own: a build that goes on beside it keeps its files."""
    return material.read(build.recipe, build.run.root / f"data-{role}", no_progress)


def tuned_teacher(build: Build, data: Data) -> LocalTeacher:
    """The tuned teacher from the run folder; tuned now, and kept there, when it is not in it yet."""
    return teach.tuned(build, data, teach.found(build, data))


def keep(script: str, row: dict[str, Any]) -> None:
    """Append one row to bench/runs/SCRIPT.jsonl, with time, machine and load."""
    RUNS.mkdir(parents=True, exist_ok=True)
    stamped = {**row, "at": time.strftime("%Y-%m-%dT%H:%M:%S"), "load": os.getloadavg()[0], "machine": machine.stamp()}
    with (RUNS / f"{script}.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(stamped, ensure_ascii=False, default=str) + "\n")


def kept(script: str) -> list[dict[str, Any]]:
    """All rows of bench/runs/SCRIPT.jsonl; a line that a kill cut short is passed over."""
    path = RUNS / f"{script}.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    head = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])


def mean_sd(values: Sequence[float | None], form: str = "{:.2f}", factor: float = 1.0) -> str:
    """`mean ± sd` (n − 1) of the values that are there; one value stands alone, none is a dash."""
    found = [v * factor for v in values if v is not None]
    if not found:
        return "–"
    mean = form.format(statistics.fmean(found))
    return mean if len(found) == 1 else f"{mean} ± {form.format(statistics.stdev(found))}"
