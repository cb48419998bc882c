"""What card and report show of a certification: how well each score tells right from wrong, and the curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from minikin.base.types import Array
from minikin.equations import calibration, metrics, risk
from minikin.equations.logistic import auroc, isotonic
from minikin.trust.scores import LEAST, REJECTED, Scorer, probability_parts
from minikin.trust.verdicts import PARTS, Verdicts

if TYPE_CHECKING:
    from minikin.trust.certify import Labelled

CURVE_POINTS = 50


def gather(
    scorer: Scorer, fitting: Labelled | Verdicts, certifying: Labelled | Verdicts, grid_J: Array
) -> dict[str, Any]:
    """Plain values, all measured on the certifying part with what was fitted on the other."""
    scores_N = scorer.scores(*certifying.given)
    if isinstance(certifying, Verdicts):
        auroc_of = {
            name: {"wrong": auroc(sign * column_N, ~certifying.wrong_N), "out_of_scope": None}
            for name, column_N, sign in zip(PARTS, certifying.parts_NK.T, (1, 1, -1, 1), strict=True)
        }
        found = {
            "auroc": auroc_of | {"combined": {"wrong": auroc(scores_N, ~certifying.wrong_N), "out_of_scope": None}},
            "ece": {"score": metrics.ece(chance(scores_N), ~certifying.wrong_N)},
        }
    else:
        assert not isinstance(fitting, Verdicts)
        found = {"auroc": separation(scorer, certifying, scores_N), "ece": calibrations(scorer, fitting, certifying)}
    return {
        **found,
        "curve": curve(scores_N, certifying.wrong_N, grid_J),
        "reliability": reliability(scores_N, certifying.wrong_N),
    }


def separation(scorer: Scorer, labelled: Labelled, scores_N: Array) -> dict[str, dict[str, float | None]]:
    """AUROC of each part of the score and of the whole, for wrong answers and for texts out of scope.

    Parts are turned so that more means more trustworthy; answers that name the reject class are none.
    """
    given_N = scores_N > REJECTED
    right_N = ~labelled.wrong_N[given_N]
    inside_N = (labelled.labels_N[given_N] >= 0) & (labelled.labels_N[given_N] != labelled.reject)
    p_NC = labelled.probabilities_NC[given_N]
    columns = {"max_probability": p_NC.max(1)}
    parts_NK = probability_parts(p_NC, labelled.reject)
    columns |= {"energy": parts_NK[:, 2], "entropy": parts_NK[:, 1]}
    if scorer.space is not None and labelled.pooled_NF is not None:
        near_NK = scorer.space.parts(labelled.pooled_NF[given_N], p_NC.argmax(1))
        columns |= {"nearest_neighbour": near_NK[:, 1], "mahalanobis": -near_NK[:, 2]}
    if labelled.familiar_N2 is not None:
        columns["familiar_words"] = labelled.familiar_N2[given_N, 0]
    columns["combined"] = scores_N[given_N]
    return {
        name: {"wrong": auroc(column_N, right_N), "out_of_scope": auroc(column_N, inside_N)}
        for name, column_N in columns.items()
    }


def calibrations(scorer: Scorer, fitting: Labelled, certifying: Labelled) -> dict[str, float]:
    """ECE of the confidence as it is, after temperature scaling, after isotonic regression, and of the score."""
    found: dict[str, float] = {}
    ours, theirs = (np.log(np.maximum(part.probabilities_NC, LEAST)) for part in (fitting, certifying))
    temperature = calibration.fit_temperature(
        ours, np.where(fitting.wrong_N & (fitting.labels_N < 0), -1, fitting.labels_N)
    )
    right_N = ~certifying.wrong_N
    places, heights = isotonic(fitting.probabilities_NC.max(1), ~fitting.wrong_N)
    found["as it is"] = metrics.ece(certifying.probabilities_NC.max(1), right_N)
    found["temperature"] = metrics.ece(calibration.softmax(theirs, temperature).max(1), right_N)
    found["isotonic"] = metrics.ece(np.interp(certifying.probabilities_NC.max(1), places, heights), right_N)
    scores_N = scorer.scores(*certifying.given)
    found["score"] = metrics.ece(chance(scores_N), right_N)
    return {**found, "fitted_temperature": temperature}


def curve(scores_N: Array, wrong_N: Array, grid_J: Array) -> list[dict[str, float]]:
    """Coverage and share of wrong answers along the grid."""
    errors_J, answered_J = risk.counts(scores_N, wrong_N, grid_J)
    places = np.unique(np.linspace(0, len(grid_J) - 1, CURVE_POINTS).astype(int))
    return [
        {"coverage": float(answered_J[j] / len(scores_N)), "risk": float(errors_J[j] / answered_J[j])}
        for j in places
        if answered_J[j] > 0
    ]


def reliability(scores_N: Array, wrong_N: Array) -> list[dict[str, float]]:
    """Bins of the score's own estimate of being right against how often it is."""
    given_N = scores_N > REJECTED
    if not given_N.any():
        return []
    bins = metrics.reliability(chance(scores_N[given_N]), ~wrong_N[given_N])
    rows = zip(bins.confidence_B.tolist(), bins.accuracy_B.tolist(), bins.n_B.tolist(), strict=True)
    return [{"confidence": c, "accuracy": a, "n": int(n)} for c, a, n in rows if n]


def chance(scores_N: Array) -> Array:
    """σ(score): the estimated chance that an answer is right."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores_N, -500, 500))))
