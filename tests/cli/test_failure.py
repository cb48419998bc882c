from __future__ import annotations

import errno

import pytest

from minikin.base.errors import BusyError, GateFailed, KinError, MissingExtra
from minikin.commands import run as run_command
from minikin.commands.failure import tell

ERRORS = [
    (KinError("no kin"), "build", 2, "Error: no kin"),
    (MissingExtra("torch", "build"), "build", 2, "pip install"),
    (BusyError("busy"), "build", 2, "busy"),
    (GateFailed(["too large"], "kin"), "build", 3, "kept in kin"),
    (KeyboardInterrupt(), "build", 130, "goes on from here"),
    (KeyboardInterrupt(), "demo", 130, "goes on from here"),
    (KeyboardInterrupt(), "run", 130, "Stopped."),
    (OSError(errno.ENOSPC, "No space left on device", "x"), "build", 2, "Free some space, then run the same"),
    (RuntimeError("I/O: No space left on device (os error 28)"), "build", 2, "disk is full"),
    (PermissionError(errno.EACCES, "Permission denied", "/x"), "new", 2, "/x: Permission denied"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "report", 2, "Check the path"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), "build", 2, "another path"),
    (MemoryError(), "build", 1, "memory"),
    (ZeroDivisionError("oh"), "check", 1, "--debug"),
]


@pytest.mark.parametrize(("error", "verb", "code", "words"), ERRORS)
def test_every_error_is_a_sentence(error: BaseException, verb: str, code: int, words: str, capsys) -> None:
    assert tell(error, verb, False) == code
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_run_promises_no_build_after_ctrl_c(capsys) -> None:
    tell(KeyboardInterrupt(), "run", False)
    assert "goes on" not in capsys.readouterr().err


@pytest.mark.parametrize("args", [("--debug", "report", "nowhere"), ("report", "--debug", "nowhere")])
def test_debug_shows_the_traceback_wherever_it_stands(say, args: tuple[str, ...]) -> None:
    found = say(*args)
    assert found.exit_code == 2
    assert "Traceback" in found.output
    assert "There is no folder nowhere" in found.output


def test_debug_after_two_dashes_is_a_text(say, kin) -> None:
    found = say("run", kin, "--", "--debug")
    assert found.exit_code == 0
    assert found.stdout.count("label") == 2


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ValueError("x"), 1), (KinError("x"), 2)])
def test_commands_end_with_the_code(say, kin, monkeypatch, error: BaseException, code: int) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(run_command, "load_kin", fail)
    found = say("run", kin, "text")
    assert found.exit_code == code
    assert "Traceback" not in found.output
