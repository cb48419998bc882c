import json
import os

import pytest

from minikin.base import manifest
from minikin.base.errors import KinError

VALUES = {
    "task": "classify",
    "family": "encoder",
    "runtime": "onnx",
    "scheme": "int8",
    "model": "onnx/model.onnx",
    "labels": ["a", "b"],
    "max_length": 8,
}


@pytest.fixture
def kin(tmp_path):
    (tmp_path / "onnx").mkdir()
    for name in ("onnx/model.onnx", "tokenizer.json", "config.json", "README.md", "report.html", ".hidden"):
        (tmp_path / name).write_bytes(name.encode())
    manifest.write(tmp_path, VALUES)
    return tmp_path


def change(folder, **values):
    path = folder / manifest.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_written_manifests_come_back(kin):
    read = manifest.read(kin)
    assert read.labels == ("a", "b")
    assert set(read.files) == {"onnx/model.onnx", "tokenizer.json", "config.json"}
    assert read.size_mib == (len("onnx/model.onnx") + len("tokenizer.json")) / 2**20
    assert read.temperature == 1.0
    assert not read.pair
    assert read.raw["schema_version"] == 1
    manifest.verify(kin, read)


def test_files_that_are_not_sealed_may_change(kin):
    (kin / "README.md").write_text("other")
    (kin / "report.html").unlink()
    (kin / "new.txt").write_text("more")
    manifest.verify(kin, manifest.read(kin))


@pytest.mark.parametrize("how", ["changed", "missing", "short", "long"])
def test_every_changed_file_is_named(kin, how):
    for name in ("onnx/model.onnx", "tokenizer.json"):
        path = kin / name
        data = path.read_bytes()
        path.write_bytes({"changed": data[::-1], "short": data[:-1], "long": data + b" "}.get(how, b""))
        if how == "missing":
            path.unlink()
    with pytest.raises(KinError, match=r"onnx/model\.onnx.*tokenizer\.json"):
        manifest.verify(kin, manifest.read(kin))


def test_a_newer_schema_asks_for_an_upgrade(kin):
    change(kin, schema_version=7)
    with pytest.raises(KinError, match=r"version 7.*[Uu]pgrade"):
        manifest.read(kin)


@pytest.mark.parametrize("version", [None, "1", True, 0, 1.0])
def test_strange_schema_versions_are_refused(kin, version):
    change(kin, schema_version=version)
    with pytest.raises(KinError, match="schema_version"):
        manifest.read(kin)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"labels": []}, "labels"),
        ({"labels": [1, 2]}, "labels"),
        ({"labels": "ab"}, "labels"),
        ({"max_length": 0}, "max_length"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"task": None}, "task"),
        ({"files": {"a": 3}}, "entry of a"),
        ({"files": {"../secret": {"size": 1, "sha256": ""}}}, "leads out"),
        ({"files": {"/etc/passwd": {"size": 1, "sha256": ""}}}, "leads out"),
        ({"model": "../model.onnx"}, "leads out"),
    ],
)
def test_wrong_values_are_named(kin, values, words):
    change(kin, **values)
    with pytest.raises(KinError, match=words):
        manifest.read(kin)


@pytest.mark.parametrize("key", list(manifest.REQUIRED))
def test_missing_keys_are_named(kin, key):
    raw = json.loads((kin / manifest.NAME).read_text())
    del raw[key]
    (kin / manifest.NAME).write_text(json.dumps(raw))
    with pytest.raises(KinError, match=f"{key} is missing"):
        manifest.read(kin)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_manifests_are_refused(kin, content):
    (kin / manifest.NAME).write_bytes(content)
    with pytest.raises(KinError, match="damaged"):
        manifest.read(kin)


def test_folders_that_are_no_kin_are_refused(tmp_path):
    with pytest.raises(KinError, match=f"no {manifest.NAME}"):
        manifest.read(tmp_path)
    with pytest.raises(KinError, match="no folder"):
        manifest.read(tmp_path / "absent")


def test_the_model_itself_must_be_sealed(kin):
    files = json.loads((kin / manifest.NAME).read_text())["files"]
    change(kin, files={name: entry for name, entry in files.items() if "onnx" not in name})
    with pytest.raises(KinError, match="not in the manifest"):
        manifest.verify(kin, manifest.read(kin))


def test_writing_is_whole_or_nothing(kin, monkeypatch):
    before = (kin / manifest.NAME).read_bytes()

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        manifest.write(kin, VALUES | {"task": "tag"})
    assert (kin / manifest.NAME).read_bytes() == before
