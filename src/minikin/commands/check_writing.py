"""`minikin check` for a kin that writes: what was found, whether it can ship, and what fits the budget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from minikin.base.console import Stages, console
from minikin.base.errors import MinikinError, RecipeError
from minikin.base.folders import RunFolder
from minikin.commands import check, show
from minikin.recipe.schema import Recipe
from minikin.report import words


def forecast(path: Path, recipe: Recipe, temporary: Path) -> None:
    """Read the data, find the teacher, and measure untrained students; raise with all that is wrong."""
    from minikin.commands.costs_writing import Costs
    from minikin.feed.speech import Speaker
    from minikin.steps import generate
    from minikin.steps.context import Build

    build = Build(recipe, Path("kin"), RunFolder(temporary / "run"), Stages())
    try:
        checkpoint, own = generate.learn.resolved(build), generate.origins.own(build)
        build = generate.aims.suited(build, checkpoint)
        recipe = build.recipe
        corpus = generate.material.data(build, checkpoint)
        told, words_of_teacher = generate.ask.foreseen(build, corpus, checkpoint)
        corpus = told.corpus
        came, mine = generate.origins.found(build, corpus, checkpoint, own)
    except MinikinError as error:
        faults = getattr(error, "faults", None) or [str(error)]
        raise RecipeError(f"{path} can't be built as it is:", faults) from error
    if words_of_teacher:
        console.print(f"{words_of_teacher}. Prompts stand in for its answers below.", markup=False, soft_wrap=True)
    voice = generate.material.voice(build, corpus, mine or came)
    speaker = Speaker(voice.tokenizer_json, voice.tokenizer_config)
    rows = generate.material.rows(build, corpus, voice, came)
    came = generate.follow.narrowed(build, came, rows)
    chosen, front = generate.ship.planned(build, corpus, mine, came, voice, rows)
    learnt = int(rows.plain.learnt_NT.sum())
    console.print(
        f"{len(corpus.data.train):,} examples, {learnt:,} tokens to learn, {len(speaker.ends)} end mark; "
        f"student: {chosen.name}",
        markup=False,
    )
    for line in _learning(recipe, apart=rows.taught is not None, live=generate.aims.live(recipe)):
        console.print(line, markup=False)
    lines = [(r["name"], words.mib(r["size_mib"]), r["state"], r["reason"]) for r in front]
    console.print(show.table(("student", "size", "", ""), lines, words_last=True))
    costs = Costs(build, told, came, chosen, voice, rows)
    console.print(show.table(("step", "forecast", "what it is"), costs.rows(), words_last=True))
    console.print(check.footing(words.count(costs.count, "row"), costs.tokens, costs.machine, build.threads))


def _learning(recipe: Recipe, *, apart: bool, live: bool) -> Iterator[str]:
    """Say how the student learns, where that is not the usual way."""
    distil, train = recipe.distil, recipe.train
    if recipe.teacher:
        yield f"It learns by {', '.join(o.name for o in distil.objectives)}."
    if recipe.teacher and recipe.teacher.logprobs:
        yield "Sorted log-probabilities are compared where the endpoint and the student both cut the text."
    if apart:
        yield "Their tokenizers differ: sorted probabilities are compared where teacher and student both cut the text."
    if distil.on_policy:
        yield f"In {distil.on_policy:.0%} of the batches it writes the answers itself, and the teacher judges them."
    if live:
        yield "The teacher stays in memory while it learns."
    if train.adapter:
        yield f"Adapters ({train.adapter.kind}, rank {train.adapter.rank}) learn, and are merged before packaging."
    if recipe.prune.cuts:
        again = f"recovers for {words.count(recipe.prune.recovery_epochs, 'epoch')}"
        yield f"After that it is cut and {again}; the sizes below are after the cut."
    if train.precision == "bf16":
        yield "Its matrix products are in bfloat16."
    if train.checkpointing:
        yield "Each layer is computed twice, to hold less in memory."
