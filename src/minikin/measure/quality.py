"""How well something answers: accuracy, macro-F1, calibration and agreement on a labelled split, with intervals.

Called by the pipeline for the teacher, the packaged student and the baselines, and by `minikin compare`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.base.errors import DataError, MinikinError
from minikin.base.types import Array, Progress, Runtime, Split, no_progress
from minikin.equations import intervals, metrics

CHUNK = 256


@dataclass(frozen=True)
class Quality:
    """What a runtime answered to the N texts of a split, and how good that is."""

    predictions_N: Array
    confidence_N: Array
    probabilities_NC: Array
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    ece: float
    agreement_with_teacher: float | None = None

    def summary(self) -> dict[str, Any]:
        """Return the scores as plain values for the manifest and the report."""
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "macro_f1": self.macro_f1,
            "macro_f1_interval": list(self.macro_f1_interval),
            "ece": self.ece,
            "agreement_with_teacher": self.agreement_with_teacher,
        }


def quality(
    runtime: Runtime,
    split: Split,
    *,
    teacher_predictions_N: Array | None = None,
    seed: int = 0,
    resamples: int = 1000,
    progress: Progress = no_progress,
) -> Quality:
    """Measure `runtime` on a labelled split; intervals are 95 % bootstrap intervals over its examples.

    A text labelled -1 (a label that the model does not know) counts as wrong. Raises DataError when no text
    is labelled, and MinikinError when the runtime answers with something that isn't one row per text.
    """
    if not len(split) or not (np.asarray(split.labels_N) >= 0).any():
        raise DataError("There is no labelled text to measure on. Give a test file with labels.")
    probabilities_NC = answers(runtime, split, progress)
    return score(
        probabilities_NC,
        split.labels_N,
        teacher_predictions_N=teacher_predictions_N,
        seed=seed,
        resamples=resamples,
    )


def answers(runtime: Runtime, split: Split, progress: Progress = no_progress) -> Array:
    """Class probabilities (N, C) of all texts of a split, asked for in chunks."""
    parts: list[Array] = []
    for start in range(0, len(split), CHUNK):
        texts = [split.texts[i] for i in range(start, min(start + CHUNK, len(split)))]
        part_BC = np.asarray(runtime.probabilities(texts))
        if part_BC.shape != (len(texts), len(runtime.labels)) or not np.isfinite(part_BC).all():
            raise MinikinError(
                f"The runtime answered {len(texts)} texts with an array of shape {part_BC.shape}; "
                f"expected finite probabilities of {len(runtime.labels)} classes for each."
            )
        parts.append(part_BC)
        progress((start + len(texts)) / len(split), f"{start + len(texts):,} of {len(split):,} texts")
    return np.concatenate(parts)


def score(
    probabilities_NC: Array,
    labels_N: Array,
    *,
    teacher_predictions_N: Array | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Quality:
    """Scores of probabilities that are there already, for instance from stored signals."""
    labels_N = np.asarray(labels_N)
    predictions_N = probabilities_NC.argmax(-1)
    confidence_N = probabilities_NC.max(-1)
    correct_N = predictions_N == labels_N
    confusion_TC = metrics.confusion(labels_N, predictions_N, probabilities_NC.shape[1])
    agreement = None
    if teacher_predictions_N is not None:
        agreement = metrics.accuracy(teacher_predictions_N, predictions_N)
    return Quality(
        predictions_N=predictions_N,
        confidence_N=confidence_N,
        probabilities_NC=probabilities_NC,
        accuracy=metrics.accuracy(labels_N, predictions_N),
        accuracy_interval=intervals.mean_interval(correct_N, resamples=resamples, seed=seed),
        macro_f1=float(metrics.macro_f1(confusion_TC)),
        macro_f1_interval=intervals.macro_f1_interval(confusion_TC, resamples=resamples, seed=seed),
        ece=metrics.ece(confidence_N, correct_N),
        agreement_with_teacher=agreement,
    )
