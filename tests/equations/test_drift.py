import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikin.equations import drift

ALARM = math.log(20)


def caught(step, state, values):
    """After how many values the wealth first reaches 20; None if never."""
    for i, value in enumerate(values):
        state = step(state, value)
        if state.log_e >= ALARM:
            return i + 1
    return None


@pytest.mark.parametrize(("risk", "answers"), [(0.04, 378), (0.10, 36)])
def test_expected_delay(risk, answers):
    assert math.ceil(drift.expected_delay(0.02, risk, 0.05)) == answers
    assert drift.expected_delay(0.02, 0.02, 0.05) == math.inf


def test_a_risk_at_the_limit_is_rarely_called_too_high():
    rng = np.random.default_rng(1)
    alarms = sum(caught(drift.e_process, drift.e_start(0.1), rng.random(200) < 0.1) is not None for _ in range(1000))
    assert alarms <= 50


def test_without_enough_wealth_asleep_or_honest_odds_the_same_test_fails():
    def greedy(state, wrong):
        return drift.e_process(drift.e_process(state, wrong), wrong) if wrong else drift.e_process(state, wrong)

    rng = np.random.default_rng(1)
    alarms = sum(caught(greedy, drift.e_start(0.1), rng.random(200) < 0.1) is not None for _ in range(300))
    assert alarms > 15


@pytest.mark.parametrize(("risk", "mean_most"), [(0.04, 600), (0.10, 75)])
def test_a_risk_above_the_limit_is_caught(risk, mean_most):
    rng = np.random.default_rng(2)
    delays = [caught(drift.e_process, drift.e_start(0.02), rng.random(4000) < risk) for _ in range(60)]
    assert None not in delays
    assert np.mean(delays) < mean_most


def test_a_change_after_a_quiet_year_is_still_caught():
    state = drift.e_start(0.02)
    for _ in range(5000):
        state = drift.e_process(state, False)
    assert state.log_e < 0
    rng = np.random.default_rng(3)
    assert caught(drift.e_process, state, rng.random(400) < 0.15) is not None


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0.001, 0.9))
@settings(max_examples=50, deadline=None)
def test_the_state_survives_json_and_bets_are_fair(history, alpha):
    state = drift.e_start(alpha)
    for wrong in history:
        won, lost = drift.e_process(state, True), drift.e_process(state, False)
        fair = alpha * math.exp(won.log_e) + (1 - alpha) * math.exp(lost.log_e)
        assert fair == pytest.approx(math.exp(state.log_e), rel=1e-9)
        state = won if wrong else lost
    assert drift.EProcess.of(json.loads(json.dumps(state.json()))) == state
    assert (state.n, state.errors) == (len(history), sum(history))


def scores_step(rng):
    return lambda state, score: drift.martingale(state, score, rng.random())


@pytest.mark.parametrize("draw", [lambda rng, n: rng.integers(0, 9, n), lambda rng, n: rng.normal(size=n)])
def test_scores_that_come_as_before_rarely_raise_suspicion(draw):
    """Few calibration scores, with many ties and with none; bench/drift.py --simulate has streams of a usual length."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(1000):
        state = drift.martingale_start(draw(rng, 60), bins=20)
        alarms += caught(scores_step(rng), state, draw(rng, 120)) is not None
    assert alarms <= 50


def test_a_watch_that_forgets_what_came_since_is_caught():
    """Ranks among the calibration scores alone: each chance difference of theirs from the rest is bet on for ever."""

    def forgetful(state, score):
        found = drift.martingale(state, score, rng.random())
        return replace(found, counts=state.counts)

    rng = np.random.default_rng(4)
    starts = [drift.martingale_start(rng.normal(size=60), bins=20) for _ in range(60)]
    assert sum(caught(forgetful, state, rng.normal(size=600)) is not None for state in starts) > 3


@pytest.mark.parametrize(
    "changed",
    [lambda u: 0.1 * u, lambda u: 1 - 0.1 * u, lambda u: np.where(u < 0.3, 0.05 * u, u), lambda u: u * math.nan],
)
def test_scores_that_changed_raise_suspicion(changed):
    rng = np.random.default_rng(5)
    for _ in range(10):
        state = drift.martingale_start(rng.random(1000))
        assert caught(scores_step(rng), state, changed(rng.random(600))) is not None


def test_p_values_are_uniform_and_bets_fair():
    rng = np.random.default_rng(6)
    state = drift.martingale_start(rng.random(200), bins=10)
    found = []
    for score in rng.random(4000):
        found.append(drift.p_value(state, score, rng.random()))
        state = drift.martingale(state, score, 0.5)
    assert np.histogram(found, 10, (0, 1))[0] == pytest.approx(400, abs=80)
    start = drift.martingale_start(np.arange(1000.0), bins=1000)
    after = [math.exp(drift.martingale(start, score, 0.5).log_e) for score in np.arange(1000.0)]
    assert np.mean(after) == pytest.approx(1.0, abs=0.01)


def test_the_martingale_survives_json():
    state = drift.martingale(drift.martingale_start([0.1, 0.2, 0.2, 0.9]), 0.15, 0.4)
    assert drift.Martingale.of(json.loads(json.dumps(state.json()))) == state
    assert sum(state.counts) == 5


@pytest.mark.parametrize("scores", [[], [math.nan], [1.0, math.inf]])
def test_refuses_scores_that_are_none(scores):
    with pytest.raises(ValueError, match="finite"):
        drift.martingale_start(scores)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_refuses_an_alpha_that_is_none(alpha):
    with pytest.raises(ValueError, match="between"):
        drift.e_start(alpha)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v.pop("n"),
        lambda v: v.update(extra=1),
        lambda v: v.update(n="3"),
        lambda v: v.update(n=0.5),
        lambda v: v.update(log_asleep=math.nan),
        lambda v: v.update(log_wealth=[0.0]),
    ],
)
def test_refuses_a_state_that_was_spoilt(spoil):
    for state in (drift.e_start(0.02), drift.martingale_start([0.1, 0.5])):
        value = state.json()
        spoil(value)
        with pytest.raises(ValueError, match=r"state|martingale"):
            type(state).of(value)
