"""`minikin.load`: a kin from a folder, or from the Hub by name where a folder of that name does not exist."""

from __future__ import annotations

import re
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from minikin.base import manifest as manifests
from minikin.base.errors import KinError
from minikin.base.extras import need
from minikin.runtimes import Kin, open

if TYPE_CHECKING:
    from minikin.runtimes.author import Author

HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")


def load(
    folder: str | PathLike[str],
    *,
    threads: int = 1,
    verify: bool = True,
    engine: str | None = None,
    parallel: int = 1,
) -> Kin | Author:
    """Load a kin and verify its files; `folder` may be a Hub name such as `owner/kin`.

    `engine` is `kernel`, `onnx` or `torch`; by default the kernel, where the kin and this install have it. A kin that
    writes has `llama.cpp` and `torch`. `parallel` is how many texts one that writes can write at a time; one that
    sorts needs no such limit.

    Raises KinError for a folder that is no kin, was changed, or is of a newer schema, and for a name that is
    neither a folder nor found on the Hub (or in its local cache when offline).
    """
    path = _found(folder)
    if manifests.read(path).writes:
        # imported here: what reads and writes tokens takes a third of the memory of a small kin that sorts
        author: Author = import_module("minikin.runtimes.author").open_author(
            path, threads=threads, verify=verify, engine=engine, parallel=parallel
        )
        return author
    return open(path, threads=threads, verify=verify, engine=engine)


def load_kin(folder: str | PathLike[str], *, threads: int = 1, verify: bool = True, engine: str | None = None) -> Kin:
    """Load a kin that sorts texts, as `load` does; raises KinError for one that writes."""
    return open(_found(folder), threads=threads, verify=verify, engine=engine)


def _found(folder: str | PathLike[str]) -> Path:
    path = Path(folder)
    if not path.exists() and HUB_NAME.match(str(folder)):
        return _from_hub(str(folder))
    return path


def _from_hub(name: str) -> Path:
    hub = need("huggingface_hub")
    try:
        return Path(hub.snapshot_download(name))
    except Exception as error:
        raise KinError(
            f"{name} is no folder here, and the Hub did not give it ({type(error).__name__}). "
            "Check the name, or give the path of a kin."
        ) from error
