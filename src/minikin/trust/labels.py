"""Are the labels right that a certificate is to rest on? Confident learning, in numpy. Called by certify.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minikin.base.types import Array


@dataclass(frozen=True)
class LabelErrors:
    """The estimated share of wrong labels, and the examples (places) that look most like it, worst first."""

    share: float
    suspects: tuple[int, ...]


def confident_joint(probabilities_NC: Array, labels_N: Array) -> tuple[Array, Array]:
    """Counts (C, C) of examples labelled i that are confidently j, and that j for each example (−1: none).

    Confidently j: its probability reaches the mean probability of j among the examples labelled j; of several the
    most probable. Source: Northcutt, Jiang & Chuang 2021, "Confident Learning", eq. 1–2.
    """
    classes = probabilities_NC.shape[1]
    p_NC = np.asarray(probabilities_NC, np.float64)
    counts_C = np.bincount(labels_N, minlength=classes)
    own_N = p_NC[np.arange(len(labels_N)), labels_N]
    sums_C = np.bincount(labels_N, own_N, classes)
    threshold_C = np.where(counts_C > 0, sums_C / np.maximum(counts_C, 1), np.inf)
    candidate_NC = np.where(p_NC >= threshold_C - 1e-12, p_NC, -1.0)
    sure_N = np.where(candidate_NC.max(1) >= 0, candidate_NC.argmax(1), -1)
    told_N = sure_N >= 0
    flat = np.bincount(labels_N[told_N] * classes + sure_N[told_N], minlength=classes * classes)
    return flat.reshape(classes, classes), sure_N


def label_errors(probabilities_NC: Array, labels_N: Array) -> LabelErrors:
    """Estimate how many labels are wrong: the share that is confidently, and most probably, something else.

    From it go the mistakes that a calibrated model expects of itself there, Σ(1 − p). It is not scaled up to
    the classes' sizes (eq. 3 of the paper): with few examples of a class that makes a tenth out of a hundredth.
    """
    _, sure_N = confident_joint(probabilities_NC, labels_N)
    sure = sure_N == probabilities_NC.argmax(1)
    rows = np.flatnonzero(sure & (sure_N != labels_N))
    expected = float((1.0 - np.asarray(probabilities_NC, np.float64).max(1))[sure].sum())
    gap = probabilities_NC[rows, sure_N[rows]] - probabilities_NC[rows, labels_N[rows]]
    share = max(0.0, len(rows) - expected) / len(labels_N)
    return LabelErrors(share, tuple(rows[np.argsort(-gap, kind="stable")].tolist()))
