"""Successive halving: everyone is tried, the better half goes on, and the best is among the last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minikin.plan.search import halving, last_scores

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(SCORES, st.integers(1, 4))
def test_the_best_reaches_the_last_rung(scores, rungs):
    trials = halving(len(scores), lambda i, _: scores[i], rungs=rungs)
    first = [t for t in trials if t.rung == 0]
    last = {t.index for t in trials if t.rung == rungs - 1}
    assert [t.index for t in first] == list(range(len(scores)))
    assert scores.index(max(scores)) in last
    assert len(last) >= min(2, len(scores))
    assert max(last_scores(trials).values(), key=lambda t: (t.rung, t.score)).score == max(scores)


@given(SCORES)
def test_each_rung_keeps_the_better_half(scores):
    trials = halving(len(scores), lambda i, _: scores[i], rungs=2)
    kept = [t.index for t in trials if t.rung == 1]
    left = [i for i in range(len(scores)) if i not in kept]
    assert len(kept) == max(min(2, len(scores)), -(-len(scores) // 2))
    assert not left or max(scores[i] for i in left) <= min(scores[i] for i in kept)


def test_ties_go_to_the_cheaper():
    trials = halving(4, lambda _i, _r: 0.5)
    assert [t.index for t in trials if t.rung == 1] == [0, 1]


def test_later_rungs_decide():
    trials = halving(4, lambda i, rung: float(i) if rung == 0 else float(-i))
    furthest = last_scores(trials)
    assert {i: t.rung for i, t in furthest.items()} == {0: 0, 1: 0, 2: 1, 3: 1}
    assert furthest[2].score == -2.0


def test_progress_goes_up():
    seen: list[float] = []
    halving(5, lambda i, _: i, progress=lambda share, _: seen.append(share))
    assert seen == sorted(seen)
    assert 0 <= seen[0] <= seen[-1] <= 1
