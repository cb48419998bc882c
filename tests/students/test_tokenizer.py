"""A tokenizer of one's own: the same for the same texts, and able to read anything."""

from __future__ import annotations

from tokenizers import Tokenizer

from minikin.students.tokenizer import SPECIAL, learn
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
