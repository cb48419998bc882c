"""What fits: every candidate is made untrained, packaged and measured on this machine, before anything is trained."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from minikin.base import atomic, machine
from minikin.base.errors import UserError
from minikin.base.joined import evenly
from minikin.base.types import Data, Progress, Scheme, Student, Text
from minikin.compress.quantize import quantize
from minikin.measure import speed
from minikin.package import kin as package
from minikin.plan.budget import Limits, Measured, refuse_if_impossible
from minikin.plan.candidates import Candidate, can_cut, propose
from minikin.recipe import ladder
from minikin.recipe.consistent import SHAPE
from minikin.recipe.schema import Recipe
from minikin.runtimes import open as open_kin
from minikin.steps.context import Build
from minikin.steps.origins import Roots, make

MEASURE_CALLS = 120


def limits_of(recipe: Recipe) -> Limits:
    """The recipe's budget as the plan reads it."""
    return Limits(**recipe.budget.model_dump())


def candidates_of(recipe: Recipe, teacher_shape: tuple[int, int, int, int] | None) -> list[Candidate]:
    """What the recipe allows: one shape if it names one, else every shape of the families that it admits."""
    spec = recipe.student
    schemes: tuple[Scheme, ...] = ("int8", "int4", "int4-int8")
    if recipe.quantize != "auto":
        schemes = (cast(Scheme, recipe.quantize),)  # recipe/consistent.py has kept the decoders' away
    starts = ["cut", "grown"] if spec.start == "auto" else [spec.start]
    families = ["static", "encoder"] if spec.family == "auto" else [spec.family]
    if any(getattr(spec, key) is not None for key in SHAPE):
        return [replace(_named(recipe, teacher_shape), schemes=schemes)]
    found = propose(families, starts, teacher_shape)
    if not found:
        raise UserError(
            "student.start: cut needs a bert-shaped teacher with enough layers and width. "
            "Use start: grown, or another teacher."
        )
    if width := spec.embedding:  # it asks for a factorised table: encoders that are wider
        found = [replace(c, embedding=width) for c in found if c.family == "encoder" and c.hidden > width]
        if not found:
            raise UserError(f"student.embedding: no encoder that competes is wider than {width}. Name student.hidden.")
    return [replace(c, schemes=schemes) for c in found]


def _named(recipe: Recipe, teacher_shape: tuple[int, int, int, int] | None) -> Candidate:
    """The one shape that the recipe spells out, by the size dial or number by number."""
    spec = recipe.student
    family = "static" if spec.family == "static" else "encoder"
    numbers = {"layers": spec.layers, "hidden": spec.hidden, "heads": spec.heads, "feed_forward": spec.feed_forward}
    named = point(family, spec.size or "tiny", spec.start, teacher_shape, **numbers)
    return replace(named, embedding=spec.embedding or 0)


def point(
    family: str,
    size: str,
    start: str,
    teacher_shape: tuple[int, int, int, int] | None,
    *,
    layers: int | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    feed_forward: int | None = None,
) -> Candidate:
    """A point on the size dial, with the numbers that are given instead of its own; `auto` cuts where it can."""
    if family == "static":
        return Candidate("static", "grown", hidden or ladder.width(size))
    dial = ladder.shape(size)
    layers, hidden, feed_forward = layers or dial.layers, hidden or dial.hidden, feed_forward or dial.feed_forward
    if start == "cut" and teacher_shape is None:
        raise UserError("student.start: cut needs a bert-shaped teacher. Use start: grown, or another teacher.")
    if teacher_shape:
        whole = max(1, hidden // (teacher_shape[1] // teacher_shape[2]))
        fits = heads in (None, whole) and can_cut(teacher_shape, layers, hidden, feed_forward)
        if start == "cut" and heads not in (None, whole):
            raise UserError(
                f"student.heads: a cut of this teacher that is {hidden} wide has {whole} of its heads. Leave it out, "
                "or use start: grown."
            )
        if start == "cut" or (start == "auto" and fits):
            return Candidate("encoder", "cut", hidden, layers, whole, feed_forward)
    heads = heads or (dial.heads if hidden == dial.hidden else _heads(hidden))
    return Candidate("encoder", "grown", hidden, layers, heads, feed_forward)


def _heads(hidden: int) -> int:
    """Heads of about 64 units that divide the width."""
    return next(heads for heads in range(max(1, hidden // 64), 0, -1) if hidden % heads == 0)


def measured(
    candidates: Sequence[Candidate], base: Roots, sample: Sequence[Text], limits: Limits, seed: int, progress: Progress
) -> list[Measured]:
    """Make every candidate untrained, quantize, package and time it here; hopeless sizes are only forecast."""
    found: list[Measured] = []
    for done, candidate in enumerate(candidates):
        progress(done / len(candidates), candidate.name)
        student: Student | None = None
        for scheme in candidate.schemes:
            forecast = candidate.size_mib(
                scheme, len(base.kept_ids), base.max_length, len(base.labels), len(base.tokenizer_json)
            )
            if limits.size_mib is not None and forecast > 1.3 * limits.size_mib:
                found.append(Measured(candidate, scheme, forecast, 0.0, 0.0, forecast=True))
                continue
            student = student or make(candidate, base, seed)
            found.append(_measure(candidate, scheme, student, sample, limits))
    if all(m.forecast for m in found):
        # nothing can fit: measure the smallest, so that the budget that is named is really possible
        least = min(found, key=lambda m: m.size_mib)
        student = make(least.candidate, base, seed)
        found.append(_measure(least.candidate, least.scheme, student, sample, limits))
        found.remove(least)
    return found


def _measure(
    candidate: Candidate, scheme: Scheme, student: Student, sample: Sequence[Text], limits: Limits
) -> Measured:
    pair = not isinstance(sample[0], str)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        package.write(folder, quantize(student, scheme, search=False), recipe_yaml="", extra={"pair": pair})
        kin = open_kin(folder, threads=1, verify=False)
        took = speed.latency(kin, list(sample[:64]), warmup=10, repeats=MEASURE_CALLS, seconds=2.0)
        memory = speed.cold_start(folder, sample[0], runs=1).memory_mib if limits.memory_mib else None
        size = kin.manifest.size_mib
    return Measured(candidate, scheme, size, took.latency_ms_p50, took.latency_ms_p95, memory)


def fitting(build: Build, data: Data, base: Roots) -> list[Measured]:
    """Measure all candidates; raise BudgetError, naming the nearest possible budget, when none can fit."""
    recipe, limits = build.recipe, limits_of(build.recipe)
    candidates = candidates_of(recipe, base.teacher_shape)
    inputs = build.inputs(
        data.digest, recipe.data.max_length, base.tokenizer_json, _plain(candidates), asdict(limits), machine.stamp()
    )

    def do(out: Path, _scratch: Path, progress: Progress) -> None:
        found = measured(candidates, base, evenly(data.train.texts, 256), limits, recipe.seed, progress)
        atomic.write_json(out / "fit.json", _plain(found))

    folder = build.step("fit", "fit", inputs, f"measuring {len(candidates)} untrained candidates", do)
    rows = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    found = [Measured(**{**row, "candidate": candidate_from(row["candidate"])}) for row in rows]
    refuse_if_impossible(found, limits)
    return found


def candidate_from(values: dict[str, Any]) -> Candidate:
    """A candidate as it was before it was written as JSON."""
    return Candidate(**{**values, "schemes": tuple(values["schemes"])})


def _plain(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(value) for value in values]
