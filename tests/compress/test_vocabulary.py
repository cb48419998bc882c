import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import small
from minikin.base.errors import UserError
from minikin.compress import vocabulary
from minikin.compress.quantize import quantize

DATA = Path(os.environ.get("MINIKIN_DATA", "../shared/data"))
BIG = json.loads(small.tokenizer_json())
BIG["model"]["vocab"] |= {
    piece: len(BIG["model"]["vocab"]) + i
    for i, piece in enumerate(
        ["arrive", "car", "##d", "lo", "##st", "transfers", "refunding", "mon", "##ey", "[unused1]", "ящик", "я", "##щ"]
    )
}
BIG_JSON = json.dumps(BIG)
DOMAIN = ["my card arrived", "where is the refund?", "lost PIN", ("pay", "account")]


def plain(tokenizer_json: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    return tokenizer


OLD = plain(BIG_JSON)
TRIMMED_JSON, KEPT_IDS = vocabulary.trim(BIG_JSON, DOMAIN)
NEW = plain(TRIMMED_JSON)


def mapped(old: Tokenizer, kept_ids: np.ndarray, text: str) -> list[int]:
    place = {int(i): n for n, i in enumerate(kept_ids)}
    return [place.get(i, -1) for i in old.encode(text).ids]


def test_kept_text_gets_the_same_ids():
    for text in ("my card arrived", "where is the refund?", "lost PIN", "account pay"):
        assert NEW.encode(text).ids == mapped(OLD, KEPT_IDS, text)
    assert len(KEPT_IDS) < len(BIG["model"]["vocab"])
    assert not NEW.token_to_id("transfers")
    assert not NEW.token_to_id("[unused1]")


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text("abcdrefundinglost [SEP]МЯщ漢é☃#", max_size=40))
def test_any_text_still_tokenizes_and_unknown_only_where_it_was(text):
    clean = text.encode("utf-8", "replace").decode()
    old, new = OLD.encode(clean, add_special_tokens=False), NEW.encode(clean, add_special_tokens=False)
    unknown = {old.offsets[i] for i, id_ in enumerate(old.ids) if id_ == 1}
    assert {new.offsets[i] for i, id_ in enumerate(new.ids) if id_ == NEW.token_to_id("[UNK]")} <= unknown


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["card", "transfers", "refunding", "mon", "lost", "arrive", "pay", "ящик", "x9", "[MASK]", "!?"]
        )
    )
)
def test_only_words_that_used_a_removed_piece_change(words):
    text = " ".join(words)
    expected = mapped(OLD, KEPT_IDS, text)
    if -1 not in expected:
        assert NEW.encode(text).ids == expected


def test_a_cap_keeps_the_most_frequent_pieces_beside_the_fallback():
    texts = ["card card card money money pin"]
    fallback = len(vocabulary.trim(BIG_JSON, [])[1])
    capped_json, kept_ids = vocabulary.trim(BIG_JSON, texts, keep=fallback + 1)
    assert len(kept_ids) == fallback + 1
    assert plain(capped_json).encode("card", add_special_tokens=False).tokens == ["card"]
    assert plain(capped_json).encode("money", add_special_tokens=False).tokens == ["m", "##o", "##n", "##e", "##y"]
    assert len(vocabulary.trim(BIG_JSON, texts, keep=1)[1]) == fallback


def test_the_fallback_can_be_narrowed():
    sizes = {mode: len(vocabulary.trim(BIG_JSON, DOMAIN, fallback=mode)[1]) for mode in ("all", "scripts", "none")}
    assert sizes["none"] < sizes["scripts"] < sizes["all"]
    assert len(vocabulary.trim(BIG_JSON, [*DOMAIN, "я"], fallback="scripts")[1]) > sizes["scripts"]


def test_specials_are_kept_and_renumbered():
    spec = json.loads(TRIMMED_JSON)
    for token in spec["added_tokens"]:
        assert spec["model"]["vocab"][token["content"]] == token["id"]
    assert NEW.encode("card", "pin").tokens == ["[CLS]", "card", "[SEP]", "pin", "[SEP]"]
    assert "\n" not in TRIMMED_JSON
    assert spec["truncation"] is None


def test_apply_cuts_the_rows_that_go():
    student = small.encoder()
    tokenizer_json, kept_ids = vocabulary.trim(student.tokenizer_json, DOMAIN, fallback="none")
    cut = vocabulary.apply(student, kept_ids, tokenizer_json)
    name = "bert.embeddings.word_embeddings.weight"
    assert np.array_equal(cut.tensors[name], student.tensors[name][kept_ids])
    assert cut.config["vocab_size"] == len(kept_ids)
    assert cut.config["pad_token_id"] == 0
    rounded = vocabulary.apply(quantize(student, "int4"), kept_ids, tokenizer_json)
    assert np.array_equal(
        rounded.tensors[name].dequantize(), quantize(student, "int4").tensors[name].dequantize()[kept_ids]
    )
    static = vocabulary.apply(small.static(), kept_ids, tokenizer_json)
    assert len(static.tensors["embeddings_VH"]) == len(kept_ids)


def test_other_tokenizers_are_refused():
    with pytest.raises(UserError, match="WordPiece"):
        vocabulary.trim(json.dumps({"model": {"type": "WordLevel", "vocab": {}}}), [])


@pytest.mark.skipif(not (DATA / "banking77").is_dir(), reason="needs banking77")
def test_banking77_keeps_its_ids():
    texts = []
    for split in ("train", "test"):
        with (DATA / "banking77" / f"{split}.csv").open(encoding="utf-8", newline="") as handle:
            texts += [row[0] for row in csv.reader(handle)][1:]
    # a vocabulary with many pieces of the data's own words, so that there is much to lose
    spec = json.loads(small.tokenizer_json())
    words = sorted({word for text in texts for word in text.lower().split() if word.isalpha()})
    for piece in [*words, *("##" + word[2:] for word in words if len(word) > 4)]:
        spec["model"]["vocab"].setdefault(piece, len(spec["model"]["vocab"]))
    old_json = json.dumps(spec)
    new_json, kept_ids = vocabulary.trim(old_json, texts)
    old, new = plain(old_json), plain(new_json)
    place = {int(i): n for n, i in enumerate(kept_ids)}
    for before, after in zip(old.encode_batch(texts), new.encode_batch(texts), strict=True):
        assert [place[i] for i in before.ids] == after.ids
    assert len(kept_ids) < len(spec["model"]["vocab"])
