"""Divergences of next-token distributions, against torch's own and against sums over every case."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from minikin.equations import sequence

LOGITS = hnp.arrays("float64", st.tuples(st.integers(1, 4), st.just(9)), elements=st.floats(-12, 12))
PAIRS = st.tuples(LOGITS, LOGITS).filter(lambda pair: pair[0].shape == pair[1].shape)
DIVERGENCES = {
    "kl": sequence.kl,
    "reverse_kl": sequence.reverse_kl,
    "js": sequence.js,
    "js 0.1": lambda q, p: sequence.js(q, p, 0.1),
    "skew_kl": sequence.skew_kl,
    "skew_reverse_kl": sequence.skew_reverse_kl,
    "skew_kl 0.7": lambda q, p: sequence.skew_kl(q, p, 0.7),
    "uld": sequence.uld,
}


def logs(logits_MV) -> torch.Tensor:
    return F.log_softmax(torch.tensor(logits_MV), -1)


def plain_kl(p, q) -> torch.Tensor:
    return F.kl_div(q.log(), p, reduction="none").sum(-1)


@pytest.mark.parametrize("name", DIVERGENCES)
@given(PAIRS)
def test_no_divergence_is_negative_and_a_perfect_student_has_none(name, pair):
    student_MV, teacher_MV = map(logs, pair)
    assert float(DIVERGENCES[name](student_MV, teacher_MV).min()) >= -1e-12
    assert float(DIVERGENCES[name](teacher_MV, teacher_MV).abs().max()) < 1e-12


@given(PAIRS, st.floats(0.05, 0.95))
def test_each_is_its_equation(pair, share):
    log_q, log_p = map(logs, pair)
    q, p = log_q.exp(), log_p.exp()
    mixed = share * p + (1 - share) * q
    expected = {
        sequence.kl: plain_kl(p, q),
        sequence.reverse_kl: plain_kl(q, p),
        sequence.js: share * plain_kl(p, mixed) + (1 - share) * plain_kl(q, mixed),
        sequence.skew_kl: plain_kl(p, mixed),
        sequence.skew_reverse_kl: plain_kl(q, share * q + (1 - share) * p),
        sequence.uld: (p - q).abs().sum(-1),
    }
    for divergence, value in expected.items():
        shared = divergence in (sequence.js, sequence.skew_kl, sequence.skew_reverse_kl)
        found = divergence(log_q, log_p, share) if shared else divergence(log_q, log_p)
        torch.testing.assert_close(found, value, rtol=1e-6, atol=1e-9)


@given(PAIRS)
def test_jensen_shannon_tends_to_the_two_kls(pair):
    log_q, log_p = (0.2 * torch.tensor(x) for x in pair)
    log_q, log_p = F.log_softmax(log_q, -1), F.log_softmax(log_p, -1)
    small = 1e-6
    close = {"rtol": 1e-3, "atol": 1e-6}
    torch.testing.assert_close(sequence.js(log_q, log_p, small) / small, sequence.kl(log_q, log_p), **close)
    torch.testing.assert_close(sequence.js(log_q, log_p, 1 - small) / small, sequence.reverse_kl(log_q, log_p), **close)


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "uld"])
@given(PAIRS, st.integers(1, 8))
def test_the_partition_bounds_the_whole_from_below(name, pair, k):
    student_MV, teacher_MV = map(torch.tensor, pair)
    ids_MK, log_p_MK1 = sequence.top(teacher_MV, k)
    parted = DIVERGENCES[name](sequence.partition(student_MV, ids_MK), log_p_MK1)
    whole = DIVERGENCES[name](F.log_softmax(student_MV, -1), F.log_softmax(teacher_MV, -1))
    assert bool((parted <= whole + 1e-8).all())


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "uld"])
def test_the_partition_is_the_whole_where_the_tails_have_the_same_proportions(name):
    teacher_MV = torch.tensor([[3.0, 2.0, 0.1, -1.0, 0.4]], dtype=torch.float64)
    student_MV = torch.tensor([[1.0, 2.5, 1.1, 0.0, 1.4]], dtype=torch.float64)  # the last three: one more
    ids_MK, log_p_MK1 = sequence.top(teacher_MV, 2)
    parted = DIVERGENCES[name](sequence.partition(student_MV, ids_MK), log_p_MK1)
    whole = DIVERGENCES[name](F.log_softmax(student_MV, -1), F.log_softmax(teacher_MV, -1))
    torch.testing.assert_close(parted, whole)


@given(LOGITS, st.integers(1, 9))
def test_top_holds_the_likeliest_and_all_that_is_left(logits, k):
    logits_MV = torch.tensor(logits)
    ids_MK, logs_MK1 = sequence.top(logits_MV, k)
    p_MV = logits_MV.softmax(-1)
    torch.testing.assert_close(logs_MK1.exp()[:, :-1], p_MV.sort(-1, descending=True).values[:, :k], atol=1e-9, rtol=0)
    torch.testing.assert_close(logs_MK1.exp().sum(-1), torch.ones(len(logits_MV), dtype=torch.float64))
    assert bool((logs_MK1[:, :-1].diff(dim=-1) <= 0).all())
    assert bool((p_MV.gather(-1, ids_MK) >= logs_MK1.exp()[:, :-1] - 1e-12).all())


def test_a_tiny_tail_is_not_lost_to_rounding():
    logits_MV = torch.tensor([[0.0, -20.0, -21.0]])
    _, logs_MK1 = sequence.top(logits_MV, 1)
    assert float(logs_MK1[0, 1]) == pytest.approx(math.log(math.exp(-20) + math.exp(-21)), rel=1e-5)


def test_uld_ignores_which_token_is_which():
    one = torch.tensor([[4.0, 1.0, 0.0, -2.0, 0.5]], dtype=torch.float64)
    _, sorted_one = sequence.top(one, 5)
    _, sorted_other = sequence.top(one[:, [3, 0, 4, 2, 1]], 5)
    assert float(sequence.uld(sorted_one, sorted_other)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("sharpness", [1.0, 0.6, 1.5])
@pytest.mark.parametrize("draws", [1, 2, 3])
def test_the_sampled_estimate_is_right_in_expectation(draws, sharpness):
    """Every possible draw, with its probability: the mean of the estimates is the divergence, and so is its slope."""
    teacher = torch.tensor([[0.5, -1.0, 1.2, 0.0]], dtype=torch.float64)
    student = torch.tensor([[0.1, 0.7, -0.4, 0.3]], dtype=torch.float64, requires_grad=True)
    log_p, log_q = F.log_softmax(teacher, -1), F.log_softmax(student, -1)
    proposal = F.softmax(sharpness * log_p, -1)[0]
    weight_of = (log_p.exp()[0] / proposal) / draws
    expected = torch.zeros(1, dtype=torch.float64)
    for ids in itertools.product(range(4), repeat=draws):
        chance = math.prod(float(proposal[i]) for i in ids)
        ids_MK = torch.tensor([ids])
        cross_entropy = -(weight_of[ids_MK] * log_q.gather(-1, ids_MK)).sum(-1)
        expected = expected + chance * (cross_entropy - sequence.entropy(teacher))
    whole = sequence.kl(log_q, log_p)
    torch.testing.assert_close(expected, whole)
    slopes = [torch.autograd.grad(value.sum(), student, retain_graph=True)[0] for value in (expected, whole)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("sharpness", [1.0, 0.6])
def test_draws_have_these_weights_and_repeat_with_their_seed(sharpness):
    logits_MV = torch.tensor([[0.5, -1.0, 1.2, 0.0]]).repeat(20_000, 1)
    ids_MK, weights_MK = sequence.sampled(logits_MV, 3, torch.Generator().manual_seed(1), sharpness)
    again, _ = sequence.sampled(logits_MV, 3, torch.Generator().manual_seed(1), sharpness)
    assert torch.equal(ids_MK, again)
    mean_V = torch.zeros(4).scatter_add(0, ids_MK.flatten(), weights_MK.flatten()) / len(logits_MV)
    torch.testing.assert_close(mean_V, logits_MV[0].softmax(-1), atol=0.01, rtol=0)
    if sharpness == 1.0:
        torch.testing.assert_close(weights_MK, torch.full_like(weights_MK, 1 / 3))
