"""From labelled answers to a threshold with a bound, or the reason why there is none. Called by commands/trust.py.

The labels are split: one part fits the score and fixes its grid and the start of the walk; the other certifies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.base.errors import CertificateError
from minikin.base.types import Array
from minikin.equations import risk
from minikin.equations.binomial import cdf, trials_needed
from minikin.trust import evidence
from minikin.trust.labels import LabelErrors, label_errors
from minikin.trust.scores import REJECTED, Scorer

FIT_SHARE = 0.3
GRID = 100
SLACK = 1e-3
"""Thresholds lie so far below the scores that gave them: the same text, asked alone and so rounded otherwise, stays
on the same side."""

OVERLAP = 0.05
"""A file of which more than this share was trained on is refused whole; fewer such rows are left out."""

USUAL_REJECTS = ("oos", "out_of_scope", "out-of-scope", "out of scope", "reject")


@dataclass(frozen=True)
class Labelled:
    """Answers to N labelled texts: probabilities, pooled vectors if any, labels (−1: the kin has none), groups."""

    probabilities_NC: Array
    pooled_NF: Array | None
    labels_N: Array
    reject: int = -1
    groups_N: Array | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def wrong_N(self) -> Array:
        """Whether an answer would be wrong: another label, or a text that is out of scope."""
        out_N = (self.labels_N < 0) | (self.labels_N == self.reject)
        return np.asarray((self.probabilities_NC.argmax(1) != self.labels_N) | out_N)

    def take(self, rows: Array) -> Labelled:
        """The examples at `rows`."""
        pooled_NF = None if self.pooled_NF is None else self.pooled_NF[rows]
        groups_N = None if self.groups_N is None else self.groups_N[rows]
        return Labelled(self.probabilities_NC[rows], pooled_NF, self.labels_N[rows], self.reject, groups_N)


@dataclass(frozen=True)
class Certified:
    """What was proven: a threshold for all, or for each group (None: handed over whole), and the evidence."""

    alpha: float
    delta: float
    scorer: Scorer
    grid_J: Array
    start: int
    chosen: dict[str, risk.Selected | None]
    fitted: int
    certified: int
    scores_N: Array
    coverage: float
    errors: LabelErrors
    evidence: dict[str, Any]


def reject_place(labels: Sequence[str], named: str | None = None) -> int:
    """The place of the reject class: the one named, or one with a usual name; −1 where there is none."""
    if named is not None:
        if named not in labels:
            raise CertificateError(f"The kin has no label '{named}'. Leave --reject out, or name one of its labels.")
        return list(labels).index(named)
    return next((i for i, label in enumerate(labels) if label.casefold() in USUAL_REJECTS), -1)


def unseen(hashes_N: Array, trained_on: Array | None) -> Array:
    """Places of the rows that the kin did not learn from. Raises CertificateError when many are its training rows."""
    seen_N = np.zeros(len(hashes_N), bool) if trained_on is None else np.isin(hashes_N, trained_on)
    if seen_N.sum() > OVERLAP * len(seen_N):
        raise CertificateError(
            f"{seen_N.sum():,} of {len(seen_N):,} labelled texts are ones that this kin was trained on (or chosen by): "
            "there it is right more often than elsewhere. Give texts that no build has read."
        )
    return np.flatnonzero(~seen_N)


def split(labels_N: Array, seed: int, share: float = FIT_SHARE) -> tuple[Array, Array]:
    """Places for fitting the score and for certifying, disjoint, each label in both in proportion."""
    shuffled_N = np.random.default_rng([seed, 3]).permutation(len(labels_N))
    order_N = shuffled_N[np.argsort(labels_N[shuffled_N], kind="stable")]
    steps_N = np.floor(np.arange(len(order_N) + 1) * share)
    fits_N = np.diff(steps_N) > 0
    return np.sort(order_N[fits_N]), np.sort(order_N[~fits_N])


def certify(
    labelled: Labelled, alpha: float, delta: float, *, seed: int = 0, labels_checked: bool = False
) -> Certified:
    """Find the loosest threshold whose answers are wrong with a risk of at most `alpha`, proven at 1 − `delta`.

    With groups, each group gets a threshold of its own at δ/G; a group in which nothing can be proven is handed over
    whole. Raises CertificateError, saying what is missing, when nothing can be certified.
    """
    _check(labelled, alpha, delta)
    errors = _label_errors(labelled, alpha, labels_checked)
    fitting, certifying = (labelled.take(rows) for rows in split(labelled.labels_N, seed))
    scorer = fit_scorer(fitting)
    grid_J, start = walk_of(scorer, fitting, alpha)
    scores_N = scorer.scores(certifying.probabilities_NC, certifying.pooled_NF)
    groups_N = np.zeros(len(scores_N), int) if certifying.groups_N is None else certifying.groups_N
    names = np.unique(groups_N).tolist()
    chosen: dict[str, risk.Selected | None] = {}
    kept = 0
    for name in names:
        rows = groups_N == name
        found = risk.learn_then_test(
            scores_N[rows], certifying.wrong_N[rows], grid_J, alpha, delta / len(names), start=start
        )
        chosen["" if certifying.groups_N is None else str(name)] = found
        kept += found.answered if found else 0
    if kept == 0:
        raise CertificateError(_why_nothing(scores_N, certifying.wrong_N, grid_J[start:], alpha, delta / len(names)))
    return Certified(
        alpha,
        delta,
        scorer,
        grid_J,
        start,
        chosen,
        len(fitting),
        len(certifying),
        scores_N,
        kept / len(certifying),
        errors,
        evidence.gather(scorer, fitting, certifying, grid_J),
    )


def fit_scorer(fitting: Labelled) -> Scorer:
    """Fit the score on its own part of the labels."""
    try:
        return Scorer.fit(
            fitting.probabilities_NC, fitting.pooled_NF, fitting.labels_N, ~fitting.wrong_N, fitting.reject
        )
    except ValueError as error:
        raise CertificateError(
            f"No score can be fitted on {len(fitting):,} labelled texts: {error}. Give more labels, or check that the "
            "label column is the right one."
        ) from error


def walk_of(scorer: Scorer, fitting: Labelled, alpha: float) -> tuple[Array, int]:
    """The grid, and where its walk starts: at the threshold with the strongest evidence on the fitting part.

    Both are fixed before a label of the certifying part is looked at. A walk from the strictest threshold would end
    at the first unlucky error among its few answers.
    """
    scores_N = scorer.scores(fitting.probabilities_NC, fitting.pooled_NF)
    grid_J = risk.grid(scores_N[scores_N > REJECTED], GRID) - SLACK
    errors_J, answered_J = risk.counts(scores_N, fitting.wrong_N, grid_J)
    tails = [cdf(int(k), int(n), alpha) for k, n in zip(errors_J, answered_J, strict=True)]
    return grid_J, int(np.argmin(tails))


def labels_missing(have: int, alpha: float, delta: float, groups: int = 1) -> int:
    """Labels to add before anything could be certified at all, even if every answer were right."""
    needed = math.ceil(groups * trials_needed(alpha, delta / groups) / (1.0 - FIT_SHARE)) + 1
    return max(0, needed - have)


def _check(labelled: Labelled, alpha: float, delta: float) -> None:
    if not (0.0 < alpha < 1.0 and 0.0 < delta < 1.0):
        raise CertificateError("Risk and confidence must lie between 0 % and 100 %, for example --risk 2%.")
    numbers = [labelled.probabilities_NC, *([labelled.pooled_NF] if labelled.pooled_NF is not None else [])]
    if not all(np.isfinite(rows).all() for rows in numbers):
        bad = int(sum((~np.isfinite(rows)).any(1).sum() for rows in numbers))
        raise CertificateError(f"The kin gives {bad:,} answers that are no numbers (NaN). Build the kin again.")
    if len(np.unique(labelled.labels_N)) < 2:
        raise CertificateError("All labelled texts have the same label: nothing can be told from them. Give others.")
    groups = 1 if labelled.groups_N is None else len(np.unique(labelled.groups_N))
    missing = labels_missing(len(labelled), alpha, delta, groups)
    if missing:
        raise CertificateError(
            f"{len(labelled):,} labels are too few for a risk of {alpha:.3g} at {1 - delta:.3g} confidence"
            f"{f' in each of {groups} groups' if groups > 1 else ''}: at least {missing:,} more are needed, "
            "and more still if some answers are wrong. See what is within reach with: minikin advise"
        )


def _label_errors(labelled: Labelled, alpha: float, checked: bool) -> LabelErrors:
    """Refuse labels of which a share of `alpha` or more looks wrong; texts that are out of scope are left aside."""
    rows = np.flatnonzero((labelled.labels_N >= 0) & (labelled.labels_N != labelled.reject))
    if len(rows) == 0:
        raise CertificateError("None of the labels is one that the kin knows. Is it the right column?")
    found = label_errors(labelled.probabilities_NC[rows], labelled.labels_N[rows])
    found = LabelErrors(found.share, tuple(int(rows[i]) for i in found.suspects))
    if found.share >= alpha and not checked:
        raise CertificateError(
            f"About {found.share:.1%} of the labels look wrong, as many as the risk of {alpha:.3g} that is asked for: "
            "the certificate would only prove agreement with wrong labels. Look at the rows below, correct them, and "
            "certify again; if they are right, say --labels-checked."
        )
    return found


def _why_nothing(scores_N: Array, wrong_N: Array, grid_J: Array, alpha: float, delta: float) -> str:
    errors_J, answered_J = risk.counts(scores_N, wrong_N, grid_J)
    k, n = int(errors_J[0]), int(answered_J[0])
    for errors, answered in zip(errors_J.tolist(), answered_J.tolist(), strict=True):
        if answered >= trials_needed(alpha, delta):
            k, n = errors, answered
            break
    seen = f"its {n:,} surest answers hold {k:,} wrong ones" if n else "it gives no answer"
    return (
        f"Nothing can be certified at a risk of {alpha:.3g} and {1 - delta:.3g} confidence: {seen}. "
        f"{n:,} answers may hold {_most_errors(n, alpha, delta)}. Ask for a larger risk, give more labels, or make the "
        "kin better; minikin advise says which."
    )


def _most_errors(n: int, alpha: float, delta: float) -> str:
    k = -1
    while k < n and cdf(k + 1, n, alpha) <= delta:
        k += 1
    return "none, being too few" if k < 0 else f"at most {k:,}"
