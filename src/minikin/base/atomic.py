"""Files and folders that appear whole or not at all, so that a kill never leaves half of one."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minikin.base.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary neighbour and a rename."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` through a temporary neighbour and a rename."""
    with file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """Give the path of a temporary neighbour that becomes `path` (replacing it) when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_current(path: Path) -> None:
    """Raise UserError for a folder in which this process, and the shell it came from, stands: it can't be replaced."""
    if Path.cwd().is_relative_to(path.resolve()):
        raise UserError(f"{path} is, or holds, the current folder, and can't be replaced. Give a folder of its own.")


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give a fresh temporary folder that becomes `path` (replacing it) when the block succeeds.

    What a link points to is replaced, not the link. Raises UserError as `refuse_current` does.
    """
    refuse_current(path)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    _sweep(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove what killed processes left beside `path`: nobody else would."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.(part|old)")
    for left in path.parent.iterdir():
        found = pattern.fullmatch(left.name)
        if found and left.is_dir() and (int(found[1]) == os.getpid() or not _alive(int(found[1]))):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # pragma: no cover  (there, signal 0 would end the process)
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
