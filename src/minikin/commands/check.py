"""`minikin check`: the resolved recipe, every fault at once, and what the build will cost on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from minikin.base import extras
from minikin.base.console import Stages, console
from minikin.base.errors import DataError, RecipeError, TeacherError, UserError
from minikin.base.types import Data, Text
from minikin.commands import show
from minikin.commands.build import BUILD_PACKAGES, need_build
from minikin.compress import vocabulary
from minikin.feed.tokens import encode
from minikin.package.kernel import obstacle
from minikin.plan import forecast
from minikin.plan.budget import Limits, Measured, refuse_if_impossible
from minikin.plan.candidates import Candidate
from minikin.recipe.read import dump, examine
from minikin.recipe.schema import Recipe
from minikin.report import words

SAMPLE_TEXTS = 20_000
"""Texts from which vocabulary and lengths are forecast."""

SURELY_TOO_LARGE = 1.3
"""A forecast size above so many times the budget is dropped unmeasured, as the plan does."""

Step = tuple[str, float, float, str]
"""A step of the build, the seconds that it takes at least and at most, and what it is."""

LEXICAL_S_PER_TEXT = 0.001
MEASURING_S = 2.0
GATE_S = 8.0


@dataclass(frozen=True)
class Sight:
    """What was found by looking: the data, the teacher and its shape if it can be cut, and what would be kept of it."""

    data: Data
    config: dict[str, Any]
    shape: tuple[int, int, int, int] | None
    vocabulary: int
    tokenizer_json: str
    tokens: float


def check(path: Path, overrides: tuple[str, ...]) -> None:
    """Print the resolved recipe to standard output, the forecast to standard error; raise with all faults."""
    recipe, faults = examine(path, overrides)
    if recipe is None or (faults and not all(map(extras.has, BUILD_PACKAGES))):
        raise RecipeError(f"The recipe {path} has faults:", faults)
    if not faults:
        print(dump(recipe), end="", flush=True)
    need_build()
    with tempfile.TemporaryDirectory(prefix="minikin-") as temporary:
        if recipe.task == "generate":
            if faults:
                raise RecipeError(f"{path} can't be built as it is:", faults)
            from minikin.commands import check_writing

            check_writing.forecast(path, recipe, Path(temporary))
            return
        sight = _look(recipe, Path(temporary), faults)
        if sight is None:
            raise RecipeError(f"{path} can't be built as it is:", faults)
        for fault in sight.data.faults:
            console.print(f"• {fault.message}", style="yellow", markup=False)
        _forecast(recipe, sight, Path(temporary), console)


def _look(recipe: Recipe, temporary: Path, faults: list[str]) -> Sight | None:
    """Read the data and find the teacher; None where something is wrong with them, which joins `faults`."""
    from minikin.steps import material
    from minikin.teachers.resolve import resolve

    data = checkpoint = None
    known = " ".join(faults)
    if ": data.train: is missing" not in known and ": data: " not in known and not known.startswith("data: "):
        try:
            with Stages().stage("data", "reading and checking") as progress:
                data = material.read(recipe, temporary / "data", progress)
        except DataError as error:
            faults += error.faults or [error.headline]
    if recipe.teacher is not None and ": teacher.model:" not in known:
        try:
            checkpoint = resolve(recipe.teacher.model, recipe.teacher.revision)
        except TeacherError as error:
            faults.append(str(error))
    try:
        return None if data is None or faults else _sight(recipe, data, checkpoint)
    except UserError as error:
        faults.append(str(error))
        return None


def _sight(recipe: Recipe, data: Data, checkpoint: Any) -> Sight:
    """Trim the vocabulary to a sample of the texts and measure their lengths in tokens."""
    from minikin.steps.origins import shape_of, spelt

    texts = data.train.texts
    rows = np.linspace(0, len(texts) - 1, min(SAMPLE_TEXTS, len(texts))).astype(int)
    sample: list[Text] = [texts[int(i)] for i in rows]
    theirs: str | None = None
    config: dict[str, Any] = {}
    if checkpoint is not None:
        theirs = (checkpoint.folder / "tokenizer.json").read_text(encoding="utf-8")
        config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    source = spelt(theirs, sample, recipe.student.vocabulary)
    trimmed, kept_ids = vocabulary.trim(source, sample, keep=recipe.student.vocabulary, fallback="scripts")
    lengths_N = encode(trimmed, sample[:2000], recipe.data.max_length).ids.lengths_N
    shape = shape_of(config) if source == theirs else None
    return Sight(data, config, shape, len(kept_ids), trimmed, float(lengths_N.mean()))


def _forecast(recipe: Recipe, sight: Sight, temporary: Path, out: Console) -> None:
    """Show what the build will take, and the candidates. Raises BudgetError when none can fit."""
    from minikin.base.folders import RunFolder
    from minikin.steps.context import Build
    from minikin.steps.fit import candidates_of

    build = Build(recipe, Path("kin"), RunFolder(temporary / "run"), Stages(quiet=True))
    machine = measured(build.threads)
    costs = Costs(build, sight, machine)
    candidates = candidates_of(recipe, sight.shape)
    sized = [(c, min(costs.size_mib(c, scheme) for scheme in c.schemes)) for c in candidates]
    limit = recipe.budget.size_mib
    fitting = [c for c, size in sized if limit is None or size <= limit * SURELY_TOO_LARGE]
    if not fitting:
        _refuse(recipe, costs, candidates)
    out.print(show.table(("step", "forecast", "what it is"), costs.rows(fitting), words_last=True))
    rows = [(c.name, words.mib(size), words.duration(costs.student_s(c)), _fits(size, limit)) for c, size in sized]
    out.print(show.table(("candidate", "smallest size", "training", "by forecast"), rows, words_last=True))
    out.print(_engine(recipe, sight))
    if recipe.budget.latency_ms_p95 or recipe.budget.memory_mib:
        out.print("Latency and memory of the candidates are not forecast: the build measures them untrained.")
    out.print(footing(words.count(len(sight.data.train), "training text"), sight.tokens, machine, build.threads))


def _engine(recipe: Recipe, sight: Sight) -> str:
    """Say what will answer from the kin, and why, where it is not the kernel."""
    instead = "numpy" if recipe.student.family == "static" else "ONNX Runtime"
    if reason := obstacle(recipe.quantize, sight.tokenizer_json, sight.config):
        return f"{instead} will answer: the kernel can't run this ({reason})."
    if extras.extension() is None:
        return (
            f"{instead} will answer here: this minikin was installed without a C compiler. Elsewhere the kernel will."
        )
    return "The kernel will answer."


def _fits(size: float, limit: float | None) -> str:
    if limit is None or size <= limit:
        return "fits"
    return "near the limit: measured" if size <= limit * SURELY_TOO_LARGE else f"too large for {limit:g} MiB"


def _refuse(recipe: Recipe, costs: Costs, candidates: Sequence[Candidate]) -> None:
    found = [Measured(c, s, costs.size_mib(c, s), 0.0, 0.0, forecast=True) for c in candidates for s in c.schemes]
    refuse_if_impossible(found, Limits(size_mib=recipe.budget.size_mib))


class Costs:
    """The forecast of each step of one build, bound to its recipe, its data and this machine."""

    def __init__(self, build: Any, sight: Sight, machine: forecast.Machine) -> None:
        self.build, self.sight, self.machine = build, sight, machine
        recipe, data = build.recipe, sight.data
        copies = recipe.distil.augment if recipe.teacher else 0
        self.texts = len(data.train) * (1 + copies) + len(data.unlabelled)
        self.classes = len(data.labels)
        self.teacher = None
        if recipe.teacher is not None:
            usual = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072, "vocab_size": 30_000}
            layers, hidden, neurons, pieces = (int(sight.config.get(key, value)) for key, value in usual.items())
            self.teacher = forecast.Shape(layers, hidden, neurons, pieces, self.classes)

    def size_mib(self, candidate: Candidate, scheme: str) -> float:
        """Model and tokenizer of a candidate."""
        sight, length = self.sight, self.build.recipe.data.max_length
        return candidate.size_mib(scheme, sight.vocabulary, length, self.classes, len(sight.tokenizer_json))

    def shape(self, candidate: Candidate) -> forecast.Shape:
        """A candidate as the forecast sees it."""
        return candidate.shape(self.sight.vocabulary, self.classes)

    def student_s(self, candidate: Candidate) -> float:
        """Seconds to train a candidate."""
        from minikin.steps.learn import settings_of

        settings = settings_of(self.build, candidate, self.texts)
        return forecast.training_s(
            self.shape(candidate), self.texts, settings.epochs, settings.batch, self.sight.tokens, self.machine
        )

    def rows(self, fitting: Sequence[Candidate]) -> list[tuple[str, str, str]]:
        """The steps with their forecast, the sum, memory and disk."""
        return [*summed([*self._teacher_steps(), *self._student_steps(fitting)]), *self._room(fitting)]

    def _teacher_steps(self) -> list[Step]:
        from minikin.steps.teach import TUNING_PASSES, epochs_for

        spec, texts = self.build.recipe.teacher, len(self.sight.data.train)
        if self.teacher is None:
            return []
        steps = []
        if spec.fit:
            epochs = spec.epochs or epochs_for(texts, TUNING_PASSES, 3, 10)
            took = forecast.training_s(
                self.teacher,
                texts,
                epochs,
                spec.batch,
                self.sight.tokens,
                self.machine,
                frozen_embeddings=spec.freeze_embeddings,
            )
            steps.append(("tune", took * 0.6, took, f"the teacher, {words.count(epochs, 'epoch')} at most"))
        took = forecast.asking_s(self.teacher, self.texts, self.sight.tokens, self.machine)
        return [*steps, ("signals", took, took, f"the teacher's answers to {self.texts:,} texts")]

    def _student_steps(self, fitting: Sequence[Candidate]) -> list[Step]:
        from minikin.steps.choose import RUNG_SHARE, TRIED
        from minikin.steps.learn import CONTROL_SHARE

        trained = [self.student_s(c) for c in fitting]
        steps: list[Step] = []
        trials = sorted(took * sum(RUNG_SHARE) for took in trained) if len(fitting) > 1 else []
        measuring = MEASURING_S * len(fitting)
        plan = (measuring + sum(trials[:TRIED]), measuring + sum(trials[-TRIED:]))
        steps.append(("plan", *plan, f"measuring {words.count(len(fitting), 'candidate')}, trying up to {TRIED}"))
        steps.append(("distil", min(trained), max(trained), "the student, by candidate"))
        data, recipe = self.sight.data, self.build.recipe
        if self.teacher is not None and recipe.distil.without_teacher and not recipe.gate.skip_control:
            alone = [took * CONTROL_SHARE for took in trained]
            steps.append(("control", min(alone), max(alone), "the same student without the teacher"))
        gate = GATE_S + LEXICAL_S_PER_TEXT * len(data.train)
        if self.teacher is not None:
            gate += 2 * forecast.asking_s(self.teacher, len(data.test), self.sight.tokens, self.machine)
        return [
            *steps,
            ("gate", gate, gate, f"everything on {words.count(len(data.test), 'test text')}, clean and mistyped"),
        ]

    def _room(self, fitting: Sequence[Candidate]) -> list[tuple[str, str, str]]:
        recipe, tokens = self.build.recipe, self.sight.tokens
        peaks = [forecast.training_mib(self.shape(c), 64, tokens) for c in fitting]
        rows = []
        if self.teacher is not None:
            spec = recipe.teacher
            peaks.append(
                forecast.training_mib(self.teacher, spec.batch, tokens, frozen_embeddings=spec.freeze_embeddings)
                if spec.fit
                else forecast.weights_mib(self.teacher)
            )
            disk = forecast.signals_mib(self.texts, tokens, self.classes, self.teacher.hidden, _kinds(recipe))
            rows.append(("disk", words.mib(disk), "the teacher's signals in the run folder"))
        return [("memory", words.mib(forecast.memory_mib(*peaks), 2), "peak of the build"), *rows]


def _kinds(recipe: Recipe) -> dict[str, int]:
    """How many layers of each kind of signal the recipe's objectives store."""
    from minikin.train.objectives import NEEDS

    kinds: dict[str, int] = {}
    for objective in recipe.distil.objectives:
        layers = len(set(objective.layers.values())) if objective.layers else 1
        kinds[NEEDS[objective.name]] = max(kinds.get(NEEDS[objective.name], 0), layers)
    return kinds


def measured(threads: int) -> forecast.Machine:
    """How fast this machine trains with so many threads, found in two seconds."""
    from minikin.measure import rate

    return forecast.Machine(rate.gemm_gflops(threads), rate.update_ns(threads))


def summed(steps: Sequence[Step]) -> list[tuple[str, str, str]]:
    """The steps with their forecast, and their sum."""
    rows = [(name, _range(least, most), what) for name, least, most, what in steps]
    together = _range(sum(step[1] for step in steps), sum(step[2] for step in steps))
    return [*rows, ("together", together, "the whole build; early stopping may shorten it")]


def footing(texts: str, tokens: float, machine: forecast.Machine, threads: int) -> str:
    """What a forecast rests on, and how far it may be off."""
    return (
        f"[dim]Forecast from {texts} of {tokens:.0f} tokens, {machine.gemm_gflops:.0f} GFLOP/s and "
        f"{machine.update_ns:.2f} ns a weight, measured just now with {words.count(threads, 'thread')}; "
        "expect it within a factor of two.[/]"
    )


def _range(low: float, high: float) -> str:
    if high - low < 0.15 * high:
        return words.duration(high)
    return f"{words.duration(low)} – {words.duration(high)}"
