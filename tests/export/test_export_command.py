"""`minikin export`: what it writes, what it refuses, and how it says so."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import small
from minikin.cli import app
from minikin.compress.quantize import quantize
from minikin.package import export_c, export_source, export_web

from .conftest import write


def say(*args: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, args)])


def refused(done: Result, *words: str) -> None:
    assert done.exit_code == 2, done.output
    assert all(word in done.output for word in words), done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(("form", "names"), [("c", export_c.FILES), ("web", export_web.FILES)])
def test_a_folder_is_written_and_replaced(kins, tmp_path, form, names) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        done = say(kins["encoder"], "--to", form, "-o", out)
        assert done.exit_code == 0, done.output
        assert {path.name for path in out.iterdir()} == set(names)
        assert all(str(out / name) in done.stdout for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_page_is_one_file(kins, tmp_path) -> None:
    done = say(kins["pair"], "--to", "html", "-o", tmp_path / "kin.html")
    assert done.exit_code == 0
    assert (tmp_path / "kin.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["kin.html"]


def test_what_it_refuses(kins, tmp_path) -> None:
    kin, own = kins["static"], tmp_path / "own"
    own.mkdir()
    (own / "thesis.tex").write_text("mine")
    refused(say(kin, "--to", "exe", "-o", tmp_path / "x"), "give one of c, html, web, gguf-lora")
    refused(say(kin, "--to", "c", "-o", own), "thesis.tex", "new folder")
    refused(say(kin, "--to", "c", "-o", own / "thesis.tex"), "is a file")
    refused(say(kin, "--to", "html", "-o", own), "one file")
    refused(say(kin, "--to", "html", "-o", tmp_path / "recipe.yaml"), "static.html")
    refused(say(tmp_path / "nothing", "--to", "c", "-o", tmp_path / "x"), "no folder")
    refused(say(kin, "--to", "c"), "Missing option")
    assert (own / "thesis.tex").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.parametrize(
    ("form", "out", "file"), [("c", "own", "main.c"), ("web", "own", "index.html"), ("html", "own.html", "")]
)
def test_what_minikin_did_not_write_stays(kins, tmp_path, form, out, file) -> None:
    path = tmp_path / out / file if file else tmp_path / out
    path.parent.mkdir(exist_ok=True)
    path.write_text("my own")
    refused(say(kins["static"], "--to", form, "-o", tmp_path / out), "-o")
    assert path.read_text() == "my own"


def test_the_current_folder_is_not_replaced(kins, tmp_path, monkeypatch) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    for out in (".", "..", "../inside"):
        refused(say(kins["static"], "--to", "c", "-o", out), "current folder")


@pytest.mark.parametrize("at", [16, 20])
def test_a_file_that_states_a_wrong_size_or_number_of_sections_is_refused(tmp_path, at) -> None:
    kin = write(tmp_path / "kin", quantize(small.static(), "int8"))
    data = bytearray((kin / "model.kernel").read_bytes())
    for count in (0, 3_000_000):
        data[at : at + 4] = count.to_bytes(4, "little")
        data[12:16] = zlib.crc32(data[16:]).to_bytes(4, "little")
        sealed(kin, bytes(data))
        refused(say(kin, "--to", "c", "-o", tmp_path / "x"), "damaged")


def sealed(kin: Path, data: bytes) -> None:
    """Put another kernel file into a kin, and its hash into the manifest."""
    from minikin.base import manifest

    (kin / "model.kernel").write_bytes(data)
    values = json.loads((kin / "minikin.json").read_text())
    manifest.write(kin, {key: value for key, value in values.items() if key not in ("schema_version", "files")})


def test_a_float_kin_says_why_and_what_to_do(tmp_path) -> None:
    kin = write(tmp_path / "float", small.encoder())
    refused(say(kin, "--to", "c", "-o", tmp_path / "x"), "float32", "quantize: int8")


def test_an_older_kin_says_what_to_do(tmp_path) -> None:
    kin = write(tmp_path / "older", quantize(small.static(), "int8"))
    path = kin / "minikin.json"
    values = json.loads(path.read_text())
    del values["kernel"]
    path.write_text(json.dumps(values))
    refused(say(kin, "--to", "html", "-o", tmp_path / "x.html"), "Build it again")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "was changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"), "was changed"),
    ],
)
def test_a_changed_kernel_file_is_refused(tmp_path, change, words) -> None:
    kin = write(tmp_path / "kin", quantize(small.static(), "int8"))
    change(kin / "model.kernel")
    refused(say(kin, "--to", "c", "-o", tmp_path / "x"), words)


def test_a_sealed_file_that_is_no_model_is_refused(tmp_path) -> None:
    student = quantize(small.static(), "int8")
    whole = (write(tmp_path / "good", student) / "model.kernel").read_bytes()
    other = (write(tmp_path / "of_other", quantize(small.static(classes=4), "int8")) / "model.kernel").read_bytes()
    for name, data, words in (
        ("empty", b"", "damaged"),
        ("noise", bytes(4096), "damaged"),
        ("newer", whole[:8] + b"\x09" + whole[9:], "newer"),
        ("crc", whole[:-1] + b"\x7f", "damaged"),
        ("other", other, "another kin"),
    ):
        kin = write(tmp_path / name, student)
        sealed(kin, data)
        refused(say(kin, "--to", "c", "-o", tmp_path / "x"), words)


def test_templates_and_their_values_agree() -> None:
    with pytest.raises(ValueError, match="title"):
        export_source.filled("c/head.c", {})


def test_a_template_puts_nothing_into_values() -> None:
    assert "{{ labels }}" in export_source.filled("c/head.c", {"title": "{{ labels }}"})


def test_a_killed_export_leaves_nothing(kins, tmp_path, monkeypatch) -> None:
    def stopped(self: Path, *args: object, **more: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", stopped)
    assert say(kins["static"], "--to", "c", "-o", tmp_path / "out").exit_code == 2
    assert list(tmp_path.iterdir()) == []
