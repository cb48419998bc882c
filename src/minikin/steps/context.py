"""What every step of one build knows: the recipe, where finished work lies, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minikin import __version__
from minikin.base.console import Stages
from minikin.base.folders import RunFolder
from minikin.base.types import Data, Progress, Text
from minikin.recipe.schema import Recipe

Do = Callable[[Path, Path, Progress], None]


@dataclass
class Build:
    """One build: `notes` are sentences for the report, found on the way."""

    recipe: Recipe
    out: Path
    run: RunFolder
    stages: Stages
    notes: list[str] = field(default_factory=list)

    @property
    def threads(self) -> int:
        """Processor threads to train with."""
        import torch

        return self.recipe.train.threads or torch.get_num_threads()

    @property
    def student_seed(self) -> int:
        """Seed of the student's training; data, teacher, signals and plan keep the recipe's, so they are shared."""
        own = self.recipe.distil.seed
        return self.recipe.seed if own is None else own

    def step(self, stage: str, name: str, inputs: Mapping[str, Any], words: str, do: Do) -> Path:
        """Show a stage and do its step, `do(out, scratch, progress)`, unless it lies finished in the run folder."""
        done = self.run.has(name, inputs)
        with self.stages.stage(stage, "taken from the run folder" if done else words) as progress:
            folder = self.run.step(name, inputs, lambda out, scratch: do(out, scratch, progress))
        if done:
            self.stages.seconds[stage] = self.run.seconds(folder)
        return folder

    def inputs(self, *parts: Any, **named: Any) -> dict[str, Any]:
        """Key of a step: its own inputs, the seed and the version of the code."""
        return {"version": __version__, "seed": self.recipe.seed, "parts": parts, **named}


@dataclass(frozen=True)
class Material:
    """The data and every text that a student will learn from: training texts first, then more."""

    data: Data
    texts: Sequence[Text]
    augmented: int
    digest: str
