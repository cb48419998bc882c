"""The gate of `generate`: the packaged folder, loaded by llama.cpp, measured beside what it is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from minikin.base import atomic, digest, machine
from minikin.base.types import Progress, Student
from minikin.data.generate import Corpus
from minikin.equations import intervals
from minikin.feed.causal import model_of
from minikin.measure import speed, writing
from minikin.measure.writing import Nearest, Written
from minikin.recipe.read import dump
from minikin.recipe.schema import Recipe
from minikin.runtimes.author import Author
from minikin.steps import verdict as gates
from minikin.steps.context import Build
from minikin.steps.generate.ask import MOST_PROMPTS, Told
from minikin.steps.generate.material import prompts
from minikin.steps.generate.ship import importance_of, likelihood, packaged_aside

EXAMPLES: Final = 40
OPENING: Final = 64
"""Characters of a text that a kin of running text continues to show its memory."""
AGREEMENT: Final = "The test has no people's answers: its figures are agreement with the teacher, not correctness."


@dataclass(frozen=True)
class Subject:
    """One thing that was measured on the test split: its answers, if there are any, and plain values."""

    written: Written | None
    row: dict[str, Any]

    @property
    def score(self) -> float:
        """The share of exact answers; of running text, one over the perplexity."""
        return float(self.row["accuracy"]) if self.written is not None else 1.0 / float(self.row["perplexity"])


def measured(kin: Author, corpus: Corpus, seed: int, progress: Progress) -> Subject:
    """Answers and likelihood of one packaged decoder on the test split, one prompt after the other."""
    test = corpus.data.test
    asked, answers = prompts(corpus, test)
    told = writing.written(kin, asked[:MOST_PROMPTS], answers[:MOST_PROMPTS], progress) if asked else None
    row = {
        **({} if told is None else told.summary(seed)),
        **likelihood(kin, corpus, test.texts[:MOST_PROMPTS], seed),
        "size_mib": kin.manifest.size_mib,
        "parameters": kin.manifest.raw["parameters"],
    }
    return Subject(told, row)


def everyone(
    build: Build, told: Told, kin: Author, teacher: Student | None, alone: Student | None, progress: Progress
) -> dict[str, Subject]:
    """Measure the packaged student, teacher and control (packaged as F16 and as the kin is), and the nearest answer.

    Of a teacher behind an endpoint, the answers that it gave are compared.
    """
    seed, new_tokens, corpus = build.recipe.seed, build.recipe.gate.new_tokens, told.corpus
    found: dict[str, Subject] = {}
    if teacher is not None:
        progress(0.0, "teacher")
        with packaged_aside(teacher, "F16", corpus.kind, new_tokens) as its:
            found["teacher"] = measured(its, corpus, seed, _part(progress, 0.0, 0.5, "teacher"))
    elif told.test is not None:
        found["teacher"] = _quoted(told.test, prompts(corpus, corpus.data.test)[1], seed)
    found["student"] = measured(kin, corpus, seed, _part(progress, 0.5, 0.7, "student"))
    if alone is not None:
        mix, matters = kin.manifest.scheme.upper(), importance_of(alone, corpus)
        with packaged_aside(alone, mix, corpus.kind, new_tokens, importance=matters) as its:
            found["student_without_teacher"] = measured(its, corpus, seed, _part(progress, 0.7, 0.9, "control"))
    if corpus.kind == "pairs":
        progress(0.9, "nearest answers")
        found["tfidf"] = _nearest(corpus, seed)
    return found


def _part(progress: Progress, begin: float, end: float, words: str) -> Progress:
    return lambda share, now: progress(begin + (end - begin) * share, f"{words}: {now}")


def _nearest(corpus: Corpus, seed: int) -> Subject:
    known, theirs = prompts(corpus, corpus.data.train)
    asked, answers = (part[:MOST_PROMPTS] for part in prompts(corpus, corpus.data.test))
    return _quoted(Nearest(known, theirs).answers(asked), answers, seed)


def _quoted(said: Sequence[str], answers: Sequence[str], seed: int) -> Subject:
    written = writing.quoted(said, answers[: len(said)])
    return Subject(written, written.summary(seed))


def parity(kin: Author, trained: Student, corpus: Corpus, wanted: int) -> dict[str, Any]:
    """The shipped file against the training-time model: the likeliest next token after each of the same texts."""
    texts = [corpus.data.test.texts[i] for i in range(min(wanted, len(corpus.data.test)))]
    model = model_of(trained)
    same, nats = [], []
    for spoken in kin.spoken(texts, corpus.kind):
        ids_T = spoken.ids_T[: kin.generator.context]
        wanted_T = spoken.learnt_T[: len(ids_T)][1:]
        with torch.inference_mode():
            ids_1T = torch.from_numpy(np.asarray(ids_T, np.int64))[None]
            log_p_TV = model(input_ids=ids_1T).logits[0].log_softmax(-1)
        theirs_T = log_p_TV[:-1].gather(-1, ids_1T[0, 1:, None])[:, 0].numpy()[wanted_T]
        ours_T = np.asarray(kin.generator.logprobs([int(i) for i in ids_T]))[wanted_T]
        nats.append(np.abs(ours_T - theirs_T))
        same.append(np.exp(-ours_T.mean()) / np.exp(-theirs_T.mean()))
    return {
        "texts": len(texts),
        "perplexity_ratio": float(np.exp(np.mean(np.log(same)))),
        "mean_log_probability_difference": float(np.concatenate(nats).mean()),
        "label_agreement": None,
    }


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
    )

    def do(out: Path, _scratch: Path, progress: Progress) -> None:
        found = everyone(build, told, kin, teacher, alone, progress)
        same = parity(kin, student, corpus, build.recipe.gate.parity_texts)
        limited = build.recipe.budget.memory_mib is not None
        memory = speed.cold_start(build.out, opening(corpus), runs=3).memory_mib if limited else None
        gate = verdict(build.recipe, found, same, memory, agreement=told.agreement)
        build.notes += [AGREEMENT] if told.agreement else []
        build.notes += notes(found, build.recipe.seed)
        more = {
            "kind": corpus.kind,
            "differences": _wrong(corpus, found),
            "front": [_measured(row, found["student"].row) for row in tried["front"]],
            "mixes": tried["mixes"],
            "agreement": told.agreement,
            "recipe": dump(build.recipe),
            "seeds": {"recipe": build.recipe.seed, "student": build.student_seed},
            "machine": stamp,
        }
        rows = {name: subject.row for name, subject in found.items()}
        atomic.write_json(out / "story.json", gates.story(build, corpus.data, rows, gate, same, **more))

    folder = build.step("gate", "gate", inputs, "measuring the packaged file beside the rest", do)
    found: dict[str, Any] = json.loads((folder / "story.json").read_text(encoding="utf-8"))
    return found


def _measured(row: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, Any]:
    """The winner's row of the front, with what was measured of it."""
    if row["state"] != "winner":
        return dict(row)
    return {**row, **{key: student.get(key) for key in ("accuracy", "latency_ms_p50", "latency_ms_p95", "size_mib")}}


def opening(corpus: Corpus) -> Any:
    """What a fresh process is asked: the first prompt of the test, or how its first text begins."""
    asked, _ = prompts(corpus, corpus.data.test)
    return asked[0] if asked else str(corpus.data.test.texts[0])[:OPENING]


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
    quality = "exact answers" if found["student"].written is not None else "likelihood (one over the perplexity)"
    told = apart if drift > most else ""
    return gates.verdict(recipe, rows, scores, quality, told, memory_mib=memory_mib, agreement=agreement)


def notes(found: Mapping[str, Subject], seed: int) -> list[str]:
    """What the user should know though nobody asked."""
    student = found["student"]
    said: list[str] = []
    if student.written is None:
        return said
    nearest, alone = found.get("tfidf"), found.get("student_without_teacher")
    if nearest is not None and nearest.written is not None:
        low, high = intervals.paired_interval(student.written.exact_N, nearest.written.exact_N, seed=seed)
        if low <= 0:
            said.append(
                f"The answer of the nearest training prompt is exact {'more' if high < 0 else 'as'} often "
                f"({nearest.written.exact_N.mean():.1%} against {student.written.exact_N.mean():.1%}): "
                "consider a look-up."
            )
    if alone is not None and alone.written is not None:
        interval = intervals.paired_interval(student.written.exact_N, alone.written.exact_N, seed=seed)
        said += gates.unhelped(interval, f"is exact on {alone.written.exact_N.mean():.1%}")
    return said


def _wrong(corpus: Corpus, found: Mapping[str, Subject]) -> list[dict[str, Any]]:
    """Prompts that the student answered otherwise than people, with what the teacher said."""
    student, teacher = found["student"].written, found.get("teacher")
    if student is None:
        return []
    asked, answers = prompts(corpus, corpus.data.test)
    rows = []
    for i in np.flatnonzero(student.exact_N == 0)[:EXAMPLES]:
        prompt = asked[i] if isinstance(asked[i], str) else asked[i][-1]["content"]
        its = teacher.written.answers[i] if teacher is not None and teacher.written is not None else None
        rows.append({"text": prompt, "truth": answers[i], "student": student.answers[i], "teacher": its})
    return rows
