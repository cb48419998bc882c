"""What every step of one build knows: the recipe, where finished work lies, and whom to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minikin import __version__
from minikin.base.console import Stages
from minikin.base.folders import RunFolder
from minikin.base.types import Data, Text
from minikin.recipe.schema import Recipe


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
