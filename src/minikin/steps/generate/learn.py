"""From a teacher to a trained decoder: found or grown, tuned, asked once, and the student that learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base import atomic, decoders, digest
from minikin.base.types import Progress, Student
from minikin.base.writing import Packed, TokenSignals
from minikin.compress import prune_decoder
from minikin.feed.align import matched
from minikin.feed.causal import model_of, state
from minikin.feed.decoder import Asked
from minikin.recipe import ladder
from minikin.recipe.consistent import PEOPLES
from minikin.recipe.ladder import DecoderShape
from minikin.recipe.schema import TeacherSpec, TrainSpec
from minikin.steps.context import Build
from minikin.steps.generate import aims, material
from minikin.steps.generate.material import Rows, Voice
from minikin.steps.teach import PATIENCE, epochs_for, in_bfloat16, threads
from minikin.students import adapters, decoder, store
from minikin.teachers import token_signals
from minikin.teachers.resolve import Checkpoint, resolve
from minikin.train.loop import History, Settings
from minikin.train.on_policy import OnPolicy
from minikin.train.sequence import distil
from minikin.train.token_objectives import Source, TokenObjective

PASSES = {"teacher": 60_000, "student": 120_000}
"""Examples to see in training, when the recipe names no number of epochs."""

RATES = {"grown": 2e-3, "cut": 1e-3, "tuned": 2e-4, "adapter": 1e-3}
PROBE_ROWS = 32
HISTORY = "history.json"


@dataclass(frozen=True)
class Plan:
    """What is to be made: `grown` from nothing, `cut` from a checkpoint, or one `tuned` as it is; in which shape."""

    start: str
    shape: DecoderShape

    @property
    def name(self) -> str:
        """Readable: `grown 5x192/512, 6 heads on 2`."""
        s = self.shape
        return f"{self.start} {s.layers}x{s.hidden}/{s.feed_forward}, {s.heads} heads on {s.groups}"


def resolved(build: Build) -> Checkpoint | None:
    """The files of the checkpoint that the recipe names; None where a teacher is grown, far away, or there is none."""
    spec = build.recipe.teacher
    if spec is None or spec.endpoint or not spec.model:
        return None
    with build.stages.stage("teacher", f"finding {spec.model}"):
        return resolve(spec.model, spec.revision)


def about(build: Build, checkpoint: Checkpoint | None) -> dict[str, str | None] | None:
    """What the manifest says of the teacher."""
    if checkpoint is not None:
        return checkpoint.about()
    spec = build.recipe.teacher
    if spec is None:
        return None
    if spec.endpoint:
        return {"name": f"{spec.model} (its text)", "licence": None, "weights_sha256": None, "source": "endpoint"}
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
    """The teacher, tuned on people's answers: the checkpoint, or one grown on this data alone.

    None where there is none, or only the text of one.
    """
    spec = build.recipe.teacher
    if spec is None or (not spec.fit if came is not None else not spec.size):
        return came
    its, settings = rows.taught or rows, tuning(build, spec, came, rows)
    before = came or grown(build, ladder.decoder(str(spec.size)), voice, build.recipe.seed)
    weights, dropout = digest.of_arrays(before.tensors), dropout_of(build, is_grown=came is None)
    gold = aims.peoples(build.recipe)
    aim = [asdict(o) for o in gold]
    inputs = build.inputs(its.digest, aim, asdict(settings), dict(before.config), weights, dropout)

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        student, _ = trained(build, before, its, gold, None, settings, scratch, progress, dropout=dropout)
        store.save(student, out)

    words = f"{'tuning' if came else 'growing'} for {settings.epochs} epochs"
    return store.load(build.step("tune", "teacher", inputs, words, do))


def tuning(build: Build, spec: TeacherSpec, came: Student | None, rows: Rows) -> Settings:
    """How a teacher is tuned, or grown where none `came`."""
    named, its = "learning_rate" in spec.model_fields_set, rows.taught or rows
    return Settings(
        epochs=spec.epochs or epochs_for(len(its.train.ids_NT), PASSES["teacher"], 3, 40),
        batch=rows_for(spec.batch, its.train),
        learning_rate=spec.learning_rate if came or named else RATES["grown"],
        patience=build.recipe.train.patience or (PATIENCE if came else None),
        bfloat16=in_bfloat16(spec),
        seed=build.recipe.seed,
    )


def dropout_of(build: Build, *, is_grown: bool) -> float:
    """Share of values zeroed while a decoder is grown; running text has no use for it, since little of it is seen
    twice."""
    return build.recipe.train.dropout if is_grown and build.recipe.data.kind != "text" else 0.0


def trained(
    build: Build,
    student: Student,
    rows: Rows,
    objectives: Sequence[TokenObjective],
    source: Source,
    settings: Settings,
    scratch: Path,
    progress: Progress,
    *,
    train: TrainSpec | None = None,
    own: OnPolicy | None = None,
    dropout: float = 0.0,
) -> tuple[Student, History]:
    """Train a decoder on the packed rows; cross-entropy on the validation rows picks the epoch.

    `train` says how a student is trained beside its settings, with adapters, which are merged, or checkpointing.
    """
    model = model_of(student)
    adapter = train.adapter if train else None
    if adapter:
        scale = (adapter.alpha or 2 * adapter.rank) / adapter.rank
        beside = adapters.adapted(model, adapter.rank, scale=scale, dora=adapter.kind == "dora", seed=settings.seed)
    with threads(build.threads):
        history = distil(
            model,
            rows.train,
            objectives,
            settings,
            source=source,
            own=own,
            validation=rows.validation,
            dropout=dropout,
            checkpointing=bool(train and train.checkpointing),
            scratch=scratch,
            progress=progress,
        )
    if adapter:
        model = adapters.merged(beside)
    return replace(student, tensors=state(model), scheme="fp32"), history


def asked(build: Build, teacher: Student, rows: Rows) -> TokenSignals | Student:
    """Ask the teacher about every token that is learnt, once, and open what it said.

    Returns the teacher itself where it must be there while the student learns: for what the student writes, and for
    what is inside it.
    """
    if aims.live(build.recipe):
        return teacher
    weights = digest.of_arrays(teacher.dequantized().tensors)
    kept = kept_of(build, _pieces(teacher))
    its = rows.taught or rows
    inputs = build.inputs(weights, its.digest, asdict(kept))

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        with threads(build.threads):
            its_model = Asked(model_of(teacher), digest=weights)
            shards = scratch / "shards"
            token_signals.collect(its_model, its.train, out, kept, scratch=shards, progress=progress)

    of_each = f"{kept.k} {'random draws' if kept.kind == 'sampled' else 'likeliest'} of each"
    words = f"asking about {int(np.asarray(its.train.learnt_NT).sum()):,} tokens, {of_each}"
    found = token_signals.read(build.step("signals", "signals", inputs, words, do), its.train)
    if its is rows:
        return found
    match_M = matched(np.asarray(rows.places_M), np.asarray(its.places_M))
    build.stages.say(f"{(match_M >= 0).mean():.0%} of the student's tokens begin where one of the teacher's does")
    return token_signals.realigned(found, rows.train, match_M)


def kept_of(build: Build, pieces: int) -> token_signals.Kept:
    """What is kept of each distribution over so many pieces."""
    distil = build.recipe.distil
    if distil.signals == "sampled":
        return token_signals.Kept("sampled", distil.top_k, aims.temperature(build.recipe), seed=build.recipe.seed)
    return token_signals.Kept(k=min(distil.top_k, pieces), temperature=aims.temperature(build.recipe))


def _pieces(student: Student) -> int:
    return int(student.config["vocab_size"])


def made(build: Build, plan: Plan, origin: Student | None, voice: Voice, rows: Rows) -> Student:
    """An untrained student of a plan's shape, with everything that it can inherit from the checkpoint `origin`."""
    if plan.start == "grown" or origin is None:
        return grown(build, plan.shape, voice, build.student_seed)
    if plan.start == "tuned":
        return origin
    s = plan.shape
    return cut(origin, rows, layers=s.layers, hidden=s.hidden, groups=s.groups, feed_forward=s.feed_forward)


def cut(origin: Student, rows: Rows, **shape: int | None) -> Student:
    """What matters least for the answers is left out of a decoder, until it has this shape."""
    plain = rows.plain
    sample = Packed(*(np.asarray(a[:PROBE_ROWS]) for a in (plain.ids_NT, plain.documents_NT, plain.learnt_NT)))
    return prune_decoder.to_shape(origin, decoder.probe(origin, sample), **shape)


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
        batch=rows_for(recipe.train.batch, rows.train),
        learning_rate=recipe.train.learning_rate or RATES["adapter" if recipe.train.adapter else plan.start],
        patience=recipe.train.patience,
        bfloat16=in_bfloat16(recipe.train),
        seed=build.student_seed,
    )
    return rows, settings


def control_share(build: Build, plan: Plan, rows: Rows) -> float:
    """Tokens that the control sees, as a share of those that the student sees.

    As many, and those that the teacher was tuned on too where the student, of this plan, begins as the tuned teacher or
    a cut of it, whatever the control itself begins as.
    """
    spec, own = build.recipe.teacher, build.recipe.student.model
    if plan.start == "grown" or own or spec is None or spec.endpoint or not spec.fit:
        return 1.0
    its, how = lesson(build, plan, rows)
    tuned = tuning(build, spec, None, rows).epochs * len((rows.taught or rows).train.ids_NT)
    return 1.0 + tuned / (how.epochs * len(its.train.ids_NT))


def rows_for(examples: int, packed: Packed) -> int:
    """Rows that hold about so many examples: several documents share one."""
    documents = float(np.asarray(packed.documents_NT).max(1).mean())
    return max(1, round(examples / max(1.0, documents)))


def distilled(
    build: Build, plan: Plan, origin: Student | None, voice: Voice, rows: Rows, said: TokenSignals | Student | None
) -> Student:
    """The student, trained in full on what the teacher said (or on people's answers alone).

    `origin` is the checkpoint that it begins as, or that it is cut from; `said` is what `asked` returned, or an
    endpoint's signals. Nothing said leaves the text to learn from.
    """
    before = made(build, plan, origin, voice, rows)
    rows, settings = lesson(build, plan, rows)
    words = f"{plan.name}, {settings.epochs} epochs"
    return store.load(taught(build, ("distil", "student", words), plan, before, voice, rows, settings, said))


def taught(
    build: Build,
    called: tuple[str, str, str],
    plan: Plan,
    before: Student,
    voice: Voice,
    rows: Rows,
    settings: Settings,
    said: TokenSignals | Student | None,
) -> Path:
    """The folder of a student that began as `before` and learnt what was said, with the history of its epochs.

    `called` are the stage, the name of its folder, and what to say meanwhile.
    """
    recipe = build.recipe
    teacher = said if isinstance(said, Student) else None
    objectives = aims.objectives(recipe, decoders.sizes(before.config).layers, teacher)
    if said is None:
        alone = [o for o in objectives if o.name in PEOPLES]
        objectives = alone if any(o.name == "gold" for o in alone) else aims.peoples(recipe)
    own = aims.own_answers(recipe, voice)
    more = {"own": own, "adapter": recipe.train.adapter and recipe.train.adapter.model_dump()}
    dropout = dropout_of(build, is_grown=plan.start == "grown")
    inputs = build.inputs(
        rows.digest,
        [recipe.distil.top_k, recipe.distil.signals],
        digest.of_arrays(teacher.tensors) if teacher else isinstance(said, TokenSignals) and said.digest,
        [asdict(o) for o in objectives],
        asdict(settings),
        dict(before.config),
        digest.of_arrays(before.tensors),
        dropout,
        # not whether it is checkpointed: a build that ran out of memory goes on with it
        **{key: value if isinstance(value, dict) else asdict(value) for key, value in more.items() if value},
    )

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        source = Asked(model_of(said)) if isinstance(said, Student) else said
        student, history = trained(
            build,
            before,
            rows,
            objectives,
            source,
            settings,
            scratch,
            progress,
            train=recipe.train,
            own=own,
            dropout=dropout,
        )
        store.save(student, out)
        atomic.write_json(out / HISTORY, asdict(history))

    stage, name, words = called
    return build.step(stage, name, inputs, words, do)


def control(build: Build, plan: Plan, origin: Student | None, voice: Voice, rows: Rows) -> Student:
    """The same shape without the teacher's signals: people's answers alone, from the checkpoint as it was found."""
    start = plan if origin is not None else replace(plan, start="grown")
    before = made(build, start, origin, voice, rows)
    rows, settings = lesson(build, start, rows, control_share(build, plan, rows))
    adapter = build.recipe.train.adapter
    more = {"adapter": adapter.model_dump()} if adapter else {}
    dropout = dropout_of(build, is_grown=start.start == "grown")
    weights = digest.of_arrays(before.tensors)
    gold = aims.peoples(build.recipe)
    aim = [asdict(o) for o in gold]
    inputs = build.inputs(rows.digest, aim, asdict(settings), dict(before.config), weights, dropout, **more)

    def do(out: Path, scratch: Path, progress: Progress) -> None:
        train = build.recipe.train
        student, _ = trained(build, before, rows, gold, None, settings, scratch, progress, train=train, dropout=dropout)
        store.save(student, out)

    return store.load(build.step("control", "control", inputs, f"without the teacher, {settings.epochs} epochs", do))
