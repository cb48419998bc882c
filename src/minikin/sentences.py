"""The public sentences for those who want the stages one by one: read_data, teacher, student, distil and the rest.

Each is a thin face over a stage; `pipeline.build` says the same with resume, planning and the gate around it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base import atomic
from minikin.base.errors import UserError
from minikin.base.joined import evenly
from minikin.base.types import Data, Scheme, Signals, Split, Student
from minikin.compress import prune as pruning
from minikin.compress import quantize as quantizing
from minikin.data import load as loading
from minikin.measure import speed
from minikin.measure.quality import quality
from minikin.package import kin as packaging
from minikin.recipe.schema import DataSpec, TeacherSpec
from minikin.runtimes import open as open_kin
from minikin.steps import fit, origins, teach
from minikin.students import encoder, module
from minikin.teachers import signals as signal_store
from minikin.teachers.local import LocalTeacher
from minikin.teachers.resolve import resolve
from minikin.train.distil import distil as train_distil
from minikin.train.loop import Settings
from minikin.train.objectives import NEEDS, Objective

__all__ = ["distil", "measure", "package", "prune", "quantize", "read_data", "student", "teacher"]


def read_data(spec: DataSpec | str, *, seed: int = 0, cache: str | Path | None = None, **more: Any) -> Data:
    """Read, clean and split: `spec` is a recipe's `data` or the path of the training file.

    Texts are memory-mapped from `cache` (default: a new temporary folder, which must outlive the data).
    Raises DataError with every fault.
    """
    if isinstance(spec, str):
        spec = DataSpec(train=spec, **more)
    folder = Path(cache) if cache else Path(tempfile.mkdtemp(prefix="minikin-data-"))
    values = spec.model_dump(exclude={"max_length", "kind", "prompt", "completion", "messages", "json_schema"})
    values["text"] = spec.text if isinstance(spec.text, str) else list(spec.text)
    data = loading.read(values.pop("train"), **values, seed=seed, cache=folder)
    named = {k: replace(getattr(data, k), labels=data.labels) for k in loading.ROLES}
    return replace(data, **named)


class TunedTeacher:
    """A teacher as the sentences use it: `fit` on a labelled split, then `signals` about any texts."""

    def __init__(self, spec: TeacherSpec, max_length: int, seed: int) -> None:
        if spec.endpoint:
            raise UserError("An endpoint is no classifier: name it in a recipe of the task generate.")
        self.spec, self.max_length, self.seed = spec, max_length, seed
        self.checkpoint = resolve(spec.model, spec.revision)
        self.local: LocalTeacher | None = None
        self.trained_on: Split | None = None

    def fit(self, train: Split, validation: Split | None = None) -> TunedTeacher:
        """Tune on a split with label names; `validation` picks the best epoch."""
        if not train.labels:
            raise UserError("This split carries no label names. Read it with minikin.read_data.")
        self.local = LocalTeacher(
            self.checkpoint,
            train.labels,
            self.max_length,
            seed=self.seed,
            fit=self.spec.fit,
            dropout=self.spec.dropout,
            bfloat16=teach.in_bfloat16(self.spec),
        )
        self.trained_on = train
        if not self.spec.fit:
            return self
        held_out_N = np.zeros(0) if validation is None else validation.labels_N
        settings = teach.settings_of(self.spec, len(train), held_out_N, self.seed)
        teach.fit(self.local, self.spec, train, validation, settings)
        return self

    @property
    def ready(self) -> LocalTeacher:
        """The tuned teacher; raises UserError before `fit`."""
        if self.local is None:
            raise UserError("Call .fit(data.train) on the teacher first.")
        return self.local

    def signals(
        self,
        split: Split,
        keep: Sequence[str] = ("logits", "pooled"),
        *,
        layers: Sequence[int] = (),
        folder: str | Path | None = None,
    ) -> Signals:
        """Ask about every text of a split; stored in `folder` (default: a new temporary one), memory-mapped."""
        target = Path(folder) if folder else Path(tempfile.mkdtemp(prefix="minikin-signals-"))
        if not (target / signal_store.META).is_file():
            signal_store.collect(self.ready, split.texts, target, keep=keep, layers=layers)
        return signal_store.read(target, split.texts, split.labels_N)


def teacher(spec: TeacherSpec | str | Mapping[str, Any], *, max_length: int = 64, seed: int = 0) -> TunedTeacher:
    """Find a teacher: a recipe's `teacher`, a folder, or a Hub name. Raises TeacherError when there is none."""
    if isinstance(spec, str):
        spec = TeacherSpec(model=spec)
    elif not isinstance(spec, TeacherSpec):
        spec = TeacherSpec(**spec)
    return TunedTeacher(spec, max_length, seed)


def student(family: str, *, like: TunedTeacher, size: str = "tiny", start: str = "auto", seed: int = 0) -> Student:
    """An untrained student at a point of the size dial, with the teacher's vocabulary trimmed to its training texts.

    `start` is `cut` (from the teacher's weights, where its heads allow), `grown`, or `auto`: cut if possible.
    """
    if family not in ("static", "encoder"):
        raise UserError(f"There is no family '{family}'. Choose static or encoder.")
    local, split = like.ready, like.trained_on
    assert split is not None
    kept = origins.trimmed(local.tokenizer_json, split.texts, [], like.max_length)
    base = origins.rooted(kept, local, split.labels, like.max_length, split.texts, static=family == "static")
    return origins.make(fit.point(family, size, start, base.teacher_shape), base, seed)


def distil(
    signals: Signals,
    *,
    into: Student,
    objectives: Sequence[str | Objective] | None = None,
    epochs: int = 20,
    batch: int = 64,
    learning_rate: float | None = None,
    validation: Split | None = None,
    seed: int = 0,
) -> Student:
    """Train `into` on stored signals; by default KL, and the pooled vector where it was stored."""
    if objectives is None:
        objectives = ["kl", "pooled"] if signals.can("pooled") else ["kl"]
    terms = [Objective(o) if isinstance(o, str) else o for o in objectives]
    unknown = [o.name for o in terms if o.name not in NEEDS]
    if unknown:
        raise UserError(f"There is no objective '{unknown[0]}'. Known: {', '.join(NEEDS)}.")
    inside = any(NEEDS[o.name] in ("hidden", "attention", "relations") for o in terms)
    trained = module.to_module(into, inside=inside)
    rate = learning_rate or (5e-3 if into.family == "static" else 1e-3)
    train_distil(
        trained,
        into.family,
        module.tokens(into, signals.texts),
        signals,
        terms,
        Settings(epochs=epochs, batch=batch, learning_rate=rate, seed=seed),
        validation=None if validation is None else (module.tokens(into, validation.texts), validation.labels_N),
        widths=module.widths(into),
    )
    return trained.to_student(into)


def prune(student: Student, *, keep: float, on: Split, texts: int = 256) -> Student:
    """Keep a share of each layer's neurons, chosen by how much they carry on `texts` texts of `on`."""
    if student.family != "encoder":
        raise UserError("Only encoders have neurons to prune; make a static student smaller by its size.")
    saliency = encoder.probe(student, module.tokens(student, evenly(on.texts, texts)))
    return pruning.neurons(student, saliency, keep)


def quantize(
    student: Student, scheme: Scheme | None = None, *, bits: int | None = None, on: Split | None = None
) -> Student:
    """Store the weights in 8 or 4 bits; see compress/quantize.py.

    With `on`, the 4-bit layers of an encoder are rounded so that they answer these texts as before.
    """
    seen = None
    if on is not None and student.family == "encoder":
        seen = encoder.moments(student, module.tokens(student, evenly(on.texts, quantizing.MOMENT_TEXTS)))
    return quantizing.quantize(student, scheme, bits=bits, moments=seen)


def package(student: Student, folder: str | Path, *, name: str = "", pair: bool = False) -> Path:
    """Write a kin folder, whole or not at all; it replaces one that is there. Returns its path."""
    target = Path(folder)
    with atomic.folder(target) as temporary:
        packaging.write(temporary, student, recipe_yaml="", extra={"name": name or target.name, "pair": pair})
    return target


def measure(folder: str | Path, *, on: Split, seed: int = 0) -> dict[str, Any]:
    """Load a kin by its own runtime and measure it on a labelled split: scores, size, latency."""
    kin = open_kin(folder, threads=1)
    scores = quality(kin, on, seed=seed).summary()
    sample = [on.texts[i] for i in range(min(256, len(on)))]
    return {**scores, "size_mib": kin.manifest.size_mib, **speed.latency(kin, sample).summary()}
