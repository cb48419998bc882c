"""Answers of a weak and a strong model, replayed: how much may stay with the weak one if a router sees the text alone.

python bench/replay.py [SET ...] [--kin]

The routers are trained on other questions than they route (five folds): TF-IDF with logistic regression, and with
`--kin` a static kin that `minikin.build` makes without a teacher, both taught whether only the strong model was right,
only the weak one, or neither or both. "In hindsight" is the largest share with a loss of at most one point on the very
questions; "certified" fixes the threshold on half of them (non-inferiority, 95 %) and tells what it gives on the rest.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from common import keep, table
from data import source
from minikin.base.types import Array, Runtime, Split
from minikin.equations import risk
from minikin.measure.baselines import tfidf

LABELS = ("only strong", "same", "only weak")
MARGIN, DELTA, FOLDS, HALVES = 0.01, 0.05, 5, 200
Rows = Iterator[tuple[str, bool, bool]]
Build = Callable[[Split, int], Runtime]


def gsm8k() -> Rows:
    """RouteLLM: Mixtral-8x7B and GPT-4 on the test questions of GSM8K."""
    models = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
    with (source("routellm") / "gsm8k_responses.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            yield (
                row["prompt"],
                *(row[model] == "True" for model in models),
            )


def mmlu() -> Rows:
    """RouteLLM: the same two models on MMLU."""
    with gzip.open(source("routellm") / "mmlu_weak_strong.jsonl.gz", "rt", encoding="utf-8") as handle:
        for row in map(json.loads, handle):
            yield row["prompt"].removesuffix("\nAnswer:"), bool(row["weak_correct"]), bool(row["strong_correct"])


def gsm8k_solutions() -> Rows:
    """GSM8K's own example solutions: 6B and 175B, both with a verifier."""
    with (source("gsm8k") / "example_model_solutions.jsonl").open(encoding="utf-8") as handle:
        for row in map(json.loads, handle):
            yield row["question"], *(bool(row[f"{size}_verification"]["is_correct"]) for size in ("6b", "175b"))


SETS: dict[str, Callable[[], Rows]] = {"gsm8k": gsm8k, "gsm8k-solutions": gsm8k_solutions, "mmlu": mmlu}


def lexical(train: Split, seed: int) -> Runtime:
    """TF-IDF with logistic regression, its strength chosen on a tenth of the questions."""
    order = np.random.default_rng(seed).permutation(len(train))
    cut = len(order) // 10
    return tfidf(train.take(order[cut:]), LABELS, seed, validation=train.take(order[:cut]))


def static_kin(train: Split, seed: int) -> Runtime:
    """A static kin from these labels alone, built as a user would."""
    from minikin import pipeline
    from minikin.base.errors import GateFailed
    from minikin.recipe.read import of_values
    from minikin.runtimes import open as open_kin

    folder = Path(tempfile.mkdtemp(prefix="replay-"))
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("text", "label"))
        writer.writerows((text, LABELS[label]) for text, label in zip(train.texts, train.labels_N, strict=True))
    recipe = of_values(
        {
            "data": {"train": str(folder / "train.csv"), "max_length": 128},
            "student": {"family": "static", "size": "tiny"},
            "quantize": "int8",
            "seed": seed,
            "gate": {"skip_control": True, "max_flips": 1.0},
        }
    )
    try:
        return pipeline.build(recipe, folder / "kin", quiet=True)
    except GateFailed:  # it is no good classifier, and need not be: only its order counts
        return open_kin(folder / "kin")


def routed(texts: list[str], kind_N: Array, build: Build) -> Array:
    """Score (N,) of each question by a router that never saw it: P(only weak right) − P(only strong right)."""
    score_N = np.zeros(len(texts))
    fold_N = np.random.default_rng(0).permutation(len(texts)) % FOLDS
    for fold in range(FOLDS):
        train, test = np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        router = build(Split([texts[i] for i in train], kind_N[train], train), fold)
        p_NC = np.asarray(router.probabilities([texts[i] for i in test]))
        columns = [router.labels.index(label) for label in LABELS]
        score_N[test] = p_NC[:, columns[2]] - p_NC[:, columns[0]]
    return score_N


def hindsight(score_N: Array, lost_N: Array) -> float:
    """Largest share, by falling score, on which the pair loses at most the margin over all questions."""
    lost = np.cumsum(lost_N[np.argsort(-score_N, kind="stable")])
    within = np.flatnonzero(lost <= MARGIN * len(lost_N) + 1e-9)
    return float((within[-1] + 1) / len(lost_N)) if len(within) else 0.0


def certified(score_N: Array, weak_N: Array, strong_N: Array, seed: int = 0) -> dict[str, float]:
    """Over random halves: mean share kept by the certified threshold, and how often its loss was over the margin."""
    rng = np.random.default_rng(seed)
    shares, over = [], 0
    for _ in range(HALVES):
        order = rng.permutation(len(score_N))
        fit, rest = order[: len(order) // 2], order[len(order) // 2 :]
        grid = risk.grid(score_N[rest])
        found = risk.non_inferior(score_N[fit], ~weak_N[fit], ~strong_N[fit], grid, MARGIN, DELTA)
        kept = score_N[rest] >= (found.threshold if found else np.inf)
        shares.append(kept.mean())
        over += ((strong_N[rest].astype(int) - weak_N[rest]) * kept).mean() > MARGIN
    return {"share": float(np.mean(shares)), "over": over / HALVES}


def row_of(name: str, router: str, build: Build) -> list[str]:
    """Route one set by one router; keep what was measured and return the table's row."""
    started = time.perf_counter()
    texts, weak, strong = (list(column) for column in zip(*SETS[name](), strict=True))
    weak_N, strong_N = np.array(weak), np.array(strong)
    lost_N = strong_N.astype(int) - weak_N
    score_N = routed(texts, 1 - lost_N, build)
    proven = certified(score_N, weak_N, strong_N)
    measured = {
        "set": name,
        "router": router,
        "n": len(texts),
        "weak": float(weak_N.mean()),
        "strong": float(strong_N.mean()),
        "share": hindsight(score_N, lost_N),
        "random": min(1.0, MARGIN / lost_N.mean()),
        "perfect": hindsight(-lost_N.astype(float), lost_N),
        "certified": proven["share"],
        "over": proven["over"],
        "seconds": time.perf_counter() - started,
    }
    keep("replay", measured)
    percent = [f"{100 * float(measured[key]):.1f}" for key in
               ("weak", "strong", "random", "share", "perfect", "certified", "over")]  # fmt: skip
    return [name, router, f"{len(texts):,}", *percent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; default: all")
    parser.add_argument("--kin", action="store_true", help="a static kin as the router, instead of TF-IDF")
    args = parser.parse_args()
    router, build = ("static kin", static_kin) if args.kin else ("TF-IDF", lexical)
    rows = [row_of(name, router, build) for name in args.sets or SETS]
    columns = ("set", "router", "questions", "weak", "strong", "random", "router, in hindsight", "perfect",
               "certified share", "halves over")  # fmt: skip
    print(table(columns, rows))


if __name__ == "__main__":
    main()
