"""Figures of what was written: a case by hand; perplexity and bits per byte in parts, and paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from minikin.measure import writing
from minikin.measure.writing import quoted


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


def spelled(token: int) -> bytes:
    """As many bytes as the token's number, and none for the last ones, as of special tokens."""
    return b"x" * token if token < 8 else b""


@pytest.mark.parametrize(
    ("documents", "learnt", "nats", "counted"),
    [
        # within the context: all but the first token
        ([[1, 2, 3]], [[0, 1, 1]], 0.5, (2, 3)),
        # a prompt that is not learnt, and a document of which nothing is
        ([[1, 2, 3, 4], [9, 9]], [[0, 0, 1, 1], [0, 0]], 0.7, (3, 4)),
        # two parts and a token left over: the first token of each part is predicted from nothing
        ([[1, 2, 3, 4, 5, 6, 7, 8, 9]], [[1] * 9], 0.1 * (2 + 3 + 4 + 6 + 7 + 8), (2, 3, 4, 6, 7, 8)),
    ],
)
def test_perplexity_reads_long_documents_in_parts(documents, learnt, nats, counted):
    ids, wanted = [np.array(d) for d in documents], [np.array(w, bool) for w in learnt]
    found = writing.likelihood(likely, spelled, ids, wanted, 4).summary(0)
    assert found["perplexity"] == pytest.approx(np.exp(nats / len(counted)))
    size = sum(len(spelled(i)) for i in counted)
    assert found["bits_per_byte"] == pytest.approx(nats / np.log(2) / size)


def test_the_interval_is_over_documents():
    documents = [np.array([0, i, i, i]) for i in range(1, 30)]
    found = writing.likelihood(likely, spelled, documents, [np.array([0, 1, 1, 1], bool)] * 29, 4).summary(0)
    low, high = found["perplexity_interval"]
    assert low < found["perplexity"] < high
    # each document is of one value, so that the mean's standard error is that of 29 values
    error = 0.1 * np.std(np.arange(1, 30)) / np.sqrt(29)
    assert np.log(high / low) == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_differences_are_paired():
    ours = quoted(["a b", "c"], ["a b", "c d"])
    theirs = quoted(["a", "d"], ["a b", "c d"])
    found = writing.differences(ours, theirs, 0)
    assert found["accuracy"]["difference"] == 0.5
    assert found["rouge_l"]["difference"] == pytest.approx((1 - 2 / 3 + 2 / 3 - 2 / 3) / 2)
    assert found.keys() == {"accuracy", "rouge_l", "chrf", "looping", "repeated_4_grams"}
    # all documents differ by the same, so the paired interval is a point, though each alone has a wide one
    bytes_D = np.array([10.0, 20.0, 30.0, 5.0, 0.0])
    low = writing.Likelihood(np.log(2) * np.array([3.0, 2, 1, 5, 9]), np.ones(5), bytes_D)
    high = writing.Likelihood(low.nats_D + np.log(2) * 0.5 * bytes_D, np.ones(5), bytes_D)
    bits = high.difference(low, 0)["bits_per_byte"]
    assert bits["difference"] == pytest.approx(0.5)
    assert bits["interval"] == pytest.approx([0.5, 0.5])
    assert np.ptp(low.summary(0)["bits_per_byte_interval"]) > 0.05
