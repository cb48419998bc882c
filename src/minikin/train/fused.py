"""Output projection and loss in one, chunk by chunk: all M×V logits are never held, forward or backward.

Gradients are computed in the forward pass, while a chunk's logits are there; the backward pass only scales them.
Called by train/sequence.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minikin.feed.decoder import Head

CHUNK_BYTES = 16 << 20
"""What one chunk's logits may take; comparing dense distributions holds about eight times as much."""

Compare = Callable[[Tensor, slice], Tensor]
"""Loss in nats per position, from the student's log-probabilities of some outcomes and which positions they are of."""


@dataclass(frozen=True)
class Named:
    """Minus Σ w·log q over named tokens: gold tokens with weight 1, or drawn ones with their importance weights."""

    ids_MK: Tensor
    weights_MK: Tensor


@dataclass(frozen=True)
class Parted:
    """A divergence over K tokens and a tail: the named ones, or, without names, the student's own likeliest K."""

    compare: Compare
    ids_MK: Tensor | None = None
    k: int = 0


@dataclass(frozen=True)
class Dense:
    """A divergence over the whole vocabulary, as against a live teacher that projects its own chunk."""

    compare: Compare


def loss(
    hidden_MH: Tensor,
    head: Head,
    named: Sequence[Named] = (),
    against: Parted | Dense | None = None,
    *,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> Tensor:
    """Sum over M positions of what `named` and `against` ask of the distribution softmax(logits / temperature).

    Equal to projecting all at once, up to rounding; `chunk` is the number of positions held at a time. Under
    autocast, matrix products are done in its type and everything else in float32. Source of computing gradients
    in the forward pass: Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training"
    (fused linear cross-entropy).
    """
    held = CHUNK_BYTES // (8 if isinstance(against, Dense) else 1)
    chunk = chunk or max(8, held // (4 * head.weight_VH.shape[0]))
    how = _How(head, tuple(named), against, temperature, chunk)
    total: Tensor = _Fused.apply(hidden_MH, head.weight_VH, head.bias_V, how)  # type: ignore[no-untyped-call]
    return total


@dataclass(frozen=True)
class _How:
    head: Head
    named: tuple[Named, ...]
    against: Parted | Dense | None
    temperature: float
    chunk: int


class _Fused(torch.autograd.Function):
    """Loss and gradients of all chunks; `needs_input_grad` leaves out those of frozen weights."""

    @staticmethod
    def forward(ctx: Any, hidden_MH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, how: _How) -> Tensor:
        device = hidden_MH.device.type
        auto = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if auto else weight_VH.dtype
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        h_MH, w_VH = hidden_MH.to(dtype), weight_VH.to(dtype)
        to_hidden, to_weight, to_bias = ctx.needs_input_grad[:3]
        hidden_grad = torch.empty_like(hidden_MH) if to_hidden else None
        weight_grad = torch.zeros_like(weight_VH, dtype=exact) if to_weight else None
        bias_grad = torch.zeros_like(bias_V, dtype=exact) if bias_V is not None and to_bias else None
        total = torch.zeros((), dtype=exact, device=hidden_MH.device)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(h_MH), how.chunk):
                part = slice(start, start + how.chunk)
                logits_MV = h_MH[part] @ w_VH.T if bias_V is None else torch.addmm(bias_V.to(dtype), h_MH[part], w_VH.T)
                value, grad_MV = _of_chunk(logits_MV.to(exact), part, how)
                total += value
                if not (to_hidden or to_weight or to_bias):
                    continue
                slope_MV = grad_MV.to(dtype)
                if hidden_grad is not None:
                    hidden_grad[part] = slope_MV @ w_VH
                if weight_grad is not None:
                    _add_product(weight_grad, slope_MV, h_MH[part])
                if bias_grad is not None:
                    bias_grad += grad_MV.sum(0)
        ctx.save_for_backward(hidden_grad, weight_grad, bias_grad)
        ctx.weight_dtype = weight_VH.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden_grad, weight_grad, bias_grad = ctx.saved_tensors
        return (
            None if hidden_grad is None else hidden_grad * upstream.to(hidden_grad.dtype),
            None if weight_grad is None else (weight_grad * upstream).to(ctx.weight_dtype),
            None if bias_grad is None else (bias_grad * upstream).to(ctx.weight_dtype),
            None,
        )


def _add_product(total_VH: Tensor, slope_MV: Tensor, hidden_MH: Tensor) -> None:
    if slope_MV.dtype == total_VH.dtype:
        total_VH.addmm_(slope_MV.T, hidden_MH)
    else:
        total_VH += slope_MV.T @ hidden_MH


def _of_chunk(raw_MV: Tensor, part: slice, how: _How) -> tuple[Tensor, Tensor]:
    """Loss of a chunk, and its gradient for what the output matrix gave; the logits are overwritten."""
    cap, scale = how.head.softcap, how.head.scale / how.temperature
    if cap is None:
        logits_MV = raw_MV if scale == 1.0 else raw_MV.mul_(scale)
        bend_MV = None
    else:
        flat_MV = raw_MV.mul_(how.head.scale / cap).tanh_()
        bend_MV = 1.0 - flat_MV.square()
        logits_MV = flat_MV.mul_(cap / how.temperature)
    of_outcomes = _dense if isinstance(how.against, Dense) else _parted
    value, grad_MV = of_outcomes(logits_MV, part, how)
    if bend_MV is not None:
        grad_MV *= bend_MV
    return value, grad_MV if scale == 1.0 else grad_MV.mul_(scale)


def _parted(logits_MV: Tensor, part: slice, how: _How) -> tuple[Tensor, Tensor]:
    """Loss and gradient from a few outcomes: with g the loss's slopes for their log-probabilities, and G their sum,

    a named token's logit has slope g − G·q, and one of the tail g_tail · q / q_tail − G·q.
    """
    parted = how.against if isinstance(how.against, Parted) else None
    ids_MK, named = None, [Named(n.ids_MK[part], n.weights_MK[part]) for n in how.named]
    if parted is not None:
        ids_MK = logits_MV.topk(parted.k, -1).indices if parted.ids_MK is None else parted.ids_MK[part]
    highest_M1 = logits_MV.amax(-1, keepdim=True)
    chosen_MK = None if ids_MK is None else logits_MV.gather(-1, ids_MK) - highest_M1
    drawn = [logits_MV.gather(-1, n.ids_MK) - highest_M1 for n in named]
    mass_MV = logits_MV.sub_(highest_M1).exp_()
    if ids_MK is None:
        tail_M1, total_M1 = None, mass_MV.sum(-1, keepdim=True)
    else:
        # a small tail is summed from its own tokens: total minus the chosen would be all rounding
        mass_MV.scatter_(-1, ids_MK, 0.0)
        tail_M1 = mass_MV.sum(-1, keepdim=True).clamp(min=torch.finfo(mass_MV.dtype).tiny)
        total_M1 = tail_M1 + chosen_MK.exp().sum(-1, keepdim=True)  # type: ignore[union-attr]
    log_total_M1 = total_M1.log()
    value = logits_MV.new_zeros(())
    slope_M1 = torch.zeros_like(total_M1)
    for n, z_MK in zip(named, drawn, strict=True):
        value -= (n.weights_MK * (z_MK - log_total_M1)).sum()
        slope_M1 += n.weights_MK.sum(-1, keepdim=True)
    if parted is None or chosen_MK is None or tail_M1 is None or ids_MK is None:
        mass_MV.mul_(slope_M1 / total_M1)
    else:
        log_q_MK1 = torch.cat([chosen_MK, tail_M1.log()], -1) - log_total_M1
        compared, g_MK1 = _slopes(log_q_MK1, parted.compare, part)
        value += compared
        slope_M1 -= g_MK1.sum(-1, keepdim=True)
        mass_MV.mul_(slope_M1 / total_M1 + g_MK1[:, -1:] / tail_M1)
        mass_MV.scatter_(-1, ids_MK, g_MK1[:, :-1] + chosen_MK.exp() * slope_M1 / total_M1)
    for n in named:
        mass_MV.scatter_add_(-1, n.ids_MK, -n.weights_MK.to(mass_MV.dtype))
    return value, mass_MV


def _dense(logits_MV: Tensor, part: slice, how: _How) -> tuple[Tensor, Tensor]:
    """Loss and gradient over the whole vocabulary: the slope of a logit is g − q·Σg."""
    assert isinstance(how.against, Dense)
    log_q_MV = torch.log_softmax(logits_MV, -1)
    value, g_MV = _slopes(log_q_MV, how.against.compare, part)
    slope_M1 = -g_MV.sum(-1, keepdim=True)
    for n in how.named:
        ids_MK, weights_MK = n.ids_MK[part], n.weights_MK[part].to(g_MV.dtype)
        value = value - (weights_MK * log_q_MV.gather(-1, ids_MK)).sum()
        g_MV.scatter_add_(-1, ids_MK, -weights_MK)
        slope_M1 += weights_MK.sum(-1, keepdim=True)
    return value, g_MV.add_(log_q_MV.exp_().mul_(slope_M1))


def _slopes(log_q_MK: Tensor, compare: Compare, part: slice) -> tuple[Tensor, Tensor]:
    """Value of a divergence, summed over positions, and its slopes for the log-probabilities."""
    with torch.enable_grad():
        leaf_MK = log_q_MK.detach().requires_grad_()
        value = compare(leaf_MK, part).sum()
        (g_MK,) = torch.autograd.grad(value, leaf_MK)
    return value.detach(), g_MK
