"""The plan's small decisions: schemes that are worth keeping, who is tried, who wins, what the front says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minikin.base.errors import UserError
from minikin.plan.budget import Limits, Measured
from minikin.plan.candidates import Candidate, propose
from minikin.plan.search import Trial
from minikin.recipe.read import of_values
from minikin.steps import choose, fit

A, B = Candidate("static", "grown", 64), Candidate("encoder", "cut", 128, 2, 4, 256)


def measured(candidate: Candidate, scheme: str, size: float, latency: float) -> Measured:
    return Measured(candidate, scheme, size, latency, 2 * latency)


def test_a_scheme_that_is_neither_smaller_nor_faster_is_dropped():
    int8, int4 = measured(A, "int8", 2.0, 1.0), measured(A, "int4", 1.0, 0.5)
    assert choose.useful([int8, int4]) == [int4]
    fast = replace(int8, latency_ms_p50=0.4)
    assert choose.useful([fast, int4]) == [fast, int4]
    other = measured(B, "int8", 2.0, 1.0)
    assert choose.useful([other, int4]) == [other, int4]


def test_a_forecast_drops_nobody():
    forecast = Measured(A, "int4", 0.9, 0.0, 0.0, forecast=True)
    int8 = measured(A, "int8", 2.0, 1.0)
    assert int8 in choose.useful([int8, forecast])


@pytest.mark.parametrize(
    ("teacher_shape", "others"),
    [
        ((6, 384, 12, 1536), {"cut 4x384/768", "cut 6x384/1536"}),
        ((4, 384, 12, 1536), {"cut 4x384/768", "grown 4x512/2048"}),
        (None, {"grown 4x512/2048", "static 128"}),
    ],
)
def test_every_kind_is_tried_before_one_is_tried_twice(teacher_shape, others):
    """Few whole layers, many thin ones; what is grown where nothing, or nothing deep, can be cut."""
    fitting = [measured(c, "int4", 1.0, 1.0) for c in propose(["static", "encoder"], ["cut", "grown"], teacher_shape)]
    tried = choose.shortlist(fitting)
    assert {c.name for c in tried} == {"static 256", "static 192 w3"} | others
    weights = [sum(c.weights(1000, 0, 0)) for c in tried]
    assert weights == sorted(weights)


def test_under_limits_the_best_score_wins():
    fitting = [measured(A, "int4", 1.0, 0.1), measured(B, "int4", 2.0, 1.0)]
    scores = {A.name: 0.90, B.name: 0.91}
    assert choose._winner([A, B], fitting, scores, Limits(size_mib=3.0)) == B


def test_without_limits_the_knee_wins():
    fitting = [measured(A, "int4", 1.0, 0.1), measured(B, "int4", 20.0, 10.0)]
    c = Candidate("static", "grown", 128)
    fitting.append(measured(c, "int4", 2.0, 0.2))
    assert choose._winner([A, B, c], fitting, {A.name: 0.5, B.name: 0.92, c.name: 0.91}, Limits()) == c


def test_the_front_says_what_became_of_everyone():
    c = Candidate("encoder", "grown", 512, 4, 8, 2048)
    everyone = [
        measured(A, "int4", 1.0, 0.1),
        measured(B, "int4", 2.0, 1.0),
        Measured(c, "int4", 9.0, 0, 0, forecast=True),
    ]
    rows = choose._front(everyone, Limits(size_mib=3.0), B, {A.name: Trial(0, 0, 0.8), B.name: Trial(1, 1, 0.9)})
    assert [(r["name"], r["state"]) for r in rows] == [(A.name, "front"), (B.name, "winner"), (c.name, "dropped")]
    assert rows[2]["reason"] == "about 9.00 MiB > 3 MiB"
    assert rows[2]["accuracy"] is None


def named(teacher_shape: tuple[int, int, int, int] | None, **student: object) -> Candidate:
    recipe = of_values({"data": {"train": "x.csv"}, "teacher": "some/model", "student": student})
    (only,) = fit.candidates_of(recipe, teacher_shape)
    return only


MINILM = (6, 384, 12, 1536)


def test_a_factorised_table_is_for_named_shapes_or_for_all_encoders_that_are_wider():
    assert named(MINILM, layers=3, hidden=384, embedding=128).name == "cut 3x384/512 e128"
    recipe = of_values({"data": {"train": "x.csv"}, "teacher": "some/model", "student": {"embedding": 192}})
    found = fit.candidates_of(recipe, MINILM)
    assert {(c.family, c.embedding) for c in found} == {("encoder", 192)}
    assert min(c.hidden for c in found) == 256
    with pytest.raises(UserError, match=r"student\.embedding: no encoder .* wider than 2000"):
        fit.candidates_of(
            of_values({"data": {"train": "x.csv"}, "teacher": "t", "student": {"embedding": 2000}}), MINILM
        )


@pytest.mark.parametrize(
    ("student", "start", "heads"),
    [
        ({"size": "tiny"}, "cut", 4),
        ({"size": "small"}, "grown", 8),
        ({"layers": 8, "hidden": 384}, "grown", 6),
        ({"layers": 2, "hidden": 200}, "grown", 2),
        ({"layers": 2, "hidden": 40, "feed_forward": 64}, "grown", 1),
        ({"layers": 2, "hidden": 192, "start": "grown", "heads": 6}, "grown", 6),
        ({"heads": 2}, "grown", 2),
        ({"heads": 4}, "cut", 4),
        ({"feed_forward": 256}, "cut", 4),
    ],
)
def test_a_named_shape_is_cut_where_the_teacher_has_it_and_grown_elsewhere(student, start, heads):
    found = named(MINILM, **student)
    assert (found.start, found.heads) == (start, heads)
    assert found.hidden % found.heads == 0


def test_no_shape_is_cut_from_a_teacher_that_cannot_be_cut():
    with pytest.raises(UserError, match="start: grown"):
        named(None, start="cut", layers=2)
    with pytest.raises(UserError, match="start: grown"):
        named(None, start="cut", family="encoder")
    assert named(None, layers=2).start == "grown"
    with pytest.raises(UserError, match=r"student\.heads: a cut of this teacher that is 128 wide has 4 of its heads"):
        named(MINILM, start="cut", heads=2)
