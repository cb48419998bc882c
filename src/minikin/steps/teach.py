"""The teacher: found, tuned on the task, and asked once about every text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from minikin.base import atomic
from minikin.base.types import Data, Progress, Signals
from minikin.recipe.schema import TeacherSpec
from minikin.steps.context import Build, Material
from minikin.steps.material import gold
from minikin.teachers import signals as store
from minikin.teachers.local import LocalTeacher
from minikin.teachers.resolve import resolve
from minikin.train.distil import tolerance
from minikin.train.loop import Settings
from minikin.train.tune import tune

TUNING_PASSES = 50_000
"""Texts to see while tuning, when the recipe names no number of epochs."""


def epochs_for(texts: int, passes: int, least: int, most: int) -> int:
    """Epochs that show about `passes` texts, within bounds."""
    return int(np.clip(round(passes / max(1, texts)), least, most))


def found(build: Build, data: Data) -> LocalTeacher:
    """Find the teacher and load it as it came."""
    spec = build.recipe.teacher
    assert spec is not None
    with build.stages.stage("teacher", f"finding {spec.model}"):
        checkpoint = resolve(spec.model, spec.revision)
        return LocalTeacher(checkpoint, data.labels, build.recipe.data.max_length, seed=build.recipe.seed, fit=spec.fit)


def neighbours(build: Build, data: Data, teacher: LocalTeacher) -> dict[str, list[str]] | None:
    """Words that the untuned teacher holds similar, for augmentation; None when nothing is augmented."""
    if not build.recipe.distil.augment or not build.recipe.teacher or not build.recipe.teacher.fit:
        return None
    inputs = build.inputs(data.digest, teacher.digest)
    with build.stages.stage("words", "which words are neighbours"), threads(build.threads):
        folder = build.run.step(
            "words", inputs, lambda out, _: atomic.write_json(out / "words.json", teacher.neighbours(data.train.texts))
        )
    words: dict[str, list[str]] = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    return words


def tuned(build: Build, data: Data, teacher: LocalTeacher) -> LocalTeacher:
    """Tune the teacher on the training labels (unless it is a classifier already)."""
    spec = build.recipe.teacher
    assert spec is not None
    checkpoint = teacher.checkpoint
    if not spec.fit:
        return teacher
    epochs = spec.epochs or epochs_for(len(data.train), TUNING_PASSES, 3, 10)
    inputs = build.inputs(
        data.digest,
        checkpoint.weights_sha256,
        spec.model_dump(exclude={"model", "revision"}),
        epochs,
        build.recipe.data.max_length,
        build.recipe.train.patience,
    )
    done = build.run.has("teacher", inputs)
    with build.stages.stage("tune", "taken from the run folder" if done else f"tuning for {epochs} epochs") as progress:

        def do(out: Path, scratch: Path) -> None:
            history = _tune(build, teacher, data, spec, epochs, scratch, progress)
            teacher.save(out)
            (out / "history.json").write_text(json.dumps(history), encoding="utf-8")

        folder = build.run.step("teacher", inputs, do)
    return teacher.load(folder)


def _tune(
    build: Build,
    teacher: LocalTeacher,
    data: Data,
    spec: TeacherSpec,
    epochs: int,
    scratch: Path,
    progress: Progress,
) -> dict[str, object]:
    if spec.freeze_embeddings:
        teacher.freeze_embeddings()
    settings = Settings(
        epochs=epochs,
        batch=spec.batch,
        learning_rate=spec.learning_rate,
        head_ratio=10.0,
        patience=build.recipe.train.patience,
        tolerance=tolerance(data.validation.labels_N),
        seed=build.recipe.seed,
    )
    with threads(build.threads):
        history = tune(
            teacher.module,
            teacher.encode(data.train.texts),
            data.train.labels_N,
            settings,
            smoothing=spec.label_smoothing,
            validation=(teacher.encode(data.validation.texts), data.validation.labels_N),
            scratch=scratch,
            progress=progress,
        )
    return {"losses": history.losses, "scores": history.scores, "best_epoch": history.best_epoch}


def asked(build: Build, material: Material, teacher: LocalTeacher) -> Signals:
    """Ask the teacher about every text, once, and open what it said."""
    wanted = kept_kinds(build)
    layers = _layers(build)
    inputs = build.inputs(teacher.digest, material.digest, wanted, layers)
    done = build.run.has("signals", inputs)
    words = "taken from the run folder" if done else f"asking about {len(material.texts):,} texts"
    with build.stages.stage("signals", words) as progress, threads(build.threads):
        folder = build.run.step(
            "signals",
            inputs,
            lambda out, scratch: store.collect(
                teacher, material.texts, out, keep=wanted, layers=layers, scratch=scratch, progress=progress
            ),
        )
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
