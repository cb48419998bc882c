"""Distilling next-token distributions: divergences, and the few numbers that stand for a whole distribution.

The divergences take log-probabilities (M, K) over the same K outcomes and return nats per position (M,). The outcomes
are the whole vocabulary, or K - 1 chosen tokens and a last bucket, the tail, for all others together. On that
partition every divergence here is exact for its K outcomes, and a lower bound of the one over the vocabulary (they are
f-divergences, which no merging of outcomes can increase); the two are equal where student and teacher agree on the
proportions inside the tail. Called by train/fused.py and teachers/token_signals.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

FLOOR = -30.0
"""A teacher's log-probability that stands for zero: finite, so that reverse divergences are too."""

Divergence = Callable[[Tensor, Tensor], Tensor]


def kl(log_q_MK: Tensor, log_p_MK: Tensor) -> Tensor:
    """Forward KL(p ‖ q), teacher p and student q, the teacher's entropy included: 0 for a perfect student.

    Source: Hinton, Vinyals, Dean 2015, §2, per token as in Kim & Rush 2016, "Sequence-Level Knowledge Distillation",
    §3.1.
    """
    return (log_p_MK.exp() * (log_p_MK - log_q_MK)).sum(-1)


def reverse_kl(log_q_MK: Tensor, log_p_MK: Tensor) -> Tensor:
    """Reverse KL(q ‖ p): the student is asked to say nothing that the teacher would not.

    Source: Gu et al. 2024, "MiniLLM: Knowledge Distillation of Large Language Models", §2.
    """
    return kl(log_p_MK, log_q_MK)


def js(log_q_MK: Tensor, log_p_MK: Tensor, beta: float = 0.5) -> Tensor:
    """Generalised Jensen–Shannon: β·KL(p ‖ m) + (1 − β)·KL(q ‖ m) with m = β·p + (1 − β)·q, 0 < β < 1.

    Divided by β it tends to KL(p ‖ q) for β → 0; divided by 1 − β, to KL(q ‖ p) for β → 1.
    Source: Agarwal et al. 2024, "On-Policy Distillation of Language Models" (GKD), eq. 1.
    """
    log_m_MK = _mixed(log_p_MK, log_q_MK, beta)
    return beta * kl(log_m_MK, log_p_MK) + (1 - beta) * kl(log_m_MK, log_q_MK)


def skew_kl(log_q_MK: Tensor, log_p_MK: Tensor, alpha: float = 0.1) -> Tensor:
    """Skewed KL(p ‖ α·p + (1 − α)·q), 0 ≤ α < 1; at most −log α, so no token's gradient explodes.

    Source: Ko et al. 2024, "DistiLLM: Towards Streamlined Distillation for Large Language Models", §3.1.
    """
    return kl(_mixed(log_p_MK, log_q_MK, alpha), log_p_MK)


def skew_reverse_kl(log_q_MK: Tensor, log_p_MK: Tensor, alpha: float = 0.1) -> Tensor:
    """Skewed reverse KL(q ‖ α·q + (1 − α)·p), 0 ≤ α < 1.

    Source: Ko et al. 2024, "DistiLLM", §3.1.
    """
    return kl(_mixed(log_q_MK, log_p_MK, alpha), log_q_MK)


def uld(log_q_MK: Tensor, log_p_MK: Tensor) -> Tensor:
    """Universal logit distillation: Σ |p₍ᵢ₎ − q₍ᵢ₎| over sorted probabilities, whatever the two vocabularies.

    The Wasserstein distance between two distributions when every token is as far from every other. Both are sorted
    already, and the shorter is filled up with FLOOR; with a tail as last outcome it is a lower bound of the whole sum.
    Source: Boizard et al. 2024, "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for
    LLMs" (ULD loss).
    """
    return (log_p_MK.exp() - log_q_MK.exp()).abs().sum(-1)


def _mixed(log_a_MK: Tensor, log_b_MK: Tensor, share: float) -> Tensor:
    """Logarithm of share·a + (1 − share)·b."""
    if share == 0.0:
        return log_b_MK
    return torch.logaddexp(log_a_MK + math.log(share), log_b_MK + math.log1p(-share))


def partition(logits_MV: Tensor, ids_MK: Tensor) -> Tensor:
    """Log-probabilities (M, K + 1) of the named tokens and, last, of all others together.

    The tail is summed from its own tokens: one minus the rest would lose a small tail to rounding.
    """
    log_total_M1 = logits_MV.logsumexp(-1, keepdim=True)
    log_tail_M1 = logits_MV.scatter(-1, ids_MK, -math.inf).logsumexp(-1, keepdim=True)
    parts_MK1 = torch.cat([logits_MV.gather(-1, ids_MK), log_tail_M1], -1) - log_total_M1
    return parts_MK1.clamp(min=math.log(torch.finfo(parts_MK1.dtype).tiny))


def top(logits_MV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Ids (M, K) of the K likeliest tokens, likeliest first, and log-probabilities (M, K + 1), the tail's last."""
    ids_MK = logits_MV.topk(k, -1).indices
    return ids_MK, partition(logits_MV, ids_MK).clamp(min=FLOOR)


def sampled(logits_MV: Tensor, draws: int, generator: torch.Generator, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Random-sampling distillation: ids (M, K) and importance weights (M, K) whose expectation is the distribution.

    K = `draws` tokens are drawn from r ∝ p^sharpness, and each counts p / (K·r); a token drawn twice keeps both. So
    for any f, E[Σ wₖ·f(idₖ)] = Σᵥ pᵥ·f(v): the cross-entropy −Σ w·log q, and with it the gradient of KL(p ‖ q), is
    right in expectation, which that of top-k without a tail is not. Sharpness 1 gives equal weights.
    Source: Anshumann et al. 2025, "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs" (RS-KD).
    """
    log_p_MV = F.log_softmax(logits_MV, -1)
    log_r_MV = F.log_softmax(log_p_MV * sharpness, -1)
    ids_MK = torch.multinomial(log_r_MV.exp(), draws, replacement=True, generator=generator)
    return ids_MK, (log_p_MV.gather(-1, ids_MK) - log_r_MV.gather(-1, ids_MK)).exp() / draws


def entropy(logits_MV: Tensor) -> Tensor:
    """Entropy of each distribution in nats (M,)."""
    log_p_MV = F.log_softmax(logits_MV, -1)
    return -(log_p_MV.exp() * log_p_MV).sum(-1)
