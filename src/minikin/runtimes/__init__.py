"""Loading a kin and answering, with the base install alone; `minikin.load`, the gate and the server call `open`."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from minikin.base import manifest as manifests
from minikin.base.errors import KinError, UserError
from minikin.base.extras import extension
from minikin.base.manifest import Manifest
from minikin.runtimes.kin import Kin

RUNTIMES = {"onnx": "minikin.runtimes.onnx", "static": "minikin.runtimes.static"}
ENGINES = ("kernel", "onnx", "torch")
"""What a user can ask for; of a static kin, `onnx` stands for numpy, which takes its place."""
FLOATS = "model.safetensors"

__all__ = ["ENGINES", "Kin", "open"]


def check_counts(**given: int) -> None:
    """Raise UserError for a count, given by its name, that is no whole number of at least 1."""
    for name, value in given.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name} is {value!r}. Give a whole number of at least 1.")


def open(
    folder: str | PathLike[str],
    *,
    threads: int = 1,
    verify: bool = True,
    batch: int | None = None,
    engine: str | None = None,
) -> Kin:
    """Load the kin in `folder`; `verify` compares every file but weights of other engines with its SHA-256 first.

    `engine` is `kernel`, `onnx` or `torch`; by default the kernel where the kin carries its file and this install
    has it, else ONNX Runtime (numpy for static kins). `threads` are those of one computation; `batch` texts of
    similar length are computed together (the kernel needs none: its answers don't depend on their neighbours).
    Raises KinError for a folder that is no kin, was changed, or is of a newer schema.
    """
    check_counts(threads=threads, batch=1 if batch is None else batch)
    if engine is not None and engine not in ENGINES:
        raise UserError(f"There is no engine {engine!r}. Choose one of {', '.join(ENGINES)}.")
    path = Path(folder)
    manifest = manifests.read(path)
    engine = engine or ("kernel" if manifest.kernel and extension() is not None else "onnx")
    if verify:
        opened = {"kernel": manifest.kernel, "onnx": manifest.model, "torch": FLOATS}[engine]
        manifests.verify(path, manifest, {manifest.kernel, manifest.model, FLOATS} - {opened})
    if manifest.writes:
        raise KinError(f"The kin in {path} writes, it does not sort texts. Ask it with: minikin run {path} PROMPT")
    if manifest.runtime not in RUNTIMES:
        raise KinError(
            f"{path / manifests.NAME} wants the runtime {manifest.runtime!r}, and this minikin has "
            f"{', '.join(RUNTIMES)}. Upgrade with: pip install --upgrade minikin"
        )
    chosen = import_module(_module(manifest, engine)).Engine(path, manifest, threads)
    if batch is not None:
        chosen.batch = batch
    return Kin(path, manifest, chosen, guard_of(path, chosen.name))


def guard_of(path: Path, engine: str) -> Any:
    """The guard of the kin's certificate, where one lies in its folder."""
    if not (path / manifests.CERTIFICATE).is_file():
        return None
    return import_module("minikin.trust.guard").Guard.of(path, engine=engine)


def _module(manifest: Manifest, engine: str) -> str:
    if engine == "onnx":
        return RUNTIMES[manifest.runtime]
    return "minikin.runtimes.kernel" if engine == "kernel" else "minikin.steps.reloaded"
