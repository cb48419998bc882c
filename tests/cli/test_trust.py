from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import small
from minikin import load
from minikin.data.clean import hash64
from minikin.package import kin as package

PARTS = ("card", "pin", "money", "refund", "account"), ("lost", "the", "my", "not"), range(50)
TEXTS = [f"{a} {b} {c}" for a in PARTS[0] for b in PARTS[1] for c in PARTS[2]]


@pytest.fixture
def labelled(kin: Path, tmp_path: Path) -> Path:
    """The kin's own answers, every eighth of the less sure ones changed, and a column of groups."""
    path = tmp_path / "labelled.csv"
    answers = load(kin)(TEXTS)
    middle = float(np.median([a.confidence for a in answers]))
    with path.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["text", "label", "where"])
        for i, (t, a) in enumerate(zip(TEXTS, answers, strict=True)):
            label = "label 1" if i % 8 == 0 and a.confidence < middle else a.label
            rows.writerow([t, label, "web" if i % 2 else "phone"])
    return path


ASKED = ("--risk", "10%", "--confidence", "90%", "--labels-checked")


def test_certify_writes_a_certificate_that_answers_carry(say, kin: Path, labelled: Path) -> None:
    found = say("certify", kin, "--on", labelled, *ASKED, "--expires", "7")
    assert found.exit_code == 0, found.output
    assert "Certified at a risk of 10" in found.stdout
    value = json.loads((kin / "certificate.json").read_text())
    assert (value["alpha"], value["labels"]["file"]) == (0.1, "labelled.csv")
    assert not value["labels"]["training_rows_checked"]
    rows = [json.loads(line) for line in say("run", kin, *TEXTS[:40]).stdout.splitlines()]
    assert all(row["certified"] == (row["reason"] == "") for row in rows)


def test_groups(say, kin: Path, labelled: Path) -> None:
    found = say("certify", kin, "--on", labelled, *ASKED, "--group", "where")
    assert found.exit_code == 0, found.output
    assert set(json.loads((kin / "certificate.json").read_text())["groups"]) == {"web", "phone"}
    assert "by group" in say("run", kin, "my card").stdout


def test_card_and_report_tell_of_it(say, kin: Path, labelled: Path) -> None:
    (kin / "report.json").write_text(json.dumps({"name": "toy", "labels": ["a"]}))
    assert say("certify", kin, "--on", labelled, *ASKED).exit_code == 0
    for name in ("README.md", "report.html"):
        text = (kin / name).read_text()
        assert "When it may answer" in text
        assert "by itself" in text
        assert "exchangeable" in text
    assert "Wrong answers against the share answered" in (kin / "report.html").read_text()


def test_rows_that_trained_it_are_refused(say, labelled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    rows = np.array([hash64(text) for text in TEXTS], np.uint64)
    package.write(folder, small.static(), recipe_yaml="", extra={}, trained_on=rows)
    found = say("certify", folder, "--on", labelled, *ASKED)
    assert found.exit_code == 2
    assert "1,000 of 1,000 labelled texts are ones that this kin was trained on" in found.stderr
    assert not (folder / "certificate.json").exists()


def test_the_files_that_certify_are_those_that_are_sealed(say, tmp_path: Path, labelled: Path) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    package.write(folder, small.static(), recipe_yaml="", extra={}, trained_on=np.array([5, 3, 5], np.uint64))
    assert "train_rows.safetensors" in json.loads((folder / "minikin.json").read_text())["files"]
    assert say("certify", folder, "--on", labelled, *ASKED).exit_code == 0
    assert load(folder)("my card").reason is not None


MISTAKES = [
    (("--risk", "0"), "share between"),
    (("--risk", "two"), "share between"),
    (("--confidence", "100%"), "share between"),
    (("--expires", "0"), "at least 1 day"),
    (("--group", "nowhere"), "no column 'nowhere'"),
    (("--label", "nowhere"), "no column 'nowhere'"),
    (("--reject", "nowhere"), "no label 'nowhere'"),
    (("--risk", "0.01%"), "too few"),
]


@pytest.mark.parametrize(("more", "words"), MISTAKES)
def test_mistakes_leave_nothing_behind(say, kin: Path, labelled: Path, more: tuple[str, str], words: str) -> None:
    before = sorted(p.name for p in kin.iterdir())
    found = say("certify", kin, "--on", labelled, *ASKED, *more)
    assert found.exit_code == 2, found.output
    assert words in found.stderr
    assert sorted(p.name for p in kin.iterdir()) == before


def test_wrong_labels_are_shown_and_refused(say, kin: Path, labelled: Path, tmp_path: Path) -> None:
    rows = list(csv.reader(labelled.open()))
    names = list(load(kin).labels)
    turned = [[t, names[(names.index(label) + 1) % len(names)], w] for t, label, w in rows[1:]]
    with (tmp_path / "turned.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([rows[0], *turned])
    found = say("certify", kin, "--on", tmp_path / "turned.csv", "--risk", "10%")
    assert found.exit_code == 2
    assert "look wrong" in found.stderr
    assert "rather" in found.stderr


def test_advise_says_what_is_in_reach(say, kin: Path, labelled: Path) -> None:
    found = say("advise", kin, "--on", labelled, "--risk", "10%")
    assert found.exit_code == 0, found.output
    assert "labels missing" in found.stdout
    assert "right here" in found.stdout or "keep only" in found.stdout
    few = labelled.with_name("few.csv")
    few.write_text("\n".join(labelled.read_text().splitlines()[:120]) + "\n")
    strict = say("advise", kin, "--on", few, "--risk", "1%")
    assert "ot certifiable" in strict.stdout


def test_advise_before_anything_is_built(say, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = {"card": "lost card blocked", "pay": "payment refund charge", "pin": "pin code forgot"}
    with (tmp_path / "train.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["text", "label"])
        for i in range(1200):
            label = list(kinds)[i % 3 if i % 11 else (i + 1) % 3]
            rows.writerow(
                [
                    " ".join(
                        [*rng.permutation(kinds[list(kinds)[i % 3]].split())[:2], f"w{rng.integers(400)}", f"n{i}"]
                    ),
                    label,
                ]
            )
    (tmp_path / "recipe.yaml").write_text("task: classify\ndata: {train: train.csv}\n")
    found = say("advise", tmp_path / "recipe.yaml", "--risk", "10%")
    assert found.exit_code == 0, found.output
    assert "stand-in" in found.stdout


def test_advise_mistakes(say, kin: Path, tmp_path: Path) -> None:
    assert "Give one with --on" in say("advise", kin).stderr
    assert say("advise", tmp_path / "nowhere.yaml").exit_code == 2
    (tmp_path / "one.csv").write_text("text,label\ncard,label 1\n")
    assert say("advise", kin, "--on", tmp_path / "one.csv").exit_code == 2
