"""How near the kernel comes to what this core can do: bench/kernel.py has peak.c and kernel_parts.c run here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import keep, table
from data import ROOT
from kernel_models import Shape

HERE = ROOT / "bench"
KERNEL = ROOT / "src" / "minikin" / "kernel"
PARTS = ("read", "quantize", "linear", "attend", "norm", "activate", "softmax")
CHUNK_TOKENS = 192
"""Tokens that the Python extension computes together."""

Row = dict[str, Any]


def compiler() -> str | None:
    """A C compiler, or None after a line that says that there is none."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        print("No C compiler: the physical limit is left out. Install one (apt install gcc).")
    return found


def limits(shapes: Sequence[tuple[Shape, Path]], texts: Sequence[str], scratch: Path, passes: int) -> list[str]:
    """Tables of the core's peaks, of the share of them that the kernel reaches, and of where its time goes."""
    found = compiler()
    if found is None:
        return []
    peak = run([built(found, scratch / "peak", ["-O3"], [HERE / "peak.c"])])
    if peak["instructions"] == "none":
        print("peak.c knows AMX, AVX-512 VNNI and AVX2: the physical limit is left out on this processor.")
        return []
    keep("kernel", {"table": "peak", **peak})
    # the flags are those of setup.py
    flags = ["-std=c99", "-O3", "-ffp-contract=off", "-falign-loops=64", f"-I{KERNEL}"]
    sources = [HERE / "kernel_parts.c", KERNEL / "paths.c", KERNEL / "tokenizer.c"]
    parts = built(found, scratch / "parts", flags, sources)
    lines = scratch / "texts.txt"
    lines.write_text("".join(" ".join(text.split()) + "\n" for text in texts), encoding="utf-8")
    rows = []
    for shape, folder in shapes:
        for together in (0, CHUNK_TOKENS):
            took = run([parts, folder / "int8" / "model.kernel", lines, passes, together])
            rows.append(limit_row(shape, together, took, peak))
            keep("kernel", rows[-1])
    return [peak_table(peak), share_table(rows), parts_table(rows)]


def built(found: str, program: Path, flags: Sequence[str], sources: Sequence[Path]) -> Path:
    """Compile one program."""
    subprocess.run([found, *flags, *map(str, sources), "-o", str(program)], check=True)
    return program


def run(command: Sequence[object]) -> Row:
    """What a program of ours tells as JSON."""
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    told: Row = json.loads(done.stdout)
    return told


def limit_row(shape: Shape, together: int, took: Row, peak: Row) -> Row:
    """Multiply-adds of a mean text, the time that they take at the peak, and the time that they took."""
    tokens, squares = took["tokens"] / took["texts"], took["squares"] / took["texts"]
    plain, plain_floats = shape.multiply_adds(tokens, squares, all_rows=True)
    done, floats = shape.multiply_adds(tokens, squares, all_rows=False)
    products_us = 1e6 * done / peak["int8_per_s"]
    weights, _ = shape.multiply_adds(1, 1, all_rows=True)
    level = "l2" if weights <= peak["l2_bytes"] else "l3"
    return {
        "table": "limit",
        "shape": shape.name,
        "together": together,
        "mean_tokens": tokens,
        "multiply_adds_plain": plain + plain_floats,
        "multiply_adds_done": done + floats,
        "limit_us": products_us + 1e6 * floats / peak["float_per_s"],
        "products_limit_us": products_us,
        "weights_bytes": weights,
        "reading_us": 1e6 * weights / peak[f"{level}_per_s"],
        "reading_from": level.upper(),
        **{f"{name}_us": took[name] / 1e3 for name in (*PARTS, "whole")},
    }


def peak_table(peak: Row) -> str:
    """The core's peaks."""
    giga = {name: f"{value / 1e9:,.0f}" for name, value in peak.items() if name.endswith("_per_s")}
    names = ("int8_per_s", "float_per_s", "l1_per_s", "l2_per_s", "l3_per_s", "memory_per_s")
    columns = ["one core", "int8 G multiply-adds/s", "float32", "L1 GB/s", "L2", "L3", "memory"]
    return table(columns, [[peak["instructions"], *(giga[name] for name in names)]])


def share_table(rows: Sequence[Row]) -> str:
    """What a text takes at the peak, and what it takes."""
    columns = ["", "tokens", "M multiply-adds, plain", "M done", "at the peak µs", "kernel µs", "share of the peak"]
    columns += ["its products µs", "their share", "weights MiB", "reading them µs"]
    cells = [
        [
            label_of(row),
            f"{row['mean_tokens']:.1f}",
            f"{row['multiply_adds_plain'] / 1e6:.2f}",
            f"{row['multiply_adds_done'] / 1e6:.2f}",
            f"{row['limit_us']:.1f}",
            f"{row['whole_us']:.1f}",
            f"{100 * row['limit_us'] / row['whole_us']:.0f} %",
            f"{row['linear_us']:.1f}",
            f"{100 * row['products_limit_us'] / row['linear_us']:.0f} %",
            f"{row['weights_bytes'] / 2**20:.2f}",
            f"{row['reading_us']:.1f} ({row['reading_from']})",
        ]
        for row in rows
    ]
    return table(columns, cells)


def parts_table(rows: Sequence[Row]) -> str:
    """Shares of the kernel's time."""
    cells = []
    for row in rows:
        shares = [100 * row[f"{name}_us"] / row["whole_us"] for name in PARTS]
        rest = 100 - sum(shares)
        cells.append([label_of(row), f"{row['whole_us']:.1f}", *(f"{share:.1f} %" for share in [*shares, rest])])
    return table(["", "µs a text", *PARTS, "look-ups and rest"], cells)


def label_of(row: Row) -> str:
    """Shape, and whether texts were computed together."""
    return f"{row['shape']}, {'together' if row['together'] else 'one by one'}"
