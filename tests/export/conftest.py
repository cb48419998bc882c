"""Toy kins with a kernel file, and what compiles or runs their exports."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import small
from minikin.base.types import Student
from minikin.compress.quantize import quantize
from minikin.package import kin as package

MAKERS: dict[str, Callable[[], Student]] = {
    "encoder": lambda: quantize(small.encoder(temperature=1.5), "int8"),
    "encoder4": lambda: quantize(small.encoder(hidden=48, feed_forward=96), "int4"),
    "factorised": lambda: quantize(small.encoder(hidden=36, heads=3, embedding=20), "int4"),
    "pair": lambda: quantize(small.encoder(pair=True), "int8"),
    "static": lambda: quantize(small.static(), "int8"),
    "static_pair": lambda: quantize(small.static(pair=True, window=0), "int4"),
}
TEXTS = [
    *small.TEXTS,
    "",
    " \t\n",
    "a\0b card\0",
    "\0",
    "Straße, ЁЛКА, Ελλάδα, İstanbul, ﬁn",
    "한국어 조각 각",
    "👩‍👩‍👧 ☃ 漢字 e\u0301 \u200b\ufeff",
    "lost card " * 500,
    "x" * 5000,
    *(f"my card {i} was charged {i * 7} times, where do I block it{'?' * (i % 4)}" for i in range(30)),
]
BYTES = [*(text.encode() for text in TEXTS), b"\xff\xfe card", b"caf\xc3", b"\xed\xa0\x80 pin \xf4\x90\x80\x80"]


def write(folder: Path, student: Student, **extra: object) -> Path:
    """Package a student, as a build does."""
    folder.mkdir(parents=True)
    pair = bool(student.config.get("pair", False))
    package.write(folder, student, recipe_yaml="task: classify\n", extra={"name": folder.name, "pair": pair, **extra})
    return folder


@cache
def needed(*names: str) -> str:
    """The first of these programs, or skip."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"needs {' or '.join(names)}")


@pytest.fixture(scope="session")
def kins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One kin of each kind; to be read only."""
    root = tmp_path_factory.mktemp("kins")
    return {name: write(root / name, make()) for name, make in MAKERS.items()}
