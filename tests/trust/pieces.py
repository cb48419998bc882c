"""A small model whose answers and certainty stand in the text itself, and a guard that reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minikin.base.types import Array

LABELS = ("billing", "delivery", "outage")


class Small:
    """Answers `billing 0.9 …` with billing at 0.9; the rest is spread evenly."""

    labels = LABELS

    def probabilities(self, texts: Sequence[str]) -> Array:
        rows_NC = np.zeros((len(texts), len(LABELS)))
        for row_C, text in zip(rows_NC, texts, strict=True):
            label, share = text.split()[:2]
            row_C[:] = (1 - float(share)) / (len(LABELS) - 1)
            row_C[LABELS.index(label)] = float(share)
        return rows_NC


class Threshold:
    """Accepts from 0.8 on, as long as its state says certified."""

    def __init__(self) -> None:
        self.state, self.reason = "certified", ""

    def decide(self, probabilities_NC: Array, pooled_NH: Array | None, texts, groups=None) -> tuple[Array, Array]:
        scores_N = probabilities_NC.max(-1)
        return scores_N, scores_N >= 0.8

    def why(self, score: float, group: str | None = None) -> str:
        return "" if score >= 0.8 else "its score is below 0.8"
