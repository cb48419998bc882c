"""Temperature scaling: one number that makes confidences honest. Called on calibration logits."""

from __future__ import annotations

import math

import numpy as np

from minikin.base.types import Array

LOWEST, HIGHEST = 0.05, 20.0
GOLDEN = (math.sqrt(5) - 1) / 2


def log_softmax(logits_NC: Array) -> Array:
    """Logarithms of the class probabilities (N, C), in float64."""
    shifted_NC = np.asarray(logits_NC, np.float64)
    shifted_NC = shifted_NC - shifted_NC.max(-1, keepdims=True)
    return np.asarray(shifted_NC - np.log(np.exp(shifted_NC).sum(-1, keepdims=True)))


def softmax(logits_NC: Array, temperature: float = 1.0) -> Array:
    """Class probabilities (N, C) of logits divided by `temperature`, in float64."""
    return np.asarray(np.exp(log_softmax(np.asarray(logits_NC, np.float64) / temperature)))


def nll(logits_NC: Array, labels_N: Array, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels in nats."""
    log_p_NC = log_softmax(np.asarray(logits_NC, np.float64) / temperature)
    return float(-np.take_along_axis(log_p_NC, np.asarray(labels_N)[:, None], axis=-1).mean())


def fit_temperature(logits_NC: Array, labels_N: Array, tolerance: float = 1e-4) -> float:
    """The temperature in [0.05, 20] that minimises the NLL of held-out labels; rows labelled -1 don't count.

    The NLL is convex in 1/T, so it has one minimum in log T, and golden-section search finds it.
    Returns 1.0 when no row is labelled. Source: Guo et al. 2017, §4.2, eq. 9.
    """
    known_N = np.asarray(labels_N) >= 0
    if not known_N.any():
        return 1.0
    logits_NC, labels_N = np.asarray(logits_NC, np.float64)[known_N], np.asarray(labels_N)[known_N]
    if not np.isfinite(logits_NC).all():
        raise ValueError("logits must be finite")

    def loss(log_t: float) -> float:
        return nll(logits_NC, labels_N, math.exp(log_t))

    low, high = math.log(LOWEST), math.log(HIGHEST)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > tolerance:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - GOLDEN * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + GOLDEN * (high - low)
            loss_right = loss(right)
    return math.exp((low + high) / 2)
