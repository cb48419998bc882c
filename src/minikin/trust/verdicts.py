"""What certifies a kin that writes: a verdict on each answer, and a score from its tokens' log-probabilities.

N answers, K parts of the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minikin.base.types import Array
from minikin.base.writing import Completion
from minikin.equations.logistic import fit_logistic
from minikin.trust.scores import FIT_SHARE, Scorer

PARTS = ("mean", "least", "length", "ended")


@dataclass(frozen=True)
class Verdicts:
    """Answers to N prompts: parts of the score, which answers are wrong, and groups; certified as `Labelled` is."""

    parts_NK: Array
    wrong_N: Array
    groups_N: Array | None = None
    fit_share: ClassVar[float] = FIT_SHARE

    def __len__(self) -> int:
        return len(self.wrong_N)

    @property
    def given(self) -> tuple[Array]:
        """What a score is made of."""
        return (self.parts_NK,)

    @property
    def strata_N(self) -> Array:
        """All alike: there are no classes to divide in proportion."""
        return np.zeros(len(self), np.int64)

    def take(self, rows: Array) -> Verdicts:
        """The answers at `rows`."""
        groups_N = None if self.groups_N is None else self.groups_N[rows]
        return Verdicts(self.parts_NK[rows], self.wrong_N[rows], groups_N)

    def fitted(self) -> Scorer:
        """A score fitted on these. Raises ValueError when no answer is right, or a number is not finite."""
        if not self.wrong_N.any():
            # nothing to learn from: the mean log-probability orders the answers
            return WritingScorer(np.eye(len(PARTS))[0], 0.0, -1, None)
        return WritingScorer(*fit_logistic(self.parts_NK, ~self.wrong_N), -1, None)


class WritingScorer(Scorer):
    """A fitted score of written answers: a weighted sum of `PARTS`."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the parts are, in the order of the weights."""
        return PARTS

    def scores(self, given_NK: Array, pooled_NF: Array | None = None, familiar_N2: Array | None = None) -> Array:
        """Scores (N,) of parts (N, K), of which alone they are made."""
        return np.asarray(given_NK @ self.weights_K + self.intercept)


def parts_of(completion: Completion) -> list[float]:
    """Mean and least log-probability of the tokens, logarithm of their number, and 1.0 where the answer came to an end.

    Raises ValueError for a completion that was asked for without log-probabilities.
    """
    if not completion.logprobs:
        raise ValueError("the score needs the tokens' log-probabilities")
    logs = completion.logprobs
    return [float(np.mean(logs)), float(min(logs)), float(np.log(len(logs))), float(completion.finish == "end")]
