"""A teacher that teaches by its text: an endpoint answers the prompts that have no answer, and the answers of an
encoder-decoder stand in place of people's. The gate's prompts are asked beside them.

Answers lie in the run folder under the hash of what was asked, whatever becomes of the build: none is paid for twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from minikin.base.errors import UserError
from minikin.base.extras import need
from minikin.base.joined import Joined
from minikin.base.types import UNKNOWN_LABEL, Data, Progress, Split, Text
from minikin.base.wire import Patience
from minikin.data.clean import tidy
from minikin.data.faults import Bag
from minikin.data.generate import ANSWER, Corpus, answer, messages
from minikin.data.load import digest_of
from minikin.recipe.schema import TeacherSpec
from minikin.steps.context import Build
from minikin.steps.teach import in_bfloat16, threads
from minikin.teachers.answers import Answered, Chat, Forecast, Validate
from minikin.teachers.conform import validator
from minikin.teachers.endpoint import Endpoint, Prices, money
from minikin.teachers.resolve import Checkpoint
from minikin.teachers.rewriter import Rewriter, is_rewriter
from minikin.teachers.service import Service

ROLES: Final = ("test", "train", "validation", "calibration", "unlabelled")
MOST_PROMPTS: Final = 2000
"""Test prompts that are asked; the gate measures no more."""


@dataclass(frozen=True)
class Told:
    """What the student learns from once the teacher has answered, and how the teacher did.

    `people` is what people alone answered, where that is less; `test` are the teacher's answers to the test prompts,
    empty where one can't be used. With `agreement` the test has no answers but the teacher's. `heard` are its answers
    to learn from that came with log-probabilities: the whole example, and what `Reply.logprobs` holds.
    """

    corpus: Corpus
    people: Corpus | None = None
    test: tuple[str, ...] | None = None
    agreement: bool = False
    heard: tuple[tuple[Text, Sequence[Any]], ...] = ()


@dataclass(frozen=True)
class _Question:
    """One prompt to ask about: its split, its place there, and the chat that is sent."""

    role: str
    at: int
    chat: Chat


def told(build: Build, corpus: Corpus, checkpoint: Checkpoint | None = None) -> Told:
    """Ask the endpoint that the recipe names, or the encoder-decoder `checkpoint`; for any other the corpus stays.

    Raises TeacherError for what the teacher lacks, refuses or would cost too much, and DataError when too few of its
    answers can be used.
    """
    writer, spec, validate = _writer(build, checkpoint), build.recipe.teacher, validator(build.recipe.data.json_schema)
    if writer is None or spec is None:
        return Told(corpus)
    for module in ("gguf", "xllamacpp"):  # what the build needs later is looked for before anything is paid for
        need(module, "gguf")
    questions = asked(corpus, spec.system, every=isinstance(writer, Rewriter))
    chats = [question.chat for question in questions]
    build.stages.say(sentence(spec, writer.forecast(chats)))
    with build.stages.stage("teacher", f"asking {spec.model} about {len(questions):,} prompts") as progress:
        found = _answered(build, writer, chats, validate, progress)
    bag, answers = Bag(), dict[tuple[str, int], str]()
    for i, (question, reply) in enumerate(zip(questions, found.replies, strict=True)):
        words = "" if reply is None else tidy(reply.text)[0]
        answers[question.role, question.at] = words
        if not words:
            row = int(getattr(corpus.data, question.role).rows_N[question.at])
            bag.row("unanswered", question.role, row, f"row {row}: {found.faults.get(i, 'an empty answer')}")
    for fault in bag.faults():
        build.stages.say(f"[yellow]{fault.message}[/]")
    heard = [
        (answer(getattr(corpus.data, q.role).texts[q.at], corpus.kind, answers[q.role, q.at]), reply.logprobs)
        for q, reply in zip(questions, found.replies, strict=True)
        if reply is not None and reply.logprobs and q.role in ("train", "unlabelled") and answers[q.role, q.at]
    ]
    return replace(_learnt(corpus, answers, bag, every=isinstance(writer, Rewriter)), heard=tuple(heard))


def _writer(build: Build, checkpoint: Checkpoint | None) -> Endpoint | Rewriter | None:
    """The teacher that teaches by its text, unasked; None where there is none, or where it tells more."""
    spec = build.recipe.teacher
    if spec is None or not (spec.endpoint or is_rewriter(checkpoint)):
        return None
    if checkpoint is not None:
        return Rewriter(
            checkpoint,
            build.run.answers,
            max_tokens=spec.max_tokens,
            beams=spec.beams,
            bfloat16=in_bfloat16(spec),
        )
    service = Service(
        str(spec.endpoint),
        spec.model,
        spec.key_env,
        max_tokens=spec.max_tokens,
        logprobs=spec.logprobs,
        parameters=spec.parameters,
    )
    patience = Patience(spec.timeout_s, spec.retries, max(120.0, spec.timeout_s), spec.concurrency)
    prices = Prices(spec.price_in, spec.price_out, spec.limit)
    return Endpoint(service, build.run.answers, prices=prices, patience=patience)


def _answered(
    build: Build, writer: Endpoint | Rewriter, chats: Sequence[Chat], validate: Validate | None, progress: Progress
) -> Answered:
    if isinstance(writer, Rewriter):
        with threads(build.threads):
            return writer.ask(chats, validate=validate, progress=progress)
    keep = ("text", "logprobs") if writer.service.logprobs else ("text",)
    return writer.ask(chats, keep=keep, validate=validate, progress=progress)


def asked(corpus: Corpus, system: str, *, every: bool = False) -> list[_Question]:
    """Every prompt without an answer, and the test's; with `every` also those to learn from that people answered.

    Raises UserError when no prompt lacks an answer.
    """
    first: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    questions, lacking = [], 0
    for role in ROLES:
        texts = getattr(corpus.data, role).texts
        for at in range(min(len(texts), MOST_PROMPTS) if role == "test" else len(texts)):
            chat = messages(texts[at], corpus.kind)
            has_answer = chat[-1]["role"] == ANSWER
            wanted = not has_answer or (every and role == "train")
            lacking += wanted
            if role == "test" or wanted:
                questions.append(_Question(role, at, [*first, *map(dict, chat[:-1] if has_answer else chat)]))
    if not lacking:
        raise UserError(
            "teacher: every prompt has people's answer, so there is nothing to learn from an endpoint. Give prompts in "
            "data.unlabelled, or a train file without a column of completions, or leave the teacher out."
        )
    return questions


def sentence(spec: TeacherSpec, forecast: Forecast) -> str:
    """What asking will take at most."""
    kept = f", {forecast.cached:,} answered before" if forecast.cached else ""
    words = (
        f"{spec.model}: {forecast.requests:,} prompts to ask{kept}; at most about {forecast.tokens_read:,} tokens read "
        f"and {forecast.tokens_written:,} written"
    )
    if spec.endpoint is None:
        return words
    if not spec.price_in + spec.price_out:
        return f"{words}; no prices are given"
    limit = "no limit is set" if spec.limit is None else f"the limit is {money(spec.limit)}"
    return f"{words}, which cost {money(forecast.cost)}; {limit}"


def foreseen(build: Build, corpus: Corpus, checkpoint: Checkpoint | None = None) -> tuple[Told, str]:
    """For a check: `told` with prompts that stand in for answers, and what asking would take. Nothing is sent."""
    writer, spec = _writer(build, checkpoint), build.recipe.teacher
    validator(build.recipe.data.json_schema)
    if writer is None or spec is None:
        return Told(corpus), ""
    every = isinstance(writer, Rewriter)
    questions = asked(corpus, spec.system, every=every)
    words = sentence(spec, writer.forecast([q.chat for q in questions]))
    answers = {(q.role, q.at): str(q.chat[-1]["content"]) for q in questions}
    return _learnt(corpus, answers, Bag(), every=every), words


def _learnt(corpus: Corpus, answers: dict[tuple[str, int], str], bag: Bag, *, every: bool) -> Told:
    """The corpus with these answers where it had none, and with `every` in place of those to learn from.

    Raises DataError when a split is left without any.
    """
    data, kind = corpus.data, corpus.kind
    open_test, open_train = (_open(corpus, role) for role in ("test", "train"))
    made: dict[str, Split] = {}
    for role in ROLES:
        split: Split = getattr(data, role)
        new = role == "unlabelled" or _open(corpus, role) or (every and role == "train")
        made[role] = _with(split, kind, answers, role) if new else split
    unlabelled = made.pop("unlabelled")
    people = None if open_train or not (every or len(unlabelled)) else corpus
    if len(unlabelled):
        made["train"] = _both(made["train"], unlabelled)
    for role, split in made.items():
        if not len(split):
            bag.fatal("no-rows", f"{role}: no answer of the teacher can be used")
    bag.raise_if_fatal()
    whole = {**made, "unlabelled": data.unlabelled}
    faults = (*data.faults, *bag.faults())
    test = tuple(answers["test", i] for i in range(min(len(data.test), MOST_PROMPTS)))
    kept = Data(**whole, labels=data.labels, faults=faults, digest=digest_of(whole, [kind]))
    return Told(Corpus(kept, kind), people, None if open_test else test, open_test)


def _open(corpus: Corpus, role: str) -> bool:
    """Whether a split holds prompts alone."""
    texts: Sequence[Text] = getattr(corpus.data, role).texts
    return len(texts) > 0 and messages(texts[0], corpus.kind)[-1]["role"] != ANSWER


def _with(split: Split, kind: Any, answers: dict[tuple[str, int], str], role: str) -> Split:
    """The examples of a split that got an answer, with it."""
    kept = [i for i in range(len(split)) if answers.get((role, i))]
    texts = [answer(split.texts[i], kind, answers[role, i]) for i in kept]
    return Split(texts, np.full(len(kept), UNKNOWN_LABEL), split.rows_N[kept])


def _both(first: Split, second: Split) -> Split:
    labels_N = np.full(len(first) + len(second), UNKNOWN_LABEL)
    return Split(Joined([first.texts, second.texts]), labels_N, np.concatenate([first.rows_N, second.rows_N]))
