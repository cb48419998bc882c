"""Which decoder fits, and how its weights ship: packaged untrained to be measured, and trained to be compared."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from minikin.base import atomic, decoders
from minikin.base.errors import UserError
from minikin.base.joined import evenly
from minikin.base.types import Array, Student
from minikin.compress import prune_decoder
from minikin.compress.importance import importance
from minikin.data.generate import Corpus
from minikin.feed.causal import model_of
from minikin.feed.speech import Speaker
from minikin.measure import writing
from minikin.measure.writing import Likelihood
from minikin.package import decoder_kin, gguf_types
from minikin.recipe import ladder
from minikin.recipe.consistent import SHAPE
from minikin.recipe.ladder import DecoderShape
from minikin.recipe.read import dump
from minikin.recipe.schema import Recipe, StudentSpec
from minikin.report import words
from minikin.runtimes.author import Author, open_author
from minikin.steps.context import Build
from minikin.steps.generate import aims, learn, material, prune
from minikin.steps.generate.learn import Plan
from minikin.steps.generate.material import Rows, Voice, prompts
from minikin.teachers.resolve import Checkpoint

MIXES: Final[Mapping[str, str]] = {
    "iq2_xs": "IQ2_XS",
    "q2_k": "Q2_K",
    "iq3_s": "IQ3_S",
    "q3_k_m": "Q3_K_M",
    "iq4_nl": "IQ4_NL",
    "iq4_xs": "IQ4_XS",
    "q4_k_m": "Q4_K_M",
    "q5_k_m": "Q5_K_M",
    "q6_k": "Q6_K",
    "q8_0": "Q8_0",
    "f16": "F16",
}
"""What a recipe may ask for, from small to large."""

AUTO: Final = ("q4_k_m", "q6_k", "q8_0")
CUTS: Final = (0.75, 0.5, 0.375, 0.25, 0.125)
"""Shares of a checkpoint's layers, width, heads and neurons that a cut may keep."""

BLOCK: Final = 32
"""Widths are multiples of what files round by."""

HEAD: Final = 32
"""Usual width of a head of a new decoder."""

IMPORTANCE_TEXTS: Final = 256
TRIED_PROMPTS: Final = 200
CLOSE_EXACT: Final = 0.01
"""A smaller mix may lose so many exact answers of the held-out ones."""

CLOSE_PERPLEXITY: Final = 1.01


@contextmanager
def packaged_aside(
    student: Student,
    mix: str,
    kind: str,
    new_tokens: int,
    threads: int = 1,
    importance: Mapping[str, Array] | None = None,
) -> Iterator[Author]:
    """A decoder packaged like the kin into a temporary folder, and loaded."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        decoder_kin.write(
            folder,
            student,
            mix,
            kind=kind,
            new_tokens=new_tokens,
            recipe_yaml="",
            extra={},
            importance=importance,
        )
        yield open_author(folder, threads=threads, verify=False)


def planned(
    build: Build, corpus: Corpus, own: Student | None, teacher: Student | None, voice: Voice, rows: Rows
) -> tuple[Plan, list[dict[str, Any]]]:
    """Choose the student: of the shapes that fit the budget, measured untrained, the largest.

    It begins as the checkpoint `own`, or may be cut from that or from the teacher. Raises UserError when none fits,
    with the nearest that there is, and when it could not learn as the recipe says.
    """
    origin = own or teacher or _to_be_grown(build, voice)
    wanted, budget = candidates(build.recipe, origin), build.recipe.budget
    mix = MIXES.get(build.recipe.quantize, MIXES[AUTO[0]])
    front: list[dict[str, Any]] = []
    chosen: Plan | None = None
    with build.stages.stage("plan", f"measuring up to {len(wanted)} shapes, untrained") as progress:
        for i, plan in enumerate(wanted):
            progress(i / len(wanted), plan.name)
            try:
                untrained = prune.smaller(build.recipe, learn.made(build, plan, origin, voice, rows), rows)
            except UserError as error:
                front.append({**_row(plan, None), "state": "dropped", "reason": str(error)})
                continue
            # the file's size is the same for any importance
            matters = importance_of(untrained, corpus, texts=1) if gguf_types.MIXES[mix].needs_importance else None
            with packaged_aside(untrained, mix, corpus.kind, build.recipe.gate.new_tokens, 1, matters) as kin:
                size = kin.manifest.size_mib
            over = budget.size_mib is not None and size > budget.size_mib
            why = f"{size:.2f} MiB in {mix}, the budget {budget.size_mib:g}" if over else ""
            front.append({**_row(plan, size), "state": "dropped" if over else "winner", "reason": why})
            if not over:
                chosen = plan
                break
    if chosen is None:
        measured = [row for row in front if row["size_mib"] is not None]
        if not measured:
            raise UserError(f"No student can be made as the recipe says: {front[0]['reason']}")
        smallest = min(measured, key=lambda row: float(row["size_mib"]))
        raise UserError(
            f"No decoder fits {budget.size_mib:g} MiB: the smallest, {smallest['name']}, takes "
            f"{smallest['size_mib']:.2f} MiB. Raise budget.size_mib, or lower student.vocabulary."
        )
    pieces = int(untrained.config["vocab_size"])
    for layers in {chosen.shape.layers, decoders.sizes(untrained.config).layers}:
        aims.refuse(build.recipe, layers, pieces, teacher, voice)
    return chosen, front


def _to_be_grown(build: Build, voice: Voice) -> Student | None:
    """The teacher that a student will be cut from, as it begins; None unless it is grown first."""
    spec = build.recipe.teacher
    if build.recipe.student.start != "cut" or spec is None or not spec.size:
        return None
    return learn.grown(build, ladder.decoder(spec.size), voice, build.recipe.seed)


def _row(plan: Plan, size_mib: float | None) -> dict[str, Any]:
    """A candidate's row of the front, before anything is trained."""
    nothing = {"accuracy": None, "latency_ms_p50": None, "latency_ms_p95": None}
    return {"name": plan.name, "family": "decoder", "size_mib": size_mib, **nothing}


def candidates(recipe: Recipe, origin: Student | None) -> list[Plan]:
    """The shape that the student's own checkpoint has or that the recipe names, or the ladder from large to small."""
    spec = recipe.student
    start = spec.start if spec.start != "auto" else "grown" if origin is None else _start(recipe)
    if start == "tuned" and origin is not None:
        own = decoders.sizes(origin.config)
        return [Plan(start, DecoderShape(own.layers, own.hidden, own.heads, own.groups, own.feed_forward))]
    named = any(getattr(spec, key) is not None for key in SHAPE)
    if start == "cut" and origin is not None:
        return [Plan(start, shape) for shape in ([_cut_to(spec, origin)] if named else _cuts(origin))]
    return [Plan(start, shape) for shape in ([_grown_to(spec)] if named else reversed(ladder.DECODERS.values()))]


def _cut_to(spec: StudentSpec, origin: Student) -> DecoderShape:
    """The shape that a recipe names of a cut: what it does not say stays as it is in the checkpoint.

    Raises UserError, with the recipe's keys, for one that the checkpoint can't be cut to.
    """
    layout = decoders.layout(origin.config)
    whole, size = layout.sizes(origin.config), ladder.decoder(spec.size) if spec.size else None
    per_group = whole.heads // whole.groups
    groups = spec.kv_heads or (spec.heads // per_group if spec.heads else None)
    if spec.heads and spec.heads != (groups or 0) * per_group:
        raise UserError(
            f"student.heads: a cut keeps {words.count(per_group, 'head')} to each of its kv_heads, of which the "
            f"checkpoint has {whole.groups}. Give kv_heads alone, or start: grown."
        )
    if size and not layout.bound:
        groups = groups or min(size.groups, whole.groups)
    try:
        s = prune_decoder.shape(
            layout,
            whole,
            layers=spec.layers or (size and size.layers),
            hidden=spec.hidden or (size and size.hidden),
            groups=groups,
            feed_forward=spec.feed_forward or (size and size.feed_forward),
        )
    except UserError as error:
        keys = ", ".join(f"student.{key}" for key in SHAPE if getattr(spec, key) is not None)
        raise UserError(f"{keys}: {error} Or grow the student: student.start: grown.") from error
    return DecoderShape(s.layers, s.hidden, s.heads, s.groups, s.feed_forward)


def _grown_to(spec: StudentSpec) -> DecoderShape:
    """The shape that a recipe names of a new decoder: what it does not say follows from what it says.

    Raises UserError for heads that divide no width, or keys.
    """
    base = ladder.decoder(spec.size or "micro")
    hidden = spec.hidden or base.hidden
    usual = [n for n in range(max(1, hidden // HEAD), 0, -1) if not hidden % (2 * n)]  # an even width each, to rotate
    heads = spec.heads or (base.heads if not spec.hidden else usual[0] if usual else 1)
    groups = spec.kv_heads or (heads if heads % base.groups else base.groups)
    if hidden % (2 * heads):
        at = "heads" if spec.heads else "hidden"
        raise UserError(f"student.{at}: hidden {hidden} can't be divided among {heads} heads of an even width.")
    if heads % groups:
        raise UserError(f"student.kv_heads: {heads} heads can't share {groups} keys and values evenly.")
    neurons = spec.feed_forward or (3 * hidden if spec.hidden else base.feed_forward)
    return DecoderShape(spec.layers or base.layers, hidden, heads, groups, neurons, base.tied)


def _cuts(origin: Student) -> list[DecoderShape]:
    """Cuts of a checkpoint from large to small: width and depth together, neurons in whole blocks."""
    layout = decoders.layout(origin.config)
    whole = layout.sizes(origin.config)
    found = []
    for share in CUTS:
        groups = max(1, round(whole.groups * share))
        heads = whole.heads // whole.groups * groups
        step = math.lcm(BLOCK, heads)  # a width is divided among the heads
        hidden = min(whole.hidden, max(step, round(whole.hidden * share / step) * step))
        hidden = heads * whole.head_width if layout.bound else hidden
        neurons = max(BLOCK, round(whole.feed_forward * share / BLOCK) * BLOCK)
        found.append(DecoderShape(max(1, round(whole.layers * share)), hidden, heads, groups, neurons))
    return found


def _start(recipe: Recipe) -> str:
    """A student with a checkpoint of its own begins as that; without, it is cut from the teacher's, if there is one."""
    if recipe.student.model:
        return "tuned"
    return "cut" if recipe.teacher is not None and recipe.teacher.model else "grown"


def importance_of(student: Student, corpus: Corpus, texts: int = IMPORTANCE_TEXTS) -> dict[str, Array]:
    """How much each column of the weights matters on so many calibration examples, which rounding to few bits goes
    by."""
    speaker = Speaker(student.tokenizer_json, student.tokenizer_config)
    split = corpus.data.calibration if len(corpus.data.calibration) else corpus.data.train
    documents = material.spoken(speaker, corpus, evenly(split.texts, texts))
    ids = [spoken.ids_T[: student.max_length].tolist() for spoken in documents if len(spoken.ids_T) > 1]
    return importance(model_of(student), ids)


def scheme_for(
    build: Build, student: Student, corpus: Corpus, matters: Mapping[str, Array]
) -> tuple[str, list[dict[str, Any]]]:
    """Choose how the weights ship: the smallest mix that writes as the others do on the validation examples."""
    if build.recipe.quantize != "auto":
        return MIXES[build.recipe.quantize], []
    held_out = corpus.data.validation
    asked, answers = prompts(corpus, held_out)
    tried: list[dict[str, Any]] = []
    with build.stages.stage("quantize", f"comparing {len(AUTO)} mixes") as progress:
        for i, name in enumerate(AUTO):
            progress(i / len(AUTO), name)
            new_tokens = build.recipe.gate.new_tokens
            with packaged_aside(student, MIXES[name], corpus.kind, new_tokens, build.threads, matters) as kin:
                row: dict[str, Any] = {"scheme": name, "size_mib": kin.manifest.size_mib}
                if asked:
                    told = writing.written(kin, asked[:TRIED_PROMPTS], answers[:TRIED_PROMPTS])
                    row["accuracy"] = float(told.exact_N.mean())
                row |= likelihood(kin, corpus, held_out.texts[:TRIED_PROMPTS]).summary(build.recipe.seed)
            tried.append(row)
    budget = build.recipe.budget.size_mib
    fits = [t for t in tried if budget is None or t["size_mib"] <= budget] or tried[:1]
    best = min(t["perplexity"] for t in fits)
    most = max(t.get("accuracy", 0.0) for t in fits)
    close = [
        t for t in fits if t["perplexity"] <= CLOSE_PERPLEXITY * best and t.get("accuracy", 0.0) >= most - CLOSE_EXACT
    ]
    return MIXES[str(min(close or fits, key=lambda t: float(t["size_mib"]))["scheme"])], tried


def likelihood(kin: Author, corpus: Corpus, texts: Sequence[Any]) -> Likelihood:
    """How likely the packaged file finds people's answers (or whole texts, in parts of the context's length)."""
    writer = kin.generator
    spoken = kin.spoken(texts, corpus.kind)
    end = None if corpus.kind == "text" else writer.context
    documents, learnt = [s.ids_T[:end] for s in spoken], [s.learnt_T[:end] for s in spoken]
    return writing.likelihood(writer.logprobs, writer.spelled, documents, learnt, writer.context)


def packaged(
    build: Build, corpus: Corpus, student: Student, mix: str, matters: Mapping[str, Array], own: Checkpoint | None
) -> Author:
    """Write the kin folder whole, and load it by the runtime that will serve it; `own` is what the student began as."""
    base = {} if own is None else {"base": own.about()}
    new_tokens = build.recipe.gate.new_tokens
    with build.stages.stage("package", f"decoder, {mix}"), atomic.folder(build.out) as folder:
        decoder_kin.write(
            folder,
            student,
            mix,
            kind=corpus.kind,
            new_tokens=new_tokens,
            recipe_yaml=dump(build.recipe),
            extra={"name": build.recipe.name or build.out.name, **base},
            importance=matters,
            name=build.recipe.name,
            trained_on=material.learned_from(corpus),
        )
    return open_author(build.out)
