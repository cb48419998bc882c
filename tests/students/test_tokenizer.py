"""A tokenizer of one's own: the same for the same texts, and able to read anything."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from minikin.students.tokenizer import SPECIAL, keys, learn, learn_bytes
from toys import sentences

TEXTS = [text for text, _ in sentences(200)]


def test_the_same_texts_give_the_same_tokenizer():
    texts = [*TEXTS, "ünïcödé 漢字 naïve"]
    assert len({learn(iter(texts), 300) for _ in range(4)}) == 1


def test_it_frames_texts_and_pairs_as_bert_does():
    tokenizer = Tokenizer.from_str(learn(TEXTS, 300))
    assert [tokenizer.token_to_id(name) for name in SPECIAL] == [0, 1, 2, 3, 4]
    one = tokenizer.encode("late card")
    assert (one.tokens[0], one.tokens[-1]) == ("[CLS]", "[SEP]")
    two = tokenizer.encode("late", "card")
    assert two.tokens.count("[SEP]") == 2
    assert two.type_ids == sorted(two.type_ids)
    assert max(two.type_ids) == 1


def test_it_reads_ascii_that_it_never_saw():
    tokens = Tokenizer.from_str(learn(TEXTS, 300)).encode("Zyx 42! ##a [SEP").tokens
    assert "[UNK]" not in tokens
    assert "##a" not in tokens[:8]


ANSWERS = ['{"device":"lamp","value":3,"time":"20:00"}', '{"device":"fan","time":"07:30"}'] * 4


def test_keys_of_answers_are_found_with_what_stands_around_them():
    assert keys(ANSWERS) == ['{"device":"', '","time":"', '","value":', ',"time":"']
    spaced = ['{"call": {"room": "hall", "n": 1}, "ok": true}']
    assert keys(spaced) == ['", "n": ', '"room": "', '{"call": {', '}, "ok": ']


@pytest.mark.parametrize("answers", [[], ["the hall", "on"], ['["device", "lamp"]'], ['{"device":', '"a": 1}']])
def test_what_is_no_json_object_has_no_keys(answers):
    assert keys(answers) == []


def test_a_rare_key_is_no_piece():
    assert '{"odd":"' not in keys([*ANSWERS * 100, '{"odd":"x"}'])


def test_a_key_is_one_piece_and_comes_back_as_it_was():
    spec, _ = learn_bytes([*ANSWERS, "lamp on at 20:00"], 300, whole=keys(ANSWERS))
    tokenizer = Tokenizer.from_str(spec)
    assert tokenizer.get_vocab_size() <= 300
    read = tokenizer.encode(ANSWERS[0])
    assert [piece for piece in read.tokens if piece in keys(ANSWERS)] == ['{"device":"', '","value":', ',"time":"']
    assert tokenizer.decode(read.ids) == ANSWERS[0]
