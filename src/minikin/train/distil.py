"""Distilling: a student learns from stored signals (or from gold labels alone); the teacher is never loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from minikin.base.types import Array, Encoded, Progress, Signals, no_progress
from minikin.feed.buckets import in_order
from minikin.feed.pad import padded
from minikin.train.loop import Evaluate, History, Settings, optimise
from minikin.train.objectives import Batch, Loss, Objective, check

EVALUATION_BATCH = 64


def distil(
    module: nn.Module,
    family: str,
    encoded: Encoded,
    signals: Signals,
    objectives: Sequence[Objective],
    settings: Settings,
    *,
    validation: tuple[Encoded, Array] | None = None,
    widths: dict[str, int] | None = None,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> History:
    """Train a student module in place on N encoded texts and what the teacher said about them.

    `validation` is a labelled split whose accuracy picks the epoch that is kept; `widths` are the student's
    `pooled` and `hidden` widths, needed by the objectives that project.
    """
    check(objectives, signals, family)
    both = _WithLoss(module, Loss(objectives, signals, widths or {}, settings.seed))

    def loss_of_batch(prepared: nn.Module, rows_B: Array) -> Tensor:
        ids_BT, mask_BT, segments_BT = padded(encoded, rows_B)
        loss: Tensor = prepared(ids_BT, mask_BT, segments_BT, Batch(rows_B, mask_BT, signals))
        return loss

    return optimise(
        both,
        encoded.ids.lengths_N,
        loss_of_batch,
        settings,
        heads=("module.bert.classifier", "module.weights.head"),
        evaluate=scoring(module, validation),
        scratch=scratch,
        progress=progress,
    )


class _WithLoss(nn.Module):
    """The student and its loss as one module, so that projections train and any launcher can wrap both."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, segments_BT: Tensor | None, batch: Batch) -> Tensor:
        loss: Tensor = self.loss(self.module(ids_BT, mask_BT, segments_BT), batch)
        return loss


def tolerance(labels_N: Array) -> float:
    """What two epochs' accuracies on N held-out texts may differ by chance: about two thirds of a standard error."""
    return 0.2 / math.sqrt(max(1, len(labels_N)))


@torch.no_grad()
def logits(module: nn.Module, encoded: Encoded) -> Array:
    """Logits (N, C) of a module, in the order of the texts."""
    module.eval()
    rows: list[tuple[Array, Array]] = []
    for rows_B in in_order(encoded.ids.lengths_N, EVALUATION_BATCH):
        rows.append((rows_B, module(*padded(encoded, rows_B)).logits_BC.float().numpy()))
    order_N = np.concatenate([r for r, _ in rows])
    out_NC = np.concatenate([x for _, x in rows])
    return out_NC[np.argsort(order_N, kind="stable")]


def scoring(module: nn.Module, held_out: tuple[Encoded, Array] | None) -> Evaluate | None:
    """What picks the epoch that is kept: a module's score on a labelled split; None where there is none."""
    if held_out is None or not len(held_out[1]):
        return None
    return lambda _prepared: score(module, *held_out)


def score(module: nn.Module, encoded: Encoded, labels_N: Array) -> float:
    """Share of the labelled texts that a module answers right, plus a small term for how sure it is.

    The term (mean log-probability of the right class, divided by 1,000) breaks ties between epochs.
    """
    logits_NC = logits(module, encoded)
    shifted_NC = logits_NC - logits_NC.max(1, keepdims=True)
    log_p_NC = shifted_NC - np.log(np.exp(shifted_NC).sum(1, keepdims=True))
    right_N = logits_NC.argmax(1) == labels_N
    return float(right_N.mean() + 1e-3 * np.clip(log_p_NC[np.arange(len(labels_N)), labels_N], -20, 0).mean())
