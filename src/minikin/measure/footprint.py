"""How much room something takes: bytes of the files that are loaded to answer. Called by the gate and the plan."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from minikin.base.errors import KinError, TeacherError

MIB = 2**20
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"), ("*.model",))


def size_mib(folder: Path, files: Iterable[str]) -> float:
    """MiB of the files, named relative to `folder`, that a runtime loads; raises KinError for a missing one."""
    total = 0
    for name in files:
        path = folder / name
        if not path.is_file():
            raise KinError(f"{path} is missing from the kin. Build it again, or copy the whole folder.")
        total += path.stat().st_size
    return total / MIB


def teacher_size_mib(folder: Path) -> float:
    """MiB of a transformers checkpoint: weights (one format of those there) and tokenizer.

    Raises TeacherError when the folder holds no weights.
    """
    weights = next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    if not weights:
        raise TeacherError(f"{folder} holds no weights ({' or '.join(WEIGHTS)}). Give a transformers checkpoint.")
    tokenizer: list[Path] = []
    for names in TOKENIZERS:
        tokenizer = [path for name in names for path in sorted(folder.glob(name))]
        if tokenizer:
            break
    return sum(path.stat().st_size for path in [*weights, *tokenizer]) / MIB
