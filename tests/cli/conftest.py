"""Toy kins with random weights, and the command line as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import small
from minikin.cli import app
from minikin.package import kin as package

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
Say = Callable[..., Result]


@pytest.fixture
def say() -> Say:
    """Run a command inside this process: `say("run", kin, "text", input=...)`."""
    return lambda *args, **more: CliRunner().invoke(app, [str(a) for a in args], **more)


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run a command in a process of its own."""

    def run(*args: object, **more: object) -> subprocess.CompletedProcess[bytes]:
        env = {**os.environ, "PYTHONPATH": SOURCE, "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "minikin", *map(str, args)]
        return subprocess.run(command, capture_output=True, env=env, timeout=120, **more)  # type: ignore[call-overload]

    return run


def write(folder: Path, pair: bool = False, seed: int = 0, columns: str = "text", encoder: bool = False) -> Path:
    """Package a random student into `folder`."""
    folder.mkdir(parents=True)
    student = small.encoder(pair=pair, seed=seed) if encoder else small.static(pair=pair, seed=seed)
    recipe = f"task: classify\ndata: {{train: t.csv, text: {columns}, label: label}}\n"
    package.write(folder, student, recipe_yaml=recipe, extra={"name": folder.name, "pair": pair})
    return folder


@pytest.fixture
def kin(tmp_path: Path) -> Path:
    return write(tmp_path / "kin")


@pytest.fixture
def pair_kin(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs", pair=True, columns="[question, answer]")
