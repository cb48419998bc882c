"""What no single field shows: settings that contradict each other. Called by the schema's last validator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minikin.recipe import ladder

if TYPE_CHECKING:
    from minikin.recipe.schema import Recipe

Contradiction = tuple[str, str]
"""The dotted path of the key to change, and what is wrong with it."""

LAYERED = ("hidden", "attention", "relations")
STATIC_WIDTHS = (32, 256)


def contradictions(recipe: Recipe) -> list[Contradiction]:
    """Return every pair of settings that can't both hold."""
    return [*_data(recipe), *_teacher(recipe), *_objectives(recipe), *_student(recipe)]


def _data(recipe: Recipe) -> Iterator[Contradiction]:
    data = recipe.data
    columns = [data.text] if isinstance(data.text, str) else list(data.text)
    if len({*columns, data.label}) < len(columns) + 1:
        yield "data.text", "names a column twice, or the column of the label"
    seen = {data.train: "train"}
    for role in ("validation", "calibration", "test"):
        source = getattr(data, role)
        if source is not None and seen.setdefault(source, role) != role:
            yield f"data.{role}", f"is the same as data.{seen[source]}; leave it out and a part is held out for it"


def _teacher(recipe: Recipe) -> Iterator[Contradiction]:
    if recipe.teacher is not None:
        return
    if recipe.budget.keep is not None:
        yield "budget.keep", "is a share of the teacher's accuracy, and there is no teacher"
    if recipe.student.start == "cut":
        yield "student.start", "a cut student is made from the teacher, and there is no teacher; use grown"
    for i, objective in enumerate(recipe.distil.objectives):
        if objective.name != "gold":
            yield f"distil.objectives.{i}.name", f"'{objective.name}' needs a teacher; without one only gold works"


def _objectives(recipe: Recipe) -> Iterator[Contradiction]:
    names = [objective.name for objective in recipe.distil.objectives]
    for i, objective in enumerate(recipe.distil.objectives):
        at = f"distil.objectives.{i}"
        if objective.name in names[:i]:
            yield f"{at}.name", f"'{objective.name}' stands here twice; add up the weights"
        if objective.name in LAYERED and recipe.student.family == "static":
            yield f"{at}.name", f"'{objective.name}' compares layers, and a static student has none"
        if objective.layers is None:
            continue
        if objective.name not in LAYERED:
            yield f"{at}.layers", f"'{objective.name}' compares no layers; only {', '.join(LAYERED)} do"
        elif not objective.layers or min(*objective.layers, *objective.layers.values(), 0) < 0:
            yield f"{at}.layers", "maps student layers to teacher layers; 0 is the embeddings"
        elif recipe.student.layers and max(objective.layers) > recipe.student.layers:
            yield f"{at}.layers", f"the student has only layers 1 to {recipe.student.layers}, and 0, the embeddings"


def _student(recipe: Recipe) -> Iterator[Contradiction]:
    student = recipe.student
    size = None
    if student.size is not None:
        try:
            size = ladder.shape(student.size)
        except KeyError as error:
            yield "student.size", str(error.args[0])
    if student.family == "static":
        for key in ("layers", "heads", "feed_forward"):
            if getattr(student, key) is not None:
                yield f"student.{key}", "a static student has none; use family encoder"
        if student.start == "cut":
            yield "student.start", "a static student is never cut; use auto or grown"
        low, high = STATIC_WIDTHS
        if student.hidden is not None and not low <= student.hidden <= high:
            yield "student.hidden", f"a static student is {low} to {high} wide"
        if recipe.prune.keep < 1:
            yield "prune.keep", "a static student has no neurons to prune"
        return
    hidden = student.hidden or (size.hidden if size else None)
    heads = student.heads or (size.heads if size else None)
    if hidden and heads and hidden % heads:
        at = "student.heads" if student.heads else "student.hidden"
        yield at, f"hidden {hidden} can't be divided among {heads} heads"
