import pytest

from minikin.data.clean import hash64, normal, tidy


@pytest.mark.parametrize(
    ("raw", "text", "kinds"),
    [
        (" plain ", "plain", ()),
        ("a\x00b", "ab", ("nul",)),
        ("a\ud83d", "a\ufffd", ("surrogate",)),
        ("caf\udce9", "caf\ufffd", ("undecodable",)),
        ("\x00\ud83d\udce9", "\ufffd\ufffd", ("nul", "undecodable", "surrogate")),
        ("\x00", "", ("nul",)),
        ("😀", "😀", ()),
    ],
)
def test_tidy_removes_what_no_tokenizer_should_see(raw: str, text: str, kinds: tuple[str, ...]) -> None:
    assert tidy(raw) == (text, kinds)
    text.encode("utf-8")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Where is  my card?", "where is my card", True),
        ("ｆｕｌｌ width", "full width", True),
        ("Straße", "STRASSE", True),
        ("don't", "don t", True),
        ("?", "!", False),
        ("great 😀", "great 😡", False),
        ("C++", "C", False),
        ("कि", "की", False),
        ("a b", "ab", False),
    ],
)
def test_normal_form_joins_what_reads_the_same_and_nothing_else(first: str, second: str, same: bool) -> None:
    assert (normal(first) == normal(second)) is same
    assert (hash64(first) == hash64(second)) is same


def test_pairs_keep_their_sides_apart() -> None:
    assert normal(("a b", "c")) != normal(("a", "b c"))
    assert hash64(("a", "b")) != hash64(("b", "a"))
    assert hash64(("A!", "b")) == hash64(("a", "b"))
