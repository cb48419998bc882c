"""What building a kin that writes will take on this machine, step by step. Called by check_writing.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from tokenizers import Tokenizer

from minikin.base import decoders
from minikin.base.types import Student
from minikin.base.writing import Packed
from minikin.commands import check
from minikin.plan.forecast import MIB, Decoder, asking_s, memory_mib, training_mib, training_s, weights_mib
from minikin.recipe import ladder
from minikin.recipe.ladder import DecoderShape
from minikin.report import words
from minikin.steps.context import Build
from minikin.steps.generate import aims, learn
from minikin.steps.generate.ask import MOST_PROMPTS, Told
from minikin.steps.generate.learn import Plan
from minikin.steps.generate.material import Rows, Voice
from minikin.steps.generate.ship import AUTO, TRIED_PROMPTS


class Costs:
    """The forecast of each step of one build: of its student `plan`, and of a teacher that `came` or is grown."""

    def __init__(self, build: Build, told: Told, came: Student | None, plan: Plan, voice: Voice, rows: Rows):
        recipe, spec = build.recipe, build.recipe.teacher
        self.build, self.corpus, self.plan, self.given = build, told.corpus, plan, rows
        self.machine = check.measured(build.threads)
        self.count, self.tokens = len(rows.train.ids_NT), _each(_used(rows.train), rows.train)
        self.live, self.adapters = aims.live(recipe), recipe.train.adapter is not None
        pieces = Tokenizer.from_str(voice.tokenizer_json).get_vocab_size()
        self.student = self._decoder(plan.shape, pieces, rows.train, recipe.train.checkpointing)
        self.its, self.teacher, self.tuning = (rows.taught or rows).train, None, None
        self.its_tokens, self.asking_s = _each(_used(self.its), self.its), 0.0
        if spec is not None and (came or spec.size):
            sizes = decoders.sizes(came.config) if came else ladder.decoder(str(spec.size))
            self.teacher = self._decoder(sizes, int(came.config["vocab_size"]) if came else pieces, self.its)
            self.asking_s = asking_s(self.teacher, len(self.its.ids_NT), self.its_tokens, self.machine)
            self.least = 0.6 if came else 1.0  # tuning stops early where the teacher came with weights
            self.tuning = learn.tuning(build, spec, came, rows) if spec.fit or not came else None
        alone = self.teacher is not None or told.people is not None
        self.control = alone and recipe.distil.without_teacher and not recipe.gate.skip_control

    def _decoder(self, sizes: Any, pieces: int, packed: Packed, checkpointing: bool = False) -> Decoder:
        s = sizes
        shape = DecoderShape(s.layers, s.hidden, s.heads, s.groups, s.feed_forward, getattr(s, "tied", True))
        reads = any(o.name == "prompt" for o in self.build.recipe.distil.objectives)
        return Decoder(
            *(s.layers, s.hidden, s.feed_forward, pieces, 0),
            inner=shape.weights,
            learnt=_each(_used(packed) if reads else packed.learnt_NT, packed),
            tied=shape.tied,
            checkpointing=checkpointing,
        )

    def rows(self) -> list[tuple[str, str, str]]:
        """The steps with their forecast, the sum, memory and disk."""
        return [*check.summed([*self._teacher(), *self._student(), *self._measuring()]), *self._room()]

    def _teacher(self) -> list[check.Step]:
        steps: list[check.Step] = []
        spec = self.build.recipe.teacher
        if self.teacher is not None and spec is not None and spec.follow:
            batch = learn.rows_for(spec.batch, self.its)
            took = training_s(self.teacher, len(self.its.ids_NT), spec.follow, batch, self.its_tokens, self.machine)
            took += spec.follow * self.asking_s
            steps.append(("follow", took, took, f"the encoder it is made of, {words.count(spec.follow, 'epoch')}"))
        if self.teacher is not None and (how := self.tuning) is not None:
            took = training_s(self.teacher, len(self.its.ids_NT), how.epochs, how.batch, self.its_tokens, self.machine)
            steps.append(("tune", took * self.least, took, f"the teacher, {words.count(how.epochs, 'epoch')} at most"))
        if self.teacher is not None and not self.live:
            learnt = int(np.asarray(self.its.learnt_NT).sum())
            kept = learn.kept_of(self.build, self.teacher.vocabulary)
            what = f"{kept.k} random draws" if kept.kind == "sampled" else f"the {kept.k} likeliest"
            steps.append(("signals", self.asking_s, self.asking_s, f"its word on {learnt:,} tokens, {what} of each"))
        return steps

    def _student(self) -> list[check.Step]:
        steps: list[check.Step] = []
        wanted = [("distil", 1.0, "the student")]
        if self.control:
            share = learn.control_share(self.build, self.plan, self.given)
            wanted.append(("control", share, "the student without the teacher"))
        for name, share, what in wanted:
            rows, how = learn.lesson(self.build, self.plan, self.given, share)
            count = len(rows.train.ids_NT)
            took = training_s(
                self.student, count, how.epochs, how.batch, self.tokens, self.machine, adapters=self.adapters
            )
            if self.live and name == "distil":
                took += how.epochs * self.asking_s * count / self.count
                what += ", the teacher beside it"
            again = self.build.recipe.prune.recovery_epochs if self.build.recipe.prune.cuts else 0
            what += f", {words.count(how.epochs, 'epoch')}" + (f" and {again} after the cut" if again else "")
            took *= 1 + again / how.epochs
            steps.append((name, took, took, what))
        return steps

    def _measuring(self) -> list[check.Step]:
        data, plain, examples = self.corpus.data, self.given.plain, len(self.corpus.data.train)
        read = float(_used(plain).sum()) / examples
        written = 0.0 if self.corpus.kind == "text" else float(np.asarray(plain.learnt_NT).sum()) / examples
        # each text is read once more, for its likelihood
        one, its = (
            0.0 if shape is None else shape.answer_s(2 * read, written, self.machine, self.build.threads)
            for shape in (self.student, self.teacher)
        )
        steps: list[check.Step] = []
        if self.build.recipe.quantize == "auto":
            tried = len(AUTO) * min(TRIED_PROMPTS, len(data.validation)) * one
            steps.append(("quantize", tried, tried, f"{len(AUTO)} mixes on validation examples"))
        count = min(MOST_PROMPTS, len(data.test))
        gate = count * (one * (1 + self.control) + its)
        return [*steps, ("gate", gate, gate, f"everything on {words.count(count, 'test example')}")]

    def _room(self) -> list[tuple[str, str, str]]:
        teacher = self.teacher
        batch = learn.lesson(self.build, self.plan, self.given)[1].batch
        peaks = [training_mib(self.student, batch, self.tokens, adapters=self.adapters)]
        disk = []
        if teacher is not None:
            peaks[0] += weights_mib(teacher) if self.live else 0.0
            peaks.append(
                training_mib(teacher, self.tuning.batch, self.its_tokens) if self.tuning else weights_mib(teacher)
            )
            record = learn.kept_of(self.build, teacher.vocabulary).record(teacher.vocabulary)
            stored = words.mib(record.itemsize * float(np.asarray(self.its.learnt_NT).sum()) / MIB)
            disk = [] if self.live else [("disk", stored, "the teacher's signals in the run folder")]
        return [("memory", words.mib(memory_mib(*peaks), 2), "peak of the build"), *disk]


def _used(packed: Packed) -> Any:
    return np.asarray(packed.documents_NT) > 0


def _each(wanted_NT: Any, packed: Packed) -> float:
    """How many such tokens a row has, on average."""
    return float(np.asarray(wanted_NT).sum()) / len(packed.ids_NT)
