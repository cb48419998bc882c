import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Full

import small
from minikin.base.errors import KinError, UserError
from minikin.runtimes.tokenize import Tokenizer, checked, truncate_pair


def made(folder, spec: str, max_length: int = 24) -> Tokenizer:
    path = folder / "tokenizer.json"
    path.write_text(spec, encoding="utf-8")
    return Tokenizer(path, max_length)


def oracle(spec: str) -> Full:
    full = Full.from_str(spec)
    full.no_truncation()
    full.no_padding()
    return full


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def twins(request, tmp_path_factory):
    spec = small.tokenizer_json(lowercase=request.param)
    return made(tmp_path_factory.mktemp("tokenizer"), spec, 16), oracle(spec)


@settings(max_examples=250, deadline=None)
@given(
    text=st.text()
    | st.text(st.characters(max_codepoint=127), max_size=60)
    | st.lists(st.sampled_from([*small.WORDS, "[SEP]", "[mask]", "\t", "\0", "x" * 101, "A" * 100, "é"])).map(" ".join)
)
def test_ids_equal_those_of_tokenizers(twins, text):
    ours, full = twins
    expected = full.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids
    assert ours.ids(text, 16) == (expected[:16], len(expected) > 16)


def test_the_fast_path_is_used_for_plain_text(tmp_path):
    tokenizer = made(tmp_path, small.tokenizer_json())
    tokenizer.ids("Where's my card?\tplease\x07 ", 24)
    assert tokenizer._full is None
    tokenizer.ids("café", 24)
    assert tokenizer._full is not None


@settings(max_examples=200, deadline=None)
@given(st.text("card pin.", max_size=60), st.text("card pin.", max_size=60))
def test_pairs_of_any_length_are_cut_as_tokenizers_cuts_them(twins, first, second):
    ours, full = twins
    full.enable_truncation(9)
    expected = full.encode(first, second)
    full.no_truncation()
    a, b, cut = ours.pair_ids(first, second, 6)
    assert [2, *a, 3, *b, 3] == expected.ids
    assert cut == bool(expected.overflowing)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_pairs_are_cut_as_tokenizers_cuts_them(first, second, limit):
    full = oracle(small.tokenizer_json())
    full.enable_truncation(limit + 3)
    expected = full.encode("card " * first, "pin " * second)
    a, b = truncate_pair([1] * first, [2] * second, limit)
    assert len(a) == sum(i > 0 and t == "card" for i, t in enumerate(expected.tokens))
    assert len(b) == sum(t == "pin" for t in expected.tokens)


def test_huge_texts_are_cut(tmp_path):
    tokenizer = made(tmp_path, small.tokenizer_json())
    for text in ("card " * 20_000, "é" * 100_000, "x" * 100_000 + " card", "漢字 " * 33_000):
        ids, truncated = tokenizer.ids(text, 24)
        assert len(ids) <= 24
        assert truncated


def test_surrogates_and_nul_are_read(tmp_path):
    tokenizer = made(tmp_path, small.tokenizer_json())
    assert tokenizer.ids("card\ud800 pin", 24) == tokenizer.ids("card\ufffd pin", 24)
    assert tokenizer.ids("ca\0rd", 24) == tokenizer.ids("card", 24)


def test_the_cache_of_words_is_bounded(tmp_path, monkeypatch):
    from minikin.runtimes import tokenize

    monkeypatch.setattr(tokenize, "CACHED_WORDS", 8)
    tokenizer = made(tmp_path, small.tokenizer_json())
    for i in range(100):
        tokenizer.ids(f"word{i} card", 24)
    assert len(tokenizer._words) <= 8


def test_other_tokenizers_go_through_tokenizers(tmp_path):
    spec = json.loads(small.tokenizer_json())
    spec["pre_tokenizer"] = {"type": "Whitespace"}
    tokenizer = made(tmp_path, json.dumps(spec))
    assert tokenizer.ids("my card", 24)[0] == oracle(json.dumps(spec)).encode("my card", add_special_tokens=False).ids
    assert tokenizer._full is not None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": null}', '{"model": {"type": "WordPiece"}}'])
def test_files_that_are_no_tokenizer_are_refused(tmp_path, content):
    with pytest.raises(KinError, match=r"tokenizer\.json"):
        made(tmp_path, content)


@pytest.mark.parametrize("text", [None, 3, b"x", ("a", "b"), ["a"]])
def test_a_single_kin_takes_strings(text):
    with pytest.raises(UserError, match="one text"):
        checked(text, pair=False)


@pytest.mark.parametrize("text", [None, "a", ("a",), ("a", "b", "c"), ("a", 3)])
def test_a_pair_kin_takes_pairs(text):
    with pytest.raises(UserError, match="pair"):
        checked(text, pair=True)
    assert checked(["a", "b"], pair=True) == ("a", "b")
