"""The teacher: found, tuned on the task, and asked once about every text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from minikin.base import atomic, machine
from minikin.base.types import Array, Data, Progress, Signals, Split, no_progress
from minikin.recipe.schema import TeacherSpec, TrainSpec
from minikin.steps.context import Build, Material
from minikin.steps.material import gold
from minikin.teachers import signals as store
from minikin.teachers.local import LocalTeacher
from minikin.teachers.resolve import resolve
from minikin.train.distil import tolerance
from minikin.train.loop import History, Settings
from minikin.train.tune import tune

TUNING_PASSES = 50_000
"""Texts to see while tuning, when the recipe names no number of epochs."""


PATIENCE = 3
"""Epochs without progress after which a teacher with weights of its own stops, when the recipe names no number."""


def epochs_for(texts: int, passes: int, least: int, most: int) -> int:
    """Epochs that show about `passes` texts, within bounds."""
    return int(np.clip(round(passes / max(1, texts)), least, most))


def found(build: Build, data: Data) -> LocalTeacher:
    """Find the teacher and load it as it came."""
    spec = build.recipe.teacher
    assert spec is not None
    with build.stages.stage("teacher", f"finding {spec.model}"):
        checkpoint = resolve(spec.model, spec.revision)
        return LocalTeacher(
            checkpoint,
            data.labels,
            build.recipe.data.max_length,
            seed=build.recipe.seed,
            fit=spec.fit,
            dropout=spec.dropout,
            bfloat16=in_bfloat16(spec),
        )


def neighbours(build: Build, data: Data, teacher: LocalTeacher) -> dict[str, list[str]] | None:
    """Words that the untuned teacher holds similar, for augmentation; None when nothing is augmented."""
    if not build.recipe.distil.augment or not build.recipe.teacher or not build.recipe.teacher.fit:
        return None
    inputs = build.inputs(data.digest, teacher.digest)

    def do(out: Path, _scratch: Path, _progress: Progress) -> None:
        with threads(build.threads):
            atomic.write_json(out / "words.json", teacher.neighbours(data.train.texts))

    folder = build.step("words", "words", inputs, "which words are neighbours", do)
    words: dict[str, list[str]] = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    return words


def tuned(build: Build, data: Data, teacher: LocalTeacher) -> LocalTeacher:
    """Tune the teacher on the training labels (unless it is a classifier already)."""
    spec = build.recipe.teacher
    assert spec is not None
    checkpoint = teacher.checkpoint
    if not spec.fit:
        return teacher
    settings = settings_of(
        spec, len(data.train), data.validation.labels_N, build.recipe.seed, build.recipe.train.patience or PATIENCE
    )
    inputs = build.inputs(
        data.digest,
        checkpoint.weights_sha256,
        [spec.label_smoothing, spec.freeze_embeddings, spec.dropout],
        asdict(settings),
        build.recipe.data.max_length,
    )

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        with threads(build.threads):
            history = fit(teacher, spec, data.train, data.validation, settings, scratch, progress)
        teacher.save(out)
        atomic.write_json(out / "history.json", asdict(history))

    folder = build.step("tune", "teacher", inputs, f"tuning for {settings.epochs} epochs", do)
    return teacher.load(folder)


def settings_of(spec: TeacherSpec, texts: int, held_out_N: Array, seed: int, patience: int | None = None) -> Settings:
    """How to tune on so many texts, with these labels held out."""
    return Settings(
        epochs=spec.epochs or epochs_for(texts, TUNING_PASSES, 3, 10),
        batch=spec.batch,
        learning_rate=spec.learning_rate,
        head_ratio=10.0,
        patience=patience,
        tolerance=tolerance(held_out_N),
        bfloat16=in_bfloat16(spec),
        average=True,
        seed=seed,
    )


def in_bfloat16(spec: TeacherSpec | TrainSpec) -> bool:
    """Whether the matrix products of teacher or student are computed in bfloat16 on this machine."""
    return spec.precision == "bf16" or (spec.precision == "auto" and machine.has_bfloat16())


def fit(
    teacher: LocalTeacher,
    spec: TeacherSpec,
    train: Split,
    validation: Split | None,
    settings: Settings,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> History:
    """Tune the teacher in place; validation accuracy, where there is such a split, picks the epoch."""
    if spec.freeze_embeddings:
        teacher.freeze_embeddings()
    held_out = None if validation is None else (teacher.encode(validation.texts), validation.labels_N)
    return tune(
        teacher.module,
        teacher.encode(train.texts),
        train.labels_N,
        settings,
        smoothing=spec.label_smoothing,
        validation=held_out,
        scratch=scratch,
        progress=progress,
    )


def asked(build: Build, material: Material, teacher: LocalTeacher) -> Signals:
    """Ask the teacher about every text, once, and open what it said."""
    wanted = kept_kinds(build)
    layers = _layers(build)
    inputs = build.inputs(teacher.digest, material.digest, wanted, layers)

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        with threads(build.threads):
            store.collect(teacher, material.texts, out, keep=wanted, layers=layers, scratch=scratch, progress=progress)

    folder = build.step("signals", "signals", inputs, f"asking about {len(material.texts):,} texts", do)
    return store.read(folder, material.texts, gold(material))


def _layers(build: Build) -> list[int]:
    """The teacher's layers to store; none named means all, as soon as one objective leaves its layers open."""
    layered = [o for o in build.recipe.distil.objectives if o.name in ("hidden", "attention")]
    if any(o.layers is None for o in layered):
        return []
    return sorted({its for o in layered for its in (o.layers or {}).values()})


def kept_kinds(build: Build) -> list[str]:
    """What must be stored for the recipe's objectives."""
    from minikin.train.objectives import NEEDS

    kinds = {NEEDS[o.name] for o in build.recipe.distil.objectives} | {"logits"}
    return sorted(kinds - {"labels"})


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
