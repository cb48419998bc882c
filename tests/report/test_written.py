"""The report of kins that write: every figure side by side, and samples, whatever is missing."""

from __future__ import annotations

import html
from typing import Any

import pytest

from minikin.report import written
from minikin.report.card_writing import card
from minikin.report.page import page

SCORE = {"looping": 0.25, "looping_interval": [0.1, 0.4], "bits_per_byte": 1.25, "bits_per_byte_interval": [1.2, 1.3]}


def story(**more: Any) -> dict[str, Any]:
    student = {
        **SCORE,
        "size_mib": 1.0,
        "memorised": 0.0,
        "references": {"looping": 0.0, "looping_interval": [0.0, 0.01]},
        "minus": {
            "teacher": {
                "looping": {"difference": -0.02, "interval": [-0.03, 0.01]},
                "bits_per_byte": {"difference": 0.00041, "interval": [-0.1, 0.2]},
            }
        },
    }
    samples = [{"text": "<b>ask", "truth": "right", "teacher": "x" * 1000, "student": "<i>wrong", "tfidf": None}]
    return {
        "task": "generate",
        "kind": "text",
        "measurements": {"teacher": SCORE, "student": student, "student_without_teacher": None},
        "parity": {"texts": 3, "tokens": 90, "perplexity_ratio": 1.0, "mean_log_probability_difference": 0.1,
                   "same_greedy_tokens": 0.99, "kl_nats": 0.0021},
        "samples": samples,
    } | more  # fmt: skip


def test_a_row_for_each_figure_with_intervals_and_differences():
    found = written.figures(story())
    assert found is not None
    assert found["columns"] == ["Teacher", "Shipped", "References", "Less teacher’s"]
    cells = {row["title"]: [(value.replace("\u202f", " "), i) for value, i in row["cells"]] for row in found["rows"]}
    assert cells.keys() == {"Bits per byte", "Ends in a loop", "Of the training text"}
    assert cells["Ends in a loop"] == [
        ("25.0 %", "10.0 to 40.0"),
        ("25.0 %", "10.0 to 40.0"),
        ("0.0 %", "0.0 to 1.0"),
        ("−2.0", "−3.0 to +1.0"),
    ]
    assert cells["Bits per byte"][3] == ("+0.000410", "−0.100 to +0.200")
    assert cells["Bits per byte"][2] == ("–", "")


def test_samples_are_escaped_and_clipped_and_who_said_nothing_is_left_out():
    found = page(story())
    assert "<b>ask" not in found
    assert "<i>wrong" not in found
    text = html.unescape(found).replace("\u202f", " ")
    assert "<b>ask" in text
    assert "<i>wrong" in text
    assert "x" * 401 not in text
    assert "same student, no teacher" not in text
    assert "likeliest next one is the same 99.0 % of the time" in text
    assert "0.0021 nats" in text


@pytest.mark.parametrize("key", ["samples", "parity", "measurements", "kind"])
@pytest.mark.parametrize("value", [None, {}])
def test_any_part_may_be_missing(key, value):
    text = page(story(**{key: value}))
    assert ("Samples" in text) is (key != "samples")
    assert ("What it writes" in text) is (key != "measurements")
    assert "None" not in text


def test_kins_that_sort_have_neither():
    text = page(story(task="classify", samples=None))
    assert "What it writes" not in text
    assert "Samples" not in text


def test_the_card_says_how_much_loops_and_is_memorised():
    text = card(story(), {"max_length": 64}).replace("\u202f", " ")
    assert "25.0 % ends in a loop, and 0.0 % holds 200 characters" in text
    assert "| **This model** | – | – | – | – | – | 1.25 |" in text
