"""What every export of a kin starts from: its labels, its kernel file, and the memory that answering takes."""

from __future__ import annotations

import json
import mmap
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from minikin.base import digest, manifest
from minikin.base.errors import KinError, UserError
from minikin.base.extras import extension
from minikin.base.manifest import Manifest
from minikin.package.kernel import ALIGN, GROUP, HEADER, KINDS, NAMES, SECTION, VERSION

TEMPLATES: Final = Path(__file__).parent / "templates"
KERNEL: Final = Path(__file__).parent.parent / "kernel"
PLACE: Final = re.compile(r"\{\{ (\w+) \}\}")
MARKED_BYTES: Final = 4096
"""Where an export says that minikin wrote it."""

QUERIES: Final = 16
"""MK_QUERIES of kernel/paths.h: queries that attention takes at a time."""


@dataclass(frozen=True)
class Source:
    """A kin to export: its manifest and the bytes of its kernel file."""

    manifest: Manifest
    kernel: bytes

    @property
    def name(self) -> str:
        """Name of the kin, or "kin"."""
        return self.manifest.name or "kin"

    @cached_property
    def memory(self) -> Memory:
        """The memory that answering one text takes."""
        return Memory.of(self.kernel)


def read(folder: Path) -> Source:
    """Read a kin for export. Raises KinError for a changed or missing file, UserError where the kernel can't run it."""
    found = manifest.read(folder)
    if found.writes:
        raise UserError(
            f"The kin in {folder} writes, and only kins that sort texts become C or a page. Ship its {found.model} "
            "(for llama.cpp and, with the Modelfile, Ollama) or its model.safetensors (for transformers)."
        )
    if found.kernel is None:
        raise UserError(f"{folder} can't be exported: {found.kernel_reason}. {_remedy(found)}")
    entry, path = found.files.get(found.kernel), folder / found.kernel
    if entry is None:
        raise KinError(f"{found.kernel} is not in the manifest of {folder}. Copy the kin again, or build it again.")
    if not path.is_file():
        raise KinError(f"{path} is missing. Copy the kin again, or build it again.")
    data = path.read_bytes()
    if len(data) != entry.size or digest.of_file(path) != entry.sha256:
        raise KinError(f"{path} was changed. Copy the kin again, or build it again.")
    source = Source(found, data)
    _check(path, source)
    return source


def _remedy(found: Manifest) -> str:
    if found.scheme == "fp32":
        return "Build it with `quantize: int8` (or int4)."
    return "Build it again with this minikin, and with a BERT or GPT-2 tokenizer."


def _check(path: Path, source: Source) -> None:
    data, labels = source.kernel, source.manifest.labels
    whole = len(data) >= HEADER.size and data[:8] == b"minikin\0"
    version, *stated = HEADER.unpack_from(data)[1:4] if whole else (0,)
    if version > VERSION:
        raise KinError(f"{path} was written by a newer minikin. Upgrade with: pip install --upgrade minikin")
    if stated != [zlib.crc32(data[16:]), len(data)]:
        raise KinError(f"{path} is damaged. Copy the kin again, or build it again.")
    try:
        if (compiled := extension()) is not None:
            with path.open("rb") as file:
                compiled.Model(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        memory = source.memory
    except (ValueError, LookupError, StopIteration, struct.error) as error:
        raise KinError(f"{path} is damaged: {error}. Copy the kin again, or build it again.") from error
    if (memory.classes, memory.pair) != (len(labels), source.manifest.pair):
        raise KinError(f"{path} belongs to another kin. Copy the kin again, or build it again.")


@dataclass(frozen=True)
class Memory:
    """Sizes in bytes of what answering one text of at most `tokens` tokens takes; kernel/model.c lays it out."""

    classes: int
    tokens: int
    pair: bool
    workspace: int
    work: int
    ids: int

    @classmethod
    def of(cls, kernel: bytes) -> Memory:
        """Compute the sizes from a kernel file's header and list of sections: mk_workspace and others."""
        numbers = HEADER.unpack_from(kernel)
        count, kind, layers, hidden, classes, tokens, pair, _, window, mean_max = numbers[4:14]
        listed = [SECTION.unpack_from(kernel, HEADER.size + i * SECTION.size) for i in range(count)]
        rows = {(name, layer): rows for name, layer, _, rows, _, _, _ in listed}
        widest, features = 2 * hidden, hidden
        if kind == KINDS["encoder"]:
            for i in range(layers):
                widest = max(widest, 2 * rows[NAMES["query"], i], rows[NAMES["up"], i])
        else:
            features = hidden * (2 if mean_max else 1) * (4 if pair else 1)
            widest = max(widest, window * hidden)
        wide = _up(max(widest, features, classes), GROUP)
        items = [
            (tokens * _up(hidden, GROUP), 4),  # x_TH
            (tokens * wide, 4),  # y_TN
            (tokens * wide, 4),  # q_TA
            (tokens * wide * 2, 1),  # integers_TK
            (tokens * (wide // GROUP + 1), 4),  # sum_TG
            (tokens, 4),  # scale_T
            (_up(features, GROUP), 4),  # feature_P
            (tokens * QUERIES, 4),  # score_TQ
            (wide * QUERIES, 4),  # turned_DQ
        ]
        workspace = sum(_up((number + 16) * width, ALIGN) for number, width in items)
        kind_of_tokens, characters = _tokenizer(kernel, listed)
        work = 2 * 4 * (4 * characters + 1) if kind_of_tokens else 0  # BPE merges words there; WordPiece needs none
        ids = 2 * characters + 3 if pair else tokens
        return cls(classes, tokens, bool(pair), workspace, work, 4 * ids)


def _tokenizer(kernel: bytes, listed: list[tuple[int, ...]]) -> tuple[int, int]:
    """Return the tokenizer's kind, and the characters of a text that it reads."""
    at = next(section[5] for section in listed if section[0] == NAMES["tokenizer"])
    kind, max_length = (int.from_bytes(kernel[at + i : at + i + 4], "little") for i in (4, 12))
    return kind, 40 * (max_length + 16)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def starts_with(path: Path, mark: str) -> bool:
    """Whether a file has `mark` among its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return mark.encode() in file.read(MARKED_BYTES)


def filled(template: str, values: Mapping[str, Any]) -> str:
    """Put values where a template says `{{ name }}`. Raises ValueError unless places and values agree."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    if (places := set(PLACE.findall(text))) != set(values):
        raise ValueError(f"{template} and its values differ: {', '.join(sorted(places ^ set(values)))}")
    return PLACE.sub(lambda found: str(values[found[1]]), text)


def described(source: Source) -> str:
    """The kin in one line of printable ASCII that can stand in any comment."""
    plain = json.dumps(source.name)[1:-1].replace("*/", "* /").replace("/*", "/ *").replace("?", ".")
    return f"{plain} ({len(source.manifest.labels)} labels, {source.manifest.family}, {source.manifest.scheme})"
