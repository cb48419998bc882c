from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from minikin.base import extras
from minikin.measure import rate
from minikin.recipe.read import examine, of_values
from toys import toy_checkpoint, toy_csv


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with toy data, a toy teacher and a recipe."""
    folder = tmp_path_factory.mktemp("check")
    toy_csv(folder, 200)
    toy_checkpoint(folder / "teacher")
    write(folder / "recipe.yaml", budget={"size_mib": 0.5, "keep": 0.9})
    return folder


def write(path: Path, **more: object) -> Path:
    values = {"task": "classify", "data": {"train": "data.csv"}, "teacher": "teacher", **more}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Spend no second on measuring this machine."""
    monkeypatch.setattr(rate, "gemm_gflops", lambda threads: 50.0)
    monkeypatch.setattr(rate, "update_ns", lambda threads: 1.0)


def test_the_resolved_recipe_is_a_recipe(say, place: Path) -> None:
    found = say("check", place / "recipe.yaml", "--set", "train.batch=16")
    assert found.exit_code == 0, found.output
    values = yaml.safe_load(found.stdout)
    assert of_values(values).train.batch == 16
    assert values["data"]["train"] == str((place / "data.csv").resolve())


def test_the_forecast_says_what_each_figure_is(say, place: Path) -> None:
    told = say("check", place / "recipe.yaml").stderr
    for step in ("tune", "signals", "plan", "distil", "control", "gate", "together", "memory", "disk"):
        assert f"\n {step} " in told
    assert "static 64" in told
    assert "50 GFLOP/s" in told
    assert "factor of two" in told


def test_it_says_which_engine_will_answer(say, place: Path) -> None:
    told = "The kernel will answer." if extras.extension() else "ONNX Runtime will answer here"
    assert told in say("check", place / "recipe.yaml").stderr
    floats = say("check", place / "recipe.yaml", "--set", "quantize=fp32").stderr
    assert "ONNX Runtime will answer: the kernel can't run this (the weights are float32" in " ".join(floats.split())


def test_what_is_too_large_is_told(say, place: Path) -> None:
    told = say("check", place / "recipe.yaml", "--set", "budget.size_mib=0.2").stderr
    assert "too large for 0.2 MiB" in told


def test_an_impossible_budget_is_said_at_once(say, place: Path) -> None:
    found = say("check", place / "recipe.yaml", "--set", "budget.size_mib=0.001")
    assert found.exit_code == 2
    assert "nearest possible budget: size_mib" in found.stderr


def test_without_a_teacher(say, place: Path) -> None:
    write(place / "alone.yaml", teacher=None)
    found = say("check", place / "alone.yaml")
    assert found.exit_code == 0, found.output
    assert "tune" not in found.stderr
    assert "control" not in found.stderr


def test_every_fault_of_every_kind_at_once(say, place: Path) -> None:
    path = place / "bad.yaml"
    path.write_text("task: classify\ndata:\n  train: nowhere.csv\nteacher: ./no-such\nbudgt: 3\nseed: -1\n")
    found = say("check", path)
    assert found.exit_code == 2
    for words in ("line 5: budgt: unknown key, did you mean 'budget'?", "line 6: seed", "no file", "no-such"):
        assert words in found.stderr
    assert found.stdout == ""


def test_a_stand_in_makes_no_fault_of_its_own(say, place: Path) -> None:
    path = place / "empty.yaml"
    path.write_text("data: {}\nteacher: {epochs: 3}\n")
    told = say("check", path).stderr
    assert "data.train: is missing" in told
    assert "train.csv" not in told
    assert "was not found" not in told


def test_of_a_teacher_that_cannot_be_trimmed_nothing_is_cut(say, place: Path, tmp_path: Path) -> None:
    toy_checkpoint(tmp_path / "t")
    tokenizer = tmp_path / "t" / "tokenizer.json"
    spec = json.loads(tokenizer.read_text())
    spec["model"] = {"type": "WordLevel", "vocab": spec["model"]["vocab"], "unk_token": "[UNK]"}
    tokenizer.write_text(json.dumps(spec))
    toy_csv(tmp_path, 100)
    found = say("check", write(tmp_path / "r.yaml", teacher="t"))
    assert found.exit_code == 0
    assert "grown 2x128/512" in found.stderr
    assert "cut " not in found.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "There is no recipe"), ("", "is empty"), ("- 1\n", "is a list"), ("a: [", "not valid YAML")],
)
def test_recipes_that_are_none(say, tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_text(content)
    found = say("check", path)
    assert found.exit_code == 2
    assert words in found.stderr


def test_examine_goes_on_where_read_stops(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {train: a.csv}\nseed: -1\n")
    recipe, faults = examine(path)
    assert recipe is not None
    assert recipe.seed == 0
    assert recipe.data.train == str((tmp_path / "a.csv").resolve())
    assert len(faults) == 1
