"""THE STORY: from a recipe to a proven kin, one line per stage, top to bottom, for each task.

recipe → data → fit → teacher → signals → plan → student → distil → prune → quantize → package → gate → kin
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minikin.base import atomic, digest, folders, machine, manifest
from minikin.base.console import Stages
from minikin.base.errors import BusyError, GateFailed, UserError
from minikin.base.types import Progress, Scheme, Student
from minikin.measure import speed
from minikin.package import kin as package
from minikin.recipe.read import dump
from minikin.recipe.read import read as read_recipe
from minikin.recipe.schema import Recipe
from minikin.report import files
from minikin.runtimes import Kin
from minikin.runtimes import open as open_kin
from minikin.runtimes.author import Author, open_author
from minikin.steps import choose, fit, generate, learn, material, origins, prove, ship, teach
from minikin.steps.context import Build, Material
from minikin.teachers.local import LocalTeacher
from minikin.trust import held, words


def build(
    recipe: Recipe | str | Path,
    out: str | Path = "kin",
    *,
    overrides: Sequence[str] = (),
    run: str | Path | None = None,
    quiet: bool = False,
) -> Kin | Author:
    """Make what the recipe says, into the folder `out`; a killed build goes on where it stopped.

    Finished steps lie in `run` (default: `<out>.run`). Raises GateFailed, with everything kept, when the
    packaged file misses the recipe's floor, and UserError for bad input, with nothing left behind.
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, overrides)
    out = Path(out)
    _refuse_foreign(out)
    run_root = Path(run) if run else out.with_name(f"{out.name}.run")
    fresh = not run_root.exists()
    try:
        with folders.lock(out), folders.lock(run_root):
            at = Build(recipe, out, folders.RunFolder(run_root), Stages(quiet))
            return _write(at) if recipe.task == "generate" else _sort(at)
    except UserError as error:
        # a folder that another build has just made is not ours to remove
        if fresh and not isinstance(error, BusyError):
            folders.remove_unless_worked(run_root)
        raise


def _refuse_foreign(out: Path) -> None:
    """Refuse to replace something that no build wrote."""
    atomic.refuse_current(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / "minikin.json").is_file()):
        raise UserError(f"{out} holds something else than a kin, and a build would replace it. Give another folder.")


@dataclass(frozen=True)
class Made:
    """What the gate judges: the packaged kin, and all that it came from or is compared with."""

    kin: Kin
    scheme: Scheme
    student: Student
    teacher: LocalTeacher | None
    alone: Student | None
    chosen: choose.Chosen
    schemes: Sequence[Mapping[str, Any]]


def _sort(at: Build) -> Kin:
    """The line for `classify`."""
    data = material.data(at)
    found = teach.found(at, data) if at.recipe.teacher else None
    kept = origins.pieces(at, data, found)
    fits = fit.fitting(at, data, origins.roots(at, data, kept, found))
    texts = material.gather(at, data, teach.neighbours(at, data, found) if found else None)
    teacher = teach.tuned(at, data, found) if found else None
    signals = teach.asked(at, texts, teacher) if teacher else learn.gold_signals(texts)
    roots = origins.roots(at, data, kept, teacher)
    chosen = choose.plan(at, texts, roots, signals, fits)
    student = learn.distilled(at, texts, roots, chosen.candidate, signals)
    alone = learn.control(at, texts, kept, chosen.candidate) if teacher and _wants_control(at.recipe) else None
    scheme, schemes = ship.scheme_for(at, student, chosen.schemes, data)
    kin = packaged(at, texts, ship.rounded(at, student, scheme, data), at.out)
    return proven(at, texts, Made(kin, scheme, student, teacher, alone, chosen, schemes))


def _write(at: Build) -> Author:
    """The line for `generate`."""
    checkpoint, own = generate.learn.resolved(at), generate.origins.own(at)
    at = generate.aims.suited(at, checkpoint)
    data = generate.material.data(at, checkpoint)
    told = generate.ask.told(at, data, checkpoint)
    corpus = told.corpus
    came, mine = generate.origins.found(at, corpus, checkpoint, own)
    voice = generate.material.voice(at, corpus, mine or came)
    rows = generate.material.rows(at, corpus, voice, came)
    came = generate.follow.followed(at, checkpoint, generate.follow.narrowed(at, came, rows), rows)
    chosen, front = generate.ship.planned(at, corpus, mine, came, voice, rows)
    teacher = generate.learn.tuned(at, came, voice, rows)
    said = generate.learn.asked(at, teacher, rows) if teacher else generate.heard.signals(at, told, rows)
    student = generate.learn.distilled(at, chosen, mine or teacher, voice, rows, said)
    student = generate.prune.pruned(at, chosen, student, voice, rows, said)
    people = rows if told.people is None else generate.material.rows(at, told.people, voice)
    control = (teacher is not None or told.people is not None) and _wants_control(at.recipe)
    alone = generate.learn.control(at, chosen, mine or came, voice, people) if control else None
    alone = alone and generate.prune.pruned(at, chosen, alone, voice, people, None, control=True)
    matters = generate.ship.importance_of(student, corpus)
    mix, mixes = generate.ship.scheme_for(at, student, corpus, matters)
    kin = generate.ship.packaged(at, corpus, student, mix, matters, own)
    proof = generate.prove.judged(at, told, kin, student, teacher, alone, {"front": front, "mixes": mixes})
    sealed(at, proof, teacher=generate.learn.about(at, checkpoint), data_sha256=corpus.data.digest)
    return open_author(at.out)


def _wants_control(recipe: Recipe) -> bool:
    return recipe.distil.without_teacher and not recipe.gate.skip_control


def packaged(at: Build, texts: Material, shipped: Student, out: Path) -> Kin:
    """Write the kin folder whole, and load it by the runtime that will serve it."""
    with at.stages.stage("package", f"{shipped.family}, {shipped.scheme}"), atomic.folder(out) as folder:
        rows, train = material.learned_from(texts.data), texts.data.train
        package.write(folder, shipped, recipe_yaml=dump(at.recipe), extra=_extra(at, texts), trained_on=rows)
        kin = open_kin(folder, threads=1)
        room_mib = (at.recipe.budget.size_mib or math.inf) - kin.manifest.size_mib
        bits_B = words.table(train.texts, train.labels_N, room_mib * 2**20)
        package.remember(folder, {"bits_B": bits_B, **held.gather(kin, texts.data, bits_B)})
    return open_kin(out, threads=1)


def proven(at: Build, texts: Material, made: Made) -> Kin:
    """Measure the packaged file, decide, and write manifest, card and report; the same file is measured once."""
    stamp = machine.stamp()
    inputs = at.inputs(
        dump(at.recipe),
        made.kin.manifest.raw["files"],
        texts.data.digest,
        made.teacher and made.teacher.digest,
        made.alone and digest.of_arrays(made.alone.dequantized().tensors),
        made.chosen.front,
        made.schemes,
        stamp,
    )

    def do(folder: Path, _scratch: Path, progress: Progress) -> None:
        told = judged(at, texts, made, progress)
        atomic.write_json(folder / "story.json", {**told, "machine": stamp})

    folder = at.step("gate", "gate", inputs, "measuring the packaged file beside the rest", do)
    story = json.loads((folder / "story.json").read_text(encoding="utf-8"))
    sealed(at, story, teacher=made.teacher.checkpoint.about() if made.teacher else None, data_sha256=texts.data.digest)
    return open_kin(at.out, threads=1)


def sealed(at: Build, story: dict[str, Any], *, teacher: dict[str, Any] | None, data_sha256: str) -> None:
    """Write what was measured into manifest, card and report. Raises GateFailed when the recipe's floor is missed."""
    story["seconds"] = {name: round(took, 1) for name, took in at.stages.seconds.items()}
    package.seal(
        at.out,
        measurements=story["measurements"],
        gate=story["gate"],
        teacher=teacher,
        machine=story["machine"],
        recipe_sha256=digest.of_value(at.recipe.model_dump()),
        data_sha256=data_sha256,
        seeds=story["seeds"],
        story=story,
    )
    write_report(at.out)
    if not story["gate"]["passed"]:
        raise GateFailed(story["gate"]["reasons"], str(at.out))


def judged(at: Build, texts: Material, made: Made, progress: Progress) -> dict[str, Any]:
    """Measure the packaged file beside everything that it is compared with, and return the story."""
    shipped = made.kin.manifest
    alone = made.alone and ship.rounded(at, made.alone, made.scheme, texts.data)
    with ship.packaged_aside(alone, shipped.pair) as control:
        found = prove.everyone(at, texts, made.kin, shipped.size_mib, made.teacher, control, progress)
    same = prove.parity(made.kin, made.student, texts.data.test.texts, at.recipe.gate.parity_texts)
    same |= prove.engines(at.out, made.kin, texts.data.test)
    limited = at.recipe.budget.memory_mib is not None
    memory = speed.cold_start(at.out, texts.data.test.texts[0], runs=3).memory_mib if limited else None
    gate = prove.verdict(at.recipe, found, same, memory)
    at.notes += prove.notes(found, texts.data.test.labels_N, at.recipe.seed)
    more = {
        "front": made.chosen.front,
        "temperature": made.student.temperature,
        "stages": prove.stage_rows(made.student, found, texts.data.test, at.recipe.seed, made.schemes),
        "recipe": dump(at.recipe),
        "seeds": {"recipe": at.recipe.seed, "student": at.student_seed},
    }
    return prove.story(at, texts, found, gate, same, more)


def write_report(folder: str | Path) -> Path:
    """(Re)write `report.html` and the model card of a kin from what its build measured."""
    folder = Path(folder)
    written = manifest.read(folder)
    manifest.verify(folder, written)
    return files.write(folder, written)


def _extra(at: Build, texts: Material) -> dict[str, Any]:
    return {"name": at.recipe.name or at.out.name, "pair": texts.data.pair}
