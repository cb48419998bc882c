"""The plan: untrained candidates are packaged and measured on this machine, those that fit are tried, one is chosen."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base import atomic
from minikin.base.errors import UserError
from minikin.base.joined import Joined
from minikin.base.types import Data, Progress, Scheme, Signals, Student, Text
from minikin.compress.quantize import quantize
from minikin.equations import pareto
from minikin.measure import speed
from minikin.measure.quality import quality
from minikin.package import kin as package
from minikin.plan.budget import Limits, Measured, reasons, refuse_if_impossible
from minikin.plan.candidates import Candidate, propose
from minikin.plan.search import halving, last_scores
from minikin.recipe import ladder
from minikin.recipe.schema import Objective, Recipe
from minikin.runtimes import Kin
from minikin.runtimes import open as open_kin
from minikin.steps.context import Build, Material
from minikin.steps.learn import Roots, make, objectives_of, settings_of, train
from minikin.students import module
from minikin.students.module import TorchRuntime
from minikin.train.distil import score

TRIED = 4
RUNG_SHARE = (0.03, 0.1)
"""Share of the texts of a full training that a candidate sees on each rung."""

MEASURE_CALLS = 120


@dataclass(frozen=True)
class Chosen:
    """What the plan decided: the candidate, the schemes that fit it, and the front for the report."""

    candidate: Candidate
    schemes: tuple[Scheme, ...]
    front: list[dict[str, Any]]


def limits_of(recipe: Recipe) -> Limits:
    """The recipe's budget as the plan reads it."""
    return Limits(**recipe.budget.model_dump())


def candidates_of(recipe: Recipe, teacher_shape: tuple[int, int, int, int] | None) -> list[Candidate]:
    """What the recipe allows: one shape if it names one, else every shape of the families that it admits."""
    spec = recipe.student
    schemes: tuple[Scheme, ...] = ("int8", "int4", "int4-int8") if recipe.quantize == "auto" else (recipe.quantize,)
    starts = ["cut", "grown"] if spec.start == "auto" else [spec.start]
    families = ["static", "encoder"] if spec.family == "auto" else [spec.family]
    if spec.size or spec.hidden or spec.layers:
        return [replace(_named(recipe, teacher_shape), schemes=schemes)]
    found = propose(families, starts, teacher_shape)
    if not found:
        raise UserError(
            "student.start: cut needs a bert-shaped teacher with enough layers and width. "
            "Use start: grown, or another teacher."
        )
    return [replace(c, schemes=schemes) for c in found]


def _named(recipe: Recipe, teacher_shape: tuple[int, int, int, int] | None) -> Candidate:
    """The one shape that the recipe spells out, by the size dial or number by number."""
    spec = recipe.student
    if spec.family == "static":
        return Candidate("static", "grown", spec.hidden or ladder.width(spec.size or "tiny"))
    point = ladder.shape(spec.size or "tiny")
    layers, hidden = spec.layers or point.layers, spec.hidden or point.hidden
    feed_forward = spec.feed_forward or point.feed_forward
    start = spec.start
    if start == "auto":
        start = "cut" if teacher_shape and _can_cut(teacher_shape, layers, hidden, feed_forward) else "grown"
    if start == "cut" and teacher_shape is None:
        raise UserError("student.start: cut needs a bert-shaped teacher. Use start: grown, or another teacher.")
    if start == "cut" and teacher_shape is not None:
        heads = max(1, hidden // (teacher_shape[1] // teacher_shape[2]))
    else:
        heads = spec.heads or (point.heads if hidden == point.hidden else _heads(hidden))
    return Candidate("encoder", start, hidden, layers, heads, feed_forward)


def _can_cut(teacher_shape: tuple[int, int, int, int], layers: int, hidden: int, feed_forward: int) -> bool:
    its_layers, its_hidden, its_heads, its_neurons = teacher_shape
    whole_heads = hidden % (its_hidden // its_heads) == 0
    return whole_heads and layers <= its_layers and hidden <= its_hidden and feed_forward <= its_neurons


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
            student = student or make(candidate, base, sample[:64], seed)
            found.append(_measure(candidate, scheme, student, sample, limits))
    if all(m.forecast for m in found):
        # nothing can fit: measure the smallest, so that the budget that is named is really possible
        least = min(found, key=lambda m: m.size_mib)
        student = make(least.candidate, base, sample[:64], seed)
        found.append(_measure(least.candidate, least.scheme, student, sample, limits))
        found.remove(least)
    return found


def _measure(
    candidate: Candidate, scheme: Scheme, student: Student, sample: Sequence[Text], limits: Limits
) -> Measured:
    pair = not isinstance(sample[0], str)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        package.write(folder, quantize(student, scheme), recipe_yaml="", extra={"pair": pair})
        kin = open_kin(folder, threads=1, verify=False)
        took = speed.latency(kin, list(sample[:64]), warmup=10, repeats=MEASURE_CALLS, seconds=2.0)
        memory = speed.cold_start(folder, sample[0], runs=1).memory_mib if limits.memory_mib else None
        size = kin.manifest.size_mib
    return Measured(candidate, scheme, size, took.latency_ms_p50, took.latency_ms_p95, memory)


def useful(all_measured: Sequence[Measured]) -> list[Measured]:
    """Of one candidate's schemes, drop those that are neither smaller nor faster than another one."""
    kept = []
    for m in all_measured:
        rivals = [o for o in all_measured if o.candidate == m.candidate and o is not m and not o.forecast]
        # timings within 5 % are the same timing
        worse = any(o.size_mib <= m.size_mib and o.latency_ms_p50 <= m.latency_ms_p50 * 0.95 for o in rivals)
        if not worse:
            kept.append(m)
    return kept


def plan(build: Build, material: Material, base: Roots, signals: Signals) -> Chosen:
    """Choose the student: measure all candidates untrained, try those that fit by halving, keep the front."""
    recipe, limits = build.recipe, limits_of(build.recipe)
    candidates = candidates_of(recipe, base.teacher_shape)
    inputs = build.inputs(
        material.data.digest,
        recipe.data.max_length,
        [recipe.train.model_dump(exclude={"threads"}), recipe.distil.epochs],
        signals.digest,
        material.digest,
        base.tokenizer_json,
        [asdict(c) for c in candidates],
        asdict(limits),
        [o.model_dump() for o in recipe.distil.objectives],
    )
    done = build.run.has("plan", inputs)
    words = "taken from the run folder" if done else f"{len(candidates)} candidates"
    with build.stages.stage("plan", words) as progress:
        folder = build.run.step(
            "plan",
            inputs,
            lambda out, scratch: atomic.write_json(
                out / "plan.json", _planned(build, material, base, signals, candidates, limits, progress)
            ),
        )
    planned = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    candidate = Candidate(**{**planned["candidate"], "schemes": tuple(planned["candidate"]["schemes"])})
    return Chosen(candidate, tuple(planned["schemes"]), planned["front"])


def _planned(
    build: Build,
    material: Material,
    base: Roots,
    signals: Signals,
    candidates: Sequence[Candidate],
    limits: Limits,
    progress: Progress,
) -> dict[str, Any]:
    sample = material.data.train.texts[:256]
    all_measured = measured(candidates, base, sample, limits, build.recipe.seed, lambda s, w: progress(0.3 * s, w))
    refuse_if_impossible(all_measured, limits)
    fitting = [m for m in useful(all_measured) if not reasons(m, limits)]
    tried = shortlist(fitting)
    scores = {}
    if len(tried) > 1:
        trials = halving(
            len(tried),
            lambda index, rung: _trial(build, material, base, signals, tried[index], rung),
            progress=lambda s, w: progress(0.3 + 0.7 * s, w),
        )
        scores = {tried[t.index].name: t for t in last_scores(trials).values()}
    winner = _winner(tried, fitting, {k: t.score for k, t in scores.items()}, limits)
    front = _front(all_measured, limits, winner, scores)
    schemes = [m.scheme for m in sorted(fitting, key=lambda m: m.size_mib) if m.candidate == winner]
    return {"candidate": asdict(winner), "schemes": schemes, "front": front}


def shortlist(fitting: Sequence[Measured]) -> list[Candidate]:
    """The candidates worth training: the most capable of each family and start, then the next, up to four."""
    groups: dict[tuple[str, str, bool], list[Candidate]] = {}
    for candidate in dict.fromkeys(m.candidate for m in fitting):
        key = (candidate.family, candidate.start, candidate.window > 0)
        groups.setdefault(key, []).append(candidate)
    for group in groups.values():
        group.sort(key=lambda c: -sum(c.weights(0, 0, 0)) - c.hidden)
    ranked = [group[i] for i in range(max(map(len, groups.values()))) for group in groups.values() if i < len(group)]
    return sorted(ranked[:TRIED], key=lambda c: sum(c.weights(1000, 0, 0)))


def _trial(build: Build, material: Material, base: Roots, signals: Signals, candidate: Candidate, rung: int) -> float:
    """Train a candidate briefly on a part of the signals; return its validation accuracy."""
    data, recipe = material.data, build.recipe
    full = settings_of(build, candidate, len(signals))
    passes = max(512, round(RUNG_SHARE[rung] * full.epochs * len(signals)))
    rng = np.random.default_rng(recipe.seed)
    part = _rows(signals, np.sort(rng.permutation(len(signals))[:passes]))
    settings = replace(full, epochs=max(1, round(passes / len(part))))
    student = make(candidate, base, data.train.texts[:64], recipe.seed)
    layers = base.teacher_shape[0] if base.teacher_shape else 0
    simple = [o for o in recipe.distil.objectives if o.name in ("kl", "gold", "pooled")] or [Objective(name="kl")]
    held_out = (module.tokens(student, data.validation.texts), data.validation.labels_N)
    student = train(build, candidate, student, part, objectives_of(simple, candidate, layers), settings, held_out)
    return score(module.to_module(student), *held_out)


def _rows(signals: Signals, rows: Any) -> Signals:
    return replace(
        signals,
        texts=[signals.texts[int(i)] for i in rows],
        labels_N=np.asarray(signals.labels_N)[rows],
        logits_NC=np.asarray(signals.logits_NC[rows]),
        pooled_NH=None if signals.pooled_NH is None else np.asarray(signals.pooled_NH[rows]),
        hidden={},
        attention={},
        relations={},
    )


def _winner(
    tried: Sequence[Candidate], fitting: Sequence[Measured], scores: dict[str, float], limits: Limits
) -> Candidate:
    """Under limits, the best score; without any, the knee of the front of size, latency and score."""
    if len(tried) == 1:
        return tried[0]
    if limits.size_mib or limits.latency_ms_p95 or limits.memory_mib:
        return max(tried, key=lambda c: scores[c.name])
    smallest = {c: min((m for m in fitting if m.candidate == c), key=lambda m: m.size_mib) for c in tried}
    points_N3 = np.array([[smallest[c].size_mib, smallest[c].latency_ms_p50, scores[c.name]] for c in tried])
    return tried[pareto.knee(points_N3)]


def _front(
    all_measured: Sequence[Measured], limits: Limits, winner: Candidate, scores: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row per candidate (in its smallest fitting scheme) for the report."""
    rows = []
    for candidate in dict.fromkeys(m.candidate for m in all_measured):
        own = [m for m in all_measured if m.candidate == candidate]
        fits = [m for m in own if not reasons(m, limits)]
        best = min(fits or own, key=lambda m: m.size_mib)
        trial = scores.get(candidate.name)
        state, why = "eliminated", "not among the most capable that fit"
        if candidate == winner:
            state, why = "winner", ""
        elif not fits:
            state, why = "dropped", "; ".join(reasons(best, limits))
        elif trial is not None:
            state, why = ("front", "tried") if trial.rung else ("eliminated", "left behind after the first rung")
        rows.append(
            {
                "name": candidate.name,
                "family": candidate.family,
                "size_mib": best.size_mib,
                "latency_ms_p50": None if best.forecast else best.latency_ms_p50,
                "latency_ms_p95": None if best.forecast else best.latency_ms_p95,
                "memory_mib": best.memory_mib,
                "accuracy": None if trial is None else round(float(trial.score), 4),
                "state": state,
                "reason": why,
            }
        )
    return _mark_dominated(rows)


def _mark_dominated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tried = [r for r in rows if r["accuracy"] is not None]
    if tried:
        points_N3 = np.array([[r["size_mib"], r["latency_ms_p50"], r["accuracy"]] for r in tried])
        for row, on_front in zip(tried, pareto.front(points_N3), strict=True):
            if row["state"] != "winner":
                row["state"] = "front" if on_front else "dominated"
    return rows


@contextmanager
def packaged_aside(student: Student | None, scheme: Scheme, pair: bool) -> Iterator[tuple[Kin, float] | None]:
    """A student packaged like the kin into a temporary folder and loaded, with its size; None stays None."""
    if student is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as temporary:
        package.write(Path(temporary), quantize(student, scheme), recipe_yaml="", extra={"pair": pair})
        kin = open_kin(Path(temporary), threads=1, verify=False)
        yield kin, kin.manifest.size_mib


def scheme_for(
    build: Build, student: Student, schemes: Sequence[Scheme], data: Data
) -> tuple[Scheme, list[dict[str, Any]]]:
    """Choose how to store the weights: the smallest scheme that keeps the trained model's answers.

    That is: within half a point of the best accuracy on validation, and (where any scheme is) well within the
    gate's share of flipped answers on the held-out texts, against the model in float32.
    """
    held_out = Joined([data.validation.texts, data.calibration.texts])
    trained_N = TorchRuntime(student).probabilities(held_out).argmax(1)
    tried: list[dict[str, Any]] = []
    for scheme in schemes:
        with packaged_aside(student, scheme, data.pair) as packaged:
            assert packaged is not None
            kin, size = packaged
            flips = float((kin.probabilities(held_out).argmax(1) != trained_N).mean())
            accuracy = quality(kin, data.validation, resamples=1).accuracy
            tried.append({"scheme": scheme, "accuracy": accuracy, "size_mib": size, "flips": flips})
    faithful = [t for t in tried if t["flips"] <= 0.5 * build.recipe.gate.max_flips]
    kept = faithful or [min(tried, key=lambda t: float(t["flips"]))]
    best = max(t["accuracy"] for t in kept)
    close = [t for t in kept if t["accuracy"] >= best - 0.005]
    smallest: Scheme = min(close, key=lambda t: float(t["size_mib"]))["scheme"]
    return smallest, tried
