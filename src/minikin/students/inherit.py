"""What a student takes over from its teacher before training: embeddings, reduced by their principal axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minikin.base.types import Array, Encoded, Student
from minikin.equations.saliency import principal_axes


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
    """Give a grown encoder the teacher's word embeddings (rows as in the student's vocabulary), reduced.

    Rows are scaled to the spread that the student's own initialisation has.
    """
    name = "bert.embeddings.word_embeddings.weight"
    width = student.tensors[name].shape[1]  # type: ignore[union-attr]
    inherited_VW = reduced(teacher_VH - teacher_VH.mean(0), counts_V, width)
    inherited_VW *= 0.05 / max(float(inherited_VW.std()), 1e-8)
    return replace(student, tensors={**student.tensors, name: inherited_VW.astype(np.float32)})


def counts(encoded: Encoded, vocabulary: int) -> Array:
    """How often each piece occurs."""
    return np.bincount(encoded.ids.values, minlength=vocabulary)[:vocabulary]
