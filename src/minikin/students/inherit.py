"""What a student takes over from its teacher before training: embeddings, reduced by their principal axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minikin.base import decoders
from minikin.base.errors import UserError
from minikin.base.types import Array, Encoded, Student
from minikin.equations.saliency import principal_axes

ENCODER_TABLE = "bert.embeddings.word_embeddings.weight"


def reduced(vectors_VH: Array, counts_V: Array, width: int) -> Array:
    """Project token vectors onto `width` principal axes, tokens weighted by how often they occur (plus one).

    Wider targets than the source are filled with zeros.
    """
    source = vectors_VH.astype(np.float64)
    if width >= source.shape[1]:
        return np.pad(source, ((0, 0), (0, width - source.shape[1]))).astype(np.float32)
    weights_V1 = np.sqrt(np.log1p(counts_V) + 1.0)[:, None]
    axes_HW, _ = principal_axes(source * weights_V1, width)
    return np.asarray(source @ axes_HW, np.float32)


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
