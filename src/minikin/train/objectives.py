"""Objectives: what a student is asked to match. Each is a row in a table; a recipe is a weighted list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from minikin.base.errors import UserError
from minikin.base.types import Array, Outputs, Ragged, Signals
from minikin.equations import feature, relation, response

RELATION_HEADS = 4
NEEDS = {
    "kl": "logits",
    "mse": "logits",
    "gold": "labels",
    "pooled": "pooled",
    "rkd_distance": "pooled",
    "rkd_angle": "pooled",
    "hidden": "hidden",
    "attention": "attention",
    "relations": "relations",
}
"""What each objective must find in the signals."""

INSIDE = ("hidden", "attention", "relations")
"""Objectives that need token states of teacher and student side by side."""


@dataclass(frozen=True)
class Objective:
    """One term of the loss. `layers` maps a student's layer to the teacher's (0 is the embeddings)."""

    name: str
    weight: float = 1.0
    temperature: float = 2.0
    layers: Mapping[int, int] = field(default_factory=dict)


@dataclass
class Batch:
    """What the teacher said about one batch, as tensors."""

    rows_B: Array
    mask_BT: Tensor
    signals: Signals

    def tensor(self, array_NX: Array) -> Tensor:
        """Rows of one stored array."""
        return torch.from_numpy(np.asarray(array_NX[self.rows_B], np.float32))

    def tokens(self, ragged: Ragged, square: bool = False) -> tuple[Tensor, Tensor]:
        """Stored per-token rows, padded, and a mask of what can be compared.

        A text that the student splits into other tokens than the teacher did has nothing to compare: its
        mask is 0 everywhere.
        """
        batch, width = self.mask_BT.shape
        lengths_B = self.mask_BT.sum(1).numpy()
        rest = (width,) if square else ragged.values.shape[1:]
        out = np.zeros((batch, width, *rest), np.float32)
        same_B = np.zeros(batch, bool)
        for b, row in enumerate(self.rows_B):
            stored, n = np.asarray(ragged[int(row)]), int(lengths_B[b])
            same_B[b] = len(stored) == (n * n if square else n)
            if same_B[b]:
                out[(b, slice(n), slice(n)) if square else (b, slice(n))] = stored.reshape(n, -1)
        return torch.from_numpy(out), self.mask_BT * torch.from_numpy(same_B)[:, None]


def check(objectives: Sequence[Objective], signals: Signals, family: str) -> None:
    """Refuse a pairing that can't work, before any time is spent. Raises UserError."""
    for objective in objectives:
        if objective.name not in NEEDS:
            raise UserError(f"There is no objective '{objective.name}'. Known: {', '.join(NEEDS)}.")
        need = NEEDS[objective.name]
        if need == "labels":
            if not bool(np.any(signals.labels_N >= 0)):
                raise UserError("Objective 'gold' needs labelled texts, and there are none.")
        elif not signals.can(need):
            raise UserError(f"Objective '{objective.name}' needs the teacher's {need}, which was not stored.")
        if objective.name == "relations":
            _refuse_odd_widths("the teacher", {rows.values.shape[1] for rows in signals.relations.values()})
        stored = {"hidden": signals.hidden, "attention": signals.attention}.get(objective.name, {})
        lacking = sorted(set(objective.layers.values()) - set(stored)) if objective.name != "relations" else []
        if lacking:
            raise UserError(
                f"Objective '{objective.name}' needs the teacher's layers {lacking}, and {sorted(stored)} are stored."
            )
        if objective.name in ("hidden", "attention") and not objective.layers:
            raise UserError(f"Objective '{objective.name}' names no layers: map student layers to teacher layers.")
        if family == "static" and objective.name in INSIDE:
            raise UserError(f"Objective '{objective.name}' needs an encoder; a static student has no token states.")


def _refuse_odd_widths(whose: str, widths: Iterable[int]) -> None:
    for width in widths:
        if width % RELATION_HEADS:
            raise UserError(
                f"Objective 'relations' splits vectors into {RELATION_HEADS} relation heads, and those of {whose} are "
                f"{width} wide. Use another width or another objective."
            )


class Loss(nn.Module):
    """The weighted sum of objectives, with the learned projections from the student's widths to the teacher's."""

    def __init__(self, objectives: Sequence[Objective], signals: Signals, widths: Mapping[str, int], seed: int) -> None:
        super().__init__()
        self.objectives, self.signals = list(objectives), signals
        self.projections = nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for objective in self.objectives:
                if objective.name == "relations":
                    _refuse_odd_widths("the student", [widths.get("hidden", RELATION_HEADS)])
                if objective.name == "pooled" and signals.pooled_NH is not None:
                    self.projections["pooled"] = nn.Linear(widths["pooled"], signals.pooled_NH.shape[1])
                if objective.name == "hidden":
                    for mine, its in objective.layers.items():
                        width = signals.hidden[its].values.shape[1]
                        self.projections[f"hidden{mine}"] = nn.Linear(widths["hidden"], width)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Loss of one batch."""
        terms = [o.weight * TERMS[o.name](self, o, outputs, batch) for o in self.objectives]
        return torch.stack(terms).sum()


def _kl(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    return response.kl(out.logits_BC, batch.tensor(loss.signals.logits_NC), o.temperature)


def _mse(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    return response.mse(out.logits_BC, batch.tensor(loss.signals.logits_NC))


def _gold(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    return response.gold(out.logits_BC, torch.from_numpy(np.asarray(loss.signals.labels_N[batch.rows_B], np.int64)))


def _pooled_pair(loss: Loss, batch: Batch) -> Tensor:
    assert loss.signals.pooled_NH is not None
    return batch.tensor(loss.signals.pooled_NH)


def _pooled(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    return feature.pooled_cosine(loss.projections["pooled"](out.pooled_BH), _pooled_pair(loss, batch))


def _rkd_distance(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    return relation.rkd_distance(out.pooled_BH, _pooled_pair(loss, batch))


def _rkd_angle(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    return relation.rkd_angle(out.pooled_BH, _pooled_pair(loss, batch))


def _hidden(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    terms = []
    for mine, its in o.layers.items():
        teacher_BTH, mask_BT = batch.tokens(loss.signals.hidden[its])
        projected = loss.projections[f"hidden{mine}"](out.hidden_LBTH[mine])
        terms.append(feature.hidden_mse(projected, teacher_BTH, mask_BT))
    return torch.stack(terms).mean()


def _attention(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    terms = []
    for mine, its in o.layers.items():
        teacher_BTT, mask_BT = batch.tokens(loss.signals.attention[its], square=True)
        # layer 0 is the embeddings, which have no attention: layer i's map is number i - 1
        terms.append(feature.attention_mse(out.attention_LBTT[mine - 1], teacher_BTT, mask_BT))
    return torch.stack(terms).mean()


def _relations(loss: Loss, o: Objective, out: Outputs, batch: Batch) -> Tensor:
    terms = []
    for name in ("query", "key", "value"):
        teacher_BTH, mask_BT = batch.tokens(loss.signals.relations[name])
        theirs = relation.token_relations(teacher_BTH, mask_BT, RELATION_HEADS)
        ours = relation.token_relations(out.relations[name], mask_BT, RELATION_HEADS)
        terms.append(relation.minilm(ours, theirs, mask_BT))
    return torch.stack(terms).mean()


TERMS: dict[str, Callable[[Loss, Objective, Outputs, Batch], Tensor]] = {
    "kl": _kl,
    "mse": _mse,
    "gold": _gold,
    "pooled": _pooled,
    "rkd_distance": _rkd_distance,
    "rkd_angle": _rkd_angle,
    "hidden": _hidden,
    "attention": _attention,
    "relations": _relations,
}
