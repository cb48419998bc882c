"""Scores of predictions against labels, in numpy. Called by measure/ and by the gate.

A label of -1 (unknown to the label set) can't be answered rightly: it counts as wrong everywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from minikin.base.types import Array

BINS = 15


@dataclass(frozen=True)
class ClassScores:
    """Per-class scores, 0 where a class never occurs; `support_C` counts its true examples."""

    recall_C: Array
    f1_C: Array
    support_C: Array


@dataclass(frozen=True)
class Reliability:
    """Equal-width confidence bins: mean confidence, accuracy and count of each; empty bins hold 0."""

    confidence_B: Array
    accuracy_B: Array
    n_B: Array

    @property
    def ece(self) -> float:
        """Expected calibration error: Σ_b n_b / N · |accuracy_b − confidence_b|."""
        total = self.n_B.sum()
        return float(self.n_B @ np.abs(self.accuracy_B - self.confidence_B) / total) if total else 0.0


def accuracy(labels_N: Array, predictions_N: Array) -> float:
    """Share of predictions that equal their label; raises ValueError on none or on unequal lengths."""
    _same_length(labels_N, predictions_N)
    return float(np.mean(np.asarray(labels_N) == np.asarray(predictions_N)))


def confusion(labels_N: Array, predictions_N: Array, classes: int) -> Array:
    """Counts (classes + 1, classes): row is the truth, column the answer; the last row is the truth -1."""
    _same_length(labels_N, predictions_N)
    labels_N, predictions_N = np.asarray(labels_N, np.int64), np.asarray(predictions_N, np.int64)
    if predictions_N.min() < 0 or max(predictions_N.max(), labels_N.max()) >= classes:
        raise ValueError(f"labels and predictions must lie below {classes}, and predictions not below 0")
    truth_N = np.where(labels_N < 0, classes, labels_N)
    flat = np.bincount(truth_N * classes + predictions_N, minlength=(classes + 1) * classes)
    return flat.reshape(classes + 1, classes)


def per_class(confusion_TC: Array) -> ClassScores:
    """Recall, F1 and support of each class from `confusion` counts (T = C + 1 rows)."""
    hits_C, answered_C, support_C = _sums(confusion_TC)
    return ClassScores(
        recall_C=_ratio(hits_C, support_C),
        f1_C=_ratio(2 * hits_C, answered_C + support_C),
        support_C=support_C,
    )


def macro_f1(confusion_TC: Array) -> Array:
    """Mean F1 over the classes that occur in truth or answers; leading axes are kept (for resamples).

    Equals `sklearn.metrics.f1_score(average="macro", zero_division=0)`.
    """
    hits_C, answered_C, support_C = _sums(confusion_TC)
    occurs_C = (answered_C + support_C) > 0
    scores_C = _ratio(2 * hits_C, answered_C + support_C)
    return np.asarray(_ratio((scores_C * occurs_C).sum(-1), occurs_C.sum(-1)))


def reliability(confidence_N: Array, correct_N: Array, bins: int = BINS) -> Reliability:
    """Bins of equal width over (0, 1], right edges included.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §2 (bins of M intervals, eq. 3).
    """
    _same_length(confidence_N, correct_N)
    confidence_N = np.asarray(confidence_N, np.float64)
    if not (np.isfinite(confidence_N).all() and confidence_N.min() >= 0 and confidence_N.max() <= 1 + 1e-6):
        raise ValueError("confidences must lie between 0 and 1")
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(np.int64) - 1, 0, bins - 1)
    n_B = np.bincount(bin_N, minlength=bins)
    confidence_B = _ratio(np.bincount(bin_N, confidence_N, bins), n_B)
    accuracy_B = _ratio(np.bincount(bin_N, np.asarray(correct_N, np.float64), bins), n_B)
    return Reliability(confidence_B, accuracy_B, n_B)


def ece(confidence_N: Array, correct_N: Array, bins: int = BINS) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017, eq. 3)."""
    return reliability(confidence_N, correct_N, bins).ece


def _sums(confusion_TC: Array) -> tuple[Array, Array, Array]:
    """Right answers, all answers and true examples of each class."""
    classes = confusion_TC.shape[-1]
    hits_C = np.diagonal(confusion_TC[..., :classes, :], axis1=-2, axis2=-1)
    return hits_C, confusion_TC.sum(-2), confusion_TC[..., :classes, :].sum(-1)


def _ratio(above: Array, below: Array) -> Array:
    """Quotient with 0 where the divisor is 0."""
    below = np.asarray(below, np.float64)
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)


def _same_length(a_N: Array, b_N: Array) -> None:
    if len(a_N) != len(b_N) or len(a_N) == 0:
        raise ValueError(f"need as many of one as of the other, and at least one: got {len(a_N)} and {len(b_N)}")


def same(answer: str, reference: str) -> bool:
    """Whether two answers say the same: equal JSON values where both are JSON, else equal but for white space."""
    try:
        return bool(json.loads(answer) == json.loads(reference))
    except ValueError:
        return " ".join(answer.split()) == " ".join(reference.split())
