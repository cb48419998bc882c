"""How long until something happens: `minikin --help`, and the cold start of a kin (import, load, first answer).

python bench/start.py --kin bench/runs/banking77/seed-0
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import ROOT, keep, table
from minikin.measure.speed import cold_start
from minikin.runtimes import open as open_kin


def help_s(runs: int) -> list[float]:
    """Wall time of `minikin --help` in fresh processes, after one that is not counted."""
    script = Path(sys.executable).with_name("minikin")
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "minikin"]
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    took = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([*command, "--help"], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": path})
        took.append(time.perf_counter() - started)
    return took[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kin", type=Path, nargs="*", default=[])
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    took = help_s(args.runs)
    row: dict[str, object] = {"help_s": statistics.median(took), "help_all_s": took}
    lines = [("`minikin --help`", f"{statistics.median(took):.3f}", "", "", "", "")]
    for folder in args.kin:
        text = ("hello", "is anybody there?") if open_kin(folder, threads=1).manifest.pair else "hello, anybody there?"
        start = cold_start(folder, text, runs=args.runs)
        row[str(folder)] = start.summary()
        figures = (start.seconds, start.import_s, start.load_s, start.answer_s)
        lines.append((str(folder), *(f"{s:.3f}" for s in figures), f"{start.memory_mib:.0f}"))
    keep("start", row)
    print(table(["median of " + str(args.runs), "seconds", "import", "load", "first answer", "peak MiB"], lines))


if __name__ == "__main__":
    main()
