"""Which of the teacher's tokens each of the student's is: vocabularies padded, trimmed or reordered line up here.

Models of one family differ in rows (padding to a multiple, extra special tokens); a distribution over the wrong rows
would be silently wrong, so what does not line up is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from minikin.base.errors import UserError
from minikin.base.types import Array
from minikin.feed.tokens import encode

PROBE_TOKENS = 4096


def align(student_json: str, teacher_json: str, student_rows: int, teacher_rows: int, texts: Sequence[str]) -> Array:
    """The teacher's id of each of the student's rows (V,), found by their tokens; -1 for a row that only pads.

    `texts` are tried through both tokenizers. Raises UserError when the student has tokens that the teacher lacks,
    when `texts` are split into other tokens, or when a tokenizer has more tokens than its model has rows.
    """
    student, teacher = (Tokenizer.from_str(json).get_vocab() for json in (student_json, teacher_json))
    for whose, vocabulary, rows in (("student", student, student_rows), ("teacher", teacher, teacher_rows)):
        highest = max(vocabulary.values(), default=-1)
        if highest >= rows:
            raise UserError(
                f"The {whose}'s tokenizer goes up to id {highest}, and its model has {rows} rows. "
                "Take model and tokenizer from the same folder."
            )
    lacking = sorted(set(student) - set(teacher))
    if lacking:
        raise _different(f"{len(lacking)} of the student's tokens are not among the teacher's, {lacking[0]!r} first")
    teacher_of_V = np.full(student_rows, -1, np.int64)
    for token, i in student.items():
        teacher_of_V[i] = teacher[token]
    _try(student_json, teacher_json, teacher_of_V, texts)
    return teacher_of_V


def matched(student_M: Array, teacher_M: Array) -> Array:
    """Index of the teacher's token that follows the same text as each of the student's (M,); -1 where none does.

    Both are places as `feed.speech.Spoken` gives them, those of several documents told apart: two tokenizers that
    both cut there predict from the same prefix, and what follows is then compared by `uld`. -1 is no place.
    """
    student_M, teacher_M = np.asarray(student_M), np.asarray(teacher_M)
    if not len(teacher_M):
        return np.full(len(student_M), -1, np.int64)
    order_M = np.argsort(teacher_M, kind="stable")
    nearest_M = np.minimum(np.searchsorted(teacher_M, student_M, sorter=order_M), len(order_M) - 1)
    found_M = order_M[nearest_M]
    return np.where((teacher_M[found_M] == student_M) & (student_M >= 0), found_M, -1).astype(np.int64)


def _try(student_json: str, teacher_json: str, teacher_of_V: Array, texts: Sequence[str]) -> None:
    ours = encode(student_json, texts, PROBE_TOKENS, special=False).ids
    theirs = encode(teacher_json, texts, PROBE_TOKENS, special=False).ids
    for i, text in enumerate(texts):
        if not np.array_equal(teacher_of_V[ours[i]], theirs[i]):
            raise _different(f"they split {text[:40]!r} into other tokens")


def _different(why: str) -> UserError:
    return UserError(
        f"Teacher and student have different tokenizers: {why}. Give the student the teacher's tokenizer, or use the "
        "objective 'uld', which compares sorted probabilities and needs no token in common."
    )
