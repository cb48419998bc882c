from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from minikin import pipeline
from minikin.base import folders
from minikin.base.errors import GateFailed
from minikin.recipe.read import read

from .conftest import write

ROW = {
    "accuracy": 0.9,
    "accuracy_interval": [0.88, 0.92],
    "size_mib": 80.0,
    "latency_ms_p50": 6.0,
    "latency_ms_p95": 8.0,
}
STORY = {
    "verdict": "Passed: it keeps 98 % [of it].",
    "passed": True,
    "reasons": ["TF-IDF is as good here."],
    "measurements": {
        "teacher": ROW,
        "student": {**ROW, "size_mib": 0.5},
        "student_without_teacher": None,
        "tfidf": ROW,
    },
}


@pytest.fixture
def built(monkeypatch) -> dict[str, Any]:
    """Replace the pipeline by one that writes a toy kin; returns what it was called with."""
    called: dict[str, Any] = {}

    def build(recipe: Path, out: Path, **more: Any) -> None:
        called.update(more, recipe=recipe, out=out, offline=os.environ.get("HF_HUB_OFFLINE"))
        called["read"] = read(recipe, more["overrides"])
        write(out)
        fails = called.get("fails")
        (out / "report.json").write_text(json.dumps({**STORY, "passed": not fails}))
        if fails:
            raise GateFailed(["it keeps 80 %, the recipe asks for 98 %"], str(out))

    monkeypatch.setattr(pipeline, "build", build)
    return called


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {train: data.csv}\nteacher: x/y\n")
    return path


def test_the_table_ends_a_build(say, built, recipe: Path, tmp_path: Path) -> None:
    found = say("build", recipe, "-o", tmp_path / "k", "--set", "seed=7", "--quiet")
    assert found.exit_code == 0, found.output
    for words in ("teacher", "student (the kin)", "TF-IDF", "90.0", "88.0–92.0", "0.500", "[of it]", "as good here"):
        assert words in found.stdout
    assert str(tmp_path / "k" / "report.html") in found.stdout
    assert (built["overrides"], built["quiet"], built["run"]) == (("seed=7",), True, None)


def test_a_failed_gate_shows_everything_and_exits_with_3(say, built, recipe: Path, tmp_path: Path) -> None:
    built["fails"] = True
    found = say("build", recipe, "-o", tmp_path / "k", "--run", tmp_path / "r")
    assert found.exit_code == 3
    assert "student (the kin)" in found.stdout
    assert "it keeps 80 %" in found.stderr
    assert built["run"] == tmp_path / "r"


def test_a_folder_of_something_else_is_never_replaced(say, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    for out in (tmp_path / "photos", recipe):
        found = say("build", recipe, "-o", out)
        assert found.exit_code == 2
        assert "Give another folder" in found.stderr
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    assert not list(tmp_path.glob("*.run"))


def test_two_builds_on_one_folder(say, recipe: Path, tmp_path: Path) -> None:
    with folders.lock(tmp_path / "k.run"):
        found = say("build", recipe, "-o", tmp_path / "k")
    assert found.exit_code == 2
    assert "Another build" in found.stderr


@pytest.mark.parametrize("override", ["seed", "budget.size_mib=-1", "nope.x=1", "teacher=null"])
def test_bad_overrides(say, recipe: Path, tmp_path: Path, override: str) -> None:
    recipe.write_text("data: {train: data.csv}\nteacher: x/y\nbudget: {keep: 0.9}\n")
    found = say("build", recipe, "-o", tmp_path / "k", "--set", override)
    assert found.exit_code == 2
    assert "Traceback" not in found.output


def test_one_set_for_each_override(say, recipe: Path) -> None:
    found = say("build", recipe, "--set", "seed=7", "budget.size_mib=1")
    assert found.exit_code == 2
    assert "budget.size_mib=1" in found.stderr
    assert "Each KEY=VALUE needs a --set of its own" in " ".join(found.stderr.split())
    assert "--set" not in say("build", recipe, "more").stderr


def test_a_missing_package_names_the_pip_command(say, recipe: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("minikin.base.extras.has", lambda module: module != "torch")
    found = say("build", recipe, "-o", tmp_path / "k")
    assert found.exit_code == 2
    assert 'pip install "minikin[build]"' in found.stderr


@pytest.fixture
def clean_environment(monkeypatch) -> None:
    for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(key, "0")


@pytest.mark.usefixtures("clean_environment")
def test_the_demo_is_whole_and_offline(say, built, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    found = say("demo", "--out", out, "--size-mib", "0.4", "--set", "seed=3")
    assert found.exit_code == 0, found.output
    assert built["overrides"] == ("budget.size_mib=0.4", "seed=3")
    assert (built["out"], built["run"], built["offline"]) == (out / "kin", out / "run", "1")
    data = built["read"].data
    assert Path(data.train).is_file()
    assert Path(data.test).is_file()
    assert Path(data.train).parent == out.resolve()


@pytest.mark.usefixtures("clean_environment")
def test_the_demo_takes_no_foreign_folder(say, built, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert say("demo", "--out", tmp_path).exit_code == 2
    assert not built


def test_report_needs_a_kin_that_was_measured(say, kin: Path, tmp_path: Path) -> None:
    assert "There is no folder" in say("report", tmp_path / "nowhere").stderr
    assert "is not a kin" in say("report", tmp_path).stderr
    assert "has no report.json" in say("report", kin).stderr
    (kin / "report.json").write_text("{")
    found = say("report", kin)
    assert found.exit_code == 2
    assert "is damaged" in found.stderr


def test_report_names_the_file(say, kin: Path, monkeypatch) -> None:
    (kin / "report.json").write_text(json.dumps(STORY))
    monkeypatch.setattr(pipeline, "write_report", lambda folder: folder / "report.html")
    assert say("report", kin).stdout.strip() == str(kin / "report.html")
