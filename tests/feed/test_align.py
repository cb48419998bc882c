"""Vocabularies that are padded, trimmed or reordered line up; other tokenizers are refused with the reason."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minikin.base.errors import UserError
from minikin.feed.align import align
from toys import sentences, toy_tokenizer

TEXTS = [text for text, _ in sentences(20)]
JSON = toy_tokenizer()
SIZE = len(json.loads(JSON)["model"]["vocab"])


def changed(**how: object) -> str:
    """The toy tokenizer with its pieces renumbered (`order`), or some left out (`without`)."""
    made = json.loads(JSON)
    vocabulary = made["model"]["vocab"]
    pieces = [p for p in vocabulary if p not in how.get("without", ())]
    if how.get("order"):
        pieces = sorted(pieces)
    made["model"]["vocab"] = {piece: i for i, piece in enumerate(pieces)}
    for token in made["added_tokens"]:
        token["id"] = made["model"]["vocab"][token["content"]]
    return json.dumps(made)


def test_equal_tokenizers_with_rows_padded_differently():
    found = align(JSON, JSON, SIZE + 5, SIZE + 64, TEXTS)
    np.testing.assert_array_equal(found, [*range(SIZE), *[-1] * 5])


def test_the_same_pieces_in_another_order():
    found = align(changed(order=True), JSON, SIZE, SIZE, TEXTS)
    ours, theirs = json.loads(changed(order=True))["model"]["vocab"], json.loads(JSON)["model"]["vocab"]
    assert {piece: found[i] for piece, i in ours.items()} == theirs


def unused() -> list[str]:
    """Pieces that the texts do not need, and that are in no other piece's way."""
    from minikin.feed.tokens import encode

    used = set(encode(JSON, TEXTS, 99).ids.values.tolist())
    return [p for p, i in json.loads(JSON)["model"]["vocab"].items() if i not in used and not p.startswith("[")][:9]


def test_a_trimmed_vocabulary_is_found_in_the_whole_one():
    found = align(changed(without=unused()), JSON, SIZE - 9, SIZE, TEXTS)
    assert len(found) == SIZE - 9
    assert sorted(set(range(SIZE)) - set(found.tolist())) == sorted(
        json.loads(JSON)["model"]["vocab"][p] for p in unused()
    )


@pytest.mark.parametrize(
    ("student", "teacher", "rows", "words"),
    [
        (JSON, changed(without=unused()), (SIZE, SIZE), "9 of the student's tokens are not among the teacher's"),
        (JSON, JSON, (SIZE - 1, SIZE), "student's tokenizer goes up to id"),
        (JSON, JSON, (SIZE, SIZE - 1), "teacher's tokenizer goes up to id"),
    ],
)
def test_what_does_not_line_up_is_refused(student, teacher, rows, words):
    with pytest.raises(UserError, match=words):
        align(student, teacher, *rows, TEXTS)


def test_equal_pieces_that_split_texts_differently_are_refused():
    lower = json.loads(JSON)
    lower["normalizer"] = {"type": "Lowercase"}
    cased = json.loads(JSON)
    cased["normalizer"] = None
    with pytest.raises(UserError, match="they split 'My Card' into other tokens"):
        align(json.dumps(cased), json.dumps(lower), SIZE, SIZE, ["my card", "My Card"])
