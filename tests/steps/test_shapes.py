"""The shapes that a recipe may name of a decoder: every key alone, of cuts and of new ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import causal
from minikin.base.errors import UserError
from minikin.base.types import Student
from minikin.recipe.read import of_values
from minikin.steps.generate import learn, ship
from minikin.steps.generate.learn import Plan

GROUPED = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4}


def planned(origin: Student | None, **student: Any) -> list[Plan]:
    values = {"task": "generate", "data": {"train": "a"}, "teacher": {"model": "t"}, "student": student}
    return ship.candidates(of_values(values), origin)


@pytest.mark.parametrize(
    ("named", "shape"),
    [
        ({"layers": 2}, (2, 256, 8, 4, 48)),
        ({"hidden": 128}, (4, 128, 8, 4, 48)),
        ({"kv_heads": 2}, (4, 256, 4, 2, 48)),
        ({"heads": 4}, (4, 256, 4, 2, 48)),
        ({"heads": 4, "kv_heads": 2}, (4, 256, 4, 2, 48)),
        ({"feed_forward": 32}, (4, 256, 8, 4, 32)),
        ({"layers": 3, "hidden": 64, "feed_forward": 32}, (3, 64, 8, 4, 32)),
        ({"size": "pico", "feed_forward": 32}, (2, 64, 2, 1, 32)),
    ],
)
def test_what_is_not_said_of_a_cut_stays_as_the_teacher_has_it(named, shape):
    (plan,) = planned(causal.student("llama", **GROUPED), **named)
    assert (plan.start, tuple(plan.shape)[:5]) == ("cut", shape)


@pytest.mark.parametrize(
    ("named", "shape"),
    [
        ({"layers": 2}, (2, 128, 4, 2, 384)),
        ({"feed_forward": 512}, (4, 128, 4, 2, 512)),
        ({"heads": 8}, (4, 128, 8, 2, 384)),
        ({"kv_heads": 4}, (4, 128, 4, 4, 384)),
        ({"hidden": 96}, (4, 96, 3, 3, 288)),
        ({"hidden": 100}, (4, 100, 2, 2, 300)),
        ({"size": "pico", "layers": 1}, (1, 64, 2, 1, 192)),
    ],
)
def test_what_is_not_said_of_a_new_decoder_follows(named, shape):
    (plan,) = planned(None, start="grown", **named)
    assert (plan.start, tuple(plan.shape)[:5]) == ("grown", shape)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (
            {"size": "pico"},
            r"student\.size: A cut keeps whole heads, 3 to .* Give hidden: 63, .* student\.start: grown",
        ),
        ({"heads": 4}, r"student\.heads: a cut keeps 3 heads to each of its kv_heads.* Give kv_heads alone"),
        ({"layers": 5}, r"student\.layers: .*layers 5 > 4.* student\.start: grown"),
        ({"start": "grown", "heads": 3}, r"student\.heads: hidden 128 can't be divided among 3 heads"),
        ({"start": "grown", "hidden": 33}, r"student\.hidden: hidden 33 can't be divided"),
        ({"start": "grown", "kv_heads": 3}, r"student\.kv_heads: 4 heads can't share 3 keys and values evenly"),
    ],
)
def test_shapes_that_can_not_be_are_refused_by_their_keys(named, words):
    uneven = causal.student(
        "llama", hidden_size=96, num_attention_heads=3, num_key_value_heads=1, intermediate_size=256
    )
    with pytest.raises(UserError, match=words):
        planned(uneven, **named)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_cut_that_is_proposed_can_be_made(family):
    sizes = {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 256}
    wide = {"n_embd": 96, "n_head": 6, "n_inner": 256} if family == "gpt2" else sizes
    origin, rows = causal.student(family, **wide), SimpleNamespace(plain=causal.rows())
    for plan in planned(origin):
        s = plan.shape
        made = learn.cut(origin, rows, layers=s.layers, hidden=s.hidden, groups=s.groups, feed_forward=s.feed_forward)
        assert made.parameters < origin.parameters


def test_a_student_stops_early_only_where_the_recipe_says_so():
    values = {"task": "generate", "data": {"train": "a"}, "teacher": {"model": "t"}}
    rows = SimpleNamespace(train=causal.rows(), taught=None)
    (plan,) = planned(causal.student("llama"), layers=2)
    for patience, (student, teacher) in {None: (None, 3), 5: (5, 5)}.items():
        recipe = of_values({**values, "train": {"patience": patience}})
        build: Any = SimpleNamespace(recipe=recipe, student_seed=0)
        assert learn.lesson(build, plan, rows)[1].patience == student
        assert learn.tuning(build, recipe.teacher, causal.student("llama"), rows).patience == teacher
