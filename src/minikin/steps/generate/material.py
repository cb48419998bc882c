"""What a decoder learns from: the data read and kept apart, changed copies of it, and all of it as packed tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base import atomic, digest
from minikin.base.errors import UserError
from minikin.base.joined import Joined, sides
from minikin.base.types import UNKNOWN_LABEL, Array, Progress, Ragged, Split, Student, Text
from minikin.base.writing import Packed
from minikin.data import tokens as writing
from minikin.data.clean import hash64
from minikin.data.exchange import Exchanges
from minikin.data.faults import Bag
from minikin.data.generate import Corpus, Kind, messages
from minikin.data.generate import read as read_corpus
from minikin.data.typo import with_one_typo
from minikin.feed.packing import Documents, opened, pack
from minikin.feed.packing import read as documents
from minikin.feed.speech import Speaker, Spoken
from minikin.steps.context import Build
from minikin.students import tokenizer
from minikin.teachers.resolve import Checkpoint
from minikin.teachers.rewriter import is_rewriter

PLACES = "places.npy"
FAULTS = "faults.json"
FRESH_VOCABULARY = 3000
"""Pieces learnt from the texts where no teacher brings a tokenizer."""


@dataclass(frozen=True)
class Voice:
    """How texts become tokens: a tokenizer with its special tokens and chat template."""

    tokenizer_json: str
    tokenizer_config: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Hash of both."""
        return digest.of_value([self.tokenizer_json, dict(self.tokenizer_config)])


@dataclass(frozen=True)
class Rows:
    """Packed rows to learn from, `plain` ones (as people wrote them) to tune and score on, and held-out ones.

    `taught` are the same examples in the tokens of a teacher with another tokenizer. Then, and where an endpoint tells
    log-probabilities, `places_M` says where each learnt token of `train` begins in the answers.
    """

    train: Packed
    plain: Packed
    validation: Packed
    test: Packed
    digest: str
    places_M: Array | None = None
    taught: Rows | None = None


def learned_from(corpus: Corpus) -> Array | None:
    """Hashes of every prompt that the build learns or chooses from; None for kinds that are never certified."""
    if corpus.kind != "pairs":
        return None
    found = corpus.data
    splits = (found.train, found.validation, found.calibration, found.unlabelled)
    return np.array([hash64(text[0]) for split in splits for text in split.texts], np.uint64)


def data(build: Build, checkpoint: Checkpoint | None = None) -> Corpus:
    """Read the data into clean splits, and tell what was found in it.

    An endpoint, or an encoder-decoder as `checkpoint`, will answer prompts that lack answers.
    """
    spec, teacher, cache = build.recipe.data, build.recipe.teacher, build.run.root / "data"
    columns = {"pairs": (spec.prompt, spec.completion), "chat": (spec.messages,), "text": (_one(spec.text),)}
    with build.stages.stage("data", "reading and checking") as progress:
        found = read_corpus(
            spec.train,
            kind=spec.kind,
            columns=columns[spec.kind],
            test=spec.test,
            validation=spec.validation,
            calibration=spec.calibration,
            unlabelled=spec.unlabelled,
            answered=bool(teacher and teacher.endpoint) or is_rewriter(checkpoint),
            seed=build.recipe.seed,
            cache=cache,
            progress=progress,
        )
    for fault in found.data.faults:
        build.stages.say(f"[yellow]{fault.message}[/]")
    split = found.data
    build.stages.say(f"{len(split.train):,} train, {len(split.validation):,} validation, {len(split.test):,} test")
    return found


def _one(columns: str | tuple[str, str]) -> str:
    return columns if isinstance(columns, str) else columns[0]


def voice(build: Build, corpus: Corpus, teacher: Student | None) -> Voice:
    """The teacher's tokenizer, or one learnt from the training texts."""
    return (
        Voice(teacher.tokenizer_json, teacher.tokenizer_config) if teacher is not None else fresh_voice(build, corpus)
    )


def fresh_voice(build: Build, corpus: Corpus) -> Voice:
    """A byte-level tokenizer learnt from the training texts, which can write any input."""
    size = build.recipe.student.vocabulary or FRESH_VOCABULARY
    whole = tokenizer.keys(text[1] for text in corpus.data.train.texts) if corpus.kind == "pairs" else []
    if size < (least := tokenizer.least_bytes(whole)):
        raise UserError(
            f"student.vocabulary: {size} pieces do not hold all 256 bytes, the end of a text, a merge"
            f"{f' and {len(whole)} keys of the answers' if whole else ''}. Give at least {least}."
        )
    return Voice(*tokenizer.learn_bytes(sides(corpus.data.train.texts), size, whole=whole))


def spoken(speaker: Speaker, corpus: Corpus, texts: Sequence[Text]) -> list[Spoken]:
    """Examples of a corpus as a speaker's tokens."""
    if corpus.kind == "text":
        return list(speaker.texts([str(text) for text in texts]))
    return list(speaker.chats([messages(text, corpus.kind) for text in texts]))


def gather(corpus: Corpus, copies: int, seed: int) -> Split:
    """The training examples and `copies` of each, changed.

    Where the answer is JSON and a phrase that decides a value can be exchanged, it is, and every second of these gets a
    typo in what is asked; all others get one.
    """
    train = corpus.data.train
    if not copies or corpus.kind != "pairs":
        return train
    rng = np.random.default_rng([seed, 31])
    exchanges = Exchanges([text[0] for text in train.texts], [text[1] for text in train.texts])
    changed: list[Text] = []
    for _ in range(copies):
        for text in train.texts:
            new = exchanges.another(text[0], text[1], rng)
            asked, answer = new or (text[0], text[1])
            changed.append((asked if new and rng.random() < 0.5 else with_one_typo(asked, rng), answer))
    many = 1 + copies
    unknown_N = np.full(many * len(train), UNKNOWN_LABEL)
    return Split(Joined([train.texts, changed]), unknown_N, np.tile(train.rows_N, many))


def rows(build: Build, corpus: Corpus, voice: Voice, teacher: Student | None = None) -> Rows:
    """Write all splits as tokens and pack them into rows of the context's length.

    A teacher with another tokenizer gets rows of its own, and both note where in the answers their tokens begin. What
    is left out, or read otherwise than it stands, is told.
    """
    spec = build.recipe.teacher
    if teacher is None or teacher.tokenizer_json == voice.tokenizer_json:
        return _rows(build, corpus, voice, places=bool(spec and spec.logprobs))
    its = _rows(build, corpus, Voice(teacher.tokenizer_json, teacher.tokenizer_config), places=True, whose="teacher: ")
    return replace(_rows(build, corpus, voice, places=True), taught=its)


def _rows(build: Build, corpus: Corpus, voice: Voice, *, places: bool, whose: str = "") -> Rows:
    recipe = build.recipe
    wide = gather(corpus, recipe.distil.augment, recipe.seed)
    splits = {
        "plain": corpus.data.train,  # first: where none fits, rows are told, and not their copies
        "train": wide,
        "validation": corpus.data.validation,
        "test": corpus.data.test,
    }
    beside = {"places": True} if places else {}
    inputs = build.inputs(
        corpus.data.digest, corpus.kind, voice.digest, recipe.data.max_length, recipe.distil.augment, **beside
    )

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        told: list[str] = []
        for role, split in splits.items():
            speaker = Speaker(voice.tokenizer_json, voice.tokenizer_config, places=places and role == "train")
            bag = _write(split, role, corpus.kind, speaker, recipe.data.max_length, out, scratch, progress)
            # the rows of `train` are those of `plain`, each several times
            told += [fault.message for fault in bag.faults()] if role != "train" else []
        atomic.write_json(out / FAULTS, told)

    folder = build.step("tokens", "tokens", inputs, f"{len(wide):,} examples", do)
    for message in json.loads((folder / FAULTS).read_text(encoding="utf-8")):
        build.stages.say(f"[yellow]{whose}{message}[/]")
    found: dict[str, Any] = {role: opened(folder / role) for role in splits}
    places_M = np.load(folder / PLACES) if places else None
    return Rows(**found, digest=digest.of_value([corpus.data.digest, voice.digest, folder.name]), places_M=places_M)


def within(rows: Rows, tokens: int) -> tuple[Rows, int]:
    """Rows whose passes show about `tokens` tokens, to half a row a pass, and the number of passes.

    All rows in one pass, and part of them where that is more; several passes over equally many where it is less.
    """
    whole, count = rows.train, len(rows.train.ids_NT)
    each = int((np.asarray(whole.documents_NT) > 0).sum())
    passes = -(-tokens // each)
    some = min(count, max(1, round(count * tokens / (passes * each))))
    fields = whole.ids_NT, whole.documents_NT, whole.learnt_NT
    train = Packed(*(array[:some] for array in fields))
    return replace(rows, train=train, digest=digest.of_value([rows.digest, some])), passes


def _write(
    split: Split, role: str, kind: Kind, speaker: Speaker, context: int, out: Path, scratch: Path, progress: Progress
) -> Bag:
    aside, bag, called = scratch / f"{role}-documents", Bag(), "train" if role == "plain" else role
    writing.write(split, kind, speaker, aside, context=context, role=called, bag=bag, progress=progress)
    found = documents(aside)
    pack(found, context, folder=out / role)
    if speaker.places:
        # packed alike, the tokens' numbers end up where the tokens did
        numbers = Ragged(np.arange(found.tokens), found.ids.offsets)
        order = pack(Documents(numbers, found.learnt), context)
        np.save(out / PLACES, np.load(aside / PLACES)[order.ids_NT[order.learnt_NT]])
    return bag


def prompts(corpus: Corpus, split: Split) -> tuple[list[Any], list[str]]:
    """What is asked of each example, as the kin takes it, and the answer that people gave; texts have no prompt."""
    if corpus.kind == "pairs":
        asked, answers = zip(*split.texts, strict=True) if len(split) else ((), ())
        return list(asked), list(answers)
    if corpus.kind == "chat":
        chats: Sequence[list[dict[str, str]]] = [json.loads(str(text)) for text in split.texts]
        return [chat[:-1] for chat in chats], [chat[-1]["content"] for chat in chats]
    return [], []
