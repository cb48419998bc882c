"""Reads a recipe: all faults at once, each with its line and the nearest valid key. Called by `cli` and `pipeline`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from minikin.base.errors import RecipeError
from minikin.recipe import complain
from minikin.recipe.lines import Lines, line_number, parsed, parsed_value, text_of
from minikin.recipe.schema import Recipe

DATA_FILES = ("train", "test", "validation", "calibration", "unlabelled", "json_schema")
HUB = "hf:"


def read(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path`, with `overrides` of the form `key.sub=value` laid over it.

    Relative data paths, and a teacher or student that is a folder, are resolved against the recipe's folder.

    Raises:
        RecipeError: the file can't be read, or has faults; lists all of them.
    """
    recipe, faults = examine(path, overrides)
    if faults or recipe is None:
        raise RecipeError(f"The recipe {path} has faults:", faults)
    return recipe


def examine(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Recipe | None, list[str]]:
    """Return what can be understood of a recipe, and all its faults from the top down, so that more can be checked.

    Where a fault was, the default stands, or a stand-in. Raises RecipeError when the file can't be read at all.
    """
    path = Path(path)
    values, lines, faults = parsed(text_of(path), path)
    for override in overrides:
        faults += _laid_over(values, override, lines)
    recipe, more = _validated(values, lines)
    found = sorted([*faults, *more], key=line_number)
    return recipe and _resolved(recipe, path.parent.absolute()), found


def of_values(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a plain mapping describes; raises `RecipeError` with all faults."""
    recipe, faults = _validated(copy.deepcopy(dict(values)), Lines())
    if faults or recipe is None:
        raise RecipeError("The recipe has faults:", faults)
    return recipe


def dump(recipe: Recipe) -> str:
    """Return the recipe as YAML, every default written out, keys in the order of the schema."""
    values = recipe.model_dump(mode="python")
    if isinstance(values["data"]["text"], tuple):
        values["data"]["text"] = list(values["data"]["text"])
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110))


def _laid_over(values: dict[str, Any], override: str, lines: Lines) -> list[str]:
    """Lay one `key.sub=value` over `values`; return what is wrong with it."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        return [f"--set {override}: write it as key.sub=value"]
    try:
        value = parsed_value(text)
    except yaml.YAMLError:
        return [f"--set {override}: '{text}' is not valid YAML; put it in quotes"]
    at: dict[str, Any] = values
    for depth, step in enumerate(path[:-1], 1):
        inner = at.get(step)
        if step == "teacher" and isinstance(inner, str):
            inner = {"model": inner}
        if not isinstance(inner, dict):
            inner = {}
            lines.override(path[:depth])
        at[step] = inner
        at = at[step]
    at[path[-1]] = value
    lines.override(path)
    return []


def _validated(values: dict[str, Any], lines: Lines) -> tuple[Recipe | None, list[str]]:
    values = {key: {} if value is None and key in complain.SECTIONS else value for key, value in values.items()}
    return complain.validated(Recipe, values, lines, complain.RECIPE, complain.take_out)


def _resolved(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with the paths of files made absolute."""
    files = {key: getattr(recipe.data, key) for key in DATA_FILES}
    changed = {
        key: str((folder / Path(name).expanduser()).resolve())
        for key, name in files.items()
        if name is not None and not name.startswith(HUB)
    }
    models: dict[str, Any] = {"teacher": recipe.teacher, "student": recipe.student}
    for key, spec in models.items():
        if spec is None or not spec.model or getattr(spec, "endpoint", None):
            continue
        if (local := folder / Path(spec.model).expanduser()).exists():
            models[key] = spec.model_copy(update={"model": str(local.resolve())})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changed), **models})
