"""The chunked projection and loss against plain torch: values, gradients, memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minikin.equations import sequence
from minikin.feed.decoder import Head
from minikin.measure import speed
from minikin.train import fused
from minikin.train.fused import Dense, Named, Parted

M, V, H, K = 23, 41, 6, 5


def values(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    made = {"hidden": torch.randn(M, H, generator=g), "weight": torch.randn(V, H, generator=g)}
    made["bias"] = torch.randn(V, generator=g)
    made["teacher"] = 3 * torch.randn(M, V, generator=g)
    return {name: x.to(dtype) for name, x in made.items()}


GIVEN = values()
GOLD_M = torch.arange(M) * 5 % V
IDS_MK, LOG_P_MK1 = sequence.top(GIVEN["teacher"], K)
_, SORTED_MK1 = sequence.top(GIVEN["teacher"], K)
DRAWN_MK, WEIGHTS_MK = sequence.sampled(GIVEN["teacher"], 7, torch.Generator().manual_seed(2))
GOLD = Named(GOLD_M[:, None], torch.ones(M, 1))
LOG_P_MV = F.log_softmax(GIVEN["teacher"], -1)


def cross_entropy(logits_MV: Tensor) -> Tensor:
    return F.cross_entropy(logits_MV, GOLD_M, reduction="sum")


def parted(divergence: Callable[..., Tensor]) -> tuple[Parted, Callable[[Tensor], Tensor]]:
    return (
        Parted(lambda log_q, part: divergence(log_q, LOG_P_MK1[part]), IDS_MK),
        lambda logits: divergence(sequence.partition(logits, IDS_MK), LOG_P_MK1).sum(),
    )


def dense(divergence: Callable[..., Tensor]) -> tuple[Dense, Callable[[Tensor], Tensor]]:
    return (
        Dense(lambda log_q, part: divergence(log_q, LOG_P_MV[part])),
        lambda logits: divergence(F.log_softmax(logits, -1), LOG_P_MV).sum(),
    )


DIVERGENCES = [sequence.kl, sequence.reverse_kl, sequence.js, sequence.skew_kl, sequence.skew_reverse_kl]
CASES = {
    "gold": ((GOLD,), None, cross_entropy),
    "sampled": (
        (Named(DRAWN_MK, WEIGHTS_MK),),
        None,
        lambda logits: -(WEIGHTS_MK * F.log_softmax(logits, -1).gather(-1, DRAWN_MK)).sum(),
    ),
    "uld": (
        (),
        Parted(lambda log_q, part: sequence.uld(log_q, SORTED_MK1[part]), k=K),
        lambda logits: sequence.uld(sequence.top(logits, K)[1], SORTED_MK1).sum(),
    ),
    **{f"top-k {d.__name__}": ((), *parted(d)) for d in DIVERGENCES},
    **{f"dense {d.__name__}": ((), *dense(d)) for d in DIVERGENCES},
    "gold and top-k": ((GOLD,), parted(sequence.kl)[0], lambda x: cross_entropy(x) + parted(sequence.kl)[1](x)),
    "gold and dense": ((GOLD,), dense(sequence.js)[0], lambda x: cross_entropy(x) + dense(sequence.js)[1](x)),
}


def learned() -> dict[str, Tensor]:
    return {name: GIVEN[name].clone().requires_grad_() for name in ("hidden", "weight", "bias")}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [1, 7, M, 100])
@pytest.mark.parametrize("head", [{}, {"scale": 0.5, "softcap": 2.0}], ids=["plain", "capped"])
def test_it_is_the_plain_loss(name, chunk, head):
    named, against, plain = CASES[name]
    mine, theirs = learned(), learned()
    found = fused.loss(mine["hidden"], Head(mine["weight"], mine["bias"], **head), named, against, chunk=chunk)
    logits_MV = Head(theirs["weight"], theirs["bias"], **head).logits(theirs["hidden"])
    expected = plain(logits_MV)
    torch.testing.assert_close(found, expected)
    (3.0 * found).backward()
    (3.0 * expected).backward()
    for key in mine:
        torch.testing.assert_close(mine[key].grad, theirs[key].grad, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("name", ["gold", "top-k kl", "dense kl"])
def test_a_temperature_divides_the_logits(name, temperature):
    named, against, plain = CASES[name]
    mine, theirs = learned(), learned()
    head = Head(mine["weight"], mine["bias"])
    found = fused.loss(mine["hidden"], head, named, against, temperature=temperature)
    expected = plain((theirs["hidden"] @ theirs["weight"].T + theirs["bias"]) / temperature)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(mine["hidden"].grad, theirs["hidden"].grad)
    torch.testing.assert_close(mine["weight"].grad, theirs["weight"].grad)


def test_frozen_weights_get_no_gradient_and_what_needs_none_costs_none():
    hidden = GIVEN["hidden"].clone().requires_grad_()
    fused.loss(hidden, Head(GIVEN["weight"], GIVEN["bias"]), (GOLD,)).backward()
    assert hidden.grad is not None
    assert not fused.loss(GIVEN["hidden"], Head(GIVEN["weight"]), (GOLD,)).requires_grad


def test_a_surely_wrong_student_has_a_finite_loss_and_slope():
    weight = torch.zeros(V, H)
    weight[3] = 40.0
    hidden = torch.ones(M, H, requires_grad=True)
    for divergence in DIVERGENCES:
        found = fused.loss(hidden, Head(weight), (), parted_float(divergence))
        (slope,) = torch.autograd.grad(found, hidden)
        assert bool(torch.isfinite(found))
        assert bool(torch.isfinite(slope).all())


def parted_float(divergence: Callable[..., Tensor]) -> Parted:
    return Parted(lambda log_q, part: divergence(log_q, LOG_P_MK1[part].float()), IDS_MK)


def test_the_whole_vocabulary_as_named_tokens_leaves_an_empty_tail():
    ids_MV, log_p_MV1 = sequence.top(GIVEN["teacher"].float(), V)
    hidden, weight = (GIVEN[k].float().requires_grad_() for k in ("hidden", "weight"))
    against = Parted(lambda log_q, part: sequence.kl(log_q, log_p_MV1[part]), ids_MV)
    found = fused.loss(hidden, Head(weight), (), against)
    expected = sequence.kl(F.log_softmax(hidden @ weight.T, -1), F.log_softmax(GIVEN["teacher"].float(), -1)).sum()
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(x, hidden)[0] for x in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)


def test_under_autocast_it_is_close_and_gradients_stay_float32():
    hidden, weight = (GIVEN[k].float().requires_grad_() for k in ("hidden", "weight"))
    exact = fused.loss(hidden, Head(weight), *CASES["top-k kl"][:2])
    with torch.autocast("cpu", torch.bfloat16):
        rough = fused.loss(hidden, Head(weight), *CASES["top-k kl"][:2])
    assert 0 < abs((rough - exact).item()) < 0.02 * exact.item()
    rough.backward()
    assert weight.grad.dtype == torch.float32


PROGRAM = """
import sys, torch
from torch.nn import functional as F
from minikin.feed.decoder import Head
from minikin.train import fused
hidden = torch.randn(1024, 32).requires_grad_()
weight = torch.randn(32_000, 32).requires_grad_()
gold = torch.randint(0, 32_000, (1024, 1))
def run(rows, chunk):
    if sys.argv[1] == "fused":
        named = (fused.Named(gold[:rows], torch.ones(rows, 1)),)
        fused.loss(hidden[:rows], Head(weight), named, chunk=chunk).backward()
    else:
        F.cross_entropy(hidden[:rows] @ weight.T, gold[:rows, 0], reduction="sum").backward()
run(8, 8)
before = peak_mib()
run(1024, 32)
print(peak_mib() - before)
"""


def test_memory_is_that_of_a_chunk():
    """All logits at once are 125 MiB, and plain torch holds them more than once; 32 positions are 4 MiB."""
    rise = {how: _peak_mib(how) for how in ("fused", "plain")}
    assert rise["plain"] > 200
    assert rise["fused"] < rise["plain"] / 4


def _peak_mib(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", speed.PEAK + PROGRAM, how], check=True, capture_output=True, text=True)
    return float(done.stdout)
