"""Figures of what was written: ROUGE-L against the textbook's recursion and a case by hand."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.measure.writing import quoted, rouge_l

WORDS = st.lists(st.sampled_from("abc"), max_size=12)


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


def test_every_column_has_rouge_l_also_of_answers_that_were_not_written_here():
    # three words of three and of four are shared in order: F₁ = 6 / 7
    row = quoted(["Police the gunman!", "same"], ["police killed the gunman", "same"]).summary(0)
    assert row["rouge_l"] == pytest.approx((6 / 7 + 1) / 2)
    assert row["accuracy"] == 0.5
    assert row["rouge_l_interval"][0] <= row["rouge_l"] <= row["rouge_l_interval"][1]
    assert "latency_ms_p50" not in row
