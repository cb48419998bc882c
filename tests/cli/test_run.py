from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minikin import load

from .conftest import SOURCE, write

ENV = {**os.environ, "PYTHONPATH": SOURCE}


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def labels(text: str) -> list[str]:
    return [row["label"] for row in rows(text)]


def test_texts_are_answered_as_the_kin_does(say, kin: Path) -> None:
    found = say("run", kin, "where is my card", "refund")
    answers = load(kin)(["where is my card", "refund"])
    assert [(r["label"], r["truncated"]) for r in rows(found.stdout)] == [(a.label, a.truncated) for a in answers]
    assert rows(found.stdout)[0]["confidence"] == pytest.approx(answers[0].confidence, abs=1e-6)
    assert set(rows(found.stdout)[0]) == {"label", "confidence", "truncated"}


def test_all_gives_every_probability(say, kin: Path) -> None:
    (row,) = rows(say("run", kin, "refund", "--all").stdout)
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert row["probabilities"][row["label"]] == max(row["probabilities"].values())


@pytest.mark.parametrize("encoder", [False, True])
def test_every_format_gives_the_same_answers_in_order(say, tmp_path: Path, encoder: bool) -> None:
    kin = write(tmp_path / "k", encoder=encoder)
    texts = [f"my card {i} is lost" for i in range(700)]
    expected = [a.label for a in load(kin)(texts)]
    forms = {
        "a.txt": "\n".join(texts),
        "a.jsonl": "\n".join(json.dumps({"id": i, "text": t}) for i, t in enumerate(texts)),
        "a.csv": "id,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts)),
        "a.tsv": "text\tid\r\n" + "".join(f"{t}\t{i}\r\n" for i, t in enumerate(texts)),
    }
    for name, content in forms.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert labels(say("run", kin, "--file", tmp_path / name).stdout) == expected
        assert labels(say("run", kin, input=content.encode()).stdout) == expected


def test_quoted_newlines_and_the_named_column(say, kin: Path) -> None:
    found = say("run", kin, "--format", "csv", "--text-column", "body", input=b'no;body\n1;"pin\nlost"\n2;card\n')
    assert labels(found.stdout) == [a.label for a in load(kin)(["pin\nlost", "card"])]


def test_encodings_and_byte_order_marks(say, kin: Path, tmp_path: Path) -> None:
    expected = [a.label for a in load(kin)(["café é", "card"])]
    for codec in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "t.txt").write_bytes("café é\ncard\n".encode(codec))
        assert labels(say("run", kin, "--file", tmp_path / "t.txt").stdout) == expected


PAIRS = {
    "tab": "a card\ta pin\n",
    "array": '["a card", "a pin"]\n',
    "object": '{"question": "a card", "answer": "a pin"}\n',
    "csv": "answer,question\na pin,a card\n",
}


@pytest.mark.parametrize("form", PAIRS)
def test_pairs_come_in_four_ways(say, pair_kin: Path, form: str) -> None:
    found = say("run", pair_kin, input=PAIRS[form].encode())
    assert found.exit_code == 0, found.output
    assert labels(found.stdout) == [load(pair_kin)(("a card", "a pin")).label]


def test_positional_texts_are_pairs_two_by_two(say, pair_kin: Path) -> None:
    assert len(rows(say("run", pair_kin, "a", "b", "c", "d").stdout)) == 2
    assert say("run", pair_kin, "a", "b", "c").exit_code == 2


def test_bad_lines_keep_their_place(say, kin: Path) -> None:
    found = say("run", kin, "--format", "jsonl", input=b'{"text": "pin"}\nnope\n\n{"x": 1}\n[1]\n"card"\n')
    assert found.exit_code == 2
    assert [r.get("line") for r in rows(found.stdout)] == [None, 2, 4, 5, None]
    assert "3 lines hold no text (the first is line 2)" in found.stderr


@pytest.mark.parametrize("text", ["", "   ", "a\x00b", "\x07", "\ufeff", "x " * 50_000, "漢字 ☃", '"', "{", "[1"])
def test_odd_texts_are_answered(say, kin: Path, text: str) -> None:
    found = say("run", kin, "--format", "lines", input=(text + "\n").encode())
    assert found.exit_code == 0
    assert len(rows(found.stdout)) == 1


def test_bytes_that_are_no_text_are_answered(say, kin: Path) -> None:
    assert len(rows(say("run", kin, input=b"\xff\xfe\xfa card\nok\xc3\n").stdout)) == 2


def test_a_long_text_is_cut_and_that_is_said(say, kin: Path) -> None:
    found = say("run", kin, input=("card " * 20_000 + "\ncard\n").encode())
    assert [r["truncated"] for r in rows(found.stdout)] == [True, False]
    assert "1 of 2 texts are longer than the 24 tokens" in found.stderr


def test_nothing_in_nothing_out(say, kin: Path) -> None:
    for form in ("auto", "lines", "jsonl", "csv"):
        found = say("run", kin, "--format", form, input=b"")
        assert (found.exit_code, found.stdout) == (0, "")


def test_verbose_says_what_ran(say, kin: Path) -> None:
    assert "per second" in say("run", kin, "-v", input=b"a\nb\n").stderr


MISTAKES = [
    (["--format", "xml", "t"], "one of auto, lines, jsonl, csv"),
    (["t", "--file", "x.txt"], "not both"),
    (["--file", "nowhere.txt"], "can't be read"),
    (["--file", "."], "is a folder"),
    (["--threads", "0", "t"], "at least 1"),
    (["--format", "csv", "--text-column", "nope"], "no column 'nope'"),
    (["--format", "csv"], "Which column holds the text?"),
    (["--format", "csv", "--text-column", "a", "--text-column", "b"], "single texts"),
]


@pytest.mark.parametrize(("args", "words"), MISTAKES)
def test_mistakes_are_told(say, kin: Path, args: list[str], words: str) -> None:
    found = say("run", kin, *args, input=b"a,b\n1,2\n")
    assert found.exit_code == 2
    assert words in found.stderr
    assert "Traceback" not in found.output


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x06"
BINARY = {
    "a.png": PNG,
    "model.safetensors": b'\x40\0\0\0\0\0\0\0{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "renamed.csv": PNG,
    "paper": b"%PDF-1.7\n",
}


@pytest.mark.parametrize("name", BINARY)
def test_files_that_hold_no_text_are_refused(say, kin: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BINARY[name])
    found = say("run", kin, "--file", tmp_path / name)
    assert (found.exit_code, found.stdout) == (2, "")
    assert name in found.stderr
    if BINARY[name] == PNG:
        assert "Standard input holds no text" in say("run", kin, input=PNG).stderr
        assert len(rows(say("run", kin, "--format", "lines", input=PNG).stdout)) == 3


def test_a_stray_nul_is_text(say, kin: Path) -> None:
    assert len(rows(say("run", kin, input=b"a\0b\ncard\n").stdout)) == 2


def test_a_file_s_name_as_text_is_told(say, kin: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("card\n")
    found = say("run", kin, tmp_path / "t.txt")
    assert found.exit_code == 0
    assert f"--file {tmp_path / 't.txt'} reads" in found.stderr
    assert "--file" not in say("run", kin, "card").stderr


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--max-tokens", "5"], "--max-tokens is for"),
        (["--temperature", "0"], "--temperature is for"),
        (["--json-schema", "s.json", "-n", "2"], "--json-schema, --n are for"),
        (["--draft", "small"], "--draft is for"),
        (["--seed", "1", "--top-k", "1", "--top-p", "1", "--stop", "x"], "--top-p, --top-k, --stop, --seed are for"),
    ],
)
def test_options_of_writers_are_refused_by_name(say, kin: Path, args: list[str], named: str) -> None:
    found = say("run", kin, *args, "card")
    assert (found.exit_code, found.stdout) == (2, "")
    assert "sorts texts" in found.stderr
    assert named in found.stderr


def test_archives_are_refused(say, kin: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"PK\x03\x04 zip")
    assert "Save it as CSV" in say("run", kin, "--file", tmp_path / "x.csv").stderr


def test_damaged_kins_are_named(say, kin: Path) -> None:
    assert "There is no folder" in say("run", kin / "nope", "t").stderr
    with (kin / "model.safetensors").open("r+b") as handle:
        handle.seek(-1, 2)
        handle.write(b"\x7f")
    found = say("run", kin, "t")
    assert found.exit_code == 2
    assert "model.safetensors was changed" in found.stderr
    manifest = json.loads((kin / "minikin.json").read_text())
    (kin / "minikin.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    assert "pip install --upgrade minikin" in say("run", kin, "t").stderr


def process(kin: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "minikin", "run", str(kin)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, bufsize=0
    )


def test_a_line_is_answered_before_the_next_arrives(kin: Path) -> None:
    run = process(kin)
    assert run.stdin is not None
    assert run.stdout is not None
    for text in (b"card\n", b"pin\n"):
        run.stdin.write(text)
        assert b"label" in run.stdout.readline()
    run.stdin.close()
    assert run.wait(20) == 0


def test_a_reader_that_stops_is_no_error(kin: Path) -> None:
    run = process(kin)
    assert run.stdin is not None
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdin.write(b"card\n")
    run.stdout.readline()
    run.stdout.close()
    try:
        for _ in range(50):
            run.stdin.write(b"card\n" * 100)
            time.sleep(0.01)
        run.stdin.close()
    except BrokenPipeError:
        pass
    assert run.wait(20) == 0
    assert run.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_sentence(kin: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "minikin", "run", str(kin), "card"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=ENV, timeout=60)
    assert done.returncode == 2
    assert b"disk is full" in done.stderr
    assert b"Traceback" not in done.stderr
