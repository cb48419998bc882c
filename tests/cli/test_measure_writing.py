"""`bench` and `compare` for kins that write: figures of each engine, paired exactness, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import causal
import talk
from minikin.measure import pace, speed
from minikin.package import decoder_kin
from minikin.runtimes.author import open_author

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'minikin[gguf]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'minikin[gguf]'")


def write(folder: Path, kind: str = "pairs", layers: int = 2, mix: str = "F16", data: str = "{}", **more: int) -> Path:
    """Package a random decoder."""
    folder.mkdir(parents=True)
    student = causal.student("llama", num_hidden_layers=layers, vocab_size=420, **more)
    told = {"tokenizer_json": talk.byte_level(), "tokenizer_config": talk.byte_config()}
    decoder_kin.write(
        folder,
        replace(student, **told),
        mix,
        kind=kind,
        new_tokens=8,
        recipe_yaml=f"task: generate\ndata: {data}\n",
        extra={},
    )
    return folder


@pytest.fixture(scope="module")
def kin(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("writer") / "kin")


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("writer") / "other", layers=1)


@pytest.fixture
def test_file(kin, tmp_path) -> Path:
    """Prompts whose answers are mostly what the first kin writes."""
    author = open_author(kin)
    prompts = [f"turn the lights {i} down" for i in range(30)]
    rows = [{"prompt": p, "completion": "no" if i % 10 == 0 else author(p).text} for i, p in enumerate(prompts)]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_engine_is_measured_in_turns(say, kin, tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "in_turns", partial(pace.in_turns, rounds=2))
    monkeypatch.setattr(speed, "cold_start", lambda *_a, **_k: speed.ColdStart(1, 1, 1, 1, 1, 44, 1, 33, 1))
    (tmp_path / "t.txt").write_text("turn the lights down\nplay some jazz\n")
    lengths = ("--on", tmp_path / "t.txt", "--prompt-tokens", "16", "--new-tokens", "8")
    found = say("bench", kin, *lengths, "--engines", "all", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert (told["prompt_tokens"], told["new_tokens"], told["turns"]) == (16, 8, 2)
    ours, theirs = told["rows"].values()
    assert ours["decode_ratio_to_first"] == 1
    for row in (ours, theirs):
        assert 0 < row["first_token_ms_p50"] <= row["first_token_ms_p95"]
        assert row["prefill_tokens_per_s"] > 0 < row["decode_tokens_per_s"]
    assert ours["core_share"] > 0
    monkeypatch.setattr(speed.Cores, "share", lambda _self: 0.5)
    shown = say("bench", kin, *lengths)
    assert "latencies are upper bounds" in " ".join(shown.stdout.split())
    assert "prefill tok/s" in shown.stdout
    assert "kin, now, llama.cpp, 1 thread" in shown.stdout
    assert "Cold start 1.000 s" in shown.stdout
    assert "44 MiB" in shown.stdout


def test_a_fresh_process_loads_it_by_the_engine(kin):
    start = speed.cold_start(kin, "turn the lights down", runs=1, engine="llama.cpp")
    assert start.memory_mib > start.base_mib
    assert start.load_s > 0


def test_all_turns_write_equally_much(kin):
    generator = open_author(kin).generator
    ends = generator.ends
    found = pace.in_turns({"a": generator, "b": generator}, generator.tokens("turn the lights down"), 9, rounds=3)
    assert [t.written for p in found.values() for t in p.completions] == [9] * 6
    assert [len(p.first_token_ms_N) for p in found.values()] == [15, 15]
    assert generator.ends == ends


def test_compare_tells_the_better_one(say, kin, other, test_file):
    found = say("compare", kin, other, "--on", test_file)
    assert found.exit_code == 0, found.output
    assert "90.0" in found.stdout
    assert "The first is better." in found.stdout
    assert "McNemar p < 0.001" in found.stdout
    assert "turn the lights 1 down" in found.stdout
    again = say("compare", kin, kin, "--on", test_file).stdout
    assert "0 answers of 30 changed" in again
    assert "No difference can be told" in again


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("compare", "KIN", "KIN", "--on", "EMPTY"), "no prompt with an answer"),
        (("compare", "KIN", "KIN", "--on", "FILE", "--label", "nope"), "no column 'nope'"),
        (("compare", "KIN", "SORTS", "--on", "FILE"), "can't be compared"),
        (("compare", "KIN", "TEXT", "--on", "FILE"), "no exact answers"),
        (("bench", "KIN", "--engines", "onnx"), "no engine 'onnx'"),
        (("bench", "KIN", "--on", "nowhere.txt"), "nowhere.txt"),
        (("bench", "KIN", "--teacher", "x"), "--teacher"),
        (("run", "SORTS", "x", "--draft", "KIN"), "--draft is for one that writes"),
        (("bench", "SORTS", "--prompt-tokens", "8"), "--prompt-tokens is for one that writes. Leave it out."),
        (("run", "KIN", "x", "--all"), "writes: --all is for one that sorts texts. Leave it out."),
        (("run", "KIN", "x", "--draft", "SORTS"), "sorts texts"),
        (("run", "KIN", "x", "--draft", "KIN", "--engine", "torch"), "helps llama.cpp only"),
    ],
)
def test_mistakes(say, kin, tmp_path, test_file, command, words):
    from .conftest import write as sorter

    places = {"KIN": kin, "FILE": test_file, "EMPTY": tmp_path / "empty.jsonl"}
    (tmp_path / "empty.jsonl").write_text('{"prompt": "a", "completion": ""}\n')
    if "SORTS" in command:
        places["SORTS"] = sorter(tmp_path / "sorts")
    if "TEXT" in command:
        places["TEXT"] = write(tmp_path / "text", kind="text")
    found = say(*(places.get(a, a) for a in command))
    assert found.exit_code == 2, found.output
    assert words in " ".join(found.stderr.split())


def test_a_draft_is_told_of(say, kin, other):
    plain = say("run", kin, "turn the lights down", "--max-tokens", "20")
    drafted = say("run", kin, "turn the lights down", "--max-tokens", "20", "--draft", other, "-v")
    assert drafted.exit_code == 0, drafted.output
    assert "guessed tokens were right" in drafted.stderr
    assert json.loads(drafted.stdout)["tokens"] == json.loads(plain.stdout)["tokens"]
