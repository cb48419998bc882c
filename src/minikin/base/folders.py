"""The run folder: every finished step lies under the hash of what went into it, so a killed build goes on.

A step is written to a temporary folder and renamed when it is whole; a step that is there is never done again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from minikin.base import atomic, digest
from minikin.base.errors import BusyError

DONE = "step.json"
ANSWERS = "answers"


class RunFolder:
    """Steps of one build, keyed by name and content of their inputs; `answers` hold what was paid for, for good."""

    def __init__(self, root: Path) -> None:
        self.root, self.answers = root, root / ANSWERS
        root.mkdir(parents=True, exist_ok=True)

    def key(self, name: str, inputs: Mapping[str, Any]) -> str:
        """Folder name of a step: its name and 16 hex digits of the hash of its inputs."""
        return f"{name}-{digest.of_value(inputs)[:16]}"

    def step(self, name: str, inputs: Mapping[str, Any], do: Callable[[Path, Path], None]) -> Path:
        """Return the step's folder, running `do(out, scratch)` first if it is not there yet.

        `out` appears whole when `do` returns. `scratch` survives a kill, so that long work can keep
        checkpoints there; it is removed when the step is done.
        """
        started = time.perf_counter()
        key = self.key(name, inputs)
        path, scratch = self.root / key, self.root / f"{key}.scratch"
        if not (path / DONE).is_file():
            scratch.mkdir(exist_ok=True)
            with atomic.folder(path) as out:
                do(out, scratch)
                took = round(time.perf_counter() - started, 1)
                plain = json.loads(json.dumps(inputs, default=str))
                atomic.write_json(out / DONE, {"name": name, "seconds": took, "inputs": plain})
        if scratch.exists():
            shutil.rmtree(scratch, ignore_errors=True)
        return path

    def has(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether the step is finished."""
        return (self.root / self.key(name, inputs) / DONE).is_file()

    def seconds(self, folder: Path) -> float:
        """How long a finished step took in the process that finished it."""
        return float(json.loads((folder / DONE).read_text(encoding="utf-8"))["seconds"])


def remove_unless_worked(root: Path) -> None:
    """Remove a run folder in which no step was finished or begun, and nothing was paid for."""
    if not any(any(root.glob(kept)) for kept in (f"*/{DONE}", "*.scratch", f"{ANSWERS}/*")):
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; raise `BusyError` while another process holds it.

    The folder itself need not be there, and may be replaced meanwhile: the lock lies beside it. The operating
    system drops it when the process dies, so a kill leaves nothing to clean up.
    """
    path = folder.with_name(f".{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _held(path)
    if handle is None:
        holder = path.read_text(errors="replace").strip() if path.exists() else ""
        raise BusyError(
            f"Another build (process {holder or 'unknown'}) is at work in {folder}. "
            "Wait for it, or give another folder with -o."
        )
    try:
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            path.unlink()
        handle.close()


def _held(path: Path) -> TextIO | None:
    """Open and lock a file; None while another process holds it.

    Its last holder may have unlinked the file between our opening and locking it: then it is opened anew.
    """
    while True:
        handle = path.open("a+")
        try:
            _lock_file(handle)
            if os.fstat(handle.fileno()).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        except OSError:
            handle.close()
            return None
        handle.close()


def _lock_file(handle: Any) -> None:
    if os.name == "nt":  # pragma: no cover
        import msvcrt

        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
