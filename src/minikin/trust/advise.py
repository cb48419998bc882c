"""Is a small model right here? What n labels can prove, what share of the traffic it would keep, what is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minikin.base.errors import CertificateError
from minikin.base.types import Array
from minikin.equations import risk
from minikin.equations.binomial import cdf, trials_needed
from minikin.trust.certify import Labelled, fit_scorer, split, walk_of
from minikin.trust.verdicts import Verdicts

RISKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
WORTH = 0.5
"""Share of the traffic that a small model should keep, to be worth having beside the large one."""

MOST_LABELS = 10_000_000


@dataclass(frozen=True)
class Prospect:
    """What to expect at one risk: coverage now (None: nothing is proven), the best to hope for, labels to add.

    `ceiling` is the coverage at which the labels at hand still show a risk below α; `missing` is None where no number
    of labels would do.
    """

    alpha: float
    coverage: float | None
    ceiling: float
    missing: int | None


def prospects(
    labelled: Labelled | Verdicts, delta: float, seed: int = 0, risks: tuple[float, ...] = RISKS
) -> list[Prospect]:
    """Try each risk as `certify` would. Raises CertificateError when no score can be fitted on the labels."""
    if not np.isfinite(labelled.given[0]).all():
        raise CertificateError("The kin gives answers that are no numbers (NaN). Build the kin again.")
    fitting, certifying = (labelled.take(rows) for rows in split(labelled.strata_N, seed, labelled.fit_share))
    if not len(fitting) or not len(certifying):
        raise CertificateError(f"{len(labelled)} labelled texts are too few to tell anything. Give some dozens.")
    scorer = fit_scorer(fitting)
    scores_N = scorer.scores(*certifying.given)
    rows = []
    for alpha in risks:
        grid_J, start = walk_of(scorer, fitting, alpha)
        found = risk.learn_then_test(scores_N, certifying.wrong_N, grid_J, alpha, delta, start=start)
        errors_J, answered_J = risk.counts(scores_N, certifying.wrong_N, grid_J)
        coverage = None if found is None else found.answered / len(certifying)
        ceiling, needed = _outlook(errors_J, answered_J, len(certifying), alpha, delta, 1.0 - labelled.fit_share)
        missing = 0 if found else None if needed is None else max(1, needed - len(labelled))
        rows.append(Prospect(alpha, coverage, ceiling, missing))
    return rows


def _outlook(
    errors_J: Array, answered_J: Array, n: int, alpha: float, delta: float, certify_share: float
) -> tuple[float, int | None]:
    """The largest coverage whose estimated risk lies below α, and the labels that would prove the easiest threshold."""
    ceiling, needed = 0.0, None
    for k, answered in zip(errors_J.tolist(), answered_J.tolist(), strict=True):
        estimate = (k + 0.5) / (answered + 1.0)
        if answered == 0 or estimate >= alpha:
            continue
        ceiling = max(ceiling, answered / n)
        labels = math.ceil(answers_needed(estimate, alpha, delta) / (answered / n) / certify_share)
        needed = labels if needed is None else min(needed, labels)
    return ceiling, needed if needed is None or needed <= MOST_LABELS else None


def answers_needed(expected: float, alpha: float, delta: float) -> int:
    """Answers that prove a risk of at most α if the share `expected` of them is wrong; doubles, then halves."""
    low = trials_needed(alpha, delta)
    high = low
    while high < MOST_LABELS and cdf(round(expected * high), high, alpha) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cdf(round(expected * middle), middle, alpha) <= delta else (middle, high)
    return high


def verdict(rows: list[Prospect], asked: float) -> tuple[bool, str]:
    """Whether a small model is right at the risk asked for, and why, in one or two sentences."""
    row = min(rows, key=lambda r: abs(r.alpha - asked))
    risk_words = f"{100 * row.alpha:.3g} %"
    if row.coverage is not None and row.coverage >= WORTH:
        return True, f"A small model is right here: at a risk of {risk_words} it would keep {row.coverage:.0%}."
    if row.coverage is not None:
        return False, (
            f"At a risk of {risk_words} it would keep only {row.coverage:.0%}; "
            f"with many more labels perhaps {row.ceiling:.0%}. Allow more risk, or make the model better."
        )
    if row.missing is not None:
        return False, (
            f"Not certifiable at a risk of {risk_words} with these labels: about {row.missing:,} more would do "
            f"(then perhaps up to {row.ceiling:.0%} would be kept)."
        )
    return False, (
        f"Not certifiable at a risk of {risk_words}: even its surest answers are wrong more often. "
        "Allow more risk, give more training data, or keep the large model."
    )
