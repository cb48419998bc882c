"""The next token: greedy, or drawn from what temperature, top-k and top-p leave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.errors import UserError
from minikin.base.writing import Decoding
from minikin.runtimes import sampling

LOGITS = np.log(np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], np.float32))
rows = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40).map(lambda row: np.array(row, np.float32))


def drawn(how: Decoding, draws: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.bincount([sampling.pick(LOGITS, how, rng) for _ in range(draws)], minlength=5) / draws


def test_greedy_takes_the_first_of_the_likeliest():
    assert sampling.pick(np.array([1, 3, 3, 2], np.float32), Decoding(), np.random.default_rng(0)) == 1


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Decoding(temperature=1), [0.5, 0.25, 0.125, 0.0625, 0.0625]),
        (Decoding(temperature=1, top_k=2), [2 / 3, 1 / 3, 0, 0, 0]),
        (Decoding(temperature=1, top_p=0.8), [4 / 7, 2 / 7, 1 / 7, 0, 0]),
        (Decoding(temperature=0.5), np.array([256, 64, 16, 4, 4]) / 344),
        (Decoding(temperature=1, top_k=2, top_p=0.6), [1, 0, 0, 0, 0]),
    ],
)
def test_draws_follow_the_distribution(how, expected):
    assert np.abs(drawn(how) - expected).max() < 0.03


def test_a_token_that_is_ruled_out_is_never_drawn():
    logits_V = np.array([-np.inf, 0.0, -np.inf, 0.0], np.float32)
    rng = np.random.default_rng(0)
    assert {sampling.pick(logits_V, Decoding(temperature=5), rng) for _ in range(200)} == {1, 3}


@given(rows)
def test_log_probabilities_sum_to_one_and_agree_with_one_another(logits_V):
    each = [sampling.logprob(logits_V, i) for i in range(len(logits_V))]
    assert np.exp(each).sum() == pytest.approx(1)
    many = sampling.logprobs(np.tile(logits_V, (len(each), 1)), np.arange(len(each)))
    assert many == pytest.approx(each)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -1}, "top_k is -1"),
        ({"stop": ("a", "")}, "stop string is empty"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, reason):
    with pytest.raises(UserError, match=reason):
        sampling.check(Decoding(**change))
