"""Pydantic's errors in people's words: what is wrong, and the nearest valid key or value.

Used by `read` for recipes and by `handover` for hand-over files.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from minikin.recipe.lines import Lines
from minikin.recipe.schema import Recipe, TeacherSpec

ROUNDS = 4
Whole = TypeVar("Whole", bound=BaseModel)
Complaint = tuple[tuple[str, ...], str]
Models = Mapping[tuple[str, ...], type[BaseModel]]
"""Path → the model of that section, with the whole at (); places in lists are left out."""


def models(root: type[BaseModel], at: tuple[str, ...] = ()) -> dict[tuple[str, ...], type[BaseModel]]:
    """Return the models of `root` and of its sections, as deep as they go."""
    found: dict[tuple[str, ...], type[BaseModel]] = {at: root}
    for name, info in root.model_fields.items():
        for kind in (info.annotation, *get_args(info.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= models(kind, (*at, name))
    return found


RECIPE = models(Recipe)
SECTIONS = tuple(path[0] for path, model in RECIPE.items() if len(path) == 1 and model is not TeacherSpec)
"""Sections for which an empty key means the defaults."""

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "keys with values",
    "model": "keys with values",
}


def of(item: Mapping[str, Any], known: Models = RECIPE) -> list[Complaint]:
    """Return the complaints that one pydantic error stands for, each with the path of its key.

    `known` are the sections in which the nearest key is looked for.
    """
    path = tuple(str(step) for step in item["loc"] if step != "[key]")
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    if kind == "contradiction":
        return [(tuple(at.split(".")), why) for at, why in context["found"]]
    if kind == "extra_forbidden":
        return [(path, f"unknown key{_nearest_key(path, known)}")]
    if kind == "missing":
        return [(path, f"is missing: {_described(path, known)}")]
    if kind == "literal_error":
        return [(path, _not_one_of(value, context["expected"]))]
    family = kind.split("_")[0]
    if kind.endswith(("_type", "_parsing", "_from_float")) and family in _EXPECTED:
        quotes = "; put it in quotes" if family == "string" and not isinstance(value, dict | list | None) else ""
        return [(path, f"expected {_EXPECTED[family]}, got {_shown(value)}{quotes}")]
    return [(path, f"{_lowered(item['msg'])}, got {_shown(value)}")]


def validated(
    root: type[Whole],
    values: dict[str, Any],
    lines: Lines,
    known: Models,
    without: Callable[[dict[str, Any], tuple[str, ...]], None],
) -> tuple[Whole | None, list[str]]:
    """Validate; where something is wrong take it out (`without`) and look again, so that what it hid shows too."""
    faults: list[str] = []
    for _ in range(ROUNDS):
        try:
            whole = root.model_validate(values)
        except ValidationError as error:
            found = [complaint for item in error.errors() for complaint in of(item, known)]
            faults += [fault for fault in (lines.say(path, why) for path, why in found) if fault not in faults]
            values = copy.deepcopy(values)
            for path, _ in found:
                without(values, path)
        else:
            return whole, faults
    return None, faults


def take_out(values: dict[str, Any], path: tuple[str, ...]) -> None:
    """Remove what stands at `path`, or put a stand-in there if the recipe can't do without it."""
    at: Any = values
    for step in path[:-1]:
        at = at.get(step, at.get(int(step)) if step.isdigit() else None) if isinstance(at, dict) else at
        at = at[int(step)] if isinstance(at, list) and step.isdigit() and int(step) < len(at) else at
    if path == ("data",):
        values["data"] = {"train": "train.csv"}
    elif path == ("data", "train"):
        values["data"]["train"] = "train.csv"
    elif path[-1] == "model" and path[0] == "teacher":
        at["model"] = "teacher"
    elif path == ("teacher", "endpoint") and values.get("task") == "generate":
        at["endpoint"] = "http://localhost/v1"
    elif path[0] == "distil" and "objectives" in path:
        values["distil"].pop("objectives", None)
    elif isinstance(at, dict):
        at.pop(path[-1], None)


def _section(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the section that holds the key at `path`, without places in lists."""
    return tuple(step for step in path[:-1] if not step.isdigit())


def _nearest_key(path: tuple[str, ...], known: Models) -> str:
    """Return a hint at the key that was meant: in this section, else anywhere."""
    parent = _section(path)
    model = known.get(parent, known[()])
    name = path[-1]
    if near := difflib.get_close_matches(name, model.model_fields, 1, 0.6):
        return f", did you mean '{near[0]}'?"
    elsewhere = {key: at for at, section in known.items() for key in section.model_fields if at != parent}
    if near := difflib.get_close_matches(name, elsewhere, 1, 0.75):
        return f", did you mean '{'.'.join((*elsewhere[near[0]], near[0]))}'?"
    return f"; the keys here are {', '.join(model.model_fields)}"


def _described(path: tuple[str, ...], known: Models) -> str:
    info = known.get(_section(path), known[()]).model_fields.get(path[-1])
    return (info.description if info else None) or "give a value"


def _not_one_of(value: Any, expected: str) -> str:
    options = [part.strip("' ") for part in expected.replace(" or ", ", ").split(",")]
    near = difflib.get_close_matches(str(value).lower(), options, 1, 0.6)
    hint = f", did you mean '{near[0]}'?" if near else ""
    return f"{_shown(value)} is none of {', '.join(options)}{hint}"


def _shown(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) else "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _lowered(message: str) -> str:
    message = message.removeprefix("Input ").removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
