import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.data.typo import NEIGHBOURS, with_one_typo


@given(st.text(min_size=1, max_size=30), st.integers(0, 50))
def test_a_typo_changes_one_place_of_one_word(text: str, seed: int) -> None:
    typed = with_one_typo(text, np.random.default_rng(seed))
    if not any(c.isalnum() or c == "_" for c in text):
        assert typed == text
        return
    assert typed != text
    assert abs(len(typed) - len(text)) <= 1
    same_start = next(
        (i for i, (a, b) in enumerate(zip(text, typed, strict=False)) if a != b), min(len(text), len(typed))
    )
    tails = text[::-1], typed[::-1]
    same_end = next((i for i, (a, b) in enumerate(zip(*tails, strict=False)) if a != b), min(map(len, tails)))
    assert same_start + same_end >= len(text) - 2


def test_same_generator_same_typos_and_all_kinds_occur() -> None:
    draws = [[with_one_typo("transfer", rng) for _ in range(200)] for rng in map(np.random.default_rng, (3, 3))]
    assert draws[0] == draws[1]
    assert {len(word) for word in draws[0]} == {7, 8, 9}
    assert any(sorted(word) == sorted("transfer") for word in draws[0])


def test_long_words_are_preferred_and_case_is_kept() -> None:
    rng = np.random.default_rng(0)
    assert all(with_one_typo("is it CARD", rng).startswith("is it ") for _ in range(50))
    assert all(with_one_typo("CARD", rng).isupper() for _ in range(50))


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_nothing_to_misspell(text: str) -> None:
    assert with_one_typo(text, np.random.default_rng(0)) == text


def test_neighbours_are_mutual() -> None:
    assert set(NEIGHBOURS["g"]) == set("fhtyvb")
    assert all(a in NEIGHBOURS[b] for a in NEIGHBOURS for b in NEIGHBOURS[a] if a.isalpha() and b.isalpha())
