"""What a student that writes is to match, on whose text, and what of that could not be learnt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from minikin.base import decoders
from minikin.base.errors import UserError
from minikin.base.types import Student
from minikin.feed.speech import Speaker
from minikin.recipe import ladder
from minikin.recipe.consistent import LIVE, LOCAL, PEOPLES, TEXTUAL, named
from minikin.recipe.schema import Recipe, default_objectives
from minikin.steps.context import Build
from minikin.steps.generate.material import Voice
from minikin.teachers.resolve import Checkpoint
from minikin.teachers.rewriter import is_rewriter
from minikin.train.on_policy import OnPolicy
from minikin.train.token_objectives import TokenObjective


def suited(build: Build, checkpoint: Checkpoint | None) -> Build:
    """The build with what a student can learn from this teacher: from an encoder-decoder as `checkpoint`, its text.

    Raises UserError, before anything is spent, for what the recipe wants else of it, and for what it says of the text
    of another one.
    """
    recipe, spec = build.recipe, build.recipe.teacher
    if checkpoint is None or spec is None:
        return build
    if not is_rewriter(checkpoint):
        if heard := named(spec, TEXTUAL):
            raise UserError(
                f"teacher.{heard[0]} is about the text of an endpoint or an encoder-decoder, and {spec.model} is "
                "neither. Leave it out."
            )
        return build
    if wanted := next(_beyond_text(recipe), ""):
        raise UserError(
            f"{wanted}: the teacher {spec.model} is an encoder-decoder, which is asked as it is and teaches by its "
            "text alone. Leave that out; the student learns its answers with gold."
        )
    objectives = recipe.distil.objectives
    if any(o.name not in PEOPLES for o in objectives):
        objectives = default_objectives(
            "generate", taught=False, grown=recipe.data.kind != "text" and not recipe.student.model
        )
    build.stages.say(f"an encoder-decoder: the student learns from its text ({', '.join(o.name for o in objectives)})")
    distil = recipe.distil.model_copy(update={"objectives": objectives})
    return replace(build, recipe=recipe.model_copy(update={"distil": distil}))


def _beyond_text(recipe: Recipe) -> Iterator[str]:
    """What a recipe wants of a teacher that its text can't give; the default objectives are nobody's wish."""
    tuning = [key for key in LOCAL if key not in ("revision", "precision", "fit")]
    yield from (f"teacher.{key}" for key in named(recipe.teacher, tuning)) if recipe.teacher else ()
    distil = recipe.distil
    if distil.objectives != default_objectives("generate"):
        yield from (f"distil.objectives: '{o.name}'" for o in distil.objectives if o.name not in PEOPLES)
    if distil.on_policy:
        yield "distil.on_policy"
    if distil.signals != "top":
        yield f"distil.signals: '{distil.signals}'"
    if recipe.data.kind == "text":
        yield "data.kind: 'text' has no prompts"
    if recipe.student.start == "cut" and not recipe.student.model:
        yield "student.start: 'cut'"
    if recipe.train.adapter and not recipe.student.model:
        yield "train.adapter without student.model"


def live(recipe: Recipe) -> bool:
    """Whether the teacher must be in memory while the student learns."""
    return bool(recipe.distil.on_policy) or any(o.name in LIVE for o in recipe.distil.objectives)


def temperature(recipe: Recipe) -> float:
    """The temperature at which the teacher's distributions are stored."""
    return next((o.temperature for o in recipe.distil.objectives if o.name not in (*PEOPLES, *LIVE)), 1.0)


def peoples(recipe: Recipe) -> list[TokenObjective]:
    """What a decoder learns from people alone: their answers, and what they asked if the student learns that too."""
    read = [TokenObjective(o.name, o.weight) for o in recipe.distil.objectives if o.name == "prompt"]
    return [TokenObjective("gold"), *read]


def objectives(recipe: Recipe, layers: int, teacher: Student | None) -> list[TokenObjective]:
    """The recipe's terms for a student of so many layers; layers that it leaves open are spread evenly.

    A teacher that is not there yet is as deep as the recipe says. Raises UserError for a layer that one of them lacks.
    """
    spec, found = recipe.teacher, []
    grown = ladder.decoder(spec.size).layers if spec and spec.size else 0
    depth = decoders.sizes(teacher.config).layers if teacher else grown
    for o in recipe.distil.objectives:
        if o.name not in LIVE:
            found.append(TokenObjective(o.name, o.weight, 1.0 if o.name in PEOPLES else o.temperature))
            continue
        # each student layer i learns from the teacher's i · L/l, as in TinyBERT
        chosen = o.layers or {i: round(i * depth / layers) for i in range(layers + 1)}
        if max(chosen) > layers or max(chosen.values()) > depth:
            raise UserError(
                f"distil.objectives: '{o.name}' maps layers up to {max(chosen)} to layers up to "
                f"{max(chosen.values())}, and the student has {layers}, the teacher {depth}."
            )
        found.append(TokenObjective(o.name, o.weight, layers=chosen))
    return found


def own_answers(recipe: Recipe, voice: Voice) -> OnPolicy | None:
    """How the student writes answers of its own, if it does.

    Raises UserError when its tokenizer names no end of a text.
    """
    if not recipe.distil.on_policy:
        return None
    ends = Speaker(voice.tokenizer_json, voice.tokenizer_config).ends
    if not ends:
        raise UserError(
            "distil.on_policy: the tokenizer names no end of a text, and the student's answers would have none. "
            "Name its eos_token, or leave distil.on_policy out."
        )
    return OnPolicy(recipe.distil.on_policy, recipe.gate.new_tokens, next(iter(ends)), recipe.data.max_length)


def refuse(recipe: Recipe, layers: int, pieces: int, teacher: Student | None, voice: Voice) -> None:
    """Raise UserError, before anything is trained, for a student that could not learn as the recipe says.

    It would have so many `layers`, and `pieces` in its vocabulary.
    """
    objectives(recipe, layers, teacher)
    own_answers(recipe, voice)
    stored = not (recipe.teacher and recipe.teacher.logprobs)  # an endpoint names at most 20 tokens
    if stored and any(o.name == "uld" for o in recipe.distil.objectives) and recipe.distil.top_k > pieces:
        raise UserError(
            f"distil.top_k: 'uld' compares the {recipe.distil.top_k} likeliest tokens, and the student has {pieces}. "
            f"Give at most {pieces}."
        )
