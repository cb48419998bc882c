"""What the control of a kin that writes may see: as much as the student, and what the student's teacher saw."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minikin.base.writing import Packed
from minikin.recipe.read import read
from minikin.steps.generate import learn

ROWS = 50


def rows() -> Any:
    ids_NT = np.ones((ROWS, 10), np.int32)
    packed = Packed(ids_NT, ids_NT, ids_NT > 0)
    return SimpleNamespace(train=packed, plain=packed, taught=None, digest="")


def share(tmp_path: Path, start: str, *changes: str) -> float:
    text = "task: generate\nname: toy\ndata: {train: train.jsonl, test: test.jsonl}\n"
    text += "teacher: {model: some/decoder, epochs: 6}\nstudent: {start: cut, layers: 1}\ndistil: {epochs: 2}\n"
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    build: Any = SimpleNamespace(recipe=read(tmp_path / "recipe.yaml", list(changes)), student_seed=0)
    plan: Any = SimpleNamespace(start=start)
    return learn.control_share(build, plan, rows())


@pytest.mark.parametrize(
    ("start", "changes", "expected"),
    [
        ("cut", [], 4.0),  # two passes of its own, six of the teacher that it was cut from
        ("tuned", [], 4.0),
        ("grown", [], 1.0),
        ("cut", ["teacher.fit=false"], 1.0),
        ("cut", ["student.model=my/own"], 1.0),
    ],
)
def test_the_control_sees_what_student_and_teacher_saw(
    tmp_path: Path, start: str, changes: list[str], expected: float
) -> None:
    assert share(tmp_path, start, *changes) == pytest.approx(expected)
