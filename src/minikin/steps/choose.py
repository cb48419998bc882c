"""The plan: of the candidates that fit, the most capable are trained briefly, and one is chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base import atomic
from minikin.base.types import Progress, Scheme, Signals
from minikin.equations import pareto
from minikin.plan.budget import Limits, Measured, reasons
from minikin.plan.candidates import Candidate
from minikin.plan.search import Trial, halving, last_scores
from minikin.recipe.schema import Objective
from minikin.steps.context import Build, Material
from minikin.steps.fit import limits_of
from minikin.steps.learn import objectives_of, settings_of, train
from minikin.steps.origins import Roots, make
from minikin.students import module
from minikin.train.distil import score

TRIED = 4
RUNG_SHARE = (0.03, 0.1)
"""Share of the texts of a full training that a candidate sees on each rung."""

SIMPLE = ("kl", "mse", "gold", "pooled")
"""Objectives that the brief trainings use: what is inside is not copied for them."""


@dataclass(frozen=True)
class Chosen:
    """What the plan decided: the candidate, the schemes that fit it, and the front for the report."""

    candidate: Candidate
    schemes: tuple[Scheme, ...]
    front: list[dict[str, Any]]


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


def plan(build: Build, material: Material, base: Roots, signals: Signals, all_measured: Sequence[Measured]) -> Chosen:
    """Choose the student: of the candidates that fit, try the most capable by halving; keep the front."""
    recipe, limits = build.recipe, limits_of(build.recipe)
    fits = [m for m in useful(all_measured) if not reasons(m, limits)]
    tried = shortlist(fits)
    inputs = build.inputs(
        material.data.digest,
        recipe.data.max_length,
        [recipe.train.model_dump(exclude={"threads"}), recipe.distil.epochs],
        signals.digest,
        material.digest,
        base.tokenizer_json,
        [asdict(c) for c in tried],
        [o.model_dump() for o in recipe.distil.objectives],
    )
    words = f"trying {len(tried)} of {len({m.candidate for m in fits})} that fit" if len(tried) > 1 else "one shape"

    def do(out: Path, _scratch: Path, progress: Progress) -> None:
        trials = halving(
            len(tried) if len(tried) > 1 else 0,
            lambda index, rung: _trial(build, material, base, signals, tried[index], rung),
            progress=progress,
        )
        atomic.write_json(out / "plan.json", [asdict(t) for t in trials])

    folder = build.step("plan", "plan", inputs, words, do)
    trials = [Trial(**t) for t in json.loads((folder / "plan.json").read_text(encoding="utf-8"))]
    scores = {tried[t.index].name: t for t in last_scores(trials).values()}
    winner = _winner(tried, fits, {k: t.score for k, t in scores.items()}, limits)
    schemes = tuple(m.scheme for m in sorted(fits, key=lambda m: m.size_mib) if m.candidate == winner)
    return Chosen(winner, schemes, _front(all_measured, limits, winner, scores))


def shortlist(fitting: Sequence[Measured]) -> list[Candidate]:
    """The candidates worth training: the most capable of each kind, then the next, up to four."""
    groups: dict[tuple[str, str, bool, bool], list[Candidate]] = {}
    for candidate in dict.fromkeys(m.candidate for m in fitting):
        groups.setdefault(candidate.kind, []).append(candidate)
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
    student = make(candidate, base, recipe.seed)
    layers = base.teacher_shape[0] if base.teacher_shape else 0
    simple = [o for o in recipe.distil.objectives if o.name in SIMPLE] or [Objective(name="kl")]
    student = train(build, student, part, objectives_of(simple, candidate, layers), settings, data.validation)
    held_out = module.tokens(student, data.validation.texts)
    return score(module.to_module(student), held_out, data.validation.labels_N)


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
