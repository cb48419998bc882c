import pytest

from minikin.data.augment import KINDS, augment, stream

TEXTS = [f"Where is the card that I ordered {n} days ago, please?" for n in range(50)]


def _by_kind(name: str) -> list[tuple[str, str]]:
    chosen = [(TEXTS[source], str(text)) for kind, source, text in stream(TEXTS, 6, 0) if KINDS[kind] == name]
    assert len(chosen) > 10
    return chosen


def test_each_kind_does_what_its_name_says() -> None:
    assert all(sorted(old.split()) == sorted(new.split()) and old != new for old, new in _by_kind("swap"))
    assert all(0 < len(new.split()) < len(old.split()) for old, new in _by_kind("drop"))
    assert all(abs(len(new) - len(old)) <= 1 for old, new in _by_kind("typo"))
    assert all(new == new.lower() and "?" not in new and "," not in new for _, new in _by_kind("plain"))
    words = {word for text in TEXTS for word in text.split()}
    assert all(set(new.split()) <= words for _, new in _by_kind("splice"))


def test_copies_differ_from_their_source_and_each_other() -> None:
    made = list(stream(TEXTS, 4, 0))
    assert len(made) == 200
    for source in range(50):
        versions = [text for _, its, text in made if its == source]
        assert len({*versions, TEXTS[source]}) == 5


def test_seed_decides_and_the_stream_gives_the_same() -> None:
    assert augment(TEXTS, 2, 1) == augment(TEXTS, 2, 1) == [text for _, _, text in stream(TEXTS, 2, 1)]
    assert augment(TEXTS, 2, 1) != augment(TEXTS, 2, 2)


def test_pairs_stay_pairs() -> None:
    pairs = [(f"How old are you {n}?", f"What is your age {n}?") for n in range(30)]
    made = list(stream(pairs, 4, 0))
    assert all(isinstance(pair, tuple) and len(pair) == 2 and all(pair) for _, _, pair in made)
    splices = [pair for kind, _, pair in made if KINDS[kind] == "splice"]
    firsts, seconds = zip(*pairs, strict=True)
    assert splices
    assert all(first in firsts and second in seconds for first, second in splices)


@pytest.mark.parametrize("texts", [["x"], ["?"], ["a b"], ["", ""], ["日本語のテキスト"]])
def test_short_and_odd_texts_never_fail_or_come_out_unchanged(texts: list[str]) -> None:
    assert not set(augment(texts, 4, 0)) & set(texts)
    assert augment(texts, 0, 0) == []


def test_neighbours_take_the_place_of_words_and_nothing_else_changes() -> None:
    neighbours = {"broken": ["damaged"], "router": ["modem"]}
    texts = ["My router is BROKEN, again!", "nothing to exchange here at all"]
    made = stream(texts, copies=20, seed=1, neighbours=neighbours)
    exchanged = {text for kind, source, text in made if KINDS[kind] == "exchange" and source == 0}
    assert exchanged
    assert exchanged <= {
        "My modem is BROKEN, again!",
        "My router is damaged, again!",
        "My modem is damaged, again!",
    }


def test_without_neighbours_no_word_is_exchanged() -> None:
    made = stream(["one two three four five", "six seven eight nine ten"], copies=20, seed=1)
    assert "exchange" not in {KINDS[kind] for kind, _, _ in made}
