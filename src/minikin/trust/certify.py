"""From labelled answers to a threshold with a bound, or the reason why there is none. Called by commands/trust.py.

The labels are split: one part fits the score and fixes its grid and the start of the walk; the other certifies, by
`ltt` (the risk among answers, with high probability) or by `crc` (wrong answers among all texts, in expectation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minikin.base.errors import CertificateError
from minikin.base.types import Array
from minikin.equations import risk
from minikin.equations.binomial import cdf, trials_needed
from minikin.trust import evidence
from minikin.trust.labels import LabelErrors, label_errors
from minikin.trust.scores import FIT_SHARE, REJECTED, Held, Scorer
from minikin.trust.verdicts import Verdicts

Method = Literal["ltt", "crc"]
HELD_SHARE, HELD_ENOUGH = 0.1, 200
"""With so many texts that the build held out, fewer labels need to fit the score."""

GRID = 60
"""Thresholds to walk: each is a look at the labels, and a walk ends at the first unlucky one."""

EARLIER = 0.8
"""A walk starts where this share of the answers is given that the strongest evidence allows."""

SLACK = 1e-3
"""Thresholds lie so far below the scores that gave them: the same text, asked alone and so rounded otherwise, stays
on the same side."""

OVERLAP = 0.05
"""A file of which more than this share was trained on is refused whole; fewer such rows are left out."""

USUAL_REJECTS = ("oos", "out_of_scope", "out-of-scope", "out of scope", "reject")


@dataclass(frozen=True)
class Labelled:
    """Answers to N labelled texts: probabilities, pooled vectors if any, labels (−1: the kin has none), groups.

    `familiar_N2` are the shares of each text's words, where the kin carries a table of them (see words.py), and `held`
    is what it carries of the texts that its build held out.
    """

    probabilities_NC: Array
    pooled_NF: Array | None
    labels_N: Array
    reject: int = -1
    groups_N: Array | None = None
    familiar_N2: Array | None = None
    held: Held | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def wrong_N(self) -> Array:
        """Whether an answer would be wrong: another label, or a text that is out of scope."""
        out_N = (self.labels_N < 0) | (self.labels_N == self.reject)
        return np.asarray((self.probabilities_NC.argmax(1) != self.labels_N) | out_N)

    @property
    def given(self) -> tuple[Array, Array | None, Array | None]:
        """What a score is made of."""
        return self.probabilities_NC, self.pooled_NF, self.familiar_N2

    @property
    def strata_N(self) -> Array:
        """Classes, of which both parts of a split get their proportion."""
        return self.labels_N

    def fitted(self) -> Scorer:
        """A score fitted on these. Raises ValueError when no answer is right, or a number is not finite."""
        return Scorer.fit(*self.given, self.labels_N, ~self.wrong_N, self.reject, self.held)

    @property
    def fit_share(self) -> float:
        """The share of the labels that fits the score."""
        return FIT_SHARE if self.held is None or len(self.held.right_N) < HELD_ENOUGH else HELD_SHARE

    def take(self, rows: Array) -> Labelled:
        """The examples at `rows`."""
        more = (self.pooled_NF, self.groups_N, self.familiar_N2)
        pooled_NF, groups_N, familiar_N2 = (None if values is None else values[rows] for values in more)
        p_NC, labels_N = self.probabilities_NC[rows], self.labels_N[rows]
        return Labelled(p_NC, pooled_NF, labels_N, self.reject, groups_N, familiar_N2, self.held)


@dataclass(frozen=True)
class Sets:
    """Conformal sets: classes c with 1 − p_c ≤ `quantiles_C[c]` hold the true one with a chance of `share` or more.

    `by_class` says whether that holds within each class; `mean_size` and `single` are what N labelled texts get.
    """

    share: float
    by_class: bool
    quantiles_C: Array
    n: int
    mean_size: float
    single: float


@dataclass(frozen=True)
class Certified:
    """What was proven: a threshold for all, or for each group (None: handed over whole), and the evidence.

    `errors` is None where there are verdicts in place of labels, `sets` where none were asked for.
    """

    method: Method
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
    errors: LabelErrors | None
    evidence: dict[str, Any]
    sets: Sets | None = None


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
    labelled: Labelled | Verdicts,
    alpha: float,
    delta: float,
    *,
    seed: int = 0,
    labels_checked: bool = False,
    method: Method = "ltt",
    sets: Sets | None = None,
) -> Certified:
    """Find the loosest threshold whose answers are wrong with a risk of at most `alpha`, proven at 1 − `delta`.

    With groups, each group gets a threshold of its own at δ/G; a group in which nothing can be proven is handed over
    whole. `crc` bounds the expected share of *all* texts that are answered wrongly, and has no δ. Raises
    CertificateError, saying what is missing, when nothing can be certified.
    """
    _check(labelled, alpha, delta, method)
    errors = _label_errors(labelled, alpha, labels_checked) if isinstance(labelled, Labelled) else None
    fitting, certifying = (labelled.take(rows) for rows in split(labelled.strata_N, seed, labelled.fit_share))
    scorer = fit_scorer(fitting)
    grid_J, start = walk_of(scorer, fitting, alpha)
    scores_N = scorer.scores(*certifying.given)
    groups_N = np.zeros(len(scores_N), int) if certifying.groups_N is None else certifying.groups_N
    names = np.unique(groups_N).tolist()
    chosen: dict[str, risk.Selected | None] = {}
    for name in names:
        held, wrong_N = scores_N[groups_N == name], certifying.wrong_N[groups_N == name]
        found = (
            risk.learn_then_test(held, wrong_N, grid_J, alpha, delta / len(names), start=start)
            if method == "ltt"
            else in_expectation(held, wrong_N, grid_J, alpha)
        )
        chosen["" if certifying.groups_N is None else str(name)] = found
    kept = sum(found.answered for found in chosen.values() if found)
    if kept == 0:
        raise CertificateError(_why_nothing(scores_N, certifying.wrong_N, grid_J[start:], alpha, delta / len(names)))
    return Certified(
        method,
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
        sets,
    )


def in_expectation(scores_N: Array, wrong_N: Array, grid_J: Array, alpha: float) -> risk.Selected | None:
    """The loosest threshold at which a text is answered *and* wrong with an expectation of at most `alpha`.

    The loss never grows towards strict thresholds, so the grid is walked from its loose end; `bound` is that
    expectation's, not one of the risk among answers.
    """
    strict_J = grid_J[::-1]
    losses_NJ = (scores_N[:, None] >= strict_J[None, :]) & wrong_N[:, None]
    place = risk.conformal_risk(losses_NJ.astype(np.float64), alpha) if len(scores_N) else None
    if place is None:
        return None
    threshold = float(strict_J[place])
    given_N = scores_N >= threshold
    errors, n = int((given_N & wrong_N).sum()), len(scores_N)
    return risk.Selected(len(grid_J) - 1 - place, threshold, errors, int(given_N.sum()), (errors + 1) / (n + 1))


def conformal_sets(labelled: Labelled, share: float, by_class: bool) -> Sets:
    """Calibrate conformal sets on every labelled text whose label the kin has; nothing was fitted to them before.

    Raises CertificateError where there are too few texts for any set to leave a class out.
    """
    rows = np.flatnonzero(labelled.labels_N >= 0)
    p_NC, labels_N = labelled.probabilities_NC[rows], labelled.labels_N[rows]
    classes = labelled.probabilities_NC.shape[1]
    strange_N = 1.0 - p_NC[np.arange(len(rows)), labels_N].astype(np.float64)
    quantiles_C = (
        risk.class_quantiles(strange_N, labels_N, classes, 1.0 - share)
        if by_class
        else np.full(classes, risk.conformal_quantile(strange_N, 1.0 - share))
    )
    if np.isinf(quantiles_C).all():
        needed = math.ceil(share / (1.0 - share) - 1e-9)
        raise CertificateError(
            f"Sets that hold the true label in {share:.4g} of all cases need at least {needed:,} labelled texts"
            f"{' of a class' if by_class else ''}. Give more labels, or ask for smaller a share."
        )
    sizes_N = risk.prediction_sets(p_NC, quantiles_C).sum(1)
    return Sets(share, by_class, quantiles_C, len(rows), float(sizes_N.mean()), float((sizes_N == 1).mean()))


def fit_scorer(fitting: Labelled | Verdicts) -> Scorer:
    """Fit the score on its own part of the labels."""
    try:
        return fitting.fitted()
    except ValueError as error:
        raise CertificateError(
            f"No score can be fitted on {len(fitting):,} labelled texts: {error}. Give more labels, or check that the "
            "label column is the right one."
        ) from error


def walk_of(scorer: Scorer, fitting: Labelled | Verdicts, alpha: float) -> tuple[Array, int]:
    """The grid, and where its walk starts: a little stricter than the strongest evidence on the fitting part.

    Both are fixed before a label of the certifying part is looked at. A walk from the strictest threshold would end
    at the first unlucky error among its few answers, one from the strongest evidence, which is that of the labels that
    the score was fitted to, now and then at its very first step.
    """
    scores_N = scorer.scores(*fitting.given)
    grid_J = risk.grid(scores_N[scores_N > REJECTED], GRID) - SLACK
    errors_J, answered_J = risk.counts(scores_N, fitting.wrong_N, grid_J)
    tails = [cdf(int(k), int(n), alpha) for k, n in zip(errors_J, answered_J, strict=True)]
    return grid_J, int(np.argmax(answered_J >= EARLIER * answered_J[int(np.argmin(tails))]))


def labels_missing(
    have: int, alpha: float, delta: float, groups: int = 1, method: Method = "ltt", fit_share: float = FIT_SHARE
) -> int:
    """Labels to add before anything could be certified at all, even if every answer were right."""
    each = trials_needed(alpha, delta / groups) if method == "ltt" else math.ceil(1.0 / alpha - 1.0 - 1e-9)
    needed = math.ceil(groups * each / (1.0 - fit_share)) + 1
    return max(0, needed - have)


def _check(labelled: Labelled | Verdicts, alpha: float, delta: float, method: Method) -> None:
    if not (0.0 < alpha < 1.0 and 0.0 < delta < 1.0):
        raise CertificateError("Risk and confidence must lie between 0 % and 100 %, for example --risk 2%.")
    numbers = [rows for rows in labelled.given if rows is not None]
    if not all(np.isfinite(rows).all() for rows in numbers):
        bad = int(sum((~np.isfinite(rows)).any(1).sum() for rows in numbers))
        raise CertificateError(f"The kin gives {bad:,} answers that are no numbers (NaN). Build the kin again.")
    if isinstance(labelled, Labelled) and len(np.unique(labelled.labels_N)) < 2:
        raise CertificateError("All labelled texts have the same label: nothing can be told from them. Give others.")
    groups = 1 if labelled.groups_N is None else len(np.unique(labelled.groups_N))
    missing = labels_missing(len(labelled), alpha, delta, groups, method, labelled.fit_share)
    if missing:
        sure = "" if method == "crc" else f" at {1 - delta:.3g} confidence"
        raise CertificateError(
            f"{len(labelled):,} labels are too few for a risk of {alpha:.3g}{sure}"
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
