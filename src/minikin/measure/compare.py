"""Two sets of answers to the same texts side by side: paired difference, and where exactly they part.

Called by the gate, by the report's story and by `minikin compare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.base.types import Array, Text
from minikin.equations import intervals, metrics
from minikin.measure.quality import Quality


@dataclass(frozen=True)
class Paired:
    """Accuracy of a minus accuracy of b on the same examples; the indices that only one got right."""

    difference: float
    interval: tuple[float, float]
    mcnemar_p: float
    only_a: Array
    only_b: Array

    def summary(self) -> dict[str, Any]:
        """Return the comparison as plain values for the manifest and the report."""
        return {
            "difference": self.difference,
            "interval": list(self.interval),
            "mcnemar_p": self.mcnemar_p,
            "only_a": len(self.only_a),
            "only_b": len(self.only_b),
        }


def paired(a: Quality, b: Quality, labels_N: Array, seed: int = 0, resamples: int = 1000) -> Paired:
    """Compare two measurements of the same split; raises ValueError when they are of different lengths."""
    labels_N = np.asarray(labels_N)
    return paired_right(a.predictions_N == labels_N, b.predictions_N == labels_N, seed, resamples)


def paired_right(right_a_N: Array, right_b_N: Array, seed: int = 0, resamples: int = 1000) -> Paired:
    """Compare which of N answers are right (bool); raises ValueError when they are of different lengths."""
    only_a, only_b = np.flatnonzero(right_a_N & ~right_b_N), np.flatnonzero(right_b_N & ~right_a_N)
    return Paired(
        difference=(len(only_a) - len(only_b)) / len(right_a_N),
        interval=intervals.paired_interval(right_a_N, right_b_N, resamples=resamples, seed=seed),
        mcnemar_p=intervals.mcnemar(len(only_a), len(only_b)),
        only_a=only_a,
        only_b=only_b,
    )


def per_class(
    student: Quality, teacher: Quality | None, labels_N: Array, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Recall and F1 of each class that occurs in the split, for the report; the teacher's are None without one."""
    scores = [
        metrics.per_class(metrics.confusion(labels_N, q.predictions_N, len(labels))) if q else None
        for q in (student, teacher)
    ]
    ours, theirs = scores
    assert ours is not None
    return [
        {
            "label": label,
            "n": int(ours.support_C[c]),
            "teacher_recall": float(theirs.recall_C[c]) if theirs else None,
            "student_recall": float(ours.recall_C[c]),
            "teacher_f1": float(theirs.f1_C[c]) if theirs else None,
            "student_f1": float(ours.f1_C[c]),
        }
        for c, label in enumerate(labels)
        if ours.support_C[c]
    ]


def confusions(
    student: Quality, teacher: Quality | None, labels_N: Array, labels: Sequence[str], limit: int = 20
) -> list[dict[str, Any]]:
    """The wrong answers that became more frequent from teacher to student, most grown first."""
    student_TC = metrics.confusion(labels_N, student.predictions_N, len(labels))[: len(labels)]
    teacher_TC = np.zeros_like(student_TC)
    if teacher is not None:
        teacher_TC = metrics.confusion(labels_N, teacher.predictions_N, len(labels))[: len(labels)]
    grown_CC = student_TC - teacher_TC
    np.fill_diagonal(grown_CC, 0)
    order = np.lexsort((-student_TC.ravel(), -grown_CC.ravel()))[:limit]
    return [
        {
            "truth": labels[t],
            "answer": labels[c],
            "student": int(student_TC[t, c]),
            "teacher": int(teacher_TC[t, c]) if teacher is not None else None,
        }
        for t, c in (divmod(int(i), len(labels)) for i in order)
        if grown_CC[t, c] > 0
    ]


def differences(
    student: Quality,
    teacher: Quality,
    texts: Sequence[Text],
    labels_N: Array,
    labels: Sequence[str],
    limit: int = 60,
) -> list[dict[str, Any]]:
    """Texts that student and teacher answer differently, the student's surest first."""
    parted = np.flatnonzero(student.predictions_N != teacher.predictions_N)
    parted = parted[np.argsort(-student.confidence_N[parted], kind="stable")][:limit]
    return [
        {
            "text": texts[i] if isinstance(texts[i], str) else list(texts[i]),
            "truth": labels[labels_N[i]] if labels_N[i] >= 0 else None,
            "teacher": labels[teacher.predictions_N[i]],
            "student": labels[student.predictions_N[i]],
            "confidence": float(student.confidence_N[i]),
        }
        for i in parted.tolist()
    ]


def calibration(student: Quality, labels_N: Array, temperature: float) -> dict[str, Any]:
    """Reliability bins that hold at least one text, with ECE and temperature, for the report."""
    bins = metrics.reliability(student.confidence_N, student.predictions_N == np.asarray(labels_N))
    rows = zip(bins.confidence_B.tolist(), bins.accuracy_B.tolist(), bins.n_B.tolist(), strict=True)
    return {
        "bins": [{"confidence": c, "accuracy": a, "n": n} for c, a, n in rows if n],
        "ece": bins.ece,
        "temperature": temperature,
    }
