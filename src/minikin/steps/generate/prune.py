"""What is cut out of a decoder after it was distilled, and its recovery; ship.py measures untrained ones cut alike."""

from __future__ import annotations

import math
from dataclasses import replace

from minikin.base import decoders
from minikin.base.errors import UserError
from minikin.base.types import Student
from minikin.base.writing import TokenSignals
from minikin.compress.prune import kept_neurons
from minikin.feed.causal import model_of
from minikin.recipe.schema import Recipe
from minikin.steps.context import Build
from minikin.steps.generate import learn
from minikin.steps.generate.learn import Plan
from minikin.steps.generate.material import Rows, Voice
from minikin.students import store
from minikin.train.sequence import cross_entropy

RECOVERY = 1 / 3
"""Peak step size of the recovery, as a share of that of distillation."""


def smaller(recipe: Recipe, student: Student, rows: Rows) -> Student:
    """A decoder without what the recipe's section `prune` cuts out: that which matters least for the answers.

    The same student where nothing is cut. Raises UserError, with the section's name, for what can't be cut so.
    """
    spec = recipe.prune
    if not spec.cuts:
        return student
    neurons = kept_neurons(decoders.sizes(student.config).feed_forward, spec.keep)
    shape = {"layers": spec.layers, "hidden": spec.hidden, "groups": spec.kv_heads, "feed_forward": neurons}
    try:
        return learn.cut(student, rows, **shape)
    except UserError as error:
        raise UserError(f"prune: {error}") from error


def pruned(
    build: Build,
    plan: Plan,
    student: Student,
    voice: Voice,
    rows: Rows,
    said: TokenSignals | Student | None,
    *,
    control: bool = False,
) -> Student:
    """Cut a trained decoder, and let it recover for a few epochs at a third of the rate, from what was said before.

    What that did to the perplexity is told, and noted for the report unless it is the `control`'s.
    """
    small = smaller(build.recipe, student, rows)
    if small is student:
        return student
    shape, epochs = decoders.sizes(small.config), build.recipe.prune.recovery_epochs
    words = f"to {shape.layers}x{shape.hidden}/{shape.feed_forward}, {shape.heads} heads on {shape.groups}"
    recovered, (its, settings) = small, learn.lesson(build, plan, rows)
    if epochs:
        settings = replace(settings, epochs=epochs, learning_rate=settings.learning_rate * RECOVERY)
        called = ("control" if control else "prune", "pruned", f"{words}, recovering for {epochs} epochs")
        recovered = store.load(learn.taught(build, called, plan, small, voice, its, settings, said))
    if not control and len(rows.validation.ids_NT):
        before, after, now = (
            math.exp(cross_entropy(model_of(s), rows.validation)) for s in (student, small, recovered)
        )
        told = f"Pruned {words}: perplexity {before:.4g} before, {after:.4g} after the cut"
        build.notes.append(told + (f", {now:.4g} recovered" if epochs else "") + " (held-out texts).")
        build.stages.say(build.notes[-1])
    return recovered
