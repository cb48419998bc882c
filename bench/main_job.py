"""The main job on one set, several student seeds on one tuned teacher: quality, size, speed as ratios, build time.

    OMP_NUM_THREADS=2 python bench/main_job.py banking77 --seeds 0 1 2

DATASET is banking77, glue_sst2, clinc150, glue_mrpc, helpdesk, or the path of a recipe. The recipe's seed decides
data, teacher, signals and plan, which lie in the run folder once; `distil.seed` is what varies. A killed run goes
on where it stopped. Build seconds and peak memory are those of the first seed when the run folder was empty.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import minikin
from common import binding, data_of, keep, mean_sd, name_of, recipe_of, run_of, table, tuned_teacher
from minikin.base.errors import GateFailed
from minikin.base.types import Runtime
from minikin.runtimes import open as open_kin
from teacher_ort import OrtTeacher
from timing import interleaved

COLUMNS: dict[str, tuple[str, float]] = {
    "teacher": ("{:.2f}", 100),
    "student": ("{:.2f}", 100),
    "without teacher": ("{:.2f}", 100),
    "TF-IDF": ("{:.2f}", 100),
    "retention": ("{:.2f}", 100),
    "gap closed": ("{:.1f}", 100),
    "typo, teacher": ("{:.2f}", 100),
    "typo, student": ("{:.2f}", 100),
    "MiB": ("{:.3f}", 1),
    "p50 ms": ("{:.3f}", 1),
    "× teacher, PyTorch": ("{:.1f}", 1),
    "× teacher, ORT int8": ("{:.1f}", 1),
    "build s": ("{:.0f}", 1),
    "peak MiB": ("{:.0f}", 1),
}


def built(dataset: str, seed: int, overrides: list[str], run: Path) -> dict[str, Any]:
    """Build one kin beside the run folder; a missed gate is noted, not raised."""
    recipe = recipe_of(dataset, [*overrides, f"distil.seed={seed}"])
    out, fresh = run.parent / f"seed-{seed}", not any(run.glob("*/step.json"))
    started, failed = time.perf_counter(), []
    try:
        minikin.build(recipe, out, run=run)
    except GateFailed as error:
        failed = list(error.reasons)
    story = json.loads((out / "report.json").read_text(encoding="utf-8"))
    measured, gate = story["measurements"], story["gate"]

    def of(subject: str, key: str) -> float | None:
        return (measured.get(subject) or {}).get(key)

    return {
        "seed": seed,
        "kin": str(out),
        "chosen": next((row["name"] for row in story["front"] if row["state"] == "winner"), None),
        "failed": failed,
        "teacher": of("teacher", "accuracy"),
        "student": of("student", "accuracy"),
        "without teacher": of("student_without_teacher", "accuracy"),
        "TF-IDF": of("tfidf", "accuracy"),
        "retention": gate["retention"],
        "gap closed": gate["gap_closed"],
        "typo, teacher": of("teacher", "typo_accuracy"),
        "typo, student": of("student", "typo_accuracy"),
        "MiB": of("student", "size_mib"),
        "seconds": story["seconds"],
        "fresh": fresh,
        "build s": time.perf_counter() - started if fresh else None,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if fresh else None,
    }


def timed(dataset: str, rows: list[dict[str, Any]], overrides: list[str], run: Path, rounds: int) -> None:
    """Add to each row its kin's latency and how much faster it is than the teacher, all measured in turns."""
    build = binding(recipe_of(dataset, overrides), run)
    data = data_of(build, "timing")
    texts = [data.test.texts[i] for i in range(min(256, len(data.test)))]
    runtimes: dict[str, Runtime] = {row["kin"]: open_kin(row["kin"], threads=1) for row in rows}
    with tempfile.TemporaryDirectory() as temporary:
        if build.recipe.teacher is not None:
            teacher = tuned_teacher(build, data)
            runtimes["teacher"] = teacher
            exported = runtimes["teacher int8"] = OrtTeacher(teacher, Path(temporary), pair=data.pair)
            same_N = exported.probabilities(texts).argmax(1) == teacher.probabilities(texts).argmax(1)
            print(f"the teacher in int8 answers {same_N.mean():.1%} of {len(texts)} texts as it does in PyTorch")
        took = interleaved(runtimes, texts, rounds)
    for row in rows:
        mine = took[row["kin"]]
        row["p50 ms"] = mine.latency_ms_p50
        row["p95 ms"] = mine.latency_ms_p95
        if "teacher" in took:
            row["teacher p50 ms"] = took["teacher"].latency_ms_p50
            row["teacher int8 p50 ms"] = took["teacher int8"].latency_ms_p50
            row["× teacher, PyTorch"] = mine.times_faster_than(took["teacher"])
            row["× teacher, ORT int8"] = mine.times_faster_than(took["teacher int8"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--run", type=Path, help="run folder; default: bench/runs/DATASET/run")
    parser.add_argument("--rounds", type=int, default=5, help="turns of the latency measurement")
    args = parser.parse_args()
    run = args.run or run_of(args.dataset)
    rows = [built(args.dataset, seed, args.overrides, run) for seed in args.seeds]
    timed(args.dataset, rows, args.overrides, run, args.rounds)
    for row in rows:
        keep("main_job", {"dataset": name_of(args.dataset), "overrides": args.overrides, **row})
    lines = [[str(r["seed"]), *(mean_sd([r.get(c)], f, k) for c, (f, k) in COLUMNS.items())] for r in rows]
    if len(rows) > 1:
        lines.append(["mean ± sd", *(mean_sd([r.get(c) for r in rows], f, k) for c, (f, k) in COLUMNS.items())])
    print(f"\n{name_of(args.dataset)}: {', '.join(dict.fromkeys(str(r['chosen']) for r in rows))}\n")
    print(table(["seed", *COLUMNS], lines))
    seconds = next((r["seconds"] for r in rows if r["fresh"]), rows[0]["seconds"])
    print("\nseconds by stage: " + ", ".join(f"{name} {took:.0f}" for name, took in seconds.items()))
    for row in rows:
        for reason in row["failed"]:
            print(f"seed {row['seed']} misses the gate: {reason}")


if __name__ == "__main__":
    main()
