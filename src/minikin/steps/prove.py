"""The gate: the packaged folder, loaded by its own runtime, measured beside everything it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base.types import Array, Progress, Runtime, Split, Student, Text
from minikin.data.typo import with_one_typo
from minikin.measure import baselines, compare, speed
from minikin.measure.footprint import teacher_size_mib
from minikin.measure.quality import Quality, quality
from minikin.recipe.schema import Recipe
from minikin.runtimes import Kin
from minikin.runtimes import open as open_kin
from minikin.steps import verdict as gates
from minikin.steps.context import Build, Material
from minikin.steps.teach import threads
from minikin.students.module import TorchRuntime
from minikin.teachers.local import LocalTeacher

SPEED_TEXTS = 256


@dataclass
class Subject:
    """One thing that was measured: its answers on the test split, its size and its speed."""

    quality: Quality
    typo_accuracy: float
    size_mib: float
    took: speed.Latency
    throughput_per_s: float

    def row(self) -> dict[str, Any]:
        """Plain values for the manifest and the report."""
        return {
            **self.quality.summary(),
            "typo_accuracy": self.typo_accuracy,
            "size_mib": self.size_mib,
            **self.took.summary(),
            "throughput_per_s": self.throughput_per_s,
        }


def typos(split: Split, seed: int) -> Split:
    """The same split with one typo in each text (in the first of a pair)."""
    rng = np.random.default_rng([seed, 77])
    texts: list[Text] = [
        with_one_typo(t, rng) if isinstance(t, str) else (with_one_typo(t[0], rng), t[1]) for t in split.texts
    ]
    return Split(texts, split.labels_N, split.rows_N)


def measure(
    runtime: Runtime, test: Split, mistyped: Split, size: float, seed: int, teacher_N: Array | None, calls: int = 300
) -> Subject:
    """Quality on clean and mistyped texts, and speed on one thread from raw text."""
    clean = quality(runtime, test, teacher_predictions_N=teacher_N, seed=seed)
    rough = quality(runtime, mistyped, seed=seed, resamples=1)
    sample = [test.texts[i] for i in range(min(SPEED_TEXTS, len(test)))]
    with threads(1):
        took = speed.latency(runtime, sample, repeats=calls)
        rate = speed.throughput(runtime, sample, seconds=1.0)
    return Subject(clean, rough.accuracy, size, took, rate)


def everyone(
    build: Build,
    material: Material,
    kin: Runtime,
    kin_size: float,
    teacher: LocalTeacher | None,
    control: tuple[Runtime, float] | None,
    progress: Progress,
) -> dict[str, Subject]:
    """Measure teacher, student, student without the teacher, and TF-IDF on the same test texts."""
    data, seed = material.data, build.recipe.seed
    mistyped = typos(data.test, seed)
    found: dict[str, Subject] = {}
    teacher_N = None
    if teacher is not None:
        size = teacher_size_mib(teacher.checkpoint.folder)
        with threads(build.threads):
            found["teacher"] = measure(teacher, data.test, mistyped, size, seed, None, calls=60)
        teacher_N = found["teacher"].quality.predictions_N
    progress(0.4, "student")
    found["student"] = measure(kin, data.test, mistyped, kin_size, seed, teacher_N)
    if control is not None:
        found["student_without_teacher"] = measure(control[0], data.test, mistyped, control[1], seed, teacher_N)
    progress(0.6, "TF-IDF with logistic regression")
    lexical = baselines.tfidf(data.train, data.labels, seed, validation=data.validation)
    found["tfidf"] = measure(lexical, data.test, mistyped, lexical.size_mib, seed, teacher_N)
    return found


def parity(kin: Runtime, trained: Student, texts: Sequence[Text], wanted: int) -> dict[str, Any]:
    """The shipped file against the training-time model, on the same texts."""
    sample = [texts[i] for i in range(min(wanted, len(texts)))]
    ours_NC = kin.probabilities(sample)
    theirs_NC = TorchRuntime(trained).probabilities(sample)
    return {
        "texts": len(sample),
        "label_agreement": float((ours_NC.argmax(1) == theirs_NC.argmax(1)).mean()),
        "max_probability_difference": float(np.abs(ours_NC - theirs_NC).max()),
    }


def engines(folder: Path, kin: Kin, test: Split) -> dict[str, Any]:
    """How often ONNX Runtime (numpy, for static kins) answers as what ships does, on the whole test split."""
    other = open_kin(folder, threads=1, verify=False, engine="onnx")
    same_N = kin.probabilities(test.texts).argmax(1) == other.probabilities(test.texts).argmax(1)
    return {"engine": kin.engine, "other_engine": other.engine, "engine_agreement": float(same_N.mean())}


def verdict(
    recipe: Recipe, found: Mapping[str, Subject], same: Mapping[str, Any], memory_mib: float | None = None
) -> dict[str, Any]:
    """Pass or fail against the recipe, with the reasons and what came nearest."""
    flips, most = 1.0 - same["label_agreement"], recipe.gate.max_flips
    apart = (
        f"the shipped file answers {flips:.1%} of {same['texts']} texts otherwise than the trained model "
        f"(at most {most:.1%})"
    )
    rows = {name: subject.row() for name, subject in found.items()}
    scores = {name: subject.quality.accuracy for name, subject in found.items()}
    return gates.verdict(recipe, rows, scores, "accuracy", [apart] if flips > most else [], memory_mib=memory_mib)


def notes(found: Mapping[str, Subject], labels_N: Array, seed: int) -> list[str]:
    """What the user should know though nobody asked: baselines that win, a teacher that does not help."""
    said = []
    student = found["student"]
    lexical = compare.paired(student.quality, found["tfidf"].quality, labels_N, seed)
    if lexical.interval[0] <= 0:
        than = "better" if lexical.interval[1] < 0 else "as good"
        said.append(
            f"TF-IDF with logistic regression is {than} here ({found['tfidf'].quality.accuracy:.1%} against "
            f"{student.quality.accuracy:.1%}): consider it."
        )
    alone = found.get("student_without_teacher")
    if alone is not None:
        with_without = compare.paired(student.quality, alone.quality, labels_N, seed)
        said += gates.unhelped(with_without.interval, f"reaches {alone.quality.accuracy:.1%}")
        teacher = found.get("teacher")
        if teacher is not None:
            against = compare.paired(teacher.quality, alone.quality, labels_N, seed)
            if against.interval[0] <= 0:
                said.append("The teacher is not better than the student without it: look at the teacher first.")
    return said


def stage_rows(
    student: Student, found: Mapping[str, Subject], test: Split, seed: int, schemes: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What each stage did to accuracy, size and latency: teacher, student in float32 PyTorch, shipped file."""
    rows = []
    if "teacher" in found:
        rows.append({"name": "teacher", **_stage(found["teacher"]), "note": "PyTorch, float32"})
    trained = TorchRuntime(student)
    floats = measure(trained, test, test, student.parameters * 4 / 2**20, seed, None, calls=60)
    rows.append({"name": "student, distilled", **_stage(floats), "note": "PyTorch, float32"})
    for tried in schemes:
        # these were measured on the validation split, which chose among them: not to be mixed with the test's
        note = f"on validation {tried['accuracy']:.1%} right, {tried['flips']:.1%} answered otherwise than before"
        rows.append(
            {
                "name": f"stored as {tried['scheme']}",
                "accuracy": None,
                "size_mib": tried["size_mib"],
                "latency_ms_p50": None,
                "note": note,
            }
        )
    rows.append({"name": "packaged", **_stage(found["student"]), "note": "the file that ships, in its own runtime"})
    return rows


def _stage(subject: Subject) -> dict[str, Any]:
    return {
        "accuracy": subject.quality.accuracy,
        "size_mib": subject.size_mib,
        "latency_ms_p50": subject.took.latency_ms_p50,
    }


def story(
    build: Build,
    material: Material,
    found: Mapping[str, Subject],
    gate: Mapping[str, Any],
    same: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that the report tells, as plain values."""
    data, seed = material.data, build.recipe.seed
    labels_N, labels = data.test.labels_N, data.labels
    student = found["student"].quality
    teacher = found["teacher"].quality if "teacher" in found else None
    paired = {
        name: compare.paired(student, subject.quality, labels_N, seed).summary()
        for name, subject in found.items()
        if name != "student"
    }
    told = gates.story(
        build,
        data,
        {name: subject.row() for name, subject in found.items()},
        gate,
        same,
        paired=paired,
        per_class=compare.per_class(student, teacher, labels_N, labels),
        confusions=compare.confusions(student, teacher, labels_N, labels),
        calibration=compare.calibration(student, labels_N, float(extra.get("temperature", 1.0))),
        differences=compare.differences(student, teacher, data.test.texts, labels_N, labels) if teacher else [],
        **extra,
    )
    told["data"]["counts"]["augmented"] = material.augmented
    return told
