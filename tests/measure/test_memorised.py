"""Runs of training texts in written ones: found wherever they begin, and not where they were given."""

from __future__ import annotations

import random

import pytest

from minikin.measure.memorised import RUN, memorised

RNG = random.Random(0)
SOURCE = "".join(RNG.choices("abcdefghij ", k=1200)).replace("  ", " a").strip()


def other(length: int) -> str:
    return "".join(RNG.choices("klmnopqrst", k=length))


@pytest.mark.parametrize("run", [7, 8, 50])
def test_every_run_is_found_wherever_it_begins_and_none_that_is_shorter(run):
    starts = range(0, 2 * run + 3)
    long = [other(5) + SOURCE[s : s + run] + other(5) for s in starts]
    short = [other(5) + SOURCE[s : s + run - 1] + other(5) for s in starts]
    assert memorised(long, [""] * len(long), [SOURCE], run).all()
    assert not memorised(short, [""] * len(short), [SOURCE], run).any()


def test_what_was_given_does_not_count():
    text = other(9) + SOURCE[300 : 300 + RUN + 20]
    given = ["", SOURCE[300 : 300 + RUN + 20], SOURCE[300 : 300 + RUN + 19], SOURCE]
    assert memorised([text] * 4, given, [other(500), SOURCE]).tolist() == [True, False, True, False]


def test_white_space_counts_as_one_and_short_texts_hold_nothing():
    words = SOURCE.split()
    assert memorised(["\n\n".join(words), SOURCE[: RUN - 1], ""], [""] * 3, ["  ".join(words)]).tolist() == [
        True,
        False,
        False,
    ]


def test_texts_that_hold_nothing_long_read_no_training_text():
    def never():
        raise AssertionError("read")
        yield ""

    assert memorised(["short"], [""], never()).tolist() == [False]
