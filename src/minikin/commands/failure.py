"""What went wrong, in a sentence on standard error, and the exit code that goes with it. Called by `cli`."""

from __future__ import annotations

import errno
import os
import sys
import traceback

from minikin.base.errors import GateFailed, MinikinError

INTERNAL, BAD_INPUT, STOPPED = 1, 2, 130
BUILDS = ("build", "demo")


def tell(error: BaseException, verb: str | None, debug: bool) -> int:
    """Say what went wrong with `verb` (after the traceback, if `debug`) and return the exit code."""
    _let_go()
    if isinstance(error, BrokenPipeError):  # whoever read our output has enough
        return 0
    if debug:
        traceback.print_exception(error)
    words, code = _said(error, verb)
    sys.stderr.write(words + "\n")
    return code


def _let_go() -> None:
    """Drop output that can't be written: held back, it would raise again at exit and change the exit code."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _said(error: BaseException, verb: str | None) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt):
        more = " Finished steps are kept: the same command goes on from here." if verb in BUILDS else ""
        return f"\nStopped.{more}", STOPPED
    if isinstance(error, GateFailed):
        return str(error), error.exit_code
    if isinstance(error, MinikinError):
        return f"Error: {error}", error.exit_code
    if _disk_is_full(error):
        more = ", then run the same command again: finished steps are kept" if verb in BUILDS else ""
        return f"Error: the disk is full ({error}). Free some space{more}.", BAD_INPUT
    if isinstance(error, OSError) and error.strerror:
        at = f"{error.filename}: " if error.filename else ""
        return f"Error: {at}{error.strerror}. {_remedy(error)}", BAD_INPUT
    if isinstance(error, MemoryError):
        return "Error: not enough memory. Lower train.batch or teacher.batch, or give less text.", INTERNAL
    kind = type(error).__name__
    return f"Error inside minikin: {kind}: {error}\nRun it again with --debug to see where.", INTERNAL


def _disk_is_full(error: BaseException) -> bool:
    """Whether the disk is full; the libraries that write weights wrap it in errors of their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error)


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return "Give a place that you may read and write."
    if isinstance(error, FileNotFoundError):
        return "Check the path."
    if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
        return "A file stands where a folder should be, or the other way round: give another path."
    return "Give another path, or try again."
