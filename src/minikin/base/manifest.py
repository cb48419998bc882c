"""minikin.json: what a kin is, what files it has, and what was measured on it. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from minikin.base import atomic, digest
from minikin.base.errors import KinError

NAME: Final = "minikin.json"
SCHEMA_VERSION: Final = 1
WRITER: Final = "llama_cpp"
"""The runtime of kins that write text; all others sort it."""
CERTIFICATE: Final = "certificate.json"
SCORER: Final = "certificate.safetensors"
TRAINED_ON: Final = "train_rows.safetensors"
UNSEALED: Final = frozenset({NAME, "README.md", "report.json", "report.html", CERTIFICATE, SCORER})
"""Files that carry timings or can be rewritten later; every other file is in the manifest with its hash."""

REQUIRED: Final[Mapping[str, type]] = {
    "task": str,
    "family": str,
    "runtime": str,
    "scheme": str,
    "model": str,
    "labels": list,
    "max_length": int,
    "files": dict,
}


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A kin's manifest; `raw` is the whole of minikin.json, with measurements, gate, teacher and seeds."""

    task: str
    family: str
    runtime: str
    scheme: str
    model: str
    labels: tuple[str, ...]
    max_length: int
    pair: bool
    temperature: float
    files: Mapping[str, FileEntry]
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """Name of the kin, or an empty string."""
        return str(self.raw.get("name", ""))

    @property
    def writes(self) -> bool:
        """Whether the kin writes text, rather than sorting it."""
        return self.runtime == WRITER

    @property
    def kernel(self) -> str | None:
        """Name of the file that the kernel maps, where the kin carries one."""
        name = self.raw.get("kernel")
        return str(name) if name else None

    @property
    def kernel_reason(self) -> str:
        """Why there is no such file."""
        return str(self.raw.get("kernel_reason") or "it was built before there was a kernel")

    @property
    def size_mib(self) -> float:
        """MiB of the files that the engine loads: the kernel's, or the model and the tokenizer."""
        loaded = (self.kernel,) if self.kernel else (self.model, "tokenizer.json")
        return sum(self.files[name].size for name in loaded if name in self.files) / 2**20


def read(folder: Path) -> Manifest:
    """Read `folder`/minikin.json. Raises KinError when it is missing, unreadable, incomplete or too new."""
    path = folder / NAME
    if folder.is_file():
        raise KinError(f"{folder} is a file. Give the folder that a build wrote; texts of a file are read with --file.")
    if not folder.is_dir():
        raise KinError(f"There is no folder {folder}. Build a kin with: minikin build recipe.yaml -o {folder}")
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise KinError(f"{folder} is not a kin: it has no {NAME}. Give the folder that a build wrote.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise KinError(f"{path} is damaged: {error}. Copy the kin again, or build it again.") from error
    if not isinstance(raw, dict):
        raise KinError(f"{path} is damaged: it holds no mapping. Copy the kin again, or build it again.")
    _check_version(path, raw.get("schema_version"))
    _check_keys(path, raw)
    return Manifest(
        task=raw["task"],
        family=raw["family"],
        runtime=raw["runtime"],
        scheme=raw["scheme"],
        model=raw["model"],
        labels=tuple(raw["labels"]),
        max_length=raw["max_length"],
        pair=bool(raw.get("pair", False)),
        temperature=float(raw.get("temperature", 1.0)),
        files={name: FileEntry(entry["size"], entry["sha256"]) for name, entry in raw["files"].items()},
        raw=raw,
    )


def write(folder: Path, values: Mapping[str, Any]) -> None:
    """Write minikin.json whole; `schema_version` and the entries of all sealed files are added here."""
    ordered = {"schema_version": SCHEMA_VERSION, **values, "files": entries(folder)}
    atomic.write_json(folder / NAME, ordered)


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {relative path: {size, sha256}} of every file that a manifest seals, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if name not in UNSEALED and not any(part.startswith(".") for part in PurePosixPath(name).parts):
            found[name] = {"size": path.stat().st_size, "sha256": digest.of_file(path)}
    return found


def verify(folder: Path, manifest: Manifest, unopened: Collection[str | None] = ()) -> None:
    """Compare the size of every file with the manifest, and its SHA-256 unless it is `unopened`.

    Raises KinError naming every file that differs.
    """
    faults = []
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != entry.size:
            faults.append(f"{name} has {path.stat().st_size} bytes, not {entry.size}")
        elif name not in unopened and digest.of_file(path) != entry.sha256:
            faults.append(f"{name} was changed: its SHA-256 differs")
    needed = (manifest.model, "tokenizer.json", "config.json", *([manifest.kernel] if manifest.kernel else []))
    for name in needed:
        if name not in manifest.files:
            faults.append(f"{name} is not in the manifest")
    if faults:
        raise KinError(f"The kin in {folder} was changed: {'; '.join(faults)}. Copy it again, or build it again.")


def _check_version(path: Path, version: Any) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise KinError(f"{path} has no schema_version. Copy the kin again, or build it again.")
    if version > SCHEMA_VERSION:
        raise KinError(
            f"{path} has schema version {version}, and this minikin reads up to {SCHEMA_VERSION}. "
            "Upgrade with: pip install --upgrade minikin"
        )


def _check_keys(path: Path, raw: Mapping[str, Any]) -> None:
    faults = [
        f"{key} is missing" if key not in raw else f"{key} is not a {kind.__name__}"
        for key, kind in REQUIRED.items()
        if not isinstance(raw.get(key), kind)
    ]
    if not faults:
        if (not raw["labels"] and raw["task"] != "generate") or not all(
            isinstance(label, str) for label in raw["labels"]
        ):
            faults.append("labels are not a list of names")
        if raw["max_length"] < 1:
            faults.append("max_length is below 1")
        if not isinstance(raw.get("temperature", 1.0), (int, float)) or not raw.get("temperature", 1.0) > 0:
            faults.append("temperature is not above 0")
        if not isinstance(raw.get("kernel"), str | None):
            faults.append("kernel is not the name of a file")
        for name in (*raw["files"], raw["model"], *([raw["kernel"]] if isinstance(raw.get("kernel"), str) else [])):
            faults += _file_faults(name, raw["files"].get(name, {"size": 0, "sha256": ""}))
    if faults:
        raise KinError(f"{path} is damaged: {'; '.join(faults)}. Copy the kin again, or build it again.")


def _file_faults(name: str, entry: Any) -> list[str]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        return [f"the file name {name!r} leads out of the folder"]
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("size"), int)
        or not isinstance(entry.get("sha256"), str)
    ):
        return [f"the entry of {name} has no size and sha256"]
    return []
