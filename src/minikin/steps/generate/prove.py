"""The gate of `generate`: the packaged folder, loaded by llama.cpp, measured beside what it is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from minikin.base import atomic, digest, machine
from minikin.base.types import Progress, Student
from minikin.equations import intervals
from minikin.measure import speed, writing
from minikin.measure.compare import paired_right
from minikin.measure.memorised import RUN
from minikin.measure.writing import Likelihood, Nearest, Written
from minikin.recipe.read import dump
from minikin.recipe.schema import Recipe
from minikin.runtimes.author import Author
from minikin.steps import verdict as gates
from minikin.steps.context import Build
from minikin.steps.generate.ask import MOST_PROMPTS, Told
from minikin.steps.generate.exam import Exam, exam, samples, wrong
from minikin.steps.generate.material import prompts
from minikin.steps.generate.parity import parity
from minikin.steps.generate.ship import importance_of, likelihood, packaged_aside
from minikin.teachers.conform import validator

AGREEMENT: Final = "The test has no people's answers: its figures are agreement with the teacher, not correctness."
COMPARED: Final = ("teacher", "student_without_teacher", "tfidf")
"""Those that the student is compared with, text by text."""

FLAWS: Final = (
    ("looping", "max_looping", "of what it writes ends in a loop"),
    ("memorised", "max_memorised", f"of what it writes holds {RUN} characters or more of a training text"),
)
"""Scores that are better low: their names, the keys of their limits in the recipe's gate, and how they are told."""


@dataclass(frozen=True)
class Subject:
    """One thing that was measured on the test split: what it wrote, how likely it finds people's texts, plain values.

    An endpoint's or the nearest prompt's answers come without a likelihood.
    """

    written: Written
    row: dict[str, Any]
    likelihood: Likelihood | None = None

    @property
    def score(self) -> float:
        """The share of exact answers; of running text, one over the perplexity."""
        return float(self.row["accuracy"]) if "accuracy" in self.row else 1.0 / float(self.row["perplexity"])


def measured(kin: Author, asked: Exam, seed: int, progress: Progress) -> Subject:
    """What one packaged decoder writes on the test split, one prompt after the other, and how likely it finds that."""
    told = asked.taken(kin, progress)
    likely = likelihood(kin, asked.corpus, asked.corpus.data.test.texts[:MOST_PROMPTS])
    size = {"size_mib": kin.manifest.size_mib, "parameters": kin.manifest.raw["parameters"]}
    return Subject(told, {**told.summary(seed), **likely.summary(seed), **size}, likely)


def everyone(
    build: Build,
    told: Told,
    asked: Exam,
    kin: Author,
    teacher: Student | None,
    alone: Student | None,
    progress: Progress,
) -> dict[str, Subject]:
    """Measure the packaged student, teacher and control (packaged as F16 and as the kin is), and the nearest answer.

    Of a teacher behind an endpoint, the answers that it gave are compared.
    """
    seed, new_tokens, corpus = build.recipe.seed, build.recipe.gate.new_tokens, told.corpus
    found: dict[str, Subject] = {}
    if teacher is not None:
        progress(0.0, "teacher")
        with packaged_aside(teacher, "F16", corpus.kind, new_tokens) as its:
            found["teacher"] = measured(its, asked, seed, _part(progress, 0.0, 0.5, "teacher"))
    elif told.test is not None:
        found["teacher"] = _quoted(asked, told.test, seed)
    found["student"] = measured(kin, asked, seed, _part(progress, 0.5, 0.7, "student"))
    if alone is not None:
        mix, matters = kin.manifest.scheme.upper(), importance_of(alone, corpus)
        with packaged_aside(alone, mix, corpus.kind, new_tokens, importance=matters) as its:
            found["student_without_teacher"] = measured(its, asked, seed, _part(progress, 0.7, 0.9, "control"))
    if corpus.kind == "pairs":
        progress(0.9, "nearest answers")
        known, theirs = prompts(corpus, corpus.data.train)
        found["tfidf"] = _quoted(asked, Nearest(known, theirs).answers(asked.prompts), seed)
    return found


def _part(progress: Progress, begin: float, end: float, words: str) -> Progress:
    return lambda share, now: progress(begin + (end - begin) * share, f"{words}: {now}")


def _quoted(asked: Exam, answers: Sequence[str], seed: int) -> Subject:
    written = asked.quoted(answers)
    return Subject(written, written.summary(seed))


def compared(found: Mapping[str, Subject], seed: int) -> dict[str, dict[str, Any]]:
    """The student minus each of the others: of every score the difference and its paired interval; exactness tested."""
    student, told = found["student"], dict[str, dict[str, Any]]()
    for who in (who for who in COMPARED if who in found):
        other = found[who]
        told[who] = writing.differences(student.written, other.written, seed)
        if "accuracy" in student.row:
            told[who]["accuracy"] = paired_right(student.written.exact_N > 0, other.written.exact_N > 0, seed).summary()
        if student.likelihood is not None and other.likelihood is not None:
            told[who] |= student.likelihood.difference(other.likelihood, seed)
    return told


def judged(
    build: Build,
    told: Told,
    kin: Author,
    student: Student,
    teacher: Student | None,
    alone: Student | None,
    tried: Mapping[str, Any],
) -> dict[str, Any]:
    """Measure the packaged file beside everything that it is compared with; the same file is measured once."""
    stamp, corpus = machine.stamp(), told.corpus
    weights = [None if s is None else digest.of_arrays(s.dequantized().tensors) for s in (teacher, alone)]
    inputs = build.inputs(
        dump(build.recipe),
        kin.manifest.raw["files"],
        corpus.data.digest,
        weights,
        tried["front"],
        tried["mixes"],
        stamp,
        told.test,
        build.recipe.data.json_schema and Path(build.recipe.data.json_schema).read_text(encoding="utf-8"),
    )

    def do(out: Path, _scratch: Path, progress: Progress) -> None:
        seed, asked = build.recipe.seed, exam(corpus, validator(build.recipe.data.json_schema))
        found = everyone(build, told, asked, kin, teacher, alone, progress)
        same = parity(kin, student, corpus, build.recipe.gate.parity_texts)
        limited = build.recipe.budget.memory_mib is not None
        memory = speed.cold_start(build.out, asked.prompts[0], runs=3).memory_mib if limited else None
        gate = verdict(build.recipe, found, same, memory, agreement=told.agreement)
        references, minus = asked.references(), compared(found, seed)
        build.notes += [AGREEMENT] if told.agreement else []
        build.notes += [*notes(found, seed), *flaws(build.recipe, found["student"].written, references, seed)]
        beside = {"references": references.summary(seed), "minus": minus, "parity": same}
        said = {name: subject.written for name, subject in found.items()}
        more = {
            "kind": corpus.kind,
            "paired": {who: scores["accuracy"] for who, scores in minus.items() if "accuracy" in scores},
            "samples": samples(asked, said, seed),
            "differences": wrong(asked, said),
            "front": [_measured(row, found["student"].row) for row in tried["front"]],
            "mixes": tried["mixes"],
            "agreement": told.agreement,
            "recipe": dump(build.recipe),
            "seeds": {"recipe": build.recipe.seed, "student": build.student_seed},
            "machine": stamp,
        }
        rows = {name: subject.row | (beside if name == "student" else {}) for name, subject in found.items()}
        atomic.write_json(out / "story.json", gates.story(build, corpus.data, rows, gate, same, **more))

    folder = build.step("gate", "gate", inputs, "measuring the packaged file beside the rest", do)
    found: dict[str, Any] = json.loads((folder / "story.json").read_text(encoding="utf-8"))
    return found


def _measured(row: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, Any]:
    """The winner's row of the front, with what was measured of it."""
    if row["state"] != "winner":
        return dict(row)
    return {**row, **{key: student.get(key) for key in ("accuracy", "latency_ms_p50", "latency_ms_p95", "size_mib")}}


def verdict(
    recipe: Recipe,
    found: Mapping[str, Subject],
    same: Mapping[str, Any],
    memory_mib: float | None = None,
    *,
    agreement: bool = False,
) -> dict[str, Any]:
    """Pass or fail against the recipe, with the reasons and what came nearest; with `agreement`, to the teacher."""
    drift, most = abs(float(same["perplexity_ratio"]) - 1.0), recipe.gate.max_flips
    apart = (
        f"the shipped file's perplexity is {drift:.1%} off the trained model's on {same['texts']} texts "
        f"(at most {most:.1%})"
    )
    rows, scores = ({name: getattr(s, part) for name, s in found.items()} for part in ("row", "score"))
    student = rows["student"]
    quality = "exact answers" if "accuracy" in student else "likelihood (one over the perplexity)"
    also = [apart] if drift > most else []
    for name, key, words in FLAWS:
        limit = getattr(recipe.gate, key)
        if limit is not None and student[name] > limit:
            also.append(f"{student[name]:.1%} {words} (at most {limit:.1%})")
    return gates.verdict(recipe, rows, scores, quality, also, memory_mib=memory_mib, agreement=agreement)


def flaws(recipe: Recipe, written: Written, references: Written, seed: int) -> list[str]:
    """What should be known of loops and training texts where the recipe sets no limit: where the test has fewer."""
    said = []
    for name, key, words in FLAWS:
        mine_N, theirs_N = written.scores[name], references.scores[name]
        low, _ = intervals.paired_interval(mine_N, theirs_N, seed=seed)
        if low > 0 and getattr(recipe.gate, key) is None:
            said.append(f"{mine_N.mean():.1%} {words} ({theirs_N.mean():.1%} of the test's own texts).")
    return said


def notes(found: Mapping[str, Subject], seed: int) -> list[str]:
    """What the user should know though nobody asked."""
    student, said = found["student"], list[str]()
    if "accuracy" not in student.row:
        return said
    exact_N, nearest, alone = student.written.exact_N, found.get("tfidf"), found.get("student_without_teacher")
    if nearest is not None:
        low, high = intervals.paired_interval(exact_N, nearest.written.exact_N, seed=seed)
        if low <= 0:
            said.append(
                f"The answer of the nearest training prompt is exact {'more' if high < 0 else 'as'} often "
                f"({nearest.written.exact_N.mean():.1%} against {exact_N.mean():.1%}): consider a look-up."
            )
    if alone is not None:
        interval = intervals.paired_interval(exact_N, alone.written.exact_N, seed=seed)
        said += gates.unhelped(interval, f"is exact on {alone.written.exact_N.mean():.1%}")
    return said
