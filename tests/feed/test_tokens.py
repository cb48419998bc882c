"""Token ids are those of the tokenizer itself: truncated, paired, and robust to what no tokenizer reads."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from minikin.feed.tokens import CHUNK, encode
from toys import toy_tokenizer

TEXTS = ["my card is late", "", "thanks! thanks!", "naïve ☃"]


def test_ids_are_the_tokenizers_own():
    found = encode(toy_tokenizer(), TEXTS, 64)
    plain = Tokenizer.from_str(toy_tokenizer())
    assert [found.ids[i].tolist() for i in range(4)] == [plain.encode(t).ids for t in TEXTS]
    assert found.segments is None


def test_without_special_tokens_an_empty_text_has_none():
    found = encode(toy_tokenizer(), TEXTS, 64, special=False)
    plain = Tokenizer.from_str(toy_tokenizer())
    assert [found.ids[i].tolist() for i in range(4)] == [plain.encode(t, add_special_tokens=False).ids for t in TEXTS]
    assert found.ids.lengths_N[1] == 0


@pytest.mark.parametrize("special", [True, False])
def test_long_texts_are_cut_and_keep_their_frame(special):
    found = encode(toy_tokenizer(), ["card " * 50_000, "card"], 8, special=special)
    assert found.ids.lengths_N[0] == 8
    if special:
        assert (found.ids[0][0], found.ids[0][-1]) == (found.ids[1][0], found.ids[1][-1])


def test_pairs_carry_segments():
    found = encode(toy_tokenizer(), [("my card", "is late"), ("", "late")], 64, special=False)
    assert found.segments is not None
    ids, segments = found.ids[0], found.segments[0]
    alone = encode(toy_tokenizer(), ["my card", "is late"], 64, special=False)
    assert ids[segments == 0].tolist() == alone.ids[0].tolist()
    assert ids[segments == 1].tolist() == alone.ids[1].tolist()
    assert (found.segments[1] == 1).all()


def test_lone_surrogates_nul_and_chunks_do_no_harm():
    texts = ["a\ud800b", "a\x00b", *(f"card {i}" for i in range(CHUNK))]
    found = encode(toy_tokenizer(), texts, 16)
    assert len(found) == len(texts)
    assert found.ids[len(texts) - 1].tolist() == encode(toy_tokenizer(), texts[-1:], 16).ids[0].tolist()
    assert len(encode(toy_tokenizer(), [("a\udfff", "b")], 16)) == 1


def test_no_texts_are_no_rows():
    assert len(encode(toy_tokenizer(), [], 8)) == 0
