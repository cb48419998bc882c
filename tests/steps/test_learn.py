"""From recipe to settings and objectives: what is left open is filled in, what can't be is refused."""

from __future__ import annotations

import pytest

from minikin.base.errors import UserError
from minikin.plan.candidates import Candidate
from minikin.recipe.schema import Objective
from minikin.steps.learn import objectives_of

ENCODER, STATIC = Candidate("encoder", "cut", 128, 2, 4, 256), Candidate("static", "grown", 64)


def test_open_layers_are_spread_evenly():
    specs = [Objective(name="kl"), Objective(name="hidden"), Objective(name="attention")]
    kl, hidden, attention = objectives_of(specs, ENCODER, 6)
    assert (kl.layers, hidden.layers, attention.layers) == ({}, {0: 0, 1: 3, 2: 6}, {1: 3, 2: 6})


def test_named_layers_stay():
    (hidden,) = objectives_of([Objective(name="hidden", layers={1: 6})], ENCODER, 6)
    assert hidden.layers == {1: 6}


@pytest.mark.parametrize(("name", "layers"), [("hidden", {3: 6}), ("attention", {0: 1}), ("attention", {3: 1})])
def test_layers_that_the_student_has_not_are_refused(name, layers):
    with pytest.raises(UserError, match=f"'{name}' names layer"):
        objectives_of([Objective(name=name, layers=layers)], ENCODER, 6)


def test_a_static_student_skips_what_is_inside_and_keeps_the_answer():
    specs = [Objective(name="relations"), Objective(name="pooled", weight=0.5)]
    assert [o.name for o in objectives_of(specs, STATIC, 6)] == ["pooled"]
    assert [o.name for o in objectives_of(specs[:1], STATIC, 6)] == ["kl"]
