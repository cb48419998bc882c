"""Writes a kin as C99: `model.c` holds the kernel and the weights in one translation unit. For `minikin export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from minikin.base import atomic
from minikin.package.export_source import KERNEL, Source, described, filled, starts_with

SOURCES: Final = ("tokenizer.h", "kernel.h", "paths.h", "tokenizer.c", "paths.c", "model.c")
FILES: Final = ("model.c", "model.h", "main.c", "README.md")
MARK: Final = "Written by minikin; do not edit"
"""Stands in the first line of model.c."""

VIEW_BYTES: Final = 12 * 1024
"""More than the struct that points into the model takes; model.c has the compiler check it."""

STACK_BYTES: Final = 16 * 1024
"""More than a call takes on every processor that is tested, compiled with -O1 or more."""

CODE_KIB: Final = 192
"""More than the code and its tables of Unicode take, for one processor or for any of its kind, at up to -O3."""

WORDS_IN_LINE: Final = 6
INCLUDE: Final = re.compile(r'^#include "(.+)"\n', re.MULTILINE)
PROTOTYPE: Final = re.compile(r"^(?!typedef\b)(?=[a-z][\w ]*[ *]mk_\w+\()", re.MULTILINE)


def write(source: Source, folder: Path) -> None:
    """Write model.c, model.h, main.c and README.md; `folder` appears whole and replaces an earlier export."""
    with atomic.folder(folder) as out:
        for name, text in files(source).items():
            (out / name).write_text(text, encoding="utf-8")


def is_ours(folder: Path) -> bool:
    """Whether a folder holds an earlier export."""
    return starts_with(folder / "model.c", MARK)


def files(source: Source) -> dict[str, str]:
    """Return the text of every file by its name."""
    memory, title = source.memory, described(source)
    answers = 4 * memory.classes
    static = memory.workspace + max(memory.work, 4) + memory.ids + answers + VIEW_BYTES
    constant_kib = -(-len(source.kernel) // 1024) + CODE_KIB
    head = filled("c/head.c", {"title": title})
    tail = filled(
        "c/tail.c",
        {
            "workspace": memory.workspace,
            "work": memory.work,
            "ids": memory.ids // 4,
            "labels": "\n".join(f'    "{c_string(label)}",' for label in source.manifest.labels),
            "words": hexadecimal(source.kernel),
        },
    )
    header = {
        "title": title,
        "constant_kib": constant_kib,
        "classes": memory.classes,
        "pair": int(memory.pair),
        "tokens": memory.tokens,
        "model_bytes": len(source.kernel),
        "static_bytes": static,
        "stack_bytes": STACK_BYTES,
    }
    readme = {
        "title": title,
        "function": "`minikin_classify_pair`" if memory.pair else "`minikin_classify`",
        "constant_kib": constant_kib,
        "static_kib": -(-static // 1024),
        "stack_kib": STACK_BYTES // 1024,
    }
    return {
        "model.c": head + amalgamated() + tail,
        "model.h": filled("c/model.h", header),
        "main.c": filled("c/main.c", {}),
        "README.md": filled("c/README.md", readme),
    }


def amalgamated() -> str:
    """Return the kernel as one text whose functions are all static, with each `.inc` put in wherever it is included.

    A function declared static stays so where it is defined (C99 6.2.2, 5), so only declarations are changed.
    """
    parts = []
    for name in SOURCES:
        text = (KERNEL / name).read_text(encoding="utf-8")
        text = INCLUDE.sub(lambda found: _included(found[1]), text)
        if name.endswith(".h"):
            text = PROTOTYPE.sub("static ", text)
        parts.append(f"\n/* ---- {name} ---- */\n\n{text.strip()}\n")
    return "".join(parts)


def _included(name: str) -> str:
    """The text that takes the place of an include: nothing for a header, which stands above already."""
    if name in SOURCES:
        return ""
    return (KERNEL / name).read_text(encoding="utf-8").strip() + "\n"


def c_string(text: str) -> str:
    """Return what stands between the quotes: UTF-8 bytes beyond printable ASCII in octal, no trigraphs."""
    plain = {ord("\\"): "\\\\", ord('"'): '\\"', ord("?"): "\\?"}
    return "".join(plain.get(b, chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in text.encode())


def hexadecimal(data: bytes) -> str:
    """Return bytes as little-endian 64-bit numbers of C, the last one padded with zeros."""
    numbers = np.frombuffer(data + bytes(-len(data) % 8), "<u8").tolist()
    lines = (numbers[i : i + WORDS_IN_LINE] for i in range(0, len(numbers), WORDS_IN_LINE))
    return "\n".join("    " + " ".join(f"{number:#x}," for number in line) for line in lines)
