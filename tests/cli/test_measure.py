from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minikin import load
from minikin.commands.measure import Aligned, bench_texts
from minikin.measure import speed

from .conftest import write


@pytest.fixture
def test_file(kin: Path, tmp_path: Path) -> Path:
    """Texts whose labels are mostly what the first kin answers."""
    texts = [f"my card {i} is lost {'pin ' * (i % 5)}" for i in range(120)]
    answers = load(kin)(texts)
    path = tmp_path / "test.csv"
    with path.open("w", newline="") as handle:
        rows = [[t, a.label if i % 10 else "label 1"] for i, (t, a) in enumerate(zip(texts, answers, strict=True))]
        csv.writer(handle).writerows([["text", "label"], *rows])
    return path


def test_compare_tells_the_better_one(say, kin: Path, tmp_path: Path, test_file: Path) -> None:
    other = write(tmp_path / "other", seed=3)
    found = say("compare", kin, other, "--on", test_file)
    assert found.exit_code == 0, found.output
    assert "The first is better." in found.stdout
    assert "McNemar p < 0.001" in found.stdout
    assert "The second is better." in say("compare", other, kin, "--on", test_file).stdout


def test_a_kin_equals_itself(say, kin: Path, test_file: Path) -> None:
    out = say("compare", kin, kin, "--on", test_file).stdout
    assert "First minus second: 0.0 points" in out
    assert "0 answers of 120 changed" in out
    assert "No difference can be told" in out


def test_examples_are_as_many_as_wanted(say, kin: Path, tmp_path: Path, test_file: Path) -> None:
    other = write(tmp_path / "other", seed=3)
    few = say("compare", kin, other, "--on", test_file, "--examples", "3").stdout
    assert few.count("my card ") == 3
    assert "my card " not in say("compare", kin, other, "--on", test_file, "--examples", "0").stdout


class Fixed:
    """A runtime of its own labels."""

    labels = ("b", "a")

    def probabilities(self, texts):
        return np.tile([0.9, 0.1], (len(texts), 1))


def test_labels_are_aligned_by_name() -> None:
    aligned = Aligned(Fixed(), ["a", "b", "c"])
    assert aligned.probabilities(["x"]).tolist() == [[0.1, 0.9, 0.0]]


def test_markup_in_texts_is_shown_as_it_is(say, kin: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", seed=3)
    (tmp_path / "t.csv").write_text("text,label\n[red]card[/] [/bold],label 1\nmy pin,label 2\n" * 9)
    out = say("compare", kin, other, "--on", tmp_path / "t.csv").stdout
    assert "[red]card[/]" in out or "0 answers of 18 changed" in out


MISTAKES = [
    ("text,label\n", "no row", []),
    ("a,b\nx,y\n", "no column 'text'", []),
    ("text,label\ncard,unheard of\npin,also\n", "known to either kin", []),
    ("text,label\ncard,\n", "no labelled text", []),
    ("text,label\ncard,label 1\n", "single texts", ["--text", "text", "--text", "label"]),
    ("text,label\ncard,label 1\n", "no column 'nope'", ["--label", "nope"]),
]


@pytest.mark.parametrize(("content", "words", "more"), MISTAKES)
def test_test_files_that_cannot_be_used(
    say, kin: Path, tmp_path: Path, content: str, words: str, more: list[str]
) -> None:
    (tmp_path / "t.csv").write_text(content)
    found = say("compare", kin, kin, "--on", tmp_path / "t.csv", *more)
    assert found.exit_code == 2, found.output
    assert "Traceback" not in found.output
    if words != "no row":
        assert words in found.stderr


def test_kins_of_different_kinds_are_refused(say, kin: Path, pair_kin: Path, test_file: Path) -> None:
    found = say("compare", kin, pair_kin, "--on", test_file)
    assert found.exit_code == 2
    assert "can't be compared" in found.stderr


def test_pairs_take_their_columns_from_the_recipe(say, pair_kin: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("question,answer,label\ncard,pin,label 1\nlost,pay,label 2\n")
    found = say("compare", pair_kin, pair_kin, "--on", tmp_path / "t.csv")
    assert found.exit_code == 0, found.output


def test_bench_shows_what_it_measured(say, kin: Path, tmp_path: Path, monkeypatch) -> None:
    for name, less in (("throughput", {"seconds": 0.1}), ("cold_start", {"runs": 1}), ("latency", {"seconds": 0.2})):
        monkeypatch.setattr(speed, name, partial(getattr(speed, name), **less))
    (tmp_path / "t.txt").write_text("where is my card\nmy pin is lost\n")
    found = say("bench", kin, "--on", tmp_path / "t.txt")
    assert found.exit_code == 0, found.output
    assert "kin, now, " in found.stdout
    assert "1 thread" in found.stdout
    assert "Cold start" in found.stdout
    assert "MiB, of which Python with numpy" in found.stdout


def test_bench_texts_come_from_the_file_or_a_few_sentences(kin: Path, pair_kin: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\n" + "a card\n" * 1000)
    assert len(bench_texts(load(kin), str(tmp_path / "t.csv"), ())[0]) == 256
    assert all(isinstance(t, str) for t in bench_texts(load(kin), None, ())[0])
    assert all(len(t) == 2 for t in bench_texts(load(pair_kin), None, ())[0])


@pytest.mark.parametrize("args", [("--on", "nowhere.txt"), ("--threads", "0"), ("--teacher", "./nowhere")])
def test_bench_mistakes(say, kin: Path, args: tuple[str, str], monkeypatch) -> None:
    monkeypatch.setattr(speed, "cold_start", lambda *_a, **_k: pytest.fail("measured first"))
    found = say("bench", kin, *args)
    assert found.exit_code == 2, found.output
    assert "Error: " in found.stderr
