"""The whole line on toy data: what it writes, that a kill changes nothing, and how it refuses."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikin as mk
from killed import be_quick, build_until
from minikin.base.console import Stages
from minikin.base.errors import BudgetError, BusyError, DataError, GateFailed, UserError
from minikin.report import sections
from minikin.students import store
from toys import LABELS, sentences, toy_checkpoint, toy_csv, toy_project, toy_recipe

TEXTS = [text for text, _ in sentences(40, seed=7)]
MANIFEST = {"task", "labels", "files", "teacher", "measurements", "gate", "machine", "recipe_sha256", "seeds"}
SUBJECTS = {"teacher", "student", "student_without_teacher", "tfidf"}
MEASURED = {"accuracy", "accuracy_interval", "size_mib", "latency_ms_p50", "latency_ms_p95", "core_share"}
GATE = {"passed", "retention", "gap_closed", "size_ratio", "speed_ratio", "reasons"}
FILES = {"minikin.json", "config.json", "tokenizer.json", "model.safetensors", "recipe.yaml"}
FILES |= {"tokenizer_config.json", "model.kernel", "train_rows.safetensors"}
FILES |= {"report.json", "report.html", "README.md"}
ONNX = {"onnx/model_quantized.onnx"}


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        be_quick(patch)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return toy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def kin(project) -> Any:
    """One build that nothing disturbed."""
    return mk.build(toy_recipe(project), project / "kin", quiet=True)


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "minikin.json").read_text(encoding="utf-8"))


def listed(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# --- what it writes


def test_the_folder_is_whole_and_its_manifest_says_everything(project, kin):
    found = manifest(project / "kin")
    assert listed(project / "kin") == FILES | ONNX
    assert found.keys() >= MANIFEST
    assert found["schema_version"] == 1
    assert found["labels"] == list(LABELS)
    assert set(found["measurements"]) == SUBJECTS
    assert all(row.keys() >= MEASURED for row in found["measurements"].values())
    assert found["gate"].keys() >= GATE
    assert found["gate"]["passed"] is True
    assert (found["teacher"]["licence"], found["teacher"]["source"]) == ("mit", "path")
    assert set(found["files"]) == (FILES | ONNX) - {
        "minikin.json",
        "README.md",
        "report.json",
        "report.html",
    }
    assert all(entry.keys() == {"size", "sha256"} for entry in found["files"].values())


def test_the_report_knows_the_teacher_among_the_stages(kin):
    """Its bars would dwarf the students', and are cut."""
    rows = sections.stages(json.loads((kin.folder / "report.json").read_text(encoding="utf-8")))["rows"]
    assert [row["role"] for row in rows] == ["teacher"] + ["student"] * (len(rows) - 1)


def test_it_learned_the_task(kin):
    rows = list(sentences(40, seed=7))
    answers = mk.load(kin.folder)([text for text, _ in rows])
    assert np.mean([a.label == label for a, (_, label) in zip(answers, rows, strict=True)]) > 0.7


def test_transformers_onnx_runtime_and_the_kin_answer_the_same(kin):
    import onnxruntime
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ours_NC = kin.probabilities(TEXTS)
    model = AutoModelForSequenceClassification.from_pretrained(kin.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(kin.folder)
    session = onnxruntime.InferenceSession(str(kin.folder / "onnx" / "model_quantized.onnx"))
    inputs = {i.name for i in session.get_inputs()}
    for text, ours_C in zip(TEXTS, ours_NC, strict=True):
        batch = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.no_grad():
            theirs_C = torch.softmax(model(**batch).logits[0], -1).numpy()
        feeds = {k: v.numpy() for k, v in batch.items() if k in inputs}
        plain_C = np.asarray(session.run(None, feeds)[0][0])
        assert kin.labels[ours_C.argmax()] == model.config.id2label[int(theirs_C.argmax())]
        assert ours_C.argmax() == plain_C.argmax()
        np.testing.assert_allclose(theirs_C, ours_C, atol=0.05)


def test_it_answers_where_torch_is_not_installed(kin):
    program = """
        import json, sys
        for name in ("torch", "transformers", "onnx", "sklearn", "datasets", "pyarrow", "safetensors", "accelerate"):
            sys.modules[name] = None
        import minikin
        kin = minikin.load(sys.argv[1])
        print(json.dumps([[a.label, a.confidence] for a in kin(json.loads(sys.argv[2]))]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(kin.folder), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [[a.label, pytest.approx(a.confidence, abs=1e-6)] for a in kin(TEXTS)]
    assert json.loads(done.stdout) == ours


def test_nothing_is_done_twice(project, kin, monkeypatch):
    before = manifest(project / "kin")
    stamps = {p: p.stat().st_mtime_ns for p in (project / "kin.run").glob("*/step.json")}
    words: list[str] = []
    stage = Stages.stage
    monkeypatch.setattr(
        Stages, "stage", lambda self, name, said: (words.append(f"{name}: {said}"), stage(self, name, said))[1]
    )
    mk.build(toy_recipe(project), project / "kin", quiet=True)
    assert manifest(project / "kin") == before
    assert {p: p.stat().st_mtime_ns for p in (project / "kin.run").glob("*/step.json")} == stamps
    taken = {w.split(":")[0] for w in words if "taken from the run folder" in w}
    assert taken >= {"fit", "tune", "signals", "plan", "distil", "control", "gate"}
    assert not list(project.glob(".kin*"))


def test_a_changed_setting_redoes_what_depends_on_it(project, kin):
    def steps() -> set[str]:
        return {p.parent.name for p in (project / "kin.run").glob("*/step.json")}

    before = steps()
    recipe = toy_recipe(project)
    shorter = recipe.model_copy(update={"distil": recipe.distil.model_copy(update={"epochs": 1})})
    mk.build(shorter, project / "other", run=project / "kin.run", quiet=True)
    new = {name.rsplit("-", 1)[0] for name in steps() - before}
    assert {"student", "gate"} <= new
    assert not new & {"teacher", "signals", "words"}


# --- kill -9

KILLS = [
    ("data", 0.4),
    ("tune", 0.6),
    ("signals", 0.0),
    ("plan", 0.0),
    ("distil", 0.6),
    ("control", 0.6),
    ("package", "end"),
    ("gate", 0.4),
]


@pytest.fixture(scope="module")
def forked() -> Iterator[Any]:
    """Processes that start quickly, from one that has imported everything and computed nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["killed", "minikin.pipeline", "transformers.models.bert.modeling_bert", "sklearn.svm"]
        )
        yield context


def in_a_process(forked: Any, *arguments: Any) -> int | None:
    process = forked.Process(target=build_until, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


def test_killed_in_every_stage_it_goes_on_to_the_same_kin(project, kin, forked, tmp_path):
    out = tmp_path / "kin"
    for at, share in KILLS:
        assert in_a_process(forked, project, out, at, share) == -signal.SIGKILL, at
        assert out.exists() == (at in ("package", "gate"))
        if out.exists():
            assert mk.load(out)("my parcel is late").label in LABELS
    assert in_a_process(forked, project, out, None, 0.0) == 0
    ours, theirs = manifest(out), manifest(kin.folder)
    assert ours["files"] == theirs["files"]
    for name in SUBJECTS:
        assert ours["measurements"][name]["accuracy"] == theirs["measurements"][name]["accuracy"]
    assert {p.name for p in tmp_path.iterdir()} == {"kin", "kin.run"}
    left = [p.name for p in (tmp_path / "kin.run").iterdir() if ".part" in p.name or p.name.endswith(".scratch")]
    assert left == []


def test_a_second_build_on_the_same_folder_is_refused(project, kin):
    from minikin.base.folders import lock

    with lock(project / "kin.run"), pytest.raises(BusyError, match=str(os.getpid())):
        mk.build(toy_recipe(project), project / "kin", quiet=True)


# --- other recipes


def test_without_a_teacher(project, tmp_path):
    student = {"family": "encoder", "layers": 1, "hidden": 32, "heads": 2, "feed_forward": 64}
    changes = {"teacher": None, "distil": {"epochs": 2}, "student": student}
    mk.build(toy_recipe(project, **changes), tmp_path / "kin", quiet=True)
    found = manifest(tmp_path / "kin")
    assert found["teacher"] is None
    assert found["measurements"]["teacher"] is None
    assert found["measurements"]["student"]["accuracy"] > 0
    assert found["gate"]["retention"] is None
    again = mk.build(toy_recipe(project, **changes), tmp_path / "again", quiet=True)
    # the name of the folder is nowhere in the files: the same recipe gives the same bytes
    assert manifest(again.folder)["files"] == found["files"]


@pytest.mark.parametrize("teacher", [True, False])
def test_a_static_student(project, kin, tmp_path, teacher):
    changes = {"student": {"family": "static", "hidden": 32}, "quantize": "int4"}
    if not teacher:
        changes["teacher"] = None
        changes["distil"] = {"epochs": 2}
    run = project / "kin.run" if teacher else None
    made = mk.build(toy_recipe(project, **changes), tmp_path / "kin", run=run, quiet=True)
    assert listed(tmp_path / "kin") == FILES
    assert manifest(tmp_path / "kin")["family"] == "static"
    assert len(made(TEXTS)) == len(TEXTS)
    assert "torch" not in json.dumps(manifest(tmp_path / "kin")["files"])


@pytest.mark.parametrize("family", ["static", "encoder"])
def test_pairs_of_texts(tmp_path, family):
    toy_csv(tmp_path, pair=True)
    toy_checkpoint(tmp_path / "teacher")
    data = {"train": str(tmp_path / "pairs.csv"), "text": ["left", "right"], "max_length": 24}
    student = {"family": family, "hidden": 32}
    if family == "encoder":
        student |= {"layers": 1, "start": "cut", "feed_forward": 32}
    made = mk.build(toy_recipe(tmp_path, data=data, student=student), tmp_path / "kin", quiet=True)
    assert manifest(tmp_path / "kin")["pair"] is True
    assert made(("my parcel", "is late")).label in LABELS
    assert made([("my parcel", "is late"), ("", "")])[0].label == made(("my parcel", "is late")).label


def test_a_teacher_that_is_a_classifier_already(project, tmp_path):
    toy_checkpoint(tmp_path / "ready", labels=LABELS[::-1], initializer=0.3)
    teacher = {"model": str(tmp_path / "ready"), "fit": False}
    mk.build(toy_recipe(project, teacher=teacher), tmp_path / "kin", quiet=True)
    assert manifest(tmp_path / "kin")["measurements"]["teacher"]["accuracy"] is not None


def test_every_objective_at_once(project, tmp_path):
    names = ("kl", "gold", "pooled", "hidden", "attention", "relations", "rkd_distance", "rkd_angle")
    objectives = [{"name": name, "weight": 0.5} for name in names]
    distil = {"objectives": objectives, "epochs": 1, "augment": 0, "without_teacher": False}
    prune = {"keep": 0.5, "recovery_epochs": 1}
    student = {"family": "encoder", "start": "cut", "layers": 2, "hidden": 32, "feed_forward": 64, "embedding": 16}
    mk.build(toy_recipe(project, distil=distil, prune=prune, student=student), tmp_path / "kin", quiet=True)
    assert store.load(next((tmp_path / "kin.run").glob("student-*"))).config["embedding_size"] == 16
    config = json.loads((tmp_path / "kin" / "config.json").read_text())
    assert config["intermediate_size"] == 32
    assert manifest(tmp_path / "kin")["measurements"]["student_without_teacher"] is None


def test_the_budget_chooses_among_all_families(project, kin, tmp_path, monkeypatch):
    from minikin.plan import candidates

    monkeypatch.setattr(candidates, "GROWN", [(1, 16, 1, 32)])
    monkeypatch.setattr(candidates, "CUT", [(1, 16, 32, 0), (1, 32, 32, 16)])
    monkeypatch.setattr(candidates, "STATIC", [(16, 0), (32, 0), (16, 3)])
    changes = {"student": {}, "budget": {"size_mib": 0.05}, "quantize": "auto"}
    mk.build(toy_recipe(project, **changes), tmp_path / "kin", run=project / "kin.run", quiet=True)
    front = json.loads((tmp_path / "kin" / "report.json").read_text())["front"]
    assert {row["family"] for row in front} == {"static", "encoder"}
    assert [row["state"] for row in front].count("winner") == 1
    assert manifest(tmp_path / "kin")["measurements"]["student"]["size_mib"] <= 0.05


# --- how it refuses


@pytest.mark.parametrize("limit", [{"size_mib": 0.001}, {"latency_ms_p95": 0.0001}])
def test_an_impossible_budget_is_refused_with_the_nearest(project, kin, tmp_path, limit):
    with pytest.raises(BudgetError, match=f"nearest possible budget: {next(iter(limit))}: ") as error:
        mk.build(toy_recipe(project, budget=limit), tmp_path / "kin", run=project / "kin.run", quiet=True)
    assert not (tmp_path / "kin").exists()
    if "size_mib" in limit:
        named = float(str(error.value).rstrip(".").rsplit(" ", 1)[1])
        mk.build(toy_recipe(project, budget={"size_mib": named}), tmp_path / "kin", run=project / "kin.run", quiet=True)


def test_a_failed_gate_keeps_everything_and_says_what_came_nearest(project, kin, tmp_path):
    with pytest.raises(GateFailed, match=r"keeps .* asks for 110.0%.*needed") as error:
        mk.build(toy_recipe(project, budget={"keep": 1.1}), tmp_path / "kin", run=project / "kin.run", quiet=True)
    assert error.value.exit_code == 3
    assert error.value.folder == str(tmp_path / "kin")
    assert manifest(tmp_path / "kin")["gate"]["passed"] is False
    assert listed(tmp_path / "kin") == FILES | ONNX
    assert mk.load(tmp_path / "kin")("my parcel is late").label in LABELS
    with pytest.raises(GateFailed):  # and once more: a failed gate does not pass by asking again
        mk.build(toy_recipe(project, budget={"keep": 1.1}), tmp_path / "kin", run=project / "kin.run", quiet=True)


def rows(path: Path, *lines: tuple[str, str]) -> str:
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as handle:
        csv.writer(handle).writerows([("text", "label"), *lines])
    return str(path)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([(f"text number {i} of some kind", "a") for i in range(20)], "'a'"),
        ([("one", "a"), ("two", "b"), ("three", "c")], "label of its own"),
        ([("", "a"), ("  ", "b"), ("\t", "a")], "no row"),
        ([], "no row"),
    ],
)
def test_data_that_teaches_nothing_is_refused_and_nothing_is_written(tmp_path, lines, words):
    data = {"train": rows(tmp_path / "bad.csv", *lines)}
    with pytest.raises(DataError, match=words) as error:
        mk.build(toy_recipe(tmp_path, data=data, teacher=None, student={}, distil={}), tmp_path / "kin", quiet=True)
    assert error.value.exit_code == 2
    assert {p.name for p in tmp_path.iterdir()} == {"bad.csv"}


def test_a_folder_that_is_no_kin_is_not_replaced(project, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="something else than a kin"):
        mk.build(toy_recipe(project), tmp_path / "thesis", quiet=True)
    assert [p.name for p in tmp_path.rglob("*")] == ["thesis", "chapter.txt"]


def test_odd_texts_do_no_harm(project, kin, tmp_path):
    lines = [(text, label) for text, label in sentences(120, seed=3)]
    lines += [("card " * 20_000, "billing"), ("a\x00b card\x07 fee", "billing"), ("🚀 ünïcödé 漢字 router", "delivery")]
    data = {"train": rows(tmp_path / "odd.csv", *lines), "max_length": 24}
    recipe = toy_recipe(project, data=data, distil={"epochs": 1, "augment": 1}, gate={"max_flips": 1.0})
    made = mk.build(recipe, tmp_path / "kin", quiet=True)
    odd = ["", " ", "\x00", "\ud800", "card " * 20_000, "漢字", "🚀"]
    answers = made(odd)
    assert [a.label in LABELS for a in answers] == [True] * len(odd)
    assert answers[4].truncated


def test_a_damaged_step_is_told_or_done_again(project, kin, tmp_path):
    shutil.copytree(project / "kin.run", tmp_path / "run")
    for step in (tmp_path / "run").glob("student-*"):
        shutil.rmtree(step)
    again = mk.build(toy_recipe(project), tmp_path / "kin", run=tmp_path / "run", quiet=True)
    assert manifest(again.folder)["files"] == manifest(kin.folder)["files"]


def test_another_floor_is_judged_anew(project, kin, tmp_path):
    shutil.copytree(project / "kin.run", tmp_path / "run")
    strict = toy_recipe(project, budget={"size_mib": 0.0005 + kin.manifest.size_mib, "keep": 1.1})
    with pytest.raises(GateFailed, match="keeps"):
        mk.build(strict, tmp_path / "kin", run=tmp_path / "run", quiet=True)
    assert manifest(tmp_path / "kin")["gate"]["passed"] is False
