"""What a student takes over from its teacher before training: embeddings, reduced by their principal axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minikin.base import decoders
from minikin.base.errors import UserError
from minikin.base.types import Array, Encoded, Student
from minikin.equations.saliency import principal_axes

ENCODER_TABLE = "bert.embeddings.word_embeddings.weight"
ENCODER_PROJECTION = "bert.embeddings.word_embeddings.projection.weight"
ENCODER_TYPES = "bert.embeddings.token_type_embeddings.weight"


def reduced(vectors_VH: Array, counts_V: Array, width: int) -> Array:
    """Project token vectors onto `width` principal axes, tokens weighted by how often they occur (plus one).

    Wider targets than the source are filled with zeros.
    """
    source = vectors_VH.astype(np.float64)
    if width >= source.shape[1]:
        return np.pad(source, ((0, 0), (0, width - source.shape[1]))).astype(np.float32)
    axes_HW, _ = principal_axes(source * np.sqrt(_weights(counts_V)), width)
    return np.asarray(source @ axes_HW, np.float32)


def factorised(student: Student, width: int, counts_V: Array) -> Student:
    """An encoder whose table of tokens (V, H) is cut to (V, width) times a projection (H, width).

    Their product is the best of that rank about the mean, tokens weighted as in `reduced` (Eckart and Young 1936).
    The mean goes into the token types, which are added to every token. Raises UserError unless `width` is below H.
    """
    source_VH = np.asarray(student.tensors[ENCODER_TABLE], np.float64)
    if not 1 <= width < source_VH.shape[1]:
        raise UserError(
            f"student.embedding is {width}, and the student {source_VH.shape[1]} wide: a factorised table is narrower."
        )
    weights_V1 = _weights(counts_V)
    mean_H = (weights_V1 * source_VH).sum(0) / weights_V1.sum()
    axes_HE, _ = principal_axes((source_VH - mean_H) * np.sqrt(weights_V1), width)
    changed = {
        ENCODER_TABLE: (source_VH - mean_H) @ axes_HE,
        ENCODER_PROJECTION: axes_HE,
        ENCODER_TYPES: np.asarray(student.tensors[ENCODER_TYPES], np.float64) + mean_H,
    }
    tensors = {**student.tensors, **{name: value.astype(np.float32) for name, value in changed.items()}}
    return replace(student, tensors=tensors, config={**student.config, "embedding_size": width})


def _weights(counts_V: Array) -> Array:
    """How much each token counts (V, 1): rare ones are not lost, since they carry what a text is about."""
    weights_V1: Array = (np.log1p(counts_V) + 1.0)[:, None]
    return weights_V1


def embeddings(student: Student, teacher_VH: Array, counts_V: Array) -> Student:
    """Give a grown encoder or decoder the teacher's word embeddings (rows as in its vocabulary), reduced.

    An encoder's rows are scaled to a spread of 0.05, a decoder's to that of its own initialisation. Raises
    UserError when the vocabularies differ: the rows would be other pieces'.
    """
    decoder = student.family == "decoder"
    name = decoders.layout(student.config).embeddings if decoder else ENCODER_TABLE
    own_VW = np.asarray(student.tensors[name])
    if len(own_VW) != len(teacher_VH):
        raise UserError(
            f"The teacher has {len(teacher_VH):,} pieces and the student {len(own_VW):,}: embeddings are only handed "
            "down over the same vocabulary. Trim the teacher's, or grow the student without them."
        )
    inherited_VW = reduced(teacher_VH - teacher_VH.mean(0), counts_V, own_VW.shape[1])
    spread = float(own_VW.std()) if decoder else 0.05
    inherited_VW *= spread / max(float(inherited_VW.std()), 1e-8)
    return replace(student, tensors={**student.tensors, name: inherited_VW.astype(np.float32)})


def counts(encoded: Encoded, vocabulary: int) -> Array:
    """How often each piece occurs."""
    return np.bincount(encoded.ids.values, minlength=vocabulary)[:vocabulary]
