"""The watch: how often it is wrong, how soon it is right, and what is left after a restart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from minikin.equations.drift import e_process, e_start
from minikin.trust.book import Memory
from minikin.trust.drift import CERTIFIED, SUSPECT, VOID, Watch
from minikin.trust.queue import Queue

RNG = np.random.default_rng(0)
REFERENCE = {"scores": RNG.beta(5, 1, 400), "distances": RNG.gamma(3, size=400)}


def watch(alarm: float = 0.05, seed: int = 0, **more) -> Watch:
    chance = np.random.default_rng(seed).random
    return Watch("c", 0.02, REFERENCE, alarm=alarm, chance=lambda: float(chance()), **more)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """With the same distribution, at most δ′ = 20 % of streams ever alarm; each runs 150 texts."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        pool = {"scores": rng.beta(5, 1, 550), "distances": rng.gamma(3, size=550)}
        one = Watch("c", 0.02, {name: values[:400] for name, values in pool.items()}, alarm=0.2, together=50)
        one.seen(**{name: values[400:] for name, values in pool.items()})
        alarms += one.state != CERTIFIED
    assert alarms <= 40 * 0.2


@pytest.mark.parametrize(("a", "k"), [(2, 3), (5, 6)], ids=["scores", "distances"])
def test_a_change_in_either_makes_it_suspect(a: float, k: float) -> None:
    rng = np.random.default_rng(5)
    one = watch(together=10)
    one.seen(scores=rng.beta(a, 1, 400), distances=rng.gamma(k, size=400))
    assert one.state == SUSPECT
    assert "has changed" in one.reason
    one.audited([("a", "a")] * 5)
    assert one.state == SUSPECT


def test_nothing_is_written_until_enough_has_come() -> None:
    one = watch(together=64)
    one.seen(scores=np.full(63, 0.9), distances=np.full(63, 3.0))
    assert one.standing.seen == 0
    one.seen(scores=np.full(1, 0.9), distances=np.full(1, 3.0))
    assert one.standing.seen == 64
    one.seen(scores=np.full(3, 0.9), distances=np.full(3, 3.0))
    one.flush()
    assert one.standing.seen == 67


def test_the_audit_is_the_e_process_of_its_answers() -> None:
    rng = np.random.default_rng(0)
    answers = [("a", "b" if wrong else "a") for wrong in rng.random(200) < 0.02]
    one = watch()
    one.audited(answers[:50])
    one.audited(answers)
    state = e_start(0.02)
    for answer, truth in answers:
        state = e_process(state, answer != truth)
    found = one.standing
    assert (found.audited, found.errors) == (200, state.errors)
    assert found.audit_e == pytest.approx(math.exp(state.log_e))


def test_void_is_for_good() -> None:
    one = watch()
    wrong = [("a", "b")] * 20
    one.audited(wrong)
    assert one.state == VOID
    one.audited([("a", "a")] * 20)  # even if people correct themselves
    assert one.state == VOID


def test_risk_at_the_limit_rarely_voids() -> None:
    voids = 0
    for seed in range(60):
        wrong_N = np.random.default_rng(seed).random(150) < 0.02
        one = Watch("c", 0.02, {}, alarm=0.05, book=Memory())
        one.audited([("a", "b" if wrong else "a") for wrong in wrong_N])
        voids += one.state == VOID
    assert voids <= 3


def test_the_expected_delay_is_the_published_one() -> None:
    delays = Watch("c", 0.02, {}, alarm=0.05).delays()
    assert {round(risk, 3): round(n) for risk, n in delays.items()} == {0.04: 378, 0.1: 36}


def test_workers_share_a_watch_and_it_outlives_them(tmp_path: Path) -> None:
    for _ in range(2):
        queue = Queue(tmp_path / "queue.db")
        one = watch(together=1, book=queue.book)
        one.seen(scores=np.full(10, 0.8), distances=np.full(10, 2.0))
        queue.close()
    queue = Queue(tmp_path / "queue.db")
    assert watch(book=queue.book).standing.seen == 20


def test_transitions_are_logged_with_their_evidence() -> None:
    book = Memory()
    one = watch(together=1, book=book)
    for _ in range(200):
        one.seen(scores=np.full(1, 0.1), distances=np.full(1, 30.0))
    one.audited([("a", "b")] * 20)
    first, second = book.notes()
    assert [(note["from"], note["to"]) for note in (first, second)] == [(CERTIFIED, SUSPECT), (SUSPECT, VOID)]
    assert max(first["log_e"].values()) >= math.log(20)
    assert (second["audited"], second["errors"]) == (20, 20)


def test_a_small_shift_is_noticed_too() -> None:
    """A quarter of the mass becomes 1.5 times as likely: bold bets alone would lose on it."""
    rng = np.random.default_rng(3)
    low_N = rng.random(2000) < 0.375
    scores_N = np.where(low_N, rng.uniform(0, 0.25, 2000), rng.uniform(0.25, 1, 2000))
    one = Watch("c", 0.02, {"scores": rng.uniform(size=1000)}, chance=rng.random)
    one.seen(scores=rng.uniform(size=500))
    assert one.state == CERTIFIED
    one.seen(scores=scores_N)
    assert one.state == SUSPECT
