"""Which of the teacher's tokens each of the student's is: vocabularies padded, trimmed or reordered line up here.

Models of one family differ in rows (padding to a multiple, extra special tokens); a distribution over the wrong rows
would be silently wrong, so what does not line up is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from minikin.base.errors import UserError
from minikin.base.types import Array
from minikin.feed.tokens import encode

PROBE_TOKENS = 4096


@dataclass(frozen=True)
class Alignment:
    """W tokens that both models have: their ids in each, and the rows of the student's output matrix.

    Rows of the student that stand for no shared token (padding) have no probability by the teacher.
    """

    student_ids_W: Array
    teacher_ids_W: Array
    student_rows: int

    @property
    def teacher_of(self) -> Array:
        """The teacher's id of each of the student's (V,); -1 where there is none."""
        out_V = np.full(self.student_rows, -1, np.int64)
        out_V[self.student_ids_W] = self.teacher_ids_W
        return out_V


def same_rows(rows: int) -> Alignment:
    """Both models share tokenizer and number of rows."""
    return Alignment(np.arange(rows), np.arange(rows), rows)


def align(
    student_json: str, teacher_json: str, student_rows: int, teacher_rows: int, texts: Sequence[str]
) -> Alignment:
    """Line up two tokenizers by their tokens, for output matrices of so many rows; `texts` are tried through both.

    Raises UserError when the student has tokens that the teacher lacks, when `texts` are split into other tokens, or
    when a tokenizer has more tokens than its model has rows.
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
    student_ids_W = np.array(sorted(student.values()), np.int64)
    by_id = {i: token for token, i in student.items()}
    teacher_ids_W = np.array([teacher[by_id[int(i)]] for i in student_ids_W], np.int64)
    found = Alignment(student_ids_W, teacher_ids_W, student_rows)
    _try(student_json, teacher_json, found.teacher_of, texts)
    return found


def matched(student_places_M2: Array, teacher_places_M2: Array) -> Array:
    """Index of the teacher's token that follows the same text as each of the student's (M,); -1 where none does.

    A place is (number of the document, character at which the token begins): two tokenizers that both cut there
    predict from the same prefix, and what follows is then compared by `uld`.
    """
    at = {(int(document), int(character)): i for i, (document, character) in enumerate(teacher_places_M2)}
    found = [at.get((int(document), int(character)), -1) for document, character in student_places_M2]
    return np.array(found, np.int64)


def _try(student_json: str, teacher_json: str, teacher_of_V: Array, texts: Sequence[str]) -> None:
    ours = encode(student_json, texts, PROBE_TOKENS, special=False).ids
    theirs = encode(teacher_json, texts, PROBE_TOKENS, special=False).ids
    for i, text in enumerate(texts):
        if not np.array_equal(teacher_of_V[ours[i]], theirs[i]):
            raise _different(f"they split {text[:40]!r} into other tokens")


def _different(why: str) -> UserError:
    return UserError(
        f"Teacher and student have different tokenizers: {why}. Give the student the teacher's tokenizer, or use the "
        "objective 'uld', which compares sorted probabilities."
    )
