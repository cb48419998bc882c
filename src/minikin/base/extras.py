"""Optional dependencies: import them late, and name the pip command when one is missing."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from minikin.base.errors import MissingExtra


def need(module: str, extra: str = "build") -> ModuleType:
    """Import `module`, or raise `MissingExtra` with the pip command for `minikin[extra]`."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.split(".")[0] == error.name.split(".")[0]:
            raise MissingExtra(module.split(".")[0], extra) from error
        raise


def extension() -> Any:
    """The kernel's compiled extension, or None where it was not built."""
    try:
        return importlib.import_module("minikin.kernel._kernel")
    except ImportError:
        return None


def has(module: str) -> bool:
    """Whether `module` can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None
