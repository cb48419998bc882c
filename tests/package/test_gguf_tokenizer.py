"""llama.cpp tokenizes as tokenizer.json does, on texts that are hard to cut; others are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import decoders
from minikin.base.errors import UserError
from minikin.package import gguf as package
from minikin.package import gguf_why
from minikin.package.gguf_pretokenizers import PATTERNS
from minikin.package.gguf_tokenizer import vocabulary

WORDS = """World 's 'LL it's don't don’t I'M 123 4567890 3.14 é ñ ﬁ ß Ω ½ ² Ⅷ x² 漢字 かな 🙂 👩‍👩‍👧 ، ١٢٣ ا ไทย … — _
__init__ (a,b) $5 <0x0A> ▁ http://a.b/c?d=e&f # @@ ~~ 𝒳 İ ǅ"""
BLANKS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u200b", "\u3000", "\x00", "\x7f", "\ufeff"]
MARKS = ["ह", "ि", "\u0301"]
LLAMA3, QWEN2, CASED, TEKKEN, _ = PATTERNS


def odd(marks: bool = True) -> list[str]:
    """350 texts of a few odd parts."""
    rng = random.Random(0)
    parts = [*WORDS.split(), *BLANKS, *(MARKS if marks else [])]
    made = ["".join(rng.choice(parts) + rng.choice(["", " "]) for _ in range(rng.randint(1, 9))) for _ in range(350)]
    made = [text for text in made if text != " "]  # alone, llama.cpp has one space too few or too many for Metaspace
    return ["", "  ", " a", "  .", "a ", "▁a", "\n", " \n a", "A" * 3000, *made]


def changed(tokenizer_json: str, **model: Any) -> str:
    spec = json.loads(tokenizer_json)
    return json.dumps({**spec, "model": {**spec["model"], **model}})


def unigram(scheme: str) -> str:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(decoders.TEXT * 4, trainer)
    return tokenizer.to_str()


def pieces(scheme: str = "") -> str:
    """SentencePiece's BPE of stories260k, with Llama's older settings, or Metaspace."""
    spec = json.loads(decoders.stories_tokenizer(decoders.data() / "stories260k" / "tok512.bin"))
    if scheme:
        spec["normalizer"] = None
        spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    return json.dumps(spec)


def gpt2() -> str:
    folder = decoders.data() / "tokenizers"
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "gpt2_vocab.json"), str(folder / "gpt2_merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer.to_str()


def normalized() -> str:
    spec = json.loads(decoders.bytes_tokenizer(pattern=QWEN2))
    return json.dumps({**spec, "normalizer": {"type": "NFC"}})


ALIKE: dict[str, tuple[Callable[[], str], bool]] = {
    "gpt-2": (decoders.bytes_tokenizer, True),
    "gpt-2's own": (gpt2, True),
    "smollm": (lambda: decoders.bytes_tokenizer(digits=True), True),
    "llama-bpe": (lambda: changed(decoders.bytes_tokenizer(pattern=LLAMA3), ignore_merges=True), True),
    "dbrx": (lambda: decoders.bytes_tokenizer(pattern=LLAMA3), True),
    "qwen2": (lambda: decoders.bytes_tokenizer(pattern=QWEN2), True),
    "qwen2, NFC": (normalized, True),
    "gpt-4o": (lambda: decoders.bytes_tokenizer(pattern=CASED), False),
    "tekken": (lambda: changed(decoders.bytes_tokenizer(pattern=TEKKEN), ignore_merges=True), False),
    "pieces": (pieces, True),
    "pieces, Metaspace first": (lambda: pieces("first"), True),
    "pieces, Metaspace never": (lambda: pieces("never"), True),
    "Unigram always": (lambda: unigram("always"), True),
    "Unigram never": (lambda: unigram("never"), True),
}


@pytest.mark.parametrize("name", ALIKE)
def test_odd_texts_become_the_same_tokens(tmp_path, name):
    pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
    from minikin.runtimes.llama_cpp import LlamaCpp

    made, marks = ALIKE[name]
    tokenizer_json = made()
    decoders.toy_llama(tmp_path, tokenizer_json, num_hidden_layers=1)
    package.write(tmp_path, tmp_path / "model.gguf")
    reference = Tokenizer.from_str(tokenizer_json)
    with LlamaCpp(tmp_path / "model.gguf") as generator:
        different = [text for text in odd(marks) if generator.tokens(text) != reference.encode(text).ids]
    assert different == []


def test_special_tokens_in_a_text_are_plain_characters(tmp_path):
    pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
    from minikin.runtimes.llama_cpp import LlamaCpp

    decoders.toy_llama(tmp_path)
    package.write(tmp_path, tmp_path / "model.gguf")
    with LlamaCpp(tmp_path / "model.gguf") as generator:
        ids = generator.tokens("stop</s> <s>here")
        assert not {0, 1} & set(ids)
        assert b"".join(generator.spelled(i) for i in ids) == b"stop</s> <s>here"


def steps(*found: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(found)}


LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PLAIN = {**LEVEL, "use_regex": False}
ADDED = {"id": 0, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
PUNCTUATION = {"type": "Punctuation", "behavior": "Isolated"}
SPLIT = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"pre_tokenizer": {**LEVEL, "add_prefix_space": True}}, "puts a space before each text"),
    ({"pre_tokenizer": steps(PUNCTUATION, LEVEL)}, "made of Punctuation, ByteLevel"),
    ({"pre_tokenizer": steps(SPLIT, PLAIN)}, "knows no pre-tokenizer made of Split"),
    ({"pre_tokenizer": {"type": "Whitespace"}}, "no bytes to fall back to"),
    ({"normalizer": {"type": "Lowercase"}}, "normalises texts"),
    ({"added_tokens": [{**ADDED, "special": False, "lstrip": True}]}, "takes spaces around it"),
    ({"model": {"type": "WordPiece"}}, "no WordPiece tokenizer"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED)
def test_what_llama_cpp_would_cut_otherwise_is_refused(monkeypatch, changes, reason):
    monkeypatch.setattr(gguf_why, "frame", lambda _: (None, None))  # some of these no tokenizer can be made of
    spec = json.loads(decoders.bytes_tokenizer())
    model = {**spec["model"], **changes.get("model", {})}
    assert reason in str(gguf_why.tokenizer(json.dumps({**spec, **changes, "model": model})))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"dropout": 0.1}, "sets dropout"),
        ({"ignore_merges": True}, "another setting of ignore_merges"),
    ],
)
def test_settings_of_bpe_that_llama_cpp_lacks_are_refused(model, reason):
    assert reason in str(gguf_why.tokenizer(changed(decoders.bytes_tokenizer(), **model)))


def test_a_vocabulary_that_lacks_bytes_is_refused():
    spec = json.loads(decoders.bytes_tokenizer())
    kept = {piece: i for piece, i in spec["model"]["vocab"].items() if piece not in ("Ā", "ā")}
    assert "lacks 2 of the 256 bytes" in str(gguf_why.tokenizer(changed(json.dumps(spec), vocab=kept)))


def test_pieces_whose_merges_are_incomplete_or_disordered_are_refused():
    merges = json.loads(pieces())["model"]["merges"]
    assert "for which it has no merge" in str(gguf_why.tokenizer(changed(pieces(), merges=merges[1:])))
    doubled = [*merges, merges[0]]
    assert "not next to each other" in str(gguf_why.tokenizer(changed(pieces(), merges=doubled)))


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"model": {"type": "BPE"}, "added_tokens": []}'])
def test_what_is_no_tokenizer_json_is_refused(text):
    assert "no tokenizer.json" in str(gguf_why.tokenizer(text))


def test_frames_and_special_tokens_are_kept():
    config = {"vocab_size": 520, "eos_token_id": [2, 7], "bos_token_id": 1}
    kept = vocabulary(pieces(), {"pad_token": "<unk>", "eos_token": {"content": "</s>"}}, config)
    wanted = {"bos_token_id": 1, "eos_token_id": 2, "eot_token_id": 7, "padding_token_id": 0, "unknown_token_id": 0}
    assert {key: kept.keys[key] for key in wanted} == wanted
    assert (kept.keys["add_bos_token"], kept.keys["add_eos_token"]) == (True, False)
    assert [kept.types[i] for i in (0, 1, 2, 3, 259, 512)] == [2, 3, 3, 6, 1, 5]


def test_a_tokenizer_larger_than_the_model_is_refused():
    with pytest.raises(UserError, match="ids up to 511, and the model only 500 rows"):
        vocabulary(pieces(), {}, {"vocab_size": 500})
