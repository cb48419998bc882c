from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from minikin.recipe.read import read

from .conftest import SOURCE

HELPDESK = Path(SOURCE) / "minikin" / "box" / "helpdesk" / "train.csv"


def table(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [[str(i), f"message number {i} about my card", f"intent {i % 3}"] for i in range(30)]
    return table(tmp_path / "data.csv", ["id", "message", "intent"], rows)


def test_the_recipe_reads_back(say, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "recipe.yaml"
    found = say("new", data, "--size-mib", "0.5", "--keep", "0.9", "-o", out)
    assert found.exit_code == 0, found.output
    recipe = read(out)
    assert (recipe.data.text, recipe.data.label) == ("message", "intent")
    assert recipe.data.train == str(data.resolve())
    assert (recipe.budget.size_mib, recipe.budget.keep, recipe.budget.latency_ms_p95) == (0.5, 0.9, None)
    assert recipe.teacher is not None
    assert recipe.teacher.model == "sentence-transformers/all-MiniLM-L6-v2"
    assert "train: data.csv" in out.read_text()
    assert "30 rows" in found.stderr


def test_every_commented_line_is_valid_when_uncommented(say, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "recipe.yaml"
    say("new", data, "-o", out)
    lines = out.read_text().splitlines()
    out.write_text("\n".join(line.replace("  # ", "  ", 1) if line.startswith("  # ") else line for line in lines))
    recipe = read(out)
    assert (recipe.budget.size_mib, recipe.budget.keep) == (2, 0.98)
    assert recipe.data.test == str((tmp_path / "test.csv").resolve())


@pytest.mark.parametrize("task", ["classify", "generate"])
def test_a_test_file_is_spoken_of_as_given(say, data: Path, tmp_path: Path, task: str) -> None:
    out = tmp_path / "r.yaml"
    more = ("--task", task, "--text", "message", "--label", "intent")
    assert say("new", data, *more, "--test", tmp_path / "held.csv", "-o", out).exit_code == 0
    (line,) = (line for line in out.read_text().splitlines() if "test:" in line)
    assert line.startswith("  test: held.csv   # ")
    assert "absent" not in line
    assert "nothing is learnt" in line
    assert say("new", data, *more, "-o", out, "--force").exit_code == 0
    assert "# test: test.csv   # absent" in out.read_text()


def test_the_box_is_understood(say, tmp_path: Path) -> None:
    assert say("new", HELPDESK, "-o", tmp_path / "r.yaml").exit_code == 0
    assert (read(tmp_path / "r.yaml").data.text, read(tmp_path / "r.yaml").data.label) == ("text", "label")


def test_no_teacher_and_a_name_with_yaml_in_it(say, data: Path, tmp_path: Path) -> None:
    say("new", data, "--teacher", "none", "--name", "a: b # c", "-o", tmp_path / "r.yaml")
    recipe = read(tmp_path / "r.yaml")
    assert recipe.teacher is None
    assert recipe.name == "a: b # c"


def test_pairs_are_seen_by_their_names(say, tmp_path: Path) -> None:
    rows = [[f"first text {i}", f"second text {i}", str(i % 2)] for i in range(20)]
    data = table(tmp_path / "p.csv", ["sentence1", "sentence2", "label"], rows)
    assert say("new", data, "-o", tmp_path / "r.yaml").exit_code == 0
    assert read(tmp_path / "r.yaml").data.text == ("sentence1", "sentence2")


def test_faults_are_told(say, tmp_path: Path) -> None:
    rows = [[f"text number {i}", f"l{i % 2}"] for i in range(20)]
    rows += [["", "l0"], ["no label here", ""], ["text number 1", "l1"], ["Text number 2!", "l1"], ["rare one", "once"]]
    data = table(tmp_path / "d.csv", ["text", "label"], rows)
    told = say("new", data, "-o", tmp_path / "r.yaml").stderr
    assert "1 row without text, left out: row 21" in told
    assert "1 row without a label, left out: row 22" in told
    assert "1 row repeating an earlier text, left out: row 23" in told
    assert "also stands with another label" in told
    assert "'once'" in told


def test_nothing_is_overwritten(say, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.yaml"
    out.write_text("mine")
    assert say("new", data, "-o", out).exit_code == 2
    assert out.read_text() == "mine"
    assert say("new", data, "-o", out, "--force").exit_code == 0
    assert say("new", data, "-o", tmp_path, "--force").exit_code == 2


def bad(tmp_path: Path, name: str) -> Path:
    many = [[f"word{i} some text", f"w{i}"] for i in range(30)]
    files = {
        "empty.csv": b"",
        "blank.csv": b"\n \n",
        "head.csv": b"text,label\n",
        "zip.csv": b"PK\x03\x04",
        "parquet.parquet": b"PAR1 not really",
        "array.json": b'[{"text": "a"}]',
        "broken.jsonl": b"nope\nnope\n",
    }
    if name == "one.csv":
        return table(tmp_path / name, ["text", "label"], [[f"text number {i}", "same"] for i in range(9)])
    if name == "unclear.csv":
        return table(tmp_path / name, ["a", "b"], many)
    if name in files:
        (tmp_path / name).write_bytes(files[name])
    return tmp_path / name


UNUSABLE = ("nowhere.csv", "empty.csv", "blank.csv", "head.csv", "zip.csv", "parquet.parquet", "array.json")


@pytest.mark.parametrize("name", [*UNUSABLE, "broken.jsonl", "one.csv", "unclear.csv"])
def test_data_that_cannot_be_used_is_told(say, tmp_path: Path, name: str) -> None:
    found = say("new", bad(tmp_path, name), "-o", tmp_path / "r.yaml")
    assert found.exit_code == 2, found.output
    assert "Error: " in found.stderr
    assert "Traceback" not in found.output
    assert not (tmp_path / "r.yaml").exists()


WRONG = [
    (["--text", "nope"], "no column 'nope'"),
    (["--label", "nope"], "no column 'nope'"),
    (["--label", "id"], ""),
    (["--text", "intent", "--label", "intent"], "both text and label"),
    (["--text", "id", "--text", "message", "--text", "intent"], "once, or twice"),
    (["--size-mib", "-1"], "budget.size_mib"),
    (["--keep", "7"], "budget.keep"),
    (["--teacher", "none", "--keep", "0.9"], "there is no teacher"),
]


@pytest.mark.parametrize(("args", "words"), [w for w in WRONG if w[1]])
def test_wrong_options_are_told(say, data: Path, tmp_path: Path, args: list[str], words: str) -> None:
    found = say("new", data, *args, "-o", tmp_path / "r.yaml")
    assert found.exit_code == 2
    assert words in found.stderr
    assert not (tmp_path / "r.yaml").exists()


def test_a_terminal_is_asked(data: Path, tmp_path: Path) -> None:
    keyboard, terminal = pty.openpty()
    env = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, "-m", "minikin", "new", str(data), "-o", "r.yaml"]
    run = subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=tmp_path
    )
    os.close(terminal)
    os.write(keyboard, b"none\nmany\n1,5\n")
    _, told = run.communicate(timeout=60)
    os.close(keyboard)
    assert run.returncode == 0, told
    assert b"That is no number" in told
    recipe = read(tmp_path / "r.yaml")
    assert recipe.teacher is None
    assert recipe.budget.size_mib == 1.5


def written(folder: Path, name: str, rows: list) -> Path:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


CHATS = [
    [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i} " * 20}]
    for i in range(9)
]


@pytest.mark.parametrize(
    ("name", "rows", "more", "data", "seen"),
    [
        (
            "raw.txt",
            ["The fox ran, and ran.\n", "A cat\nslept.\n"],
            (),
            ("text", "text"),
            "text: 2 filled, 2 different",
        ),
        (
            "p.txt",
            ["lamp on, please", "fan on"],
            ("--teacher", "http://localhost/v1"),
            ("pairs", "prompt"),
            "prompt: 2",
        ),
        ("p.txt", ["prompt,completion", "a,b", "c,d"], (), ("pairs", "prompt"), "completion: 2 filled"),
        (
            "c.jsonl",
            [{"messages": chat} for chat in CHATS],
            (),
            ("chat", "messages"),
            "messages: 9 filled, 9 different",
        ),
        ("c.jsonl", [{"conversations": chat} for chat in CHATS], (), ("chat", "conversations"), "conversations: 9 fil"),
        ("o.jsonl", [{"prompt": "p", "call": {"do": "x"}}], (), ("pairs", "prompt"), "call: 1 filled, 1 different"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_kin_that_writes_learns_from_is_seen(say, tmp_path, name, rows, more, data, seen) -> None:
    out = tmp_path / "r.yaml"
    found = say("new", written(tmp_path, name, rows), "--task", "generate", "-o", out, *more)
    assert found.exit_code == 0, found.output
    recipe = read(out).data
    assert (recipe.kind, {"text": recipe.text, "pairs": recipe.prompt, "chat": recipe.messages}[recipe.kind]) == data
    assert seen in found.stderr
    if recipe.kind == "chat":
        assert recipe.max_length >= 96  # as long as the answers ask for


def test_an_encoder_decoder_answers_prompts_alone(say, tmp_path: Path) -> None:
    (tmp_path / "t5").mkdir()
    written(tmp_path / "t5", "config.json", [{"model_type": "t5", "is_encoder_decoder": True}])
    prompts, out = written(tmp_path, "p.jsonl", [{"text": "lamp on"}, {"text": "fan on"}]), tmp_path / "r.yaml"
    more = ("--text", "text", "--teacher", tmp_path / "t5")
    assert say("new", prompts, "--task", "generate", "-o", out, *more).exit_code == 0
    recipe = read(out)
    assert (recipe.data.kind, recipe.data.prompt) == ("pairs", "text")
    assert recipe.teacher is not None
    assert recipe.teacher.model == str(tmp_path / "t5")
