"""One score for each answer: how likely it is right, from the kin's probabilities, words and pooled vectors.

N answers, C classes, F pooled features, Q projected ones, M reference rows, K parts of the score, 2 labels: the one
answered and the likeliest other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from minikin.base.types import Array
from minikin.equations.logistic import fit_logistic
from minikin.trust.words import familiar, runner_up

REJECTED = -1e6
"""Score of an answer that names the reject class: it is never given."""

LEAST = 1e-30
MOST = 65_000.0
NOTHING: Array = np.zeros(0, np.float32)
QUIET_ODDS = 1e-7
WIDTH = 32
FIT_SHARE = 0.3
"""Of the labels, for the score; the rest certifies."""

RIDGE = 10.0
"""Of the logistic: with some hundred labels, less lets it follow chance."""

CHEAP = ("log_odds", "entropy", "energy", "log_odds²")
REJECTS = ("reject", "reject²", "log_odds·reject")
FAMILIAR = ("familiar_words", "words_of_runner_up")
NEAR = ("length", "neighbour", "mahalanobis")


@dataclass(frozen=True)
class Space:
    """Where labelled examples lie in the pooled space: projected rows of each class, class means, spreads."""

    centre_F: Array
    projection_FQ: Array
    references_MQ: Array
    starts_D: Array
    means_CQ: Array
    farthest: float

    @classmethod
    def of(cls, pooled_NF: Array, labels_N: Array, classes: int) -> Space:
        """Fit on labelled examples: principal directions, scaled by the spread that is left within classes.

        Distances to a class mean are then Mahalanobis distances with a covariance that all classes share.
        Source: Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples", eq. 1–2.
        """
        pooled_NF = np.asarray(pooled_NF, np.float64)
        centre_F = pooled_NF.mean(0)
        values, vectors = np.linalg.eigh(np.cov((pooled_NF - centre_F).T).reshape(len(centre_F), -1))
        kept = np.argsort(values)[::-1][: min(WIDTH, len(centre_F))]
        z_NQ = (pooled_NF - centre_F) @ vectors[:, kept]
        inside_N = labels_N >= 0
        z_NQ, labels_N = z_NQ[inside_N], labels_N[inside_N]
        counts_C = np.bincount(labels_N, minlength=classes)
        means_CQ = np.zeros((classes, z_NQ.shape[1]))
        np.add.at(means_CQ, labels_N, z_NQ)
        means_CQ /= np.maximum(counts_C, 1)[:, None]
        freedom = max(1, len(z_NQ) - int((counts_C > 0).sum()))
        spread_Q = np.sqrt(((z_NQ - means_CQ[labels_N]) ** 2).sum(0) / freedom)
        spread_Q = np.maximum(spread_Q, 1e-3 * max(float(spread_Q.max()), 1e-12))
        order_M = np.argsort(labels_N, kind="stable")
        far = float(np.log1p((((z_NQ - means_CQ[labels_N]) / spread_Q) ** 2).sum(1)).max())
        return cls(
            centre_F.astype(np.float32),
            halved(np.ascontiguousarray(vectors[:, kept] / spread_Q)),
            halved((z_NQ / spread_Q)[order_M]),
            np.concatenate([[0], np.cumsum(counts_C)]).astype(np.int64),
            halved(means_CQ / spread_Q),
            far,
        )

    @property
    def of_means(self) -> Space:
        """The same with the mean of each class as its only reference: as small as it gets."""
        there_C = np.diff(self.starts_D) > 0
        starts_D = np.concatenate([[0], np.cumsum(there_C)]).astype(np.int64)
        return replace(self, references_MQ=self.means_CQ[there_C], starts_D=starts_D)

    def parts(self, pooled_NF: Array, answers_N: Array, own_N: Array | None = None) -> Array:
        """Length, similarity to the nearest labelled example of the class answered, and distance to its mean (N, 3).

        `own_N` is the place of each example among the references, which doesn't count for itself (−1: none).
        """
        z_NQ = (np.asarray(pooled_NF, np.float32) - self.centre_F) @ self.projection_FQ
        length_N = np.linalg.norm(z_NQ, axis=1) + 1e-9
        unit_MQ = self.references_MQ / (np.linalg.norm(self.references_MQ, axis=1, keepdims=True) + 1e-9)
        similar_N, distance_N = np.full(len(z_NQ), -1.0), np.full(len(z_NQ), self.farthest)
        for c in np.unique(answers_N):
            start, end = int(self.starts_D[c]), int(self.starts_D[c + 1])
            rows = np.flatnonzero(answers_N == c)
            own = np.full(len(rows), -1) if own_N is None else own_N[rows]
            at_home = (own >= start) & (own < end)
            if end == start:
                continue
            cosines = unit_MQ[start:end] @ z_NQ[rows].T / length_N[rows]
            cosines[own[at_home] - start, np.flatnonzero(at_home)] = -1.0
            similar_N[rows] = cosines.max(0)
            away = z_NQ[rows] - self.means_CQ[c]
            # without itself in the mean, an example lies n / (n − 1) times as far from it
            away[at_home] *= (end - start) / max(1, end - start - 1)
            distance_N[rows] = np.minimum(self.farthest, np.log1p((away**2).sum(1)))
        return np.stack([np.log(length_N), similar_N, distance_N], axis=1)


def halved(values: Array) -> Array:
    """Values as float16 keeps them, which is how they are stored."""
    return np.clip(values, -MOST, MOST).astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Held:
    """What a kin carries of the texts that its build held out: parts of the score (N, K), named; whether right (N,).

    `space` is where the training texts lie.
    """

    names: tuple[str, ...]
    parts_NK: Array
    right_N: Array
    space: Space

    def of(self, names: tuple[str, ...]) -> Array:
        """The columns of these names."""
        return self.parts_NK[:, [self.names.index(name) for name in names]]


@dataclass(frozen=True)
class Scorer:
    """A fitted score: a weighted sum of parts; σ(score) estimates the chance that an answer is right."""

    weights_K: Array
    intercept: float
    reject: int
    space: Space | None
    familiar: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What the parts are, in the order of the weights."""
        return names_of(self.reject >= 0, self.familiar, self.space is not None)

    @classmethod
    def fit(
        cls,
        probabilities_NC: Array,
        pooled_NF: Array | None,
        familiar_N2: Array | None,
        labels_N: Array,
        right_N: Array,
        reject: int = -1,
        held: Held | None = None,
    ) -> Scorer:
        """Fit on labelled answers, each scored without itself; pooled vectors and shares of words may be missing.

        `familiar_N2` is what `words.shares` says of the answers, `labels_N` holds −1 for what the kin has no label
        for, and `reject` is the place of the reject class (−1: none). Answers to `held` texts are added, and its
        space is used. Raises ValueError when no answer is right, or a number is not finite.
        """
        inside_N = np.where(labels_N == reject, -1, labels_N)
        answers_N = probabilities_NC.argmax(1)
        parts, space = [probability_parts(probabilities_NC, reject)], None
        if familiar_N2 is not None:
            parts.append(familiar_N2)
        if pooled_NF is not None and held is not None:
            space = held.space
            parts.append(space.parts(pooled_NF, answers_N))
        elif pooled_NF is not None and (inside_N >= 0).sum() > 1:
            space = Space.of(pooled_NF, inside_N, probabilities_NC.shape[1])
            own_N = np.full(len(inside_N), -1)
            known = np.flatnonzero(inside_N >= 0)
            own_N[known[np.argsort(inside_N[known], kind="stable")]] = np.arange(len(known))
            parts.append(space.parts(pooled_NF, answers_N, own_N))
        given_N, worded = answers_N != reject, familiar_N2 is not None
        parts_NK, right_N = np.concatenate(parts, axis=1)[given_N], right_N[given_N]
        if held is not None:
            parts_NK = np.concatenate([parts_NK, held.of(names_of(reject >= 0, worded, space is not None))])
            right_N = np.concatenate([right_N, held.right_N])
        if len(right_N) and right_N.all():
            # nothing to learn from: the largest probability orders the answers
            return cls(np.eye(parts_NK.shape[1])[0], 0.0, reject, space, worded)
        weights_K, intercept = fit_logistic(parts_NK, right_N, RIDGE)
        return cls(weights_K, intercept, reject, space, worded)

    def scores(self, probabilities_NC: Array, pooled_NF: Array | None, familiar_N2: Array | None = None) -> Array:
        """Scores (N,) in float64; `REJECTED` for the reject class, NaN where a number is not finite."""
        answers_N = probabilities_NC.argmax(1)
        parts = [probability_parts(probabilities_NC, self.reject)]
        if self.familiar:
            if familiar_N2 is None:
                raise ValueError("this score needs the texts")
            parts.append(familiar_N2)
        if self.space is not None:
            if pooled_NF is None:
                raise ValueError("this score needs the pooled vectors")
            parts.append(self.space.parts(pooled_NF, answers_N))
        scores_N = np.concatenate(parts, axis=1) @ self.weights_K + self.intercept
        return np.asarray(np.where(answers_N == self.reject, REJECTED, scores_N))


def names_of(rejects: bool, worded: bool, near: bool) -> tuple[str, ...]:
    """What the parts of a score are: with a reject class, a table of words, pooled vectors."""
    return CHEAP + REJECTS * rejects + FAMILIAR * worded + NEAR * near


def probability_parts(probabilities_NC: Array, reject: int = -1) -> Array:
    """Log-odds of the answer, entropy, energy, squared log-odds, and where there is a reject class its log-probability,
    the square of that, and its product with the log-odds (N, K).

    The energy is the log-sum-exp of the logits less their mean, −mean_c log p_c, which needs no logits.
    Source: Hendrycks & Gimpel 2017 (maximum probability); Liu et al. 2020, "Energy-based OOD Detection", eq. 3.
    """
    p_NC = np.asarray(probabilities_NC, np.float32)
    log_NC = np.log(np.maximum(p_NC, np.float32(LEAST)))
    top_N = p_NC.max(1).astype(np.float64)
    odds_N = np.log(np.maximum(top_N, LEAST)) - np.log(np.maximum(1.0 - top_N, QUIET_ODDS))
    columns = [odds_N, (p_NC * log_NC).sum(1), -log_NC.mean(1), odds_N**2]
    if reject >= 0:
        reject_N = log_NC[:, reject].astype(np.float64)
        columns += [reject_N, reject_N**2, odds_N * reject_N]
    return np.stack(columns, axis=1).astype(np.float64)


class Quick:
    """The same score for one answer at a time, in a few microseconds: by the kernel's extension, or else by numpy.

    All that doesn't depend on the answer is laid out once, class by class, so that one call of C is left.
    """

    def __init__(self, scorer: Scorer, classes: int, compiled: Any = None, bits_B: Array = NOTHING) -> None:
        w, self._reject = scorer.weights_K, scorer.reject
        self._judge: Callable[..., float] = getattr(compiled, "score", None) or judge
        self._linear_C = np.full(classes, -w[2] / classes, np.float32)
        squares = [0.0, 0.0]
        if scorer.reject >= 0:
            self._linear_C[scorer.reject] += np.float32(w[4])
            squares = [w[5], w[6]]
        self._near: list[Array] = [NOTHING] * classes
        self._projection_FQ, self._shift_Q = NOTHING, NOTHING
        self._bits_B = bits_B
        place = scorer.names.index(FAMILIAR[0]) if scorer.familiar else 0
        words = w[place : place + len(FAMILIAR)] if scorer.familiar else (0.0, 0.0)
        near, squares_C = [0.0] * 4, np.zeros(classes)
        self._space = scorer.space
        if (space := scorer.space) is not None:
            self._projection_FQ = np.ascontiguousarray(space.projection_FQ, np.float32)
            self._shift_Q = np.ascontiguousarray(space.centre_F @ self._projection_FQ, np.float32)
            unit_MQ = space.references_MQ / (np.linalg.norm(space.references_MQ, axis=1, keepdims=True) + 1e-9)
            bounds = pairwise(map(int, space.starts_D))
            means = zip(bounds, space.means_CQ, strict=True)
            self._near = [np.vstack([unit_MQ[a:b], m]).astype(np.float32) if b > a else NOTHING for (a, b), m in means]
            near, squares_C = [*w[-3:], space.farthest], (space.means_CQ.astype(np.float64) ** 2).sum(1)
        fixed = [scorer.intercept, w[0], w[1], w[3], float(max(scorer.reject, 0)), *squares, *near, *words]
        self._numbers = [np.array([*fixed, square], np.float64) for square in squares_C]

    def score(self, row_C: Array, pooled_F: Array | None, best: int, top: float, text: str) -> float:
        """Score of one row of float32 probabilities whose largest is `top`, at `best`; `text` as `words.joined`."""
        if best == self._reject:
            return REJECTED
        if self._space is None:
            pooled_F = NOTHING
        elif pooled_F is None:
            return math.nan
        near_RQ, numbers = self._near[best], self._numbers[best]
        vectors = (pooled_F, self._projection_FQ, self._shift_Q, near_RQ)
        return self._judge(row_C, self._linear_C, *vectors, numbers, self._bits_B, top, best, text)


def judge(
    row_C: Array,
    linear_C: Array,
    pooled_F: Array,
    projection_FQ: Array,
    shift_Q: Array,
    near_RQ: Array,
    numbers: Array,
    bits_B: Array,
    top: float,
    best: int,
    text: str,
) -> float:
    """One answer's score, as the function `score` in kernel/python.c.

    `near_RQ` are the unit vectors of the labelled examples of the class answered, and its mean. `numbers` are the
    intercept; weights of log-odds, entropy and squared log-odds; the reject class's place, and the weights of its
    square and product; weights of length, neighbour and Mahalanobis distance, the farthest, the weights of the shares
    of words, and the mean's square.
    """
    intercept, odd, entropy, square, reject, rejects, product, *near = numbers.tolist()
    length, similar, mahalanobis, far, own, other, mean = near
    log_C = np.log(np.maximum(row_C, np.float32(LEAST)))
    odds, r = math.log(max(top, LEAST)) - math.log(max(1.0 - top, QUIET_ODDS)), float(log_C[int(reject)])
    total = intercept + odds * (odd + square * odds + product * r) + rejects * r * r
    total += entropy * float(row_C.dot(log_C)) + float(linear_C.dot(log_C))
    if len(bits_B):
        pair_2 = np.append(best, runner_up(row_C[None]))
        total += float(familiar(bits_B, [text, text], pair_2).dot([own, other]))
    if not len(shift_Q):
        return float(total)
    z_Q = pooled_F.dot(projection_FQ) - shift_Q
    squared = float(z_Q.dot(z_Q))
    norm = math.sqrt(squared) + 1e-9
    if not len(near_RQ):
        return float(total + length * math.log(norm) - similar + mahalanobis * far)
    *products, last = near_RQ.dot(z_Q).tolist()
    away = math.log1p(max(0.0, squared - 2.0 * last + mean))
    return float(total + length * math.log(norm) + similar * max(products) / norm + mahalanobis * min(far, away))
