"""Small decoders of running text: distilled against trained alone, and how fast a cut one recovers.

    OMP_NUM_THREADS=1 python bench/decoders.py tinystories wikitext2 --seeds 0 1 2
    OMP_NUM_THREADS=1 python bench/decoders.py tinystories --recovery

Every row is a build (`minikin.build`) of bench/recipes/SET.yaml: alone is the same recipe without a teacher. Both start
from the same fresh weights, see the same tokens in the same order (as many as `--tokens` says) and share the
tokenizer. Perplexity is the packaged file's in llama.cpp, on texts that neither teacher nor student has seen. The
teacher is grown once and lies in the run folder; a killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t

import minikin
from common import keep, kept, recipe_of, run_of, table
from minikin.base import digest
from minikin.base.errors import GateFailed
from minikin.recipe.read import dump

SHAPES = {
    "1/4": {"start": "grown", "layers": 4, "hidden": 96, "heads": 3, "kv_heads": 1, "feed_forward": 352},
    "1/8": {"start": "grown", "layers": 2, "hidden": 96, "heads": 3, "kv_heads": 1, "feed_forward": 352},
    "1/2": {"start": "cut", "layers": 4, "hidden": 192, "heads": 6, "kv_heads": 2, "feed_forward": 160},
}
"""Students by their share of the weights of a `tiny` teacher (5 layers of 192 and 512): grown ones without the
embeddings, the cut one with them, which it can't do without."""

RECOVERY = (1_000, 25_000, 50_000, 100_000)
"""Tokens that the cut student learns from: of a training of its own each, so that every rate has decayed to zero."""


def built(dataset: str, size: str, way: str, seed: int, args: argparse.Namespace, tokens: int) -> dict[str, Any]:
    """Build one student, `distilled` or `alone`, or take its row from bench/runs/decoders.jsonl."""
    shape = [f"student.{key}={value}" for key, value in SHAPES[size].items()]
    without = ["teacher=null", "distil.objectives=[{name: gold}]"] if way == "alone" else []
    recipe = recipe_of(dataset, [*shape, f"distil.seed={seed}", f"distil.tokens={tokens}", *without, *args.overrides])
    key = digest.of_value([dataset, dump(recipe)])
    if found := next((row for row in kept("decoders") if row["key"] == key), None):
        return found
    run = args.run or run_of(dataset)
    out = run.parent / f"decoder-{key[:12]}"
    try:
        minikin.build(recipe, out, run=run)
    except GateFailed as error:
        print(f"{dataset} {size} {way} {seed} misses the gate: {'; '.join(error.reasons)}")
    story = json.loads((out / "report.json").read_text(encoding="utf-8"))
    student, teacher = story["measurements"]["student"], story["measurements"]["teacher"]
    row = {
        "key": key,
        "dataset": dataset,
        "size": size,
        "way": way,
        "seed": seed,
        "tokens": tokens,
        "perplexity": student["perplexity"],
        "perplexity_interval": student["perplexity_interval"],
        "parameters": student["parameters"],
        "teacher_perplexity": teacher and teacher["perplexity"],
        "teacher_parameters": teacher and teacher["parameters"],
        "seconds": story["seconds"],
    }
    keep("decoders", row)
    print(f"{dataset} {size} {way} seed {seed}: {row['perplexity']:.3f} after {tokens:,} tokens", flush=True)
    return row


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % t-interval over seeds; NaN for one seed."""
    if len(values) < 2:
        return values[0], math.nan
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), half


def compared(dataset: str, args: argparse.Namespace) -> list[list[str]]:
    """Rows of the table: each size, distilled and alone, and the paired difference."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for size in args.sizes:
            for way in ("distilled", "alone"):
                found.setdefault((size, way), []).append(built(dataset, size, way, seed, args, args.tokens))
    lines = []
    for size in args.sizes:
        with_it, without = found[size, "distilled"], found[size, "alone"]
        logs, half = interval(
            [math.log(w["perplexity"] / a["perplexity"]) for w, a in zip(with_it, without, strict=True)]
        )
        less = [f"{100 * math.expm1(log):+.1f}" for log in (logs, logs - half, logs + half)]
        both = [interval([row["perplexity"] for row in rows]) for rows in (with_it, without)]
        figures = [f"{mean:.1f} ± {half:.1f}" for mean, half in both]
        teacher = f"{with_it[0]['teacher_perplexity']:.2f}"
        difference = f"{less[0]} % ({less[1]} to {less[2]})"
        lines.append([dataset, f"{size}, {with_it[0]['parameters']:,}", teacher, *figures, difference])
    return lines


def recovered(dataset: str, args: argparse.Namespace) -> list[list[str]]:
    """Rows of the recovery curve: tokens against perplexity, beside the teacher's."""
    lines = []
    for tokens in RECOVERY:
        row = built(dataset, "1/2", "distilled", args.seeds[0], args, tokens)
        above = 100 * (row["perplexity"] / row["teacher_perplexity"] - 1)
        share = f"{100 * row['parameters'] / row['teacher_parameters']:.1f} %"
        figures = [f"{row[key]:.2f}" for key in ("perplexity", "teacher_perplexity")]
        lines.append([dataset, share, f"{tokens:,}", *figures, f"{above:+.1f} %"])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", choices=("tinystories", "wikitext2"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", nargs="+", choices=("1/4", "1/8"), default=["1/4", "1/8"])
    parser.add_argument("--tokens", type=int, default=200_000, help="that each student learns from")
    parser.add_argument("--recovery", action="store_true", help="the recovery curve of a cut student instead")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--run", type=Path, help="run folder; default: bench/runs/SET/run")
    args = parser.parse_args()
    if args.recovery:
        columns = ["set", "of the teacher's weights", "tokens", "perplexity", "teacher", "above it"]
        print(table(columns, [line for dataset in args.datasets for line in recovered(dataset, args)]))
        return
    columns = ["set", "share of the teacher, weights", "teacher", "distilled", "alone", "difference"]
    print(table(columns, [line for dataset in args.datasets for line in compared(dataset, args)]))


if __name__ == "__main__":
    main()
