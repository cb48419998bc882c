"""The checkpoints that a build begins from, teacher's and student's own, in the same tokens where they can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from minikin.base.errors import TeacherError, UserError
from minikin.base.joined import evenly, sides
from minikin.base.types import Array, Student
from minikin.compress import vocabulary
from minikin.compress.pieces import FAMILIES
from minikin.data.generate import Corpus
from minikin.feed.align import align
from minikin.feed.speech import Speaker
from minikin.package.gguf_spec import byte_level
from minikin.recipe.consistent import OF_ENCODERS
from minikin.steps.context import Build
from minikin.steps.generate import material, shipping
from minikin.teachers import causal, from_encoder
from minikin.teachers.resolve import Checkpoint, resolve
from minikin.teachers.rewriter import is_rewriter

PROBE_TEXTS = 256
ACROSS = ("uld", "gold", "prompt")
"""Objectives that need no token in common."""


@dataclass(frozen=True)
class _Read:
    """A checkpoint as it came, and after its vocabulary was cut to the pieces `kept_ids`."""

    whole: Student
    trimmed: Student
    kept_ids: Array


def own(build: Build) -> Checkpoint | None:
    """The files of the student's own checkpoint; None where the recipe names none."""
    model = build.recipe.student.model
    if not model:
        return None
    with build.stages.stage("student", f"finding {model}"), _called("student.model"):
        return resolve(model)


def found(
    build: Build, corpus: Corpus, checkpoint: Checkpoint | None, mine: Checkpoint | None
) -> tuple[Student | None, Student | None]:
    """Teacher and student as values, their vocabularies cut to what the data uses and a complete fallback.

    A teacher that has all tokens of a student's own checkpoint, which may be numbered or padded otherwise, is given
    in the student's, with the student's chat template. Raises UserError when one of them could never ship as GGUF, or
    when the recipe needs tokens in common and there are none.
    """
    if is_rewriter(checkpoint):
        checkpoint = None  # its text is all that it gives
    if mine is None:
        return (None if checkpoint is None else _read(build, corpus, checkpoint, "teacher").trimmed), None
    with _called("student.model"):
        base = _read(build, corpus, mine, "student")
    if checkpoint is None:
        return None, base.trimmed
    its = _read(build, corpus, checkpoint, "teacher")
    try:
        teacher_of_V = align(
            base.whole.tokenizer_json,
            its.whole.tokenizer_json,
            int(base.whole.config["vocab_size"]),
            int(its.whole.config["vocab_size"]),
            evenly(list(sides(corpus.data.train.texts)), PROBE_TEXTS),
        )
    except UserError as error:
        _refuse_apart(build, corpus, error)
        build.stages.say("teacher and student have different tokenizers")
        return its.trimmed, base.trimmed
    return _in_tokens_of(base, its.whole, teacher_of_V), base.trimmed


def _read(build: Build, corpus: Corpus, checkpoint: Checkpoint, whose: str) -> _Read:
    with build.stages.stage(whose, "its vocabulary"):
        if from_encoder.is_encoder(checkpoint):
            return _out_of_encoder(build, corpus, checkpoint, whose)
        _refuse_as_decoder(build, checkpoint, whose)
        whole = causal.read(checkpoint, build.recipe.data.max_length)
        shipping.refuse_unknown(whole.tokenizer_json, whole.config, whose)
        if not vocabulary.can_trim(whole.tokenizer_json, tuple(FAMILIES)):
            return _Read(whole, whole, np.arange(int(whole.config["vocab_size"])))
        speaker = Speaker(whole.tokenizer_json, whole.tokenizer_config)
        ids = [spoken.ids_T for spoken in material.spoken(speaker, corpus, corpus.data.train.texts)]
        kept, kept_ids = _trimmed(whole.tokenizer_json, np.concatenate(ids), build.recipe.student.vocabulary)
        build.stages.say(f"{len(kept_ids):,} of {int(whole.config['vocab_size']):,} pieces stay")
        return _Read(whole, vocabulary.apply(whole, kept_ids, kept), kept_ids)


def _trimmed(tokenizer_json: str, ids: Array, keep: int | None) -> tuple[str, Array]:
    """A tokenizer with the pieces that occur, at most `keep` of them, and the ids that stay.

    Raises UserError, with the least number that would do, for so few that bytes alone are left and none is merged.
    """
    kept, kept_ids = vocabulary.trim(tokenizer_json, [], keep=keep, ids=ids)
    if keep is None or not _unmerged(kept):
        return kept, kept_ids
    more = len(kept_ids) + 1
    while _unmerged(vocabulary.trim(tokenizer_json, [], keep=more, ids=ids)[0]) and more < keep + len(ids):
        more += 1
    raise UserError(
        f"student.vocabulary: {keep} pieces would all be bytes and special tokens, and llama.cpp asks for a merge. "
        f"Give at least {more}."
    )


def _unmerged(tokenizer_json: str) -> bool:
    """Whether a tokenizer is a byte-level BPE that has no merges."""
    spec = json.loads(tokenizer_json)
    return byte_level(spec) and not spec["model"]["merges"]


def _refuse_as_decoder(build: Build, checkpoint: Checkpoint, whose: str) -> None:
    """What the recipe says of an encoder as teacher would go unheard."""
    spec = build.recipe.teacher
    for key in OF_ENCODERS if spec and whose == "teacher" else ():
        if getattr(spec, key):
            raise UserError(
                f"teacher.{key} is of encoders that become decoders, and {checkpoint.name} is a decoder. Leave it out."
            )


def _out_of_encoder(build: Build, corpus: Corpus, checkpoint: Checkpoint, whose: str) -> _Read:
    """An encoder as a decoder, over pieces learnt from the training texts: those of an encoder write no text."""
    voice, spec = material.fresh_voice(build, corpus), build.recipe.teacher
    speaker = Speaker(voice.tokenizer_json, voice.tokenizer_config)
    spoken = material.spoken(speaker, corpus, evenly(corpus.data.train.texts, PROBE_TEXTS))
    made = from_encoder.read(
        checkpoint,
        voice.tokenizer_json,
        voice.tokenizer_config,
        [document.ids_T for document in spoken],
        layers=spec.layers if spec and whose == "teacher" else None,
        context=build.recipe.data.max_length,
        dropout=build.recipe.train.dropout,
    )
    layers, pieces = int(made.config["n_layer"]), int(made.config["vocab_size"])
    build.stages.say(f"an encoder: its first {layers} layers become a decoder over {pieces:,} pieces of its own")
    return _Read(made, made, np.arange(pieces))


def _in_tokens_of(student: _Read, teacher: Student, teacher_of_V: Array) -> Student:
    """The teacher with the student's tokens alone, in their order: what it says is its distribution over those."""
    mine, teacher_ids = student.trimmed, teacher_of_V[student.kept_ids]
    if (teacher_ids < 0).any():
        raise UserError(
            "student.model: its table has rows that stand for no token, and its kind of tokenizer can't be cut to "
            "those that do. Leave student.model out, or give one with a BPE or Unigram tokenizer."
        )
    moved = vocabulary.apply(teacher, teacher_ids, mine.tokenizer_json)
    ends = {key: mine.config.get(key) for key in vocabulary.TOKEN_IDS if key in moved.config}
    return replace(moved, config=dict(moved.config) | ends, tokenizer_config=mine.tokenizer_config)


def _refuse_apart(build: Build, corpus: Corpus, why: UserError) -> None:
    """Refuse what would be wrong between two tokenizers. Raises UserError with the reason and what to do."""
    recipe = build.recipe
    needing: list[str] = [o.name for o in recipe.distil.objectives if o.name not in ACROSS]
    needing += ["distil.on_policy"] if recipe.distil.on_policy else []
    if needing:
        raise UserError(
            f"{why} In the recipe: distil.objectives: [{{name: uld}}, {{name: gold}}] in place of {', '.join(needing)}."
        ) from why
    if corpus.kind == "text" and recipe.budget.keep is not None:
        raise UserError(
            "budget.keep compares perplexities, and those of different tokenizers can't be compared. Leave it out."
        ) from why


@contextmanager
def _called(key: str) -> Iterator[None]:
    """Tell what is wrong with a checkpoint by the recipe's key, which is the teacher's unless said."""
    try:
        yield
    except TeacherError as error:
        raise TeacherError(str(error).replace("teacher: ", f"{key}: ", 1)) from error
