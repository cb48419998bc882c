"""Loading a kin and answering, with the base install alone; `minikin.load`, the gate and the server call `open`."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from pathlib import Path

from minikin.base import manifest as manifests
from minikin.base.errors import KinError, UserError
from minikin.runtimes.kin import BATCH, Kin

ENGINES = {"onnx": "minikin.runtimes.onnx", "static": "minikin.runtimes.static"}

__all__ = ["Kin", "open"]


def open(folder: str | PathLike[str], *, threads: int = 1, verify: bool = True, batch: int = BATCH) -> Kin:
    """Load the kin in `folder`; `verify` compares every file with its SHA-256 first.

    `threads` are those of one computation; `batch` texts of similar length are computed together.
    Raises KinError for a folder that is no kin, was changed, or is of a newer schema.
    """
    for name, value in (("threads", threads), ("batch", batch)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name} is {value!r}. Give a whole number of at least 1.")
    path = Path(folder)
    manifest = manifests.read(path)
    if verify:
        manifests.verify(path, manifest)
    if manifest.runtime not in ENGINES:
        raise KinError(
            f"{path / manifests.NAME} wants the runtime {manifest.runtime!r}, and this minikin has "
            f"{', '.join(ENGINES)}. Upgrade with: pip install --upgrade minikin"
        )
    engine = import_module(ENGINES[manifest.runtime]).Engine(path, manifest, threads)
    return Kin(path, manifest, engine, batch)
