"""A decoder made of an encoder learns to compute what the encoder computes, before it is tuned on the task."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from minikin.base import atomic, digest
from minikin.base.decoders import sizes
from minikin.base.errors import UserError
from minikin.base.types import Progress, Student
from minikin.feed.causal import model_of, state
from minikin.steps.context import Build
from minikin.steps.generate import learn
from minikin.steps.generate.material import Rows
from minikin.steps.teach import in_bfloat16, threads
from minikin.students import store
from minikin.teachers import from_encoder
from minikin.teachers.resolve import Checkpoint
from minikin.train.loop import Settings
from minikin.train.sequence import follow

RATE = 7e-4


def narrowed(build: Build, came: Student | None, rows: Rows) -> Student | None:
    """The teacher with as many neurons as the recipe says of it, those that matter most; as it came if it says nothing.

    Raises UserError when it has fewer.
    """
    spec = build.recipe.teacher
    if came is None or spec is None or spec.feed_forward is None:
        return came
    s = sizes(came.config)
    if spec.feed_forward > s.feed_forward:
        raise UserError(f"teacher.feed_forward: {spec.model} has {s.feed_forward} neurons, not {spec.feed_forward}.")
    shape = {"layers": s.layers, "hidden": s.hidden, "groups": s.groups, "feed_forward": spec.feed_forward}
    return learn.cut(came, rows.taught or rows, **shape)


def followed(build: Build, checkpoint: Checkpoint | None, came: Student | None, rows: Rows) -> Student | None:
    """The teacher after as many passes over what is learnt from as the recipe says; as it came where there are none."""
    spec = build.recipe.teacher
    if not (spec and spec.follow and checkpoint and came):
        return came
    its, before = rows.taught or rows, came
    settings = Settings(
        epochs=spec.follow,
        batch=learn.rows_for(spec.batch, its.train),
        learning_rate=RATE,
        weight_decay=0.0,
        bfloat16=in_bfloat16(spec),
        seed=build.recipe.seed,
    )
    inputs = build.inputs(its.digest, asdict(settings), digest.of_arrays(before.tensors), checkpoint.about())

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        model, original = model_of(before), from_encoder.Original(checkpoint, before)
        with threads(build.threads):
            history = follow(
                model,
                its.train,
                original.states,
                settings,
                validation=its.validation,
                scratch=scratch,
                progress=progress,
            )
        store.save(replace(before, tensors=state(model)), out)
        atomic.write_json(out / learn.HISTORY, asdict(history))

    folder = build.step("follow", "followed", inputs, f"following the encoder for {spec.follow} epochs", do)
    scores = json.loads((folder / learn.HISTORY).read_text(encoding="utf-8"))["scores"]
    if scores:
        build.stages.say(f"its states hold {1 + max(scores):.0%} of what the encoder's do, on texts held out")
    return store.load(folder)
