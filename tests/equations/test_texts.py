"""Texts compared: ROUGE-L and chrF against the tables' own programs where installed, and cases by hand; loops."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.equations.texts import chrf, loops, repeated_4_grams, rouge_l

WORDS = st.lists(st.sampled_from("abc"), max_size=12)
TEXTS = st.text(st.sampled_from("abé 1,\n本"), max_size=24)


@given(WORDS, WORDS)
def test_rouge_l_is_f1_of_the_longest_common_subsequence(ours, theirs):
    @cache
    def longest(i: int, j: int) -> int:
        if not (i and j):
            return 0
        if ours[i - 1] == theirs[j - 1]:
            return longest(i - 1, j - 1) + 1
        return max(longest(i - 1, j), longest(i, j - 1))

    common = longest(len(ours), len(theirs))
    f1 = 2 * common / (len(ours) + len(theirs)) if ours and theirs else float(ours == theirs)
    assert rouge_l(" ".join(ours), " ".join(theirs)) == pytest.approx(f1)


@given(st.text("ab1 ,.-A", min_size=1, max_size=30), st.text("ab1 ,.-A", min_size=1, max_size=30))
def test_rouge_l_is_that_of_rouge_score(ours, theirs):
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    known = scorer.score(theirs, ours)["rougeL"].fmeasure
    if any(c.isalnum() for c in ours + theirs):  # of two texts without a word it says 0
        assert rouge_l(ours, theirs) == pytest.approx(known)


def test_scripts_without_spaces_are_compared_by_characters():
    assert rouge_l("我喜欢猫", "我喜欢狗") == pytest.approx(0.75)
    assert rouge_l("ผมชอบแมว", "ผมชอบหมา") > 0.4


@given(TEXTS, TEXTS)
def test_chrf_is_that_of_sacrebleu(ours, theirs):
    known = pytest.importorskip("sacrebleu").sentence_chrf(ours, [theirs]).score / 100
    if ours.split() or theirs.split():  # of two empty texts it says 0
        assert chrf(ours, theirs) == pytest.approx(known)


def test_chrf_by_hand():
    # characters: 3 of 4 right both ways; pairs: ab, bc of ab, bc, cx; threes: abc of two; fours: none
    p = (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4
    assert chrf("abc x", "abcd") == pytest.approx(p)
    assert chrf("", "abc") == 0.0
    assert chrf("a b", "ab") == 1.0


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("one two three four five six seven eight nine ten", False),
        ("and so on and so on and so on", True),
        ("it was 2222222222222222222222222222", True),
        ("the cat sat on the mat, and the cat sat on the mat, and the", False),
        ("so it is so it is so it is, until it was not any more", False),
        ("costs 1000000", False),
        ("行きました行きました行きました行きました行きました", True),
        ("go\n\ngo  go\ngo go go go go go", True),
        ("", False),
        ("".join(str(i) for i in range(80)) * 3, True),
        ("".join(str(i) for i in range(200)) * 3, False),  # what is so long is no loop
        ("ab" * 500_000 + "c", False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_loop_is_at_the_end_and_stands_three_times(text, ends):
    assert loops(text) is ends


def test_repeated_4_grams_are_counted():
    # eight words give five runs of four, of which the fifth stood first
    assert repeated_4_grams("a b c d a b c d") == pytest.approx(1 / 5)
    assert repeated_4_grams("a b c") == 0.0
    assert repeated_4_grams("9999999999") == pytest.approx(6 / 7)
