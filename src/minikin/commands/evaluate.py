"""`minikin evaluate`: tasks of the lm-evaluation-harness on the very file that ships, offline unless told otherwise."""

from __future__ import annotations

import json
import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.markup import escape

from minikin.base.console import Stages
from minikin.base.errors import UserError
from minikin.base.extras import need
from minikin.commands import show
from minikin.report import words
from minikin.runtimes.author import open_author

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE")


def evaluate(
    folder: Path,
    tasks: str,
    include: Path | None,
    shots: int | None,
    limit: int | None,
    threads: int,
    engine: str | None,
    as_json: bool,
) -> None:
    """Show the metrics of each task. Raises UserError and DataError for what is not there."""
    names = [name for part in tasks.split(",") if (name := part.strip())]
    if not names:
        raise UserError("--tasks names no task. Give names of lm-evaluation-harness, separated by commas.")
    if include is not None and not include.is_dir():
        raise UserError(f"--include {include} is no folder. Give one that holds YAML tasks.")
    kin = open_author(folder, threads=threads, engine=engine)
    for name in OFFLINE:  # read where the libraries are imported; a user's HF_HUB_OFFLINE=0 counts for all
        os.environ.setdefault(name, os.environ.get(OFFLINE[0], "1"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    need("lm_eval", "evaluate")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    harness = import_module("minikin.steps.harness")
    with Stages().stage("evaluate", ", ".join(names)) as progress:
        found: dict[str, dict[str, Any]] = harness.evaluate(
            kin.generator, names, include=include, shots=shots, limit=limit, progress=progress
        )
    if as_json:
        told = {"engine": kin.engine, "scheme": kin.manifest.scheme, "results": found}
        sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=2, default=str) + "\n")
        return
    out = show.out()
    rows = [row for name, metrics in found.items() for row in _rows(name, metrics)]
    out.print(show.table(("task", "metric", "value", "± standard error"), rows))
    out.print(f"[dim]{escape(repr(kin))}, engine {escape(kin.engine)}; prompts as the tasks have them, no template[/]")


def _rows(name: str, metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for each metric; the harness names them `metric,filter` and `metric_stderr,filter`."""
    rows: list[tuple[str, ...]] = []
    for key, value in metrics.items():
        metric, _, kept = key.partition(",")
        if words.number(value) is None or not kept or metric.endswith("_stderr"):
            continue
        shown = metric if kept == "none" else f"{metric} ({kept})"
        rows.append((name, shown, words.fixed(value, 4), words.fixed(metrics.get(f"{metric}_stderr,{kept}"), 4)))
    return rows
