"""Reading the data and gathering the texts that a student learns from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from minikin.base import digest
from minikin.base.joined import Joined
from minikin.base.types import UNKNOWN_LABEL, Array, Data, Progress, Text
from minikin.data import load
from minikin.data.augment import Neighbours, augment
from minikin.data.clean import hash64
from minikin.recipe.schema import Recipe
from minikin.steps.context import Build, Material


def read(recipe: Recipe, cache: Path, progress: Progress) -> Data:
    """Read, clean and split what the recipe names; texts stay memory-mapped under `cache`."""
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    spec = recipe.data
    return load.read(
        spec.train,
        test=spec.test,
        validation=spec.validation,
        calibration=spec.calibration,
        unlabelled=spec.unlabelled,
        text=spec.text if isinstance(spec.text, str) else list(spec.text),
        label=spec.label,
        seed=recipe.seed,
        cache=cache,
        progress=progress,
    )


def data(build: Build) -> Data:
    """Read the data and say what was found."""
    with build.stages.stage("data", "reading and checking") as progress:
        found = read(build.recipe, build.run.root / "data", progress)
    for fault in found.faults:
        build.stages.say(f"[yellow]{fault.message}[/]")
    sizes = f"{len(found.train):,} train, {len(found.validation):,} validation, {len(found.calibration):,} calibration"
    build.stages.say(f"{sizes}, {len(found.test):,} test; {len(found.labels)} labels")
    return found


def gather(build: Build, found: Data, neighbours: Neighbours | None) -> Material:
    """All texts to be labelled: training texts, unlabelled ones, and changed copies of the training texts."""
    copies = build.recipe.distil.augment if build.recipe.teacher else 0
    extra: list[Text] = []
    if copies:
        extra = augment(found.train.texts, copies, build.recipe.seed, neighbours)
    texts = Joined([found.train.texts, found.unlabelled.texts, extra])
    return Material(found, texts, len(extra), digest.of_texts(texts))


def learned_from(found: Data) -> Array:
    """Hashes of every row that the build learns or chooses from: all splits but the test split."""
    splits = (found.train, found.validation, found.calibration, found.unlabelled)
    return np.array([hash64(text) for split in splits for text in split.texts], np.uint64)


def gold(material: Material) -> Array:
    """Labels of all texts: people's for the training texts, unknown for the rest."""
    labels_N = np.full(len(material.texts), UNKNOWN_LABEL, np.int64)
    labels_N[: len(material.data.train)] = material.data.train.labels_N
    return labels_N
