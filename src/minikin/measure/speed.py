"""How fast something answers on this machine: latency, throughput, and the cold start of a fresh process.

Always from raw text to answer; one thread is the runtime's business. Called by the gate, the plan and `minikin bench`.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base.errors import KinError
from minikin.base.types import Runtime, Text

# What a fresh process runs: argv is folder, JSON of a text, threads, engine. VmHWM rather than ru_maxrss where there
# is one, for ru_maxrss also counts what the parent held before exec.
PEAK = """
def peak_mib():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
"""
ANSWER = """
import json, sys, time
started = time.perf_counter()
import minikin
imported = time.perf_counter()
kin = minikin.load(sys.argv[1], threads=int(sys.argv[3]), engine=sys.argv[4] or None)
loaded = time.perf_counter()
text = json.loads(sys.argv[2])
kin(text if isinstance(text, str) else tuple(text))
answered = time.perf_counter()
"""
NUMPY = """
import json, sys, time
started = imported = loaded = time.perf_counter()
import numpy
answered = time.perf_counter()
"""
TELL = """
print(json.dumps({"import_s": imported - started, "load_s": loaded - imported,
                  "answer_s": answered - loaded, "peak_mib": peak_mib()}))
"""


class Cores:
    """Tells how much of a core this process has had since this was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def share(self) -> float:
        """CPU time over wall time: 1 for one thread that never waits, less when other work has the cores."""
        return (time.process_time() - self._cpu) / max(time.perf_counter() - self._wall, 1e-9)


@dataclass(frozen=True)
class Latency:
    """Milliseconds from one raw text to its answer, over `n` timed calls that had `core_share` of a core."""

    latency_ms_p50: float
    latency_ms_p95: float
    n: int
    core_share: float

    def summary(self) -> dict[str, Any]:
        """Return plain values for the manifest."""
        return {key: value for key, value in asdict(self).items() if key != "n"}


@dataclass(frozen=True)
class ColdStart:
    """Medians over fresh processes: import, load and first answer in seconds, and the peak of resident memory.

    `process_s` runs from the start of the interpreter to its end; `base_s` and `base_mib` are those of an
    interpreter that only imports numpy.
    """

    seconds: float
    import_s: float
    load_s: float
    answer_s: float
    process_s: float
    memory_mib: float
    base_s: float
    base_mib: float
    runs: int

    def summary(self) -> dict[str, Any]:
        """Return plain values for the bench table."""
        return asdict(self)


def latency(
    runtime: Runtime, texts: Sequence[Text], *, warmup: int = 20, repeats: int = 200, seconds: float = 5.0
) -> Latency:
    """Time single answers, cycling through `texts`, until `repeats` calls or `seconds` are used up.

    Warm-up calls are not counted (and stop after `seconds` too); the garbage collector is off while timing.
    """
    if not texts or repeats < 1:
        raise ValueError("latency needs at least one text and one repeat")
    cycle = _cycle(texts)
    until = time.perf_counter() + seconds
    for _ in range(warmup):
        runtime.probabilities([next(cycle)])
        if time.perf_counter() > until:
            break
    took_ns: list[int] = []
    with _no_collection():
        until, cores = time.perf_counter() + seconds, Cores()
        while len(took_ns) < repeats and (not took_ns or time.perf_counter() < until):
            one = [next(cycle)]
            started = time.perf_counter_ns()
            runtime.probabilities(one)
            took_ns.append(time.perf_counter_ns() - started)
        share = cores.share()
    p50, p95 = np.percentile(np.array(took_ns) / 1e6, [50, 95])
    return Latency(float(p50), float(p95), len(took_ns), share)


def throughput(runtime: Runtime, texts: Sequence[Text], *, seconds: float = 3.0, batch: int = 1024) -> float:
    """Texts answered per second when many are asked at once; passes over `texts` until `seconds` are used up."""
    if not texts:
        raise ValueError("throughput needs at least one text")
    batches = [list(texts[start : start + batch]) for start in range(0, len(texts), batch)]
    runtime.probabilities(batches[0][:64])
    answered, turn = 0, 0
    with _no_collection():
        started = time.perf_counter()
        while not answered or time.perf_counter() - started < seconds:
            runtime.probabilities(batches[turn % len(batches)])
            answered += len(batches[turn % len(batches)])
            turn += 1
        return answered / (time.perf_counter() - started)


def cold_start(
    folder: Path, text: Text = "where is my order?", runs: int = 5, *, engine: str = "", threads: int = 1
) -> ColdStart:
    """Load the kin in fresh processes of this interpreter, by an engine or its usual one, and answer once.

    Medians of `runs`.

    Raises KinError with the process's own last words when it fails.
    """
    arguments = [str(folder), json.dumps(text), str(threads), engine]
    # One start apart first, so that what is timed reads files that the system has at hand.
    _fresh(ANSWER, arguments)
    starts = [_fresh(ANSWER, arguments) for _ in range(runs)]
    bases = [_fresh(NUMPY, []) for _ in range(runs)]

    def median(key: str, of: list[dict[str, float]] = starts) -> float:
        return statistics.median(start[key] for start in of)

    return ColdStart(
        seconds=statistics.median(s["import_s"] + s["load_s"] + s["answer_s"] for s in starts),
        import_s=median("import_s"),
        load_s=median("load_s"),
        answer_s=median("answer_s"),
        process_s=median("process_s"),
        memory_mib=median("peak_mib"),
        base_s=median("process_s", bases),
        base_mib=median("peak_mib", bases),
        runs=runs,
    )


def _fresh(program: str, arguments: list[str]) -> dict[str, float]:
    """Run a program in a fresh interpreter that finds this very package, and nothing in the current folder."""
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-c", PEAK + program + TELL, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    took = time.perf_counter() - started
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise KinError(f"A fresh process could not load {arguments[0] if arguments else 'numpy'}: {last}")
    told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**told, "process_s": took}


def _cycle(texts: Sequence[Text]) -> Iterator[Text]:
    while True:
        yield from texts


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector off until the block ends."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
