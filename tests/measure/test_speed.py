import gc
import time

import numpy as np
import pytest

from minikin.base.errors import KinError
from minikin.measure import speed


class Sleeper:
    """Answers after `ms` milliseconds, the first calls after more; remembers what it was asked."""

    labels = ("a", "b")

    def __init__(self, ms=1.0, slow_first=0):
        self.ms, self.slow_first, self.asked, self.collecting = ms, slow_first, [], []

    def probabilities(self, texts):
        self.asked.append(list(texts))
        self.collecting.append(gc.isenabled())
        time.sleep((self.ms + (50 if len(self.asked) <= self.slow_first else 0)) / 1000)
        return np.full((len(texts), 2), 0.5)


def test_latency_is_of_one_text_after_warm_up_without_collection():
    sleeper = Sleeper(ms=2, slow_first=3)
    measured = speed.latency(sleeper, ["x", "y", "z"], warmup=3, repeats=20)
    assert 2 <= measured.latency_ms_p50 < 12
    assert measured.latency_ms_p50 <= measured.latency_ms_p95
    assert measured.core_share < 0.5  # it slept
    assert measured.n == 20
    assert sleeper.asked[:4] == [["x"], ["y"], ["z"], ["x"]]
    assert sleeper.collecting == [True] * 3 + [False] * 20
    assert gc.isenabled()
    assert set(measured.summary()) == {"latency_ms_p50", "latency_ms_p95", "core_share"}


def test_latency_stops_in_time():
    measured = speed.latency(Sleeper(ms=20), ["x"], warmup=1000, repeats=1000, seconds=0.1)
    assert 1 <= measured.n < 20


def test_collection_is_on_again_after_an_error():
    class Broken(Sleeper):
        def probabilities(self, texts):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        speed.latency(Broken(), ["x"], warmup=0)
    assert gc.isenabled()


def test_throughput_counts_texts_not_batches():
    sleeper = Sleeper(ms=10)
    per_second = speed.throughput(sleeper, ["x"] * 50, seconds=0.1, batch=20)
    assert 300 < per_second < 1700
    assert {len(asked) for asked in sleeper.asked[1:]} == {20, 10}


@pytest.mark.parametrize("measure", [speed.latency, speed.throughput])
def test_no_texts_are_refused(measure):
    with pytest.raises(ValueError, match="at least one"):
        measure(Sleeper(), [])


def test_cold_start_takes_the_median_of_fresh_processes(monkeypatch):
    monkeypatch.setattr(
        speed,
        "ANSWER",
        "import json, sys, time\nstarted = time.perf_counter()\nimported = started + 0.2\n"
        "block = b'x' * (64 << 20)\nassert json.loads(sys.argv[2]) == ['a', 'b']\n"
        "loaded = imported + 0.3\nanswered = loaded + 0.1\n",
    )
    started = speed.cold_start("folder", ("a", "b"), runs=2)
    assert (started.import_s, started.load_s, started.answer_s) == pytest.approx((0.2, 0.3, 0.1))
    assert started.seconds == pytest.approx(0.6)
    assert 64 < started.memory_mib < 200
    assert 5 < started.base_mib < 80
    assert 0 < started.base_s < 5
    assert started.summary()["runs"] == 2


def test_cold_start_says_why_a_kin_does_not_load(monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "ANSWER", "raise SystemExit('minikin.json is missing')\n")
    with pytest.raises(KinError, match=r"could not load .*: minikin\.json is missing"):
        speed.cold_start(tmp_path)


def test_a_fresh_process_reads_nothing_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    assert speed._fresh(speed.NUMPY, [])["peak_mib"] > 1
