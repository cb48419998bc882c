"""An endpoint as the teacher: prompts that have no answer get its own, and the gate's prompts are asked beside them.

Answers lie in the run folder under the hash of what was asked, whatever becomes of the build: none is paid for twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base.errors import UserError
from minikin.base.extras import need
from minikin.base.joined import Joined
from minikin.base.types import UNKNOWN_LABEL, Data, Split, Text
from minikin.base.wire import Patience
from minikin.data.clean import tidy
from minikin.data.faults import Bag
from minikin.data.generate import ANSWER, Corpus, answer, messages
from minikin.data.load import digest_of
from minikin.recipe.schema import TeacherSpec
from minikin.steps.context import Build
from minikin.teachers.endpoint import Endpoint, Forecast, Prices, Validate
from minikin.teachers.service import Chat, Service

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


def told(build: Build, corpus: Corpus) -> Told:
    """Ask the endpoint that the recipe names; any other teacher is not asked for text, and the corpus stays.

    Raises TeacherError for what the endpoint lacks, refuses or would cost too much, and DataError when too few of its
    answers can be used.
    """
    spec, validate = build.recipe.teacher, validator(build.recipe.data.json_schema)
    if spec is None or spec.endpoint is None:
        return Told(corpus)
    for module in ("gguf", "xllamacpp"):  # what the build needs later is looked for before anything is paid for
        need(module, "gguf")
    endpoint = _endpoint(build, spec)
    questions = asked(corpus, spec.system)
    build.stages.say(sentence(spec, endpoint.forecast([q.chat for q in questions])))
    with build.stages.stage("teacher", f"asking {spec.model} about {len(questions):,} prompts") as progress:
        keep = ("text", "logprobs") if spec.logprobs else ("text",)
        found = endpoint.ask([q.chat for q in questions], keep=keep, validate=validate, progress=progress)
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
    return replace(_learnt(corpus, answers, bag), heard=tuple(heard))


def _endpoint(build: Build, spec: TeacherSpec) -> Endpoint:
    """The endpoint, unasked."""
    service = Service(str(spec.endpoint), spec.model, spec.key_env, max_tokens=spec.max_tokens, logprobs=spec.logprobs)
    patience = Patience(spec.timeout_s, spec.retries, max(120.0, spec.timeout_s), spec.concurrency)
    prices = Prices(spec.price_in, spec.price_out, spec.limit)
    return Endpoint(service, build.run.answers, prices=prices, patience=patience)


def validator(path: str | None) -> Validate | None:
    """What says whether an answer is JSON that satisfies the schema in a file; None for no file.

    Raises UserError for a file that holds no JSON Schema.
    """
    if path is None:
        return None
    jsonschema = need("jsonschema", "build")
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
        known = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        known.check_schema(schema)
    except (OSError, ValueError, RecursionError, jsonschema.SchemaError) as error:
        reason = getattr(error, "message", None) or error
        raise UserError(f"data.json_schema: {path} holds no JSON Schema ({reason}). Give another file.") from error
    checker = known(schema)

    def wrong(text: str) -> str | None:
        try:
            fault = next(checker.iter_errors(json.loads(text)), None)
        except (ValueError, RecursionError):
            return "an answer that is no JSON"
        return None if fault is None else f"an answer against the schema: {str(fault.message)[:100]}"

    return wrong


def asked(corpus: Corpus, system: str) -> list[_Question]:
    """Every prompt without an answer, and the test's. Raises UserError when no prompt lacks one."""
    first: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    questions, lacking = [], 0
    for role in ROLES:
        texts = getattr(corpus.data, role).texts
        for at in range(min(len(texts), MOST_PROMPTS) if role == "test" else len(texts)):
            chat = messages(texts[at], corpus.kind)
            has_answer = chat[-1]["role"] == ANSWER
            lacking += not has_answer
            if role == "test" or not has_answer:
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
    if not spec.price_in + spec.price_out:
        return f"{words}; no prices are given"
    limit = "no limit is set" if spec.limit is None else f"the limit is {spec.limit:,.2f}"
    return f"{words}, which cost {forecast.cost:,.2f}; {limit}"


def foreseen(build: Build, corpus: Corpus) -> tuple[Corpus, str]:
    """For a check: a corpus in which prompts stand in for answers, and what asking would take. Nothing is sent."""
    spec = build.recipe.teacher
    validator(build.recipe.data.json_schema)
    if spec is None or spec.endpoint is None:
        return corpus, ""
    questions = asked(corpus, spec.system)
    words = sentence(spec, _endpoint(build, spec).forecast([q.chat for q in questions]))
    answers = {(q.role, q.at): str(q.chat[-1]["content"]) for q in questions}
    return _learnt(corpus, answers, Bag()).corpus, words


def _learnt(corpus: Corpus, answers: dict[tuple[str, int], str], bag: Bag) -> Told:
    """The corpus with these answers where it had none. Raises DataError when a split is left without any."""
    data, kind = corpus.data, corpus.kind
    open_test = _open(corpus, "test")
    made: dict[str, Split] = {}
    for role in ROLES:
        split: Split = getattr(data, role)
        made[role] = _with(split, kind, answers, role) if role == "unlabelled" or _open(corpus, role) else split
    unlabelled, people = made.pop("unlabelled"), None
    if len(unlabelled):
        people = None if _open(corpus, "train") else corpus
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
