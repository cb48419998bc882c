"""Files and folders appear whole, and what was there stays when the new one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minikin.base import atomic
from minikin.base.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_replaces_the_old_one_when_it_is_whole(tmp_path):
    target = tmp_path / "deep" / "kin"
    for text in ("old", "new"):
        with atomic.folder(target) as folder:
            assert folder != target
            (folder / text).write_text(text)
    assert names(target) == ["new"]
    assert names(target.parent) == ["kin"]


def test_what_a_link_points_to_is_replaced(tmp_path):
    (tmp_path / "kin").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("kin")
    with atomic.folder(tmp_path / "link") as folder:
        (folder / "new").write_text("")
    assert names(tmp_path) == ["kin", "link"]
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "kin") == ["new"]
    assert (tmp_path / "kin").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("path", [".", "..", "../here"])
def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch, path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="current folder"), atomic.folder(Path(path)):
        pass


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    target = tmp_path / "kin"
    with atomic.folder(target) as folder:
        (folder / "old").write_text("")

    def interrupted() -> None:
        with atomic.folder(target) as folder:
            (folder / "new").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["kin"]


def test_what_dead_processes_left_is_swept_and_the_living_are_spared(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (
        f".kin.{dead.pid}.part",
        f".kin.{dead.pid}.old",
        f".kin.{os.getppid()}.part",
        f".kin2.{dead.pid}.part",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("")
    (tmp_path / f".kin.{dead.pid}.part.txt").write_text("")
    with atomic.folder(tmp_path / "kin"):
        pass
    assert names(tmp_path) == sorted(
        ["kin", f".kin.{os.getppid()}.part", f".kin2.{dead.pid}.part", f".kin.{dead.pid}.part.txt"]
    )


def test_files_are_written_whole_or_not_at_all(tmp_path):
    atomic.write_json(tmp_path / "a" / "b.json", {"ü": [1, None]})
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"ü": [1, None]}
    atomic.write_text(tmp_path / "t", "old")
    with pytest.raises(UnicodeEncodeError):
        atomic.write_text(tmp_path / "t", "\ud800")
    with pytest.raises(TypeError):
        atomic.write_json(tmp_path / "t", {"x": object()})
    with pytest.raises(TypeError):
        atomic.write_bytes(tmp_path / "t", "no bytes")  # type: ignore[arg-type]
    assert (tmp_path / "t").read_text() == "old"
    assert names(tmp_path) == ["a", "t"]
