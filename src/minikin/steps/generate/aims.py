"""What a student that writes is to match, on whose text, and what of that could not be learnt."""

from __future__ import annotations

from minikin.base import decoders
from minikin.base.errors import UserError
from minikin.base.types import Student
from minikin.feed.speech import Speaker
from minikin.recipe import ladder
from minikin.recipe.consistent import LIVE, PEOPLES
from minikin.recipe.schema import Recipe
from minikin.steps.generate.material import Voice
from minikin.train.on_policy import OnPolicy
from minikin.train.token_objectives import TokenObjective


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
