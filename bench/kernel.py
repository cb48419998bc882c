"""The kernel beside what else runs small encoders on a processor, on one thread, and beside what the core can do.

    OMP_NUM_THREADS=1 python bench/kernel.py
    OMP_NUM_THREADS=1 python bench/kernel.py --do kins --kin bench/runs/banking77/seed-0 \
        --on bench/runs/data/banking77/test.csv

Shapes have random weights, a head of 77 classes and MiniLM's tokenizer; texts are banking77's test split, cut to 64
tokens. From raw text to label. Blocks of calls, and of batches, take turns within one process, and ratios are medians
over the turns; memory and cold start are those of fresh processes. kernel_peers.py says what answers and how to
install it, kernel_limit.py how the limit is found.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import kernel_limit
import kernel_peers
from common import keep, table
from data import ROOT, prepare
from kernel_models import SHAPES, Shape, encoder_folder, static_folder
from kernel_peers import INSTALL, KERNEL, Ask, Peer
from minikin.base.errors import MinikinError
from minikin.base.types import Text
from minikin.measure import speed
from minikin.runtimes import open as open_kin
from minikin.steps.teach import threads
from timing import Timed, interleaved

TABLES = ("shapes", "static", "limit", "start", "kins")
STATIC_WIDTH = 64
BATCH = 32
SLOW_START_S = 1.5
"""A cold start that takes longer is measured once."""

FRESH = """
import json, sys, time
started = imported = time.perf_counter()
sys.path.insert(0, sys.argv[1])
import pathlib
import kernel_peers
ask = getattr(kernel_peers, sys.argv[2])[sys.argv[3]].open(pathlib.Path(sys.argv[4]))
loaded = time.perf_counter()
ask([sys.argv[5]])
answered = time.perf_counter()
"""


class Timeable:
    """A peer as timing.py takes it; what is timed is the label."""

    labels: tuple[str, ...] = ()

    def __init__(self, ask: Ask) -> None:
        self.probabilities: Callable[[Any], Any] = ask


def rates(asks: Mapping[str, Ask], batches: Sequence[list[Any]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Texts per second of whole passes in turns: `rounds` of them, fewer for a peer that has used up its `seconds`."""
    size = sum(map(len, batches))
    found: dict[str, list[float]] = {name: [] for name in asks}
    with threads(1):
        for _ in range(rounds):
            for name, ask in asks.items():
                if sum(size / rate for rate in found[name]) > seconds:
                    continue
                ask(batches[0])
                started = time.perf_counter()
                for batch in batches:
                    ask(batch)
                found[name].append(size / (time.perf_counter() - started))
    return found


def in_batches(texts: Sequence[Any]) -> list[list[Any]]:
    """Batches of 32, in the order given."""
    return [list(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]


def length_of(text: Text) -> int:
    """Characters of a text, or of a pair."""
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


def measured(asks: Mapping[str, Ask], texts: Sequence[Text], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Latency and throughput of each peer, and how many times slower than the first it is."""
    first = next(iter(asks))
    few = list(texts[: args.latency_texts])
    took = interleaved({n: Timeable(a) for n, a in asks.items()}, few, args.rounds, 4 * len(few), args.seconds)
    sorted_rates = rates(asks, in_batches(sorted(texts, key=length_of)), args.rounds, args.seconds)
    mixed_rates = rates(asks, in_batches(texts), args.rounds, args.seconds)
    return {
        name: {
            "name": name,
            **speeds(took[name], took[first]),
            "sorted_per_s": statistics.median(sorted_rates[name]),
            "mixed_per_s": statistics.median(mixed_rates[name]),
            "sorted_slower": ratio(sorted_rates[first], sorted_rates[name]),
            "mixed_slower": ratio(mixed_rates[first], mixed_rates[name]),
        }
        for name in asks
    }


def speeds(took: Timed, first: Timed) -> dict[str, float]:
    """Latency in ms, and how many times that of the first."""
    return {
        "latency_ms_p50": took.latency_ms_p50,
        "latency_ms_p95": took.latency_ms_p95,
        "latency_slower": first.times_faster_than(took),
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the rates' quotients, turn by turn."""
    return statistics.median(o / t for o, t in zip(ours, theirs, strict=False))


def fresh(family: str, name: str, folder: Path, text: str, runs: int) -> dict[str, float]:
    """Seconds from import to the first answer, and the peak of memory, of fresh processes; medians."""
    told = [started(family, name, folder, text)]
    if told[0]["start_s"] < SLOW_START_S:
        told += [started(family, name, folder, text) for _ in range(runs - 1)]
    return {key: statistics.median(one[key] for one in told) for key in told[0]}


def started(family: str, name: str, folder: Path, text: str) -> dict[str, float]:
    """Open one peer in a fresh process and answer once."""
    program = speed.PEAK + FRESH + speed.TELL
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "bench"), family, name, str(folder), text],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode != 0:
        raise SystemExit(f"{name} does not answer in a process of its own:\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return {"start_s": told["import_s"] + told["load_s"] + told["answer_s"], "peak_mib": told["peak_mib"]}


def peers_rows(
    family: str, title: str, folder: Path, texts: Sequence[str], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Open and measure every peer of a family on one folder."""
    peers = chosen(family, args.peers)
    asks = {name: peer.open(folder) for name, peer in peers.items()}
    rows = measured(asks, texts, args)
    answers = {n: [label for batch in in_batches(texts[:128]) for label in ask(batch)] for n, ask in asks.items()}
    reference = next((n for n in ("PyTorch float32", "model2vec float32", "numpy, int8") if n in asks), KERNEL)
    for name, row in rows.items():
        same = [a == b for a, b in zip(answers[name], answers[reference], strict=True)]
        row |= {"table": "peers", "shape": title, "same_label": statistics.fmean(same)}
        row |= fresh(family, name, folder, texts[0], args.starts)
        keep("kernel", row)
    return list(rows.values())


@cache
def say(line: str) -> None:
    """Print a line, once."""
    print(line, flush=True)


def chosen(family: str, wanted: Sequence[str]) -> dict[str, Peer]:
    """The peers of a family that are installed and wanted; the kernel always, and first."""
    every: dict[str, Peer] = getattr(kernel_peers, family)
    found = {}
    for name, peer in every.items():
        if wanted and name != KERNEL and not any(word in name for word in wanted):
            continue
        if peer.missing:
            say(f"{name} is left out: install it with {INSTALL} {peer.packages}")
            continue
        found[name] = peer
    return found


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "p50 ms": lambda r: f"{r['latency_ms_p50']:.3f}",
    "p95 ms": lambda r: f"{r['latency_ms_p95']:.3f}",
    "× kernel": lambda r: f"{r['latency_slower']:.1f}×",
    "sorted/s": lambda r: f"{r['sorted_per_s']:,.0f}",
    "× kernel ": lambda r: f"{r['sorted_slower']:.1f}×",
    "unsorted/s": lambda r: f"{r['mixed_per_s']:,.0f}",
    "×  kernel": lambda r: f"{r['mixed_slower']:.1f}×",
}
FRESH_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "peak MiB": lambda r: f"{r['peak_mib']:.0f}",
    "cold start s": lambda r: f"{r['start_s']:.2f}",
    "same label": lambda r: f"{100 * r['same_label']:.0f} %",
}


def peers_table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """One shape's table; `× kernel` is how many times slower than the kernel's int8."""
    cells = {**COLUMNS, **FRESH_COLUMNS}
    return table([title, *cells], [[row["name"], *(cell(row) for cell in cells.values())] for row in rows])


def shape_tables(shapes: Sequence[tuple[Shape, Path]], texts: Sequence[str], args: argparse.Namespace) -> list[str]:
    """A table for each shape."""
    found = []
    for shape, folder in shapes:
        print(f"measuring {shape.name}", flush=True)
        found.append(peers_table(shape.name, peers_rows("ENCODERS", shape.name, folder, texts, args)))
    return found


def static_tables(texts: Sequence[str], args: argparse.Namespace) -> list[str]:
    """A table for each static student."""
    found = []
    for window, family in ((0, "BAGS"), (3, "CONVOLUTIONS")):
        title = f"static {STATIC_WIDTH}" + (f", window {window}" if window else "")
        print(f"measuring {title}", flush=True)
        rows = peers_rows(family, title, static_folder(STATIC_WIDTH, window), texts, args)
        found.append(peers_table(title, rows))
    return found


def start_table(folders: Mapping[str, Path], texts: Sequence[str], runs: int) -> str:
    """Cold start and memory of `minikin.load` and one answer, beside an interpreter that only imports numpy."""
    cells = []
    for name, folder in folders.items():
        kin = open_kin(folder)
        text: Text = (texts[0], texts[1]) if kin.manifest.pair else texts[0]
        start = speed.cold_start(folder, text, runs)
        keep("kernel", {"table": "start", "name": name, "size_mib": kin.manifest.size_mib, **start.summary()})
        figures = (start.seconds, start.import_s, start.load_s, start.answer_s, start.process_s, start.base_s)
        above = start.memory_mib - start.base_mib
        memory = [f"{start.memory_mib:.1f}", f"{start.base_mib:.1f}", f"{above:.1f}"]
        cells.append([name, f"{kin.manifest.size_mib:.2f}", *(f"{s:.3f}" for s in figures), *memory])
    columns = ["cold start", "MiB", "s", "import", "load", "first answer", "whole process", "Python with numpy"]
    return table([*columns, "peak MiB", "Python with numpy MiB", "above it"], cells)


def kin_tables(args: argparse.Namespace) -> list[str]:
    """Each kin given: its engines side by side, and what kernel and ONNX Runtime answer to a whole test split."""
    found, agreed = [], []
    for folder, file in zip(args.kin, args.on, strict=True):
        texts, labels = read_test(file)
        print(f"measuring {folder.name}", flush=True)
        asks = {}
        for engine in ("kernel", "onnx", "torch"):
            try:
                asks[engine] = kernel_peers.asking(open_kin(folder, threads=1, engine=engine))
            except MinikinError as error:
                print(f"{engine} is left out: {error}", flush=True)
        if not {"kernel", "onnx"} <= asks.keys():
            continue
        rows = measured(asks, spread(texts, args.texts), args)
        for row in rows.values():
            keep("kernel", {"table": "kin", "kin": str(folder), **row})
        cells = [[row["name"], *(cell(row) for cell in COLUMNS.values())] for row in rows.values()]
        found.append(table([folder.name, *COLUMNS], cells))
        agreed.append(agreement(folder, asks, texts, labels))
    columns = ["all test texts", "n", "kernel's accuracy", "ONNX Runtime's", "same label", "differ"]
    return [*found, table(columns, agreed)] if agreed else found


def agreement(folder: Path, asks: Mapping[str, Ask], texts: Sequence[Any], labels: Sequence[str]) -> list[str]:
    """Accuracy of kernel and ONNX Runtime, and how many texts they name differently."""
    kernel, onnx = (asks[engine](list(texts)) for engine in ("kernel", "onnx"))
    right = [sum(a == b for a, b in zip(found, labels, strict=True)) for found in (kernel, onnx)]
    differ = sum(a != b for a, b in zip(kernel, onnx, strict=True))
    row = {"table": "agreement", "kin": str(folder), "n": len(texts), "right": right, "differ": differ}
    keep("kernel", row)
    shares = [f"{100 * share / len(texts):.2f}" for share in (*right, len(texts) - differ)]
    return [folder.name, f"{len(texts):,}", shares[0], shares[1], f"{shares[2]} %", str(differ)]


def read_test(path: Path) -> tuple[list[Any], list[str]]:
    """Texts (or pairs) and labels of a CSV file with the columns text (or left and right) and label."""
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    texts = [row["text"] if "text" in row else (row["left"], row["right"]) for row in rows]
    return texts, [row["label"] for row in rows]


def spread(texts: Sequence[Any], count: int) -> list[Any]:
    """So many of the texts, in an order that is always the same and mixes labels and lengths."""
    return random.Random(0).sample(list(texts), min(count, len(texts)))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--do", nargs="+", choices=TABLES, default=TABLES, help="tables to make; default: all")
    parser.add_argument("--shapes", nargs="+", metavar="NAME", help="such as 2x128/512; default: all four")
    parser.add_argument("--peers", nargs="+", default=[], metavar="WORD", help="only peers with such a word in them")
    parser.add_argument("--kin", nargs="+", type=Path, default=[], help="folders of kins")
    parser.add_argument("--on", nargs="+", type=Path, default=[], help="the test split of each kin, as CSV")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="most of one block of calls, or of a peer's passes")
    parser.add_argument("--texts", type=int, default=512, help="for texts per second")
    parser.add_argument("--latency-texts", type=int, default=60)
    parser.add_argument("--starts", type=int, default=3, help="fresh processes")
    parser.add_argument("--passes", type=int, default=10, help="over each text in kernel_parts.c")
    args = parser.parse_args()
    if len(args.kin) != len(args.on):
        parser.error("give --on one test file for each --kin")
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("run this with OMP_NUM_THREADS=1 in the environment: numpy reads it before anything else")
    known = {shape.name.replace("×", "x"): shape for shape in SHAPES}
    if unknown := set(args.shapes or ()) - known.keys():
        parser.error(f"no shape {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    args.shapes = [known[name] for name in args.shapes or known]
    return args


def main() -> None:
    args = arguments()
    texts = spread(read_test(prepare("banking77")["test"])[0], args.texts)
    tables: list[str] = []
    shapes: list[tuple[Shape, Path]] = []
    if {"shapes", "limit", "start"} & set(args.do):
        peers = list(chosen("ENCODERS", args.peers).values())
        print("writing the shapes", flush=True)
        shapes = [(shape, encoder_folder(shape, texts, peers)) for shape in args.shapes]
    if "shapes" in args.do:
        tables += shape_tables(shapes, texts, args)
    if "static" in args.do:
        tables += static_tables(texts, args)
    if "limit" in args.do:
        with tempfile.TemporaryDirectory() as scratch:
            tables += kernel_limit.limits(shapes, texts, Path(scratch), args.passes)
    if "start" in args.do:
        folders = {f"{shapes[0][0].name} int4": shapes[0][1] / "int4", **{folder.name: folder for folder in args.kin}}
        tables.append(start_table(folders, texts, args.starts))
    if "kins" in args.do and args.kin:
        tables += kin_tables(args)
    print("\n" + "\n\n".join(tables))


if __name__ == "__main__":
    main()
