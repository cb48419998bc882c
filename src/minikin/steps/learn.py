"""From a candidate to a trained student: distilled from signals, pruned, and the control without a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from minikin.base.errors import UserError
from minikin.base.joined import evenly
from minikin.base.types import Array, Progress, Signals, Split, Student, Text, no_progress
from minikin.compress import prune
from minikin.equations.calibration import fit_temperature
from minikin.plan.candidates import Candidate
from minikin.recipe.schema import Objective as ObjectiveSpec
from minikin.steps.context import Build, Material
from minikin.steps.origins import PROBE_TEXTS, Pieces, Roots, make, roots
from minikin.steps.teach import epochs_for, in_bfloat16, threads
from minikin.students import encoder, module, store
from minikin.teachers.local import LocalTeacher
from minikin.teachers.resolve import resolve
from minikin.train.distil import distil, logits, tolerance
from minikin.train.loop import Settings
from minikin.train.objectives import INSIDE, Objective

LEARNING_RATES = {"cut": 5e-4, "grown": 1e-3, "static": 5e-3}
PASSES = {"cut": 400_000, "grown": 600_000, "static": 600_000}
"""Texts to see in full training, when the recipe names no number of epochs."""

CONTROL_SHARE = 0.25
"""Texts that the control sees, as a share of those that the student sees; never fewer than three epochs."""


def settings_of(build: Build, candidate: Candidate, texts: int, seed: int | None = None) -> Settings:
    """Settings of a candidate's full training on so many texts; `seed` is else the recipe's."""
    kind = "static" if candidate.family == "static" else candidate.start
    train, wanted = build.recipe.train, build.recipe.distil.epochs or build.recipe.train.epochs
    epochs = wanted or epochs_for(texts, PASSES[kind], 4, 60)
    return Settings(
        epochs=epochs,
        batch=train.batch if "batch" in train.model_fields_set else 64,
        learning_rate=train.learning_rate or LEARNING_RATES[kind],
        patience=train.patience,
        bfloat16=candidate.family == "encoder" and in_bfloat16(train),
        seed=build.recipe.seed if seed is None else seed,
    )


def objectives_of(specs: Sequence[ObjectiveSpec], candidate: Candidate, teacher_layers: int) -> list[Objective]:
    """The recipe's objectives; layers that it leaves open are spread evenly. Static students skip what is inside."""
    found = []
    for spec in specs:
        if candidate.family == "static" and spec.name in INSIDE:
            continue
        layers = spec.layers or _spread(candidate.layers, teacher_layers, spec.name)
        if layers and not candidate.layers >= max(layers) >= min(layers) >= (spec.name == "attention"):
            raise UserError(
                f"distil.objectives: '{spec.name}' names layer {max(layers)} of {candidate.name}, which has 0 (the "
                f"embeddings, no attention there) to {candidate.layers}."
            )
        found.append(Objective(spec.name, spec.weight, spec.temperature, layers))
    # a static student can learn from no token states: what is left to it is the answer
    return found or [Objective("kl")]


def _spread(mine: int, theirs: int, name: str) -> dict[int, int]:
    """Student layer i learns from teacher layer i · L/l (TinyBERT's uniform map); embeddings from embeddings."""
    if not mine or name not in INSIDE:
        return {}
    first = 0 if name == "hidden" else 1
    return {i: round(i * theirs / mine) for i in range(first, mine + 1)}


def train(
    build: Build,
    student: Student,
    signals: Signals,
    objectives: Sequence[Objective],
    settings: Settings,
    validation: Split,
    *,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> Student:
    """Train one student on signals and return it; validation accuracy picks the epoch."""
    torch_module = module.to_module(student, inside=any(o.name in INSIDE for o in objectives))
    settings = replace(settings, tolerance=tolerance(validation.labels_N))
    with threads(build.threads):
        distil(
            torch_module,
            student.family,
            module.tokens(student, signals.texts),
            signals,
            objectives,
            settings,
            validation=(module.tokens(student, validation.texts), validation.labels_N),
            widths=module.widths(student),
            scratch=scratch,
            progress=progress,
        )
    return torch_module.to_student(student)


def distilled(build: Build, material: Material, base: Roots, candidate: Candidate, signals: Signals) -> Student:
    """The chosen candidate, trained in full on everything that the teacher said (or on gold labels alone)."""
    data, recipe = material.data, build.recipe
    layers = base.teacher_shape[0] if base.teacher_shape else 0
    objectives = objectives_of(recipe.distil.objectives, candidate, layers)
    settings = settings_of(build, candidate, len(material.texts), seed=build.student_seed)
    inputs = build.inputs(
        data.digest,
        recipe.data.max_length,
        signals.digest,
        material.digest,
        asdict(candidate),
        [asdict(o) for o in objectives],
        asdict(settings),
        base.tokenizer_json,
        recipe.prune.model_dump(),
    )

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        student = make(candidate, base, settings.seed)
        how = (signals, objectives, settings, data.validation)
        student = train(build, student, *how, scratch=scratch, progress=progress)
        if recipe.prune.keep < 1.0 and candidate.family == "encoder":
            student = pruned(build, student, *how)
        store.save(calibrated(student, data.calibration.texts, data.calibration.labels_N), out)

    folder = build.step("distil", "student", inputs, f"{candidate.name}, {settings.epochs} epochs", do)
    return store.load(folder)


def pruned(
    build: Build,
    student: Student,
    signals: Signals,
    objectives: Sequence[Objective],
    settings: Settings,
    validation: Split,
) -> Student:
    """Cut neurons out of a trained student and let it recover for a few epochs at a third of the rate."""
    saliency = encoder.probe(student, module.tokens(student, evenly(signals.texts, PROBE_TEXTS)))
    smaller = prune.neurons(student, saliency, build.recipe.prune.keep)
    epochs = build.recipe.prune.recovery_epochs
    if not epochs:
        return smaller
    recovery = replace(settings, epochs=epochs, learning_rate=settings.learning_rate / 3)
    return train(build, smaller, signals, objectives, recovery, validation)


def calibrated(student: Student, texts: Sequence[Text], labels_N: Array) -> Student:
    """Fit the softmax temperature on the calibration split (Guo et al. 2017)."""
    if len(texts) == 0:
        return student
    logits_NC = logits(module.to_module(student), module.tokens(student, texts))
    return replace(student, temperature=float(fit_temperature(logits_NC, labels_N)))


def gold_signals(material: Material) -> Signals:
    """Signals of a recipe without a teacher: the labels that people gave, and nothing else."""
    train = material.data.train
    blank_NC = np.zeros((len(train), len(material.data.labels)), np.float16)
    return Signals(train.texts, train.labels_N, blank_NC, digest=material.data.digest)


def control(build: Build, material: Material, kept: Pieces, candidate: Candidate) -> Student:
    """The same shape without the teacher's signals: gold labels alone, from the checkpoint as it was found."""
    data, spec = material.data, build.recipe.teacher
    assert spec is not None
    full = settings_of(build, candidate, len(material.texts), seed=build.student_seed)
    passes = CONTROL_SHARE * full.epochs * len(material.texts)
    settings = replace(full, epochs=max(3, round(passes / len(data.train))))
    checkpoint = resolve(spec.model, spec.revision)
    max_length = build.recipe.data.max_length
    inputs = build.inputs(
        [data.digest, max_length, kept.tokenizer_json],
        asdict(candidate),
        asdict(settings),
        checkpoint.weights_sha256,
        spec.fit,
    )

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        found = LocalTeacher(checkpoint, data.labels, max_length, seed=build.recipe.seed)
        student = make(candidate, roots(build, data, kept, found), settings.seed)
        how = (gold_signals(material), [Objective("gold")], settings, data.validation)
        student = train(build, student, *how, scratch=scratch, progress=progress)
        store.save(calibrated(student, data.calibration.texts, data.calibration.labels_N), out)

    folder = build.step("control", "control", inputs, f"the same {candidate.name} without the teacher", do)
    return store.load(folder)
