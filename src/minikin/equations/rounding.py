"""Rounding of weights to small integers with scales that minimise the squared error; used by compress/quantize.

All scales are symmetric around zero: value = (q - zero) * scale, so a weight of 0.0 stays exactly 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minikin.base.types import Array, QuantizedTensor

SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of the largest magnitude that are tried as the end of the range (clipping search)."""

TINY = 1e-30
"""Groups whose scale would be smaller than this are rounded to zeros."""

HALF_RELATIVE_ERROR = 1e-3
"""Scales are stored as float16 where that changes none of them by more than this share."""


def per_channel(
    weights_RK: Array,
    bits: int = 8,
    limit: int | None = None,
    shares: Sequence[float] = SHRINK,
) -> QuantizedTensor:
    """Round each row of `weights_RK` to `bits` with one scale per row.

    `limit` is the largest integer magnitude used (127 for 8 bits when None; 64 keeps u8·s8 products inside
    int16 on processors without VNNI). `shares` of the largest magnitude are tried as the end of the range.
    """
    weights_RGB = np.asarray(weights_RK, np.float32)[:, None, :]
    low = high = limit or (1 << (bits - 1)) - 1
    q_RGB, scales_RG = _search(weights_RGB, -low, high, shares)
    zero = 1 << (bits - 1)
    return QuantizedTensor((q_RGB[:, 0] + zero).astype(np.uint8), scales_RG[:, 0], bits)


def blockwise(
    weights_RK: Array,
    bits: int = 4,
    block: int = 32,
    shares: Sequence[float] = SHRINK,
) -> QuantizedTensor:
    """Round blocks of `block` neighbours along the input axis to `bits`, one float16 scale per block.

    The scale may be negative, so that the largest weight of a block can use the extra negative step of
    two's complement (as llama.cpp's Q4_0 does).
    """
    weights_RK = np.asarray(weights_RK, np.float32)
    rows, width = weights_RK.shape
    groups = -(-width // block)
    padded = np.zeros((rows, groups * block), np.float32)
    padded[:, :width] = weights_RK
    zero = 1 << (bits - 1)
    q_RGB, scales_RG = _search(padded.reshape(rows, groups, block), -zero, zero - 1, shares)
    q_RK = (q_RGB.reshape(rows, -1)[:, :width] + zero).astype(np.uint8)
    return QuantizedTensor(q_RK, scales_RG, bits, block)


def compensated(
    weights_RK: Array,
    moment_KK: Array,
    bits: int = 4,
    block: int = 32,
    damping: float = 0.01,
    shares: Sequence[float] = SHRINK,
) -> QuantizedTensor:
    """Round blocks as `blockwise` does, but column by column, later columns making good what earlier ones lost.

    Minimises Σ_n ‖(W - Ŵ) x_n‖² over the layer's inputs x_n instead of the error of the weights themselves: GPTQ
    (Frantar et al. 2023, eq. 2 and 3, by the Cholesky factor of the inverse as in algorithm 1). `moment_KK` is
    Σ_n x_n x_nᵀ; `damping` of its mean diagonal is added, so that it can be inverted.
    """
    left_RK = np.array(weights_RK, np.float64)
    rows, width = left_RK.shape
    moment_KK = np.asarray(moment_KK, np.float64)
    mean = float(np.diag(moment_KK).mean())
    if mean <= 0:
        return blockwise(weights_RK, bits, block, shares=shares)
    inverse_KK = np.linalg.inv(moment_KK + damping * mean * np.eye(width))
    factor_KK = np.linalg.cholesky(inverse_KK).T
    q_RK = np.zeros((rows, width), np.uint8)
    scales = []
    zero = 1 << (bits - 1)
    for start in range(0, width, block):
        end = min(width, start + block)
        scale_R1 = blockwise(left_RK[:, start:end], bits, block, shares=shares).scales
        scales.append(scale_R1)
        scale_R = scale_R1[:, 0].astype(np.float64)
        error_RB = np.zeros((rows, end - start))
        for k in range(start, end):
            integers_R = np.clip(np.rint(left_RK[:, k] / scale_R), -zero, zero - 1)
            q_RK[:, k] = integers_R + zero
            error_R = (left_RK[:, k] - integers_R * scale_R) / factor_KK[k, k]
            left_RK[:, k + 1 : end] -= np.outer(error_R, factor_KK[k, k + 1 : end])
            error_RB[:, k - start] = error_R
        left_RK[:, end:] -= error_RB @ factor_KK[start:end, end:]
    return QuantizedTensor(q_RK, np.concatenate(scales, axis=1), bits, block)


def _search(weights_RGB: Array, low: int, high: int, shares: Sequence[float]) -> tuple[Array, Array]:
    """Return integers (R, G, B) and scales (R, G) of the clipping range with the least squared error."""
    peak_RG = _signed_peak(weights_RGB)
    signs = (1.0,) if -low == high else (1.0, -1.0)
    best_RG = np.full(peak_RG.shape, np.inf, np.float32)
    scales_RG = np.ones_like(peak_RG)
    for share in shares:
        for sign in signs:
            first_RG = share * peak_RG / (high if sign > 0 else low)
            first_RG = np.where(np.abs(first_RG) < TINY, 1.0, first_RG).astype(np.float32)
            tuned_RG = _refit(weights_RGB, first_RG, low, high)
            for candidate_RG in (first_RG, tuned_RG):
                error_RG = _error(weights_RGB, candidate_RG, low, high)
                better = error_RG < best_RG
                best_RG = np.where(better, error_RG, best_RG)
                scales_RG = np.where(better, candidate_RG, scales_RG)
    scales_RG = _halved(scales_RG)
    return _integers(weights_RGB, scales_RG, low, high).astype(np.int16), scales_RG


def _signed_peak(weights_RGB: Array) -> Array:
    """Return the weight of the largest magnitude of each group, with its sign."""
    where = np.abs(weights_RGB).argmax(-1)[..., None]
    peak: Array = np.take_along_axis(weights_RGB, where, -1)[..., 0]
    return peak


def _integers(weights_RGB: Array, scales_RG: Array, low: int, high: int) -> Array:
    scaled = weights_RGB / scales_RG.astype(np.float32)[..., None]
    rounded: Array = np.clip(np.rint(scaled), low, high)
    return rounded


def _refit(weights_RGB: Array, scales_RG: Array, low: int, high: int) -> Array:
    """Return the least-squares scale for the integers that `scales_RG` gives: Σ w·q / Σ q²."""
    q_RGB = _integers(weights_RGB, scales_RG, low, high)
    norm_RG = (q_RGB * q_RGB).sum(-1)
    fit_RG = (q_RGB * weights_RGB).sum(-1) / np.maximum(norm_RG, 1e-30)
    usable = (norm_RG > 0) & (np.abs(fit_RG) >= TINY)
    tuned: Array = np.where(usable, fit_RG, scales_RG).astype(np.float32)
    return tuned


def _error(weights_RGB: Array, scales_RG: Array, low: int, high: int) -> Array:
    difference = _integers(weights_RGB, scales_RG, low, high) * scales_RG[..., None] - weights_RGB
    total: Array = (difference * difference).sum(-1)
    return total


def _halved(scales_RG: Array) -> Array:
    """Return the scales as float16 where none of them changes noticeably, else as float32."""
    with np.errstate(over="ignore"):
        half_RG = scales_RG.astype(np.float16)
    worst = np.max(np.abs(half_RG.astype(np.float32) / scales_RG - 1.0), initial=0.0)
    return half_RG if worst <= HALF_RELATIVE_ERROR else scales_RG.astype(np.float32)
