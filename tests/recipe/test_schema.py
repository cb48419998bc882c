from collections.abc import Iterator

import pytest
from pydantic import BaseModel, ValidationError

from minikin.recipe.schema import DataSpec, Objective, Recipe, TeacherSpec


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for info in model.model_fields.values():
        for kind in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _sections(kind)


def test_every_field_is_described_and_unknown_ones_are_refused() -> None:
    sections = list(_sections(Recipe))
    assert len(sections) == 11
    for section in sections:
        assert section.__doc__
        assert section.model_config["extra"] == "forbid"
        assert all(info.description for info in section.model_fields.values()), section


def test_defaults_with_a_teacher() -> None:
    recipe = Recipe(data=DataSpec(train="a.csv"), teacher="some/model")
    assert recipe.teacher == TeacherSpec(model="some/model")
    assert [(o.name, o.weight, o.temperature) for o in recipe.distil.objectives] == [("kl", 1, 2), ("pooled", 1, 2)]
    assert (recipe.data.max_length, recipe.distil.augment, recipe.quantize, recipe.prune.keep) == (64, 4, "auto", 1)
    assert recipe.budget.model_dump() == dict.fromkeys(("size_mib", "latency_ms_p95", "memory_mib", "keep"))


def test_without_a_teacher_gold_is_what_is_left() -> None:
    assert [o.name for o in Recipe(data=DataSpec(train="a.csv")).distil.objectives] == ["gold"]


def test_defaults_are_not_shared() -> None:
    first, second = (Recipe(data=DataSpec(train="a.csv"), teacher="t") for _ in range(2))
    first.distil.objectives.append(Objective(name="gold"))
    assert len(second.distil.objectives) == 2


def test_python_users_get_contradictions_too() -> None:
    with pytest.raises(ValidationError, match=r"student\.size: no size 'tinny'; did you mean 'tiny'"):
        Recipe.model_validate({"data": {"train": "a.csv"}, "student": {"size": "tinny"}})
