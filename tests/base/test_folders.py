"""The run folder: steps appear whole or not at all, are done once, and belong to one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from minikin.base.errors import BusyError
from minikin.base.folders import DONE, RunFolder, lock


def write(name: str, text: str):
    def do(out: Path, _scratch: Path) -> None:
        (out / name).write_text(text)

    return do


def test_a_step_is_done_once(tmp_path):
    run, calls = RunFolder(tmp_path / "run"), []

    def do(out: Path, scratch: Path) -> None:
        assert scratch.is_dir()
        calls.append(out)
        (out / "a").write_text("1")

    first = run.step("teach", {"x": 1}, do)
    assert run.step("teach", {"x": 1}, do) == first
    assert len(calls) == 1
    assert (first / "a").read_text() == "1"
    assert run.has("teach", {"x": 1})
    assert not run.has("teach", {"x": 2})


def test_the_key_is_the_content_of_the_inputs_in_any_order(tmp_path):
    run = RunFolder(tmp_path)
    assert run.key("a", {"x": 1, "y": [2]}) == run.key("a", {"y": [2], "x": 1})
    assert len({run.key("a", {"x": 1}), run.key("b", {"x": 1}), run.key("a", {"x": 2})}) == 3


def test_a_step_that_fails_leaves_its_scratch_and_nothing_else(tmp_path):
    run = RunFolder(tmp_path)

    def fail(out: Path, scratch: Path) -> None:
        (out / "half").write_text("")
        (scratch / "checkpoint").write_text("7")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run.step("train", {}, fail)
    assert [p.name for p in tmp_path.iterdir()] == [run.key("train", {}) + ".scratch"]
    assert not run.has("train", {})

    def go_on(out: Path, scratch: Path) -> None:
        (out / "result").write_text((scratch / "checkpoint").read_text())

    assert (run.step("train", {}, go_on) / "result").read_text() == "7"
    assert not list(tmp_path.glob("*.scratch"))


def test_a_folder_without_the_mark_of_completion_is_done_again(tmp_path):
    run = RunFolder(tmp_path)
    path = tmp_path / run.key("a", {})
    path.mkdir()
    (path / "old").write_text("")
    assert run.step("a", {}, write("new", "")) == path
    assert sorted(p.name for p in path.iterdir()) == ["new", DONE]


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from minikin.base.folders import RunFolder, lock

    def do(out, scratch):
        (scratch / "checkpoint").write_text("1")
        (out / "half").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)

    with lock(Path(sys.argv[1])):
        RunFolder(Path(sys.argv[1])).step("a", {}, do)
"""


def test_after_kill_9_the_lock_is_free_and_no_half_step_is_taken(tmp_path):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    run = RunFolder(tmp_path)
    assert not run.has("a", {})
    with lock(tmp_path):
        path = run.step("a", {}, write("whole", ""))
    assert sorted(p.name for p in path.iterdir()) == [DONE, "whole"]
    left = {p.name for p in tmp_path.iterdir()} - {path.name}
    assert left == set()  # what the killed process had begun is swept away


HOLDER = """
    import sys
    from pathlib import Path
    from minikin.base.folders import lock

    with lock(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_is_at_work(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=f"process {holder.pid}.*-o"), lock(tmp_path):
        pass
    holder.communicate("")
    with lock(tmp_path):
        assert tmp_path.with_name(f".{tmp_path.name}.lock").read_text() == str(os.getpid())
    assert not tmp_path.with_name(f".{tmp_path.name}.lock").exists()


def test_the_lock_is_dropped_when_the_block_fails(tmp_path):
    with pytest.raises(ValueError, match="x"), lock(tmp_path):
        raise ValueError("x")
    with lock(tmp_path):
        pass
