from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from minikin.trust.drift import Watch
from minikin.trust.queue import AUDIT, GOLD, Entry, Queue

LABEL = "label 1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "handover.yaml"
    path.write_text("queue: {at: requests.db}\n")
    return path


@pytest.fixture
def ids(file: Path, tmp_path: Path) -> list[str]:
    queue = Queue(tmp_path / "requests.db")
    found = queue.put([Entry("my card is lost", "unsure"), Entry("where is it?", "unsure", guess="label 4")])
    queue.close()
    return found


def test_run_hands_over_what_is_not_certified(say, kin: Path, file: Path, tmp_path: Path) -> None:
    found = say("run", kin, "--hand-over", file, "-v", input="my card is lost\nwhere is it?\n")
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert (row["label"], row["confidence"], row["certified"], row["handed_over"]) == (None, None, False, True)
        assert row["reason"] == "there is no certificate; make one with: minikin certify; it waits for a person"
    assert "from here on: there is no certificate; make one with: minikin certify\n" in found.stderr
    assert "void" not in found.output
    assert "2 waiting" in found.stderr
    assert len(Queue(tmp_path / "requests.db").items()) == 2


def test_run_asks_another_kin(say, kin: Path, tmp_path: Path) -> None:
    (tmp_path / "handover.yaml").write_text("large: {kin: kin, answers: all}\nqueue: {at: requests.db}\n")
    found = say("run", kin, "--hand-over", tmp_path / "handover.yaml", "my card is lost")
    row = json.loads(found.stdout)
    assert row["label"].startswith("label ")
    assert "answered by kin" in row["reason"]
    assert Queue(tmp_path / "requests.db").items()[0]["silver"] == row["label"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("large: {kin: nowhere}", "There is no folder"),
        ("larg: {kin: a}", "did you mean 'large'"),
        ("large: {url: 'http://127.0.0.1:1/v1', model: m, key_from: NO_SUCH_KEY}", "NO_SUCH_KEY holds no key"),
        ("queue: {at: /proc/no/q.db}", "There can be no queue"),
        ("queue: {at: 'env:NO_SUCH_QUEUE'}", "NO_SUCH_QUEUE"),
    ],
)
def test_bad_hand_over_files(say, kin: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    found = say("run", kin, "--hand-over", tmp_path / "bad.yaml", "my card is lost")
    assert found.exit_code == 2
    assert words in found.stderr
    assert "Traceback" not in found.output


def test_from_next_to_answer_to_export(say, kin: Path, file: Path, ids: list[str], tmp_path: Path) -> None:
    taken = say("queue", kin, "next", "-n", "9", "--by", "ann", "--hand-over", file)
    tasks = [json.loads(line) for line in taken.stdout.splitlines()]
    assert [set(task) for task in tasks] == [{"id", "text"}] * 2  # blind
    assert "Nothing waits" in say("queue", kin, "next", "--hand-over", file).stderr
    lines = "".join(json.dumps({"id": task["id"], "label": LABEL}) + "\n" for task in tasks)
    assert say("queue", kin, "answer", "--hand-over", file, input=lines).stdout == "2 kept\n"
    assert say("queue", kin, "answer", "--hand-over", file, input=lines).stdout == "0 kept\n"
    out = tmp_path / "rows.csv"
    found = say("queue", kin, "export", "-o", out, "--hand-over", file)
    assert "2 rows" in found.stdout
    assert out.read_text().splitlines()[:2] == ["text,label,source", f"my card is lost,{LABEL},gold"]


def test_list_shows_texts_but_not_what_the_kin_said(say, kin: Path, file: Path, ids: list[str]) -> None:
    found = say("queue", kin, "list", "--hand-over", file)
    assert found.exit_code == 0, found.output
    assert all(id in found.stdout for id in ids)
    assert "where is it?" in found.stdout
    assert "label 4" not in found.stdout
    assert "where is it?" not in say("queue", kin, "list", "--state", GOLD, "--hand-over", file).stdout


def test_one_answer_and_its_correction(say, kin: Path, file: Path, ids: list[str]) -> None:
    def answer(*more: str):
        return say("queue", kin, "answer", ids[0], *more, "--by", "ann", "--hand-over", file)

    assert answer(LABEL).stdout == "kept\n"
    assert "stands there already" in answer(LABEL).stdout
    refused = answer("label 2")
    assert (refused.exit_code, "was answered 'label 1' by ann" in refused.stderr) == (2, True)
    assert answer("label 2", "--replace").exit_code == 0
    assert "Did you mean 'label 2'" in answer("lable 2").stderr
    assert answer("something new", "--new-label", "--replace").exit_code == 0
    assert answer("(none)", "--replace").exit_code == 0


def test_wrong_lines_are_told_and_the_others_count(say, kin: Path, file: Path, ids: list[str]) -> None:
    good = json.dumps({"id": ids[0], "label": LABEL})
    lines = f'{good}\nnope\n{{"id": 3}}\n\n{{"id": "x", "label": "{LABEL}"}}\n{{"id": "x", "label": "huh"}}\n'
    found = say("queue", kin, "answer", "--hand-over", file, input=lines)
    assert found.exit_code == 2
    assert "1 kept" in found.stdout
    for words in (
        "line 2: is not",
        "line 3: is not",
        "line 5: There is no text x",
        "line 6: The kin has no label 'huh'",
    ):
        assert words in found.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("lisst",), "Did you mean 'list'"),
        (("list", "extra"), "takes nothing after it"),
        (("list", "--state", "lost"), "There is no state"),
        (("answer", "only-an-id"), "Give an id and a label"),
        (("drop",), "Give the ids"),
        (("drop", "nope"), "There is no text nope"),
        (("export",), "Say where"),
        (("export", "-o", "x.csv", "--part", "half"), "There is no part"),
    ],
)
def test_bad_queue_commands(say, kin: Path, file: Path, args: tuple[str, ...], words: str) -> None:
    found = say("queue", kin, *args, "--hand-over", file)
    assert found.exit_code == 2
    assert words in found.stderr
    assert not Path("x.csv").exists()


def test_drop_forgets(say, kin: Path, file: Path, ids: list[str], tmp_path: Path) -> None:
    assert say("queue", kin, "drop", ids[0], "--hand-over", file).stdout == "1 forgotten\n"
    assert "my card is lost" not in say("queue", kin, "list", "--hand-over", file).stdout


def test_no_hand_over_file_and_no_kin(say, kin: Path, file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.rename(file, tmp_path / "other.yaml")
    assert "There is no hand-over file handover.yaml" in say("queue", kin, "list").stderr
    assert "There is no folder" in say("queue", tmp_path / "no", "list", "--hand-over", "other.yaml").stderr


def test_audit_without_a_certificate(say, kin: Path, file: Path) -> None:
    found = say("audit", kin, "--hand-over", file)
    assert found.exit_code == 2
    assert "can't be audited: there is no certificate" in found.stderr
    assert "There is no action 'bet'" in say("audit", kin, "bet", "--hand-over", file).stderr


def test_audit_gives_out_the_blind_sample_only(say, kin: Path, file: Path, ids: list[str], tmp_path: Path) -> None:
    queue = Queue(tmp_path / "requests.db")
    queue.put([Entry("drawn", "", kind=AUDIT, guess="label 4", local=True, waits=False)])
    found = say("audit", kin, "next", "-n", "9", "--hand-over", file)
    assert [json.loads(line)["text"] for line in found.stdout.splitlines()] == ["drawn"]


class Certified:
    """A certificate without the labels that made it."""

    calibration_scores_N = (0.1, 0.5, 0.9)
    value = {"sha256_of_this": "c" * 64}  # noqa: RUF012
    alpha, state, reason, unaudited = 0.02, "certified", "", ""

    @classmethod
    def of(cls, *_: object, **__: object) -> Certified:
        return cls()


def test_audit_says_how_the_certificate_stands(say, kin: Path, file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("minikin.commands.handover.Guard", Certified)
    file.write_text("queue: {at: requests.db}\npeople: {seconds_each: 30, cost_per_hour: 60}\naudit: {share: 0.1}\n")
    queue = Queue(tmp_path / "requests.db")
    drawn = Entry("drawn", "", kind=AUDIT, guess="label 4", local=True, waits=False, certificate="c" * 16)
    ids = queue.put([drawn] * 14)
    for id in ids[:10]:
        queue.answer(id, LABEL, "ann")
    found = say("audit", kin, "--hand-over", file)
    assert found.exit_code == 0, found.output
    for words in (
        "VOID the audit found 10 wrong of 10 answers",
        "10 answered, 4 waiting (2 minutes of people's work, 2.00 of cost)",
        "If 4% of its answers were wrong, 378 audited answers would show it, after 3,777 requests.",
        "certified → void",
    ):
        assert words in " ".join(found.output.split()), words
    assert Watch("c" * 16, 0.02, {}, book=queue.book).state == "void"
