"""Figures of what was written: ROUGE-L against the textbook's recursion and a case by hand; perplexity in parts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.measure import writing
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


def likely(ids: list[int]) -> np.ndarray:
    """A model whose log-probability of a token is minus a tenth of its id, and that reads at most four tokens."""
    assert len(ids) <= 4
    return -0.1 * np.array(ids[1:], float)


@pytest.mark.parametrize(
    ("documents", "learnt", "nats", "count"),
    [
        # within the context: all but the first token
        ([[1, 2, 3]], [[0, 1, 1]], 0.5, 2),
        # a prompt that is not learnt, and a document of which nothing is
        ([[1, 2, 3, 4], [9, 9]], [[0, 0, 1, 1], [0, 0]], 0.7, 2),
        # two parts and a token left over: the first token of each part is predicted from nothing
        ([[1, 2, 3, 4, 5, 6, 7, 8, 9]], [[1] * 9], 0.1 * (2 + 3 + 4 + 6 + 7 + 8), 6),
    ],
)
def test_perplexity_reads_long_documents_in_parts(documents, learnt, nats, count):
    ids, wanted = [np.array(d) for d in documents], [np.array(w, bool) for w in learnt]
    found = writing.perplexity(likely, ids, wanted, 0, 4)
    assert found["perplexity"] == pytest.approx(np.exp(nats / count))


def test_the_interval_is_over_documents():
    documents = [np.array([0, i, i, i]) for i in range(1, 30)]
    found = writing.perplexity(likely, documents, [np.array([0, 1, 1, 1], bool)] * 29, 0, 4)
    low, high = found["perplexity_interval"]
    assert low < found["perplexity"] < high
    # each document is of one value, so that the mean's standard error is that of 29 values
    error = 0.1 * np.std(np.arange(1, 30)) / np.sqrt(29)
    assert np.log(high / low) == pytest.approx(2 * 1.96 * error, rel=0.15)
