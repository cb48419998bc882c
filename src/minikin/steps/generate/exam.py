"""What the gate asks on the test split, what is said of the texts that come back, and those that the report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np

from minikin.base.joined import evenly
from minikin.base.types import Progress
from minikin.data.generate import Corpus, Plain
from minikin.measure import writing
from minikin.measure.memorised import memorised
from minikin.measure.writing import Written
from minikin.runtimes.author import Author
from minikin.steps.generate.ask import MOST_PROMPTS
from minikin.steps.generate.material import prompts
from minikin.teachers.answers import Validate

CONTINUED: Final = 32
"""Running texts that are continued."""

OPENING: Final = 200
"""Characters of such a text that are given, or half of it."""

REST: Final = 2000
"""Characters after that which a continuation stands beside."""

EXAMPLES: Final = 40
SAMPLES: Final = 8


@dataclass(frozen=True)
class Exam:
    """N prompts as a kin takes them, the answers of people to them, and how an answer is checked by the recipe.

    Of running text a prompt is the opening of a text, and its answer the rest.
    """

    corpus: Corpus
    prompts: Sequence[Any]
    answers: Sequence[str]
    validate: Validate | None = None

    @property
    def answered(self) -> bool:
        """Whether there are right answers, and not only texts to go on with."""
        return self.corpus.kind != "text"

    def taken(self, kin: Author, progress: Progress) -> Written:
        """Let a kin write, one text after the other."""
        how = replace(kin.usual, cut=not self.answered)
        return self.judged(writing.written(lambda asked: kin(asked, how), self.prompts, self.answers, progress))

    def quoted(self, answers: Sequence[str]) -> Written:
        """Answers that were not written here."""
        return self.judged(writing.quoted(answers, self.answers))

    def references(self) -> Written:
        """What people wrote: how much of it repeats itself, stands in the training texts, is as the schema says."""
        return self._judged(_alone(writing.quoted(self.answers, self.answers)), [""] * len(self.answers))

    def judged(self, told: Written) -> Written:
        """Add whether each text holds much of a training text that neither prompt nor people's answer has.

        And whether it is as the schema says. A text that goes on another is not held against the rest of that, and
        takes as long as it may.
        """
        given = [f"{last(asked)} {answer}" for asked, answer in zip(self.prompts, self.answers, strict=True)]
        if self.answered:
            return self._judged(told, given)
        return self._judged(replace(_alone(told), latency_ms_N=np.zeros(0)), given)

    def _judged(self, told: Written, given: Sequence[str]) -> Written:
        learnt = Plain(self.corpus.data.train.texts, self.corpus.kind)
        scores = {**told.scores, "memorised": memorised(told.answers, given, learnt).astype(float)}
        if self.validate is not None:
            scores["schema_valid"] = np.array([self.validate(text) is None for text in told.answers], float)
        return replace(told, scores=scores)


def _alone(told: Written) -> Written:
    """The same texts with what is said of each without another beside it."""
    return replace(told, scores={name: told.scores[name] for name in writing.ALONE})


def last(asked: Any) -> str:
    """What a prompt asks: itself, or the last message of a chat."""
    return asked if isinstance(asked, str) else str(asked[-1]["content"])


def exam(corpus: Corpus, validate: Validate | None) -> Exam:
    """The exam of a corpus: its first test prompts, or openings of test texts at even distances."""
    if corpus.kind == "text":
        openings = [_opened(str(text)) for text in evenly(corpus.data.test.texts, CONTINUED)]
        return Exam(corpus, [opening for opening, _ in openings], [rest for _, rest in openings])
    asked, answers = prompts(corpus, corpus.data.test)
    # a good student writes what its teacher and people write
    return Exam(corpus, asked[:MOST_PROMPTS], answers[:MOST_PROMPTS], validate and cache(validate))


def _opened(text: str) -> tuple[str, str]:
    """The beginning of a text, up to a space where there is one, and what comes then."""
    most = max(1, min(OPENING, len(text) // 2))
    at = text.rfind(" ", 1, most + 1)
    at = at if at > 0 else most
    return text[:at], text[at : at + REST]


def samples(asked: Exam, said: Mapping[str, Written], seed: int) -> list[dict[str, Any]]:
    """Some prompts with all that was written to them, chosen by a seed and not by how it went."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(asked.prompts))[:SAMPLES])
    return [_row(asked, said, i) for i in chosen.tolist()]


def wrong(asked: Exam, said: Mapping[str, Written]) -> list[dict[str, Any]]:
    """Prompts that the student answered otherwise than people, with what the teacher said."""
    if not asked.answered:
        return []
    theirs = {"teacher": None} | {who: said[who] for who in ("student", "teacher") if who in said}
    return [_row(asked, theirs, i) for i in np.flatnonzero(said["student"].exact_N == 0)[:EXAMPLES].tolist()]


def _row(asked: Exam, said: Mapping[str, Written | None], i: int) -> dict[str, Any]:
    written = {who: None if told is None else told.answers[i] for who, told in said.items()}
    return {"text": last(asked.prompts[i]), "truth": asked.answers[i], **written}
