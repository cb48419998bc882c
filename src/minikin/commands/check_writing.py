"""`minikin check` for a kin that writes: what was found, whether it can ship, and what fits the budget."""

from __future__ import annotations

from pathlib import Path

from minikin.base.console import Stages, console
from minikin.base.errors import MinikinError, RecipeError
from minikin.base.folders import RunFolder
from minikin.commands import show
from minikin.recipe.schema import Recipe
from minikin.report import words


def forecast(path: Path, recipe: Recipe, temporary: Path) -> None:
    """Read the data, find the teacher, and measure untrained students; raise with all that is wrong."""
    from minikin.feed.speech import Speaker
    from minikin.steps import generate
    from minikin.steps.context import Build

    build = Build(recipe, Path("kin"), RunFolder(temporary / "run"), Stages())
    try:
        corpus = generate.material.data(build)
        corpus, words_of_teacher = generate.ask.foreseen(build, corpus)
        came = generate.learn.found(build, corpus, generate.learn.resolved(build))
    except MinikinError as error:
        faults = getattr(error, "faults", None) or [str(error)]
        raise RecipeError(f"{path} can't be built as it is:", faults) from error
    voice = generate.material.voice(build, corpus, came)
    speaker = Speaker(voice.tokenizer_json, voice.tokenizer_config)
    rows = generate.material.rows(build, corpus, voice)
    chosen, front = generate.ship.planned(build, corpus, came, voice, rows)
    learnt = int(rows.plain.learnt_NT.sum())
    if words_of_teacher:
        console.print(f"{words_of_teacher}. Prompts stand in for its answers below.", markup=False, soft_wrap=True)
    console.print(
        f"{len(corpus.data.train):,} examples, {learnt:,} tokens to learn, {len(speaker.ends)} end mark; "
        f"student: {chosen.name}",
        markup=False,
    )
    lines = [(r["name"], words.mib(r["size_mib"]), r["state"], r["reason"]) for r in front]
    console.print(show.table(("student", "size", "", ""), lines, words_last=True))
