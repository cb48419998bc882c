"""Tuning a teacher on the task's own labels: the same loop with the gold loss. Called by the pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from minikin.base.types import Array, Encoded, Progress, no_progress
from minikin.equations import response
from minikin.feed.pad import padded
from minikin.train.distil import scoring
from minikin.train.loop import History, Settings, optimise


def tune(
    module: nn.Module,
    encoded: Encoded,
    labels_N: Array,
    settings: Settings,
    *,
    smoothing: float = 0.1,
    validation: tuple[Encoded, Array] | None = None,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> History:
    """Train a classifier in place on gold labels; validation accuracy picks the epoch that is kept."""

    def loss_of_batch(prepared: nn.Module, rows_B: Array) -> Tensor:
        outputs = prepared(*padded(encoded, rows_B))
        return response.gold(
            outputs.logits_BC.float(), torch.from_numpy(np.asarray(labels_N[rows_B], np.int64)), smoothing
        )

    return optimise(
        module,
        encoded.ids.lengths_N,
        loss_of_batch,
        settings,
        heads=("head",),
        evaluate=scoring(module, validation),
        scratch=scratch,
        progress=progress,
    )
