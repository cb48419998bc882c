"""What a student begins as: the vocabulary that is kept, and what it inherits of the teacher's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from minikin.base.joined import Joined, evenly, sides
from minikin.base.types import Array, Data, Saliency, Student, Text
from minikin.compress import prune, vocabulary
from minikin.feed.tokens import encode
from minikin.plan.candidates import Candidate
from minikin.steps.context import Build
from minikin.students import encoder, inherit, module, static, tokenizer
from minikin.teachers.local import LocalTeacher

PROBE_TEXTS = 128
FRESH_VOCABULARY = 4000


@dataclass(frozen=True)
class Pieces:
    """The trimmed vocabulary: its tokenizer, the teacher's ids that it keeps, and how often the texts use each."""

    tokenizer_json: str
    kept_ids: Array
    counts_V: Array


@dataclass(frozen=True)
class Roots:
    """What every student grows from: the trimmed vocabulary, and the teacher's weights over its pieces."""

    pieces: Pieces
    teacher: Student | None
    embeddings_VH: Array | None
    outputs_VH: Array | None
    labels: tuple[str, ...]
    max_length: int
    pair: bool
    sample: Sequence[Text]

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer over the kept pieces."""
        return self.pieces.tokenizer_json

    @property
    def kept_ids(self) -> Array:
        """The teacher's ids of the kept pieces (V,)."""
        return self.pieces.kept_ids

    @cached_property
    def saliency(self) -> Saliency:
        """What the teacher's units carry on the sample: scored once, cut often."""
        assert self.teacher is not None
        return encoder.probe(self.teacher, module.tokens(self.teacher, self.sample))

    @property
    def teacher_shape(self) -> tuple[int, int, int, int] | None:
        """Layers, hidden width, heads and neurons of a teacher that can be cut."""
        return None if self.teacher is None else shape_of(self.teacher.config)


def shape_of(config: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    """Layers, hidden width, heads and neurons of a model that can be cut; None for another."""
    if config.get("model_type") != "bert" or not all(isinstance(config.get(key), int) for key in prune.SHAPE):
        return None
    return tuple(config[key] for key in prune.SHAPE)  # type: ignore[return-value]


def pieces(build: Build, data: Data, teacher: LocalTeacher | None) -> Pieces:
    """Trim the teacher's vocabulary to the domain's pieces; learn one from the texts where none can be trimmed."""
    keep, texts = build.recipe.student.vocabulary, data.train.texts
    source = spelt(None if teacher is None else teacher.tokenizer_json, texts, keep)
    return trimmed(source, texts, data.unlabelled.texts, build.recipe.data.max_length, keep=keep)


def spelt(tokenizer_json: str | None, texts: Sequence[Text], keep: int | None) -> str:
    """The tokenizer to trim: the teacher's, or one learned from the texts where that can't be trimmed."""
    if tokenizer_json is not None and vocabulary.can_trim(tokenizer_json):
        return tokenizer_json
    return tokenizer.learn(sides(texts), keep or FRESH_VOCABULARY)


def trimmed(
    source: str, texts: Sequence[Text], more: Sequence[Text], max_length: int, keep: int | None = None
) -> Pieces:
    """Keep the pieces that `texts` and `more` use and a complete fallback; count them in `texts`."""
    kept, kept_ids = vocabulary.trim(source, Joined([texts, more]), keep=keep, fallback="scripts")
    return Pieces(kept, kept_ids, inherit.counts(encode(kept, texts, max_length), len(kept_ids)))


def roots(build: Build, data: Data, kept: Pieces, teacher: LocalTeacher | None) -> Roots:
    """What this build's students grow from; without weights of a teacher whose vocabulary can't be trimmed."""
    if teacher is not None and not vocabulary.can_trim(teacher.tokenizer_json):
        teacher = None
    static = build.recipe.student.family != "encoder"
    return rooted(kept, teacher, data.labels, build.recipe.data.max_length, data.train.texts, static=static)


def rooted(
    kept: Pieces,
    teacher: LocalTeacher | None,
    labels: tuple[str, ...],
    max_length: int,
    texts: Sequence[Text],
    *,
    static: bool,
) -> Roots:
    """Take the teacher's weights for the pieces that are kept; `static` students want its token outputs too."""
    as_student, embeddings_VH, outputs_VH = None, None, None
    if teacher is not None:
        if static:
            outputs_VH = teacher.token_outputs(kept.kept_ids)
        embeddings_VH = teacher.token_embeddings()[kept.kept_ids]
        if teacher.config.model_type == "bert":
            as_student = vocabulary.apply(teacher.as_student(), kept.kept_ids, kept.tokenizer_json)
    pair = not isinstance(texts[0], str)
    sample = evenly(texts, PROBE_TEXTS)
    return Roots(kept, as_student, embeddings_VH, outputs_VH, labels, max_length, pair, sample)


def make(candidate: Candidate, base: Roots, seed: int) -> Student:
    """An untrained student of a candidate's shape, with everything that it can inherit."""
    classes = len(base.labels)
    if candidate.family == "static":
        config = static.config_of(
            hidden=candidate.hidden,
            vocabulary=len(base.kept_ids),
            classes=classes,
            window=candidate.window,
            pool="mean-max" if candidate.window else "mean",
            pair=base.pair,
        )
        embeddings_VH = _static_embeddings(base, candidate.hidden, seed)
        return static.grow(config, embeddings_VH, base.tokenizer_json, base.labels, base.max_length, seed)
    if candidate.start == "cut":
        assert base.teacher is not None
        cut = prune.to_shape(
            base.teacher,
            base.saliency,
            layers=candidate.layers,
            hidden=candidate.hidden,
            heads=candidate.heads,
            feed_forward=candidate.feed_forward,
        )
        width = candidate.embedding
        return inherit.factorised(cut, width, base.pieces.counts_V) if width else cut
    config = encoder.config_of(
        layers=candidate.layers,
        hidden=candidate.hidden,
        heads=candidate.heads,
        feed_forward=candidate.feed_forward,
        vocabulary=len(base.kept_ids),
        max_length=base.max_length,
        classes=classes,
        embedding=candidate.embedding,
    )
    student = encoder.grow(config, base.tokenizer_json, base.labels, seed)
    return (
        student if base.embeddings_VH is None else inherit.embeddings(student, base.embeddings_VH, base.pieces.counts_V)
    )


def _static_embeddings(base: Roots, hidden: int, seed: int) -> Array:
    if base.outputs_VH is None:
        return np.random.default_rng(seed).normal(0, 0.1, (len(base.kept_ids), hidden)).astype(np.float32)
    reduced_VH = inherit.reduced(base.outputs_VH - base.outputs_VH.mean(0), base.pieces.counts_V, hidden)
    return reduced_VH * np.float32(0.25 / max(float(reduced_VH.std()), 1e-8))
