"""Trimming what decoders read: byte-level BPE, SentencePiece's BPE, and unigram models."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import causal
import talk
from minikin.base.errors import UserError
from minikin.compress import vocabulary

DATA = Path(os.environ.get("MINIKIN_DATA", "../shared/data"))
DOMAIN = ["turn the hall lights down a bit", "play some jazz in the kitchen please", "a girl near a lake"]


def unigram(*, byte_fallback, extra=0, more=()):
    """Words, their beginnings, single characters and filler pieces, scored at random."""
    rng = np.random.default_rng(0)
    words = [f"▁{w}" for w in dict.fromkeys([*talk.WORDS.split(), *more])]
    pieces = {
        piece: float(-rng.uniform(6, 14)) for word in words for piece in (word, word[:3], word[3:], *word) if piece
    }
    pieces |= {f"▁{'xyzvw'[k % 5]}{k:x}": float(-rng.uniform(8, 16)) for k in range(extra)}
    head = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    if byte_fallback:
        head += [(f"<0x{b:02X}>", 0.0) for b in range(256)]
    tokenizer = Tokenizer(models.Unigram([*head, *pieces.items()], unk_id=0, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", "<extra>"])
    return tokenizer.to_str()


KINDS = {
    "byte-level": talk.byte_level(700),
    "pieces, mark first": talk.pieces("first"),
    "pieces, legacy mark": talk.pieces("legacy"),
    "unigram": unigram(byte_fallback=False),
    "unigram with bytes": unigram(byte_fallback=True),
}
TRIMMED = {kind: vocabulary.trim(old, DOMAIN) for kind, old in KINDS.items()}


def same(old_json, new_json, kept_ids, texts):
    old, new = Tokenizer.from_str(old_json), Tokenizer.from_str(new_json)
    place = {int(i): n for n, i in enumerate(kept_ids)}
    for text, before, after in zip(texts, old.encode_batch(texts), new.encode_batch(texts), strict=True):
        assert [place[i] for i in before.ids] == after.ids, text
    return old, new


@pytest.mark.parametrize("kind", KINDS)
def test_kept_text_gets_the_same_ids_and_the_vocabulary_shrinks(kind):
    new_json, kept_ids = TRIMMED[kind]
    old, new = same(KINDS[kind], new_json, kept_ids, DOMAIN)
    assert len(kept_ids) < old.get_vocab_size()
    assert new.get_vocab_size() == len(kept_ids)
    assert sorted(new.get_vocab().values()) == list(range(len(kept_ids)))
    for piece, place in new.get_vocab().items():
        assert old.token_to_id(piece) == kept_ids[place]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.lists(st.sampled_from([*DOMAIN, *" ".join(DOMAIN).split()]), max_size=6).map(" ".join))
def test_any_text_whose_pieces_all_stay_gets_the_same_ids(kind, text):
    kept = set(TRIMMED[kind][1].tolist())
    assume(set(Tokenizer.from_str(KINDS[kind]).encode(text).ids) <= kept)
    same(KINDS[kind], *TRIMMED[kind], [text])


@pytest.mark.parametrize("kind", ["byte-level", "pieces, mark first", "pieces, legacy mark", "unigram with bytes"])
@given(text=st.text(max_size=40))
def test_any_text_can_be_cut_and_read_back(kind, text):
    clean = text.encode("utf-8", "replace").decode().replace("▁", "_")
    old, new = Tokenizer.from_str(KINDS[kind]), Tokenizer.from_str(TRIMMED[kind][0])
    unknown = new.token_to_id("<unk>")
    assert unknown is None or unknown not in new.encode(clean).ids
    assert new.decode(new.encode(clean).ids) == old.decode(old.encode(clean).ids)


@given(text=st.text("turnhelightsdowxyz ☃é", max_size=30))
def test_without_bytes_only_what_was_unknown_is(text):
    old, new = Tokenizer.from_str(KINDS["unigram"]), Tokenizer.from_str(TRIMMED["unigram"][0])
    assert (0 in new.encode(text).ids) <= (0 in old.encode(text).ids)


def test_merges_are_closed_under_what_is_kept():
    spec = json.loads(TRIMMED["byte-level"][0])
    pieces = spec["model"]["vocab"]
    assert len(spec["model"]["merges"]) > 20
    for left, right in spec["model"]["merges"]:
        assert {left, right, left + right} <= set(pieces)


def test_a_cap_keeps_the_most_frequent_pieces_with_their_parts():
    floor = len(vocabulary.trim(KINDS["byte-level"], [])[1])
    assert floor == 256 + 3
    new_json, kept_ids = vocabulary.trim(KINDS["byte-level"], ["the the the the kitchen"], keep=floor + 4)
    tokens = Tokenizer.from_str(new_json).encode("the the kitchen").tokens
    assert floor < len(kept_ids) <= floor + 4
    assert "Ġthe" in tokens
    assert "Ġkitchen" not in tokens


def test_ids_that_occur_beside_the_texts_stay():
    old = Tokenizer.from_str(KINDS["byte-level"])
    piece = old.token_to_id("Ġlake")
    assert piece in vocabulary.trim(KINDS["byte-level"], ["play"], ids=np.array([piece]))[1]
    assert piece not in vocabulary.trim(KINDS["byte-level"], ["play"])[1]


@pytest.mark.parametrize("family", ["llama", "llama tied, with biases", "phi", "gpt_neox", "gpt2"])
def test_a_trimmed_decoder_gives_the_same_logits_for_what_is_kept(family):
    student = causal.student(family)
    rng = np.random.default_rng(0)
    kept_ids = np.sort(rng.choice(np.arange(3, 300), 120, replace=False))
    kept_ids = np.concatenate([[0, 1, 2], kept_ids])
    trimmed = vocabulary.apply(student, kept_ids, "{}")
    packed = causal.rows()
    chosen = rng.integers(0, len(kept_ids), packed.ids_NT.shape).astype(np.int32)
    old = causal.logits(student, type(packed)(kept_ids[chosen].astype(np.int32), packed.documents_NT, packed.learnt_NT))
    new = causal.logits(trimmed, type(packed)(chosen, packed.documents_NT, packed.learnt_NT))
    assert np.allclose(old[..., kept_ids], new, atol=1e-5)
    assert trimmed.config["vocab_size"] == len(kept_ids)


def test_token_ids_of_the_configuration_move_with_their_rows():
    student = causal.student()
    student = type(student)(
        **{
            **student.__dict__,
            "config": {**student.config, "bos_token_id": 7, "eos_token_id": [9, 200], "pad_token_id": 5},
        }
    )
    config = vocabulary.apply(student, np.array([0, 7, 9, 50]), "{}").config
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (1, [2], None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ({"type": "WordLevel"}, "WordLevel"),
    ],
)
def test_what_can_not_be_trimmed_is_refused(change, words):
    spec = json.loads(KINDS["byte-level"])
    spec["model"] |= change
    with pytest.raises(UserError, match=words):
        vocabulary.trim(json.dumps(spec), DOMAIN)
    assert vocabulary.can_trim(KINDS["unigram"], ("BPE", "Unigram"))
    assert not vocabulary.can_trim(KINDS["unigram"])


def test_a_vocabulary_of_a_quarter_million_pieces_shrinks_to_the_domain():
    old_json = unigram(byte_fallback=True, extra=250_000)
    new_json, kept_ids = vocabulary.trim(old_json, DOMAIN)
    same(old_json, new_json, kept_ids, DOMAIN)
    assert len(kept_ids) < 400


def public_texts():
    stories = (DATA / "tinystories" / "tinystories_b_2MB.txt").read_text(encoding="utf-8", errors="replace")
    wiki = (DATA / "wikitext2" / "valid.raw.txt").read_text(encoding="utf-8")
    tasks = json.loads((DATA / "alpaca_5000" / "alpaca_cleaned_1000.json").read_text(encoding="utf-8"))
    return {
        "tinystories": stories[:400_000].split("<|endoftext|>"),
        "wikitext2": wiki[:300_000].splitlines(),
        "alpaca": [row["instruction"] + "\n" + row["output"] for row in tasks[:300]],
    }


def gpt2():
    folder = DATA / "tokenizers"
    merges = (folder / "gpt2_merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split(" ")) for line in merges if line and not line.startswith("#version")]
    tokenizer = Tokenizer(models.BPE(json.loads((folder / "gpt2_vocab.json").read_text(encoding="utf-8")), pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer.to_str()


def llama2():
    """The SentencePiece file as a tokenizer.json: pieces by number, merges in order of their results' scores."""
    raw, at, pieces = (DATA / "tokenizers" / "llama2_tokenizer.model").read_bytes(), 0, []

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(raw):
        key, size = number(), number()
        end = at + size
        if key == 10:  # field 1, a piece
            piece, score = "", 0.0
            while at < end:
                inner = number()
                if inner == 10:
                    length = number()
                    piece = raw[at : at + length].decode()
                    at += length
                elif inner == 21:
                    score = struct.unpack("<f", raw[at : at + 4])[0]
                    at += 4
                else:
                    number()
            pieces.append((piece, score))
        at = end
    ids = {piece: i for i, (piece, _score) in enumerate(pieces)}
    merges = [
        (-score, ids[piece[:k]], ids[piece[k:]], piece[:k], piece[k:])
        for piece, score in pieces
        for k in range(1, len(piece))
        if piece[:k] in ids and piece[k:] in ids
    ]
    spec = json.loads(talk.pieces("legacy"))
    spec["model"] |= {"vocab": ids, "merges": [[m[3], m[4]] for m in sorted(merges)]}
    return json.dumps(spec)


@pytest.mark.skipif(not (DATA / "tokenizers").is_dir(), reason="needs the public tokenizers and texts")
@pytest.mark.parametrize("source", [gpt2, llama2])
def test_real_vocabularies_are_trimmed_exactly_on_real_texts(source):
    old_json = source()
    for name, texts in public_texts().items():
        new_json, kept_ids = vocabulary.trim(old_json, texts)
        old, new = same(old_json, new_json, kept_ids, texts)
        assert len(kept_ids) < 0.7 * old.get_vocab_size(), name
        odd = "naïve ☃ 漢字 \U0001f600 Ωmega"
        assert new.decode(new.encode(odd).ids) == old.decode(old.encode(odd).ids)
