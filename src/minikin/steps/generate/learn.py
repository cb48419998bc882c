"""From a teacher to a trained decoder: found or grown, tuned, asked once, and the student that learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base import digest
from minikin.base.types import Packed, Progress, Student, TokenSignals
from minikin.compress import prune_decoder, vocabulary
from minikin.compress.pieces import FAMILIES
from minikin.data.generate import Corpus
from minikin.feed.causal import CausalModule
from minikin.feed.decoder import Asked
from minikin.recipe import ladder
from minikin.recipe.ladder import DecoderShape
from minikin.recipe.schema import Objective as ObjectiveSpec
from minikin.steps.context import Build
from minikin.steps.generate import material, shipping
from minikin.steps.generate.material import Rows, Voice
from minikin.steps.teach import epochs_for, in_bfloat16, threads
from minikin.students import decoder, store
from minikin.teachers import token_signals
from minikin.teachers.causal import CausalTeacher
from minikin.teachers.resolve import Checkpoint, resolve
from minikin.train.loop import Settings
from minikin.train.sequence import distil
from minikin.train.token_objectives import TokenObjective

PASSES = {"teacher": 60_000, "student": 120_000}
"""Examples to see in training, when the recipe names no number of epochs."""

CONTROL_SHARE = 0.5
"""Examples (or tokens) that the control sees, as a share of those that the student sees."""

RATES = {"grown": 2e-3, "cut": 1e-3, "tuned": 2e-4}
PROBE_ROWS = 32


@dataclass(frozen=True)
class Plan:
    """What is to be made: from nothing, or cut from the teacher, in which shape."""

    start: str
    shape: DecoderShape

    @property
    def name(self) -> str:
        """Readable: `grown 5x192/512, 6 heads on 2`."""
        s = self.shape
        return f"{self.start} {s.layers}x{s.hidden}/{s.feed_forward}, {s.heads} heads on {s.groups}"


def resolved(build: Build) -> Checkpoint | None:
    """The files of the checkpoint that the recipe names; None where a teacher is grown, or there is none."""
    spec = build.recipe.teacher
    if spec is None or not spec.model:
        return None
    with build.stages.stage("teacher", f"finding {spec.model}"):
        return resolve(spec.model, spec.revision)


def found(build: Build, corpus: Corpus, checkpoint: Checkpoint | None) -> Student | None:
    """A checkpoint as a value, its vocabulary cut to what the data uses and a complete fallback; None stays None.

    Raises UserError when it could never ship as GGUF.
    """
    if checkpoint is None:
        return None
    with build.stages.stage("teacher", "its vocabulary"):
        came = CausalTeacher(checkpoint, build.recipe.data.max_length)
        shipping.refuse_unknown(came.tokenizer_json, came.module.model.config.to_dict())
        whole = came.as_student()
        if not vocabulary.can_trim(whole.tokenizer_json, tuple(FAMILIES)):
            return whole
        ids = [spoken.ids_T for spoken in material.spoken(came.speaker, corpus, corpus.data.train.texts)]
        kept, kept_ids = vocabulary.trim(
            whole.tokenizer_json, [], keep=build.recipe.student.vocabulary, ids=np.concatenate(ids)
        )
        build.stages.say(f"{len(kept_ids):,} of {_pieces(whole):,} pieces stay")
        return vocabulary.apply(whole, kept_ids, kept)


def about(build: Build, checkpoint: Checkpoint | None) -> dict[str, str | None] | None:
    """What the manifest says of the teacher."""
    if checkpoint is not None:
        return checkpoint.about()
    spec = build.recipe.teacher
    if spec is None:
        return None
    name = f"{spec.size} decoder, grown on the same data"
    return {"name": name, "licence": None, "weights_sha256": None, "source": "grown"}


def grown(build: Build, shape: DecoderShape, voice: Voice, seed: int) -> Student:
    """A decoder with fresh weights over a voice's pieces."""
    from tokenizers import Tokenizer

    pieces = Tokenizer.from_str(voice.tokenizer_json)
    ends: dict[str, Any] = {
        key: pieces.token_to_id(str(voice.tokenizer_config.get(f"{key}_token"))) for key in ("bos", "eos", "pad")
    }
    config = decoder.config_of(
        **shape._asdict(),
        vocabulary=pieces.get_vocab_size(),
        max_length=build.recipe.data.max_length,
        **ends,
    )
    return decoder.grow(config, voice.tokenizer_json, voice.tokenizer_config, seed)


def tuned(build: Build, came: Student | None, voice: Voice, rows: Rows) -> Student | None:
    """The teacher, tuned on people's answers: the checkpoint, or one grown on this data alone."""
    spec = build.recipe.teacher
    if spec is None or (came is not None and not spec.fit):
        return came
    named = "learning_rate" in spec.model_fields_set
    settings = Settings(
        epochs=spec.epochs or epochs_for(len(rows.train.ids_NT), PASSES["teacher"], 3, 40),
        batch=_rows_for(spec.batch, rows.train),
        learning_rate=spec.learning_rate if came or named else RATES["grown"],
        patience=build.recipe.train.patience if came else None,
        bfloat16=in_bfloat16(spec),
        seed=build.recipe.seed,
    )
    before = came or grown(build, ladder.decoder(str(spec.size)), voice, build.recipe.seed)
    inputs = build.inputs(rows.digest, asdict(settings), dict(before.config), digest.of_arrays(before.tensors))

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        objectives = [TokenObjective("gold")]
        store.save(trained(build, before, rows, objectives, None, settings, scratch, progress), out)

    words = f"{'tuning' if came else 'growing'} for {settings.epochs} epochs"
    return store.load(build.step("tune", "teacher", inputs, words, do))


def trained(
    build: Build,
    student: Student,
    rows: Rows,
    objectives: Sequence[TokenObjective],
    signals: TokenSignals | None,
    settings: Settings,
    scratch: Path,
    progress: Progress,
) -> Student:
    """Train a decoder on the packed rows; cross-entropy on the validation rows picks the epoch."""
    module = CausalModule.of(student)
    with threads(build.threads):
        distil(
            module.model,
            rows.train,
            objectives,
            settings,
            source=signals,
            validation=rows.validation,
            scratch=scratch,
            progress=progress,
        )
    return module.to_student(student)


def asked(build: Build, teacher: Student, rows: Rows) -> TokenSignals:
    """Ask the teacher about every token that is learnt, once, and open what it said."""
    weights = digest.of_arrays(teacher.dequantized().tensors)
    kept = token_signals.Kept(k=min(build.recipe.distil.top_k, _pieces(teacher)), temperature=_temperature(build))
    inputs = build.inputs(weights, rows.digest, asdict(kept))

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        with threads(build.threads):
            model = CausalModule.of(teacher).model
            token_signals.collect(
                Asked(model, digest=weights), rows.train, out, kept, scratch=scratch / "shards", progress=progress
            )

    words = f"asking about {int(np.asarray(rows.train.learnt_NT).sum()):,} tokens"
    return token_signals.read(build.step("signals", "signals", inputs, words, do), rows.train)


def _pieces(student: Student) -> int:
    return int(student.config["vocab_size"])


def _temperature(build: Build) -> float:
    return next((o.temperature for o in build.recipe.distil.objectives if o.name != "gold"), 1.0)


def objectives_of(specs: Sequence[ObjectiveSpec]) -> list[TokenObjective]:
    """The recipe's terms as decoders take them."""
    return [TokenObjective(o.name, o.weight, 1.0 if o.name == "gold" else o.temperature) for o in specs]


def made(build: Build, plan: Plan, teacher: Student | None, voice: Voice, rows: Rows) -> Student:
    """An untrained student of a plan's shape, with everything that it can inherit."""
    if plan.start == "grown" or teacher is None:
        return grown(build, plan.shape, voice, build.student_seed)
    plain = rows.plain
    sample = Packed(*(np.asarray(a[:PROBE_ROWS]) for a in (plain.ids_NT, plain.documents_NT, plain.learnt_NT)))
    s = plan.shape
    return prune_decoder.to_shape(
        teacher,
        decoder.probe(teacher, sample),
        layers=s.layers,
        hidden=s.hidden,
        groups=s.groups,
        feed_forward=s.feed_forward,
    )


def lesson(build: Build, plan: Plan, rows: Rows, share: float = 1.0) -> tuple[Rows, Settings]:
    """What a student learns from and how; `share` of its usual passes, or of its budget of tokens."""
    recipe = build.recipe
    if recipe.distil.tokens is not None:
        rows, epochs = material.within(rows, max(1, round(recipe.distil.tokens * share)))
    else:
        usual = epochs_for(len(rows.train.ids_NT), PASSES["student"], 4, 60)
        epochs = max(1, round((recipe.distil.epochs or recipe.train.epochs or usual) * share))
    settings = Settings(
        epochs=epochs,
        batch=_rows_for(recipe.train.batch, rows.train),
        learning_rate=recipe.train.learning_rate or RATES[plan.start],
        seed=build.student_seed,
    )
    return rows, settings


def _rows_for(examples: int, packed: Packed) -> int:
    """Rows that hold about so many examples: several documents share one."""
    documents = float(np.asarray(packed.documents_NT).max(1).mean())
    return max(1, round(examples / max(1.0, documents)))


def distilled(
    build: Build, plan: Plan, teacher: Student | None, voice: Voice, rows: Rows, signals: TokenSignals | None
) -> Student:
    """The student, trained in full on what the teacher said (or on people's answers alone)."""
    objectives = objectives_of(build.recipe.distil.objectives)
    before = made(build, plan, teacher, voice, rows)
    rows, settings = lesson(build, plan, rows)
    inputs = build.inputs(
        rows.digest,
        None if signals is None else signals.digest,
        [asdict(o) for o in objectives],
        asdict(settings),
        dict(before.config),
        digest.of_arrays(before.tensors),
    )

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        store.save(trained(build, before, rows, objectives, signals, settings, scratch, progress), out)

    return store.load(build.step("distil", "student", inputs, f"{plan.name}, {settings.epochs} epochs", do))


def control(build: Build, plan: Plan, came: Student | None, voice: Voice, rows: Rows) -> Student:
    """The same shape without the teacher's signals: people's answers alone, from the checkpoint as it was found."""
    start = plan if came is not None else replace(plan, start="grown")
    before = made(build, start, came, voice, rows)
    rows, settings = lesson(build, start, rows, CONTROL_SHARE)
    inputs = build.inputs(rows.digest, asdict(settings), dict(before.config), digest.of_arrays(before.tensors))

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        gold = [TokenObjective("gold")]
        store.save(trained(build, before, rows, gold, None, settings, scratch, progress), out)

    return store.load(build.step("control", "control", inputs, f"without the teacher, {settings.epochs} epochs", do))
