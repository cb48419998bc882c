"""Objectives of decoders: what a student is asked to match of each next-token distribution, a row each in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from minikin.base.errors import UserError
from minikin.base.types import Array
from minikin.base.writing import TokenSignals
from minikin.equations import feature, sequence
from minikin.equations.sequence import Divergence
from minikin.feed.decoder import Asked, Head
from minikin.feed.rows import Tokens
from minikin.train import fused


@dataclass(frozen=True)
class TokenObjective:
    """One term of the loss, in nats per learnt token times `weight`; divergences also times the squared temperature.

    `beta` is the teacher's share in `js`, `alpha` the skew; `layers` maps the student's layers to the teacher's for
    `hidden` (0 is the embeddings).
    """

    name: str
    weight: float = 1.0
    temperature: float = 1.0
    beta: float = 0.5
    alpha: float = 0.1
    layers: Mapping[int, int] = field(default_factory=dict)


DIVERGENCES: Mapping[str, Callable[[TokenObjective], Divergence]] = {
    "kl": lambda o: sequence.kl,
    "reverse_kl": lambda o: sequence.reverse_kl,
    "js": lambda o: partial(sequence.js, beta=o.beta),
    "skew_kl": lambda o: partial(sequence.skew_kl, alpha=o.alpha),
    "skew_reverse_kl": lambda o: partial(sequence.skew_reverse_kl, alpha=o.alpha),
}
"""Those that compare the same tokens' probabilities."""

PEOPLES = ("gold", "prompt")
"""Those that need no teacher: the tokens to learn, and those of what is asked, which come before them."""
KNOWN = (*PEOPLES, *DIVERGENCES, "uld", "hidden")
Source = TokenSignals | Asked | None
"""What the teacher says: stored signals, a live teacher, or nothing (gold tokens alone)."""


def check(objectives: Sequence[TokenObjective], source: Source, head: Head) -> None:
    """Refuse a pairing that can't work, before any time is spent. Raises UserError."""
    if not objectives:
        raise UserError(f"No objective is given. Known: {', '.join(KNOWN)}.")
    for o in objectives:
        if o.name not in KNOWN:
            raise UserError(f"There is no objective '{o.name}' for a decoder. Known: {', '.join(KNOWN)}.")
        if not (0 < o.beta < 1 and 0 <= o.alpha < 1 and o.temperature > 0):
            raise UserError(f"Objective '{o.name}' needs 0 < beta < 1, 0 <= alpha < 1 and a temperature above 0.")
        if o.name in PEOPLES:
            continue
        if source is None:
            raise UserError(f"Objective '{o.name}' needs a teacher, and there is none. Use 'gold' alone.")
        if isinstance(source, TokenSignals):
            _check_stored(o, source, head)
        else:
            _check_live(o, source, head)


def _check_stored(o: TokenObjective, signals: TokenSignals, head: Head) -> None:
    rows = head.weight_VH.shape[0]
    if o.name == "hidden":
        raise UserError("Objective 'hidden' needs a live teacher: token signals hold no hidden states.")
    if o.temperature != signals.temperature:
        raise UserError(
            f"Objective '{o.name}' has temperature {o.temperature}, and the signals were stored at "
            f"{signals.temperature}: a tail can't be tempered afterwards. Make them equal."
        )
    if signals.kind == "sampled" and o.name != "kl":
        raise UserError(f"Signals sampled at random estimate 'kl' alone, not '{o.name}'. Store the top k.")
    if o.name == "uld":
        if (k := signals.shards[0]["ids"].shape[1]) > rows:
            raise UserError(f"Objective 'uld' compares the {k} likeliest tokens, and the student has {rows}.")
        return
    if not signals.shared:
        raise UserError(f"Objective '{o.name}' needs the teacher's tokenizer; across tokenizers, use 'uld'.")
    _check_rows(o, signals.vocabulary, rows)


def _check_live(o: TokenObjective, teacher: Asked, head: Head) -> None:
    if o.name == "uld":
        raise UserError("Objective 'uld' is for another tokenizer's stored signals; beside a live teacher, use 'kl'.")
    if o.name == "hidden" and not o.layers:
        raise UserError("Objective 'hidden' names no layers: map student layers to teacher layers.")
    _check_rows(o, teacher.vocabulary, head.weight_VH.shape[0])


def _check_rows(o: TokenObjective, theirs: int, ours: int) -> None:
    if theirs != ours:
        raise UserError(
            f"Objective '{o.name}': the teacher was asked about {theirs} tokens, and the student has {ours} rows. "
            "Put the teacher into the student's tokens (feed/align.py) and ask again."
        )


class TokenLoss(nn.Module):
    """The weighted sum of objectives for one batch, with learned projections to the teacher's hidden width."""

    def __init__(self, objectives: Sequence[TokenObjective], source: Source, head: Head, seed: int) -> None:
        super().__init__()
        check(objectives, source, head)
        self.objectives, self.source, self.head = list(objectives), source, head
        self.projections = nn.ModuleDict()
        if not isinstance(source, Asked):
            return
        widths = head.weight_VH.shape[1], source.head.weight_VH.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for mine in (mine for o in objectives if o.name == "hidden" for mine in o.layers):
                self.projections[f"hidden{mine}"] = nn.Linear(*widths)

    @property
    def inside(self) -> bool:
        """Whether states of all layers are needed."""
        return any(o.name == "hidden" for o in self.objectives)

    def forward(self, states: Sequence[Tensor], tokens: Tokens, rows_B: Array | None) -> Tensor:
        """Mean over the batch's learnt tokens. `rows_B` are the rows that stored signals are looked up by.

        None for text that the student wrote itself: there is no gold token then.
        """
        hidden_MH = tokens.before_learnt(states[-1])
        asked = [o for o in self.objectives if o.name not in PEOPLES or rows_B is not None]
        total = hidden_MH.new_zeros((), dtype=torch.promote_types(hidden_MH.dtype, torch.float32))
        if isinstance(self.source, Asked):
            theirs = self.source.states(tokens, every=self.inside)
            for o in (o for o in asked if o.name == "hidden"):
                total = total + o.weight * self._hidden(o, states, theirs, tokens)
            groups = self._live(asked, tokens.before_learnt(theirs[-1]))
        elif self.source is not None and rows_B is not None:
            groups = self._stored(asked, self.source, rows_B, hidden_MH.device)
        else:
            groups = []
        gold = sum(o.weight for o in asked if o.name == "gold")
        if gold:
            groups = _with_gold(groups, fused.Named(tokens.learnt_M[:, None], gold * torch.ones_like(hidden_MH[:, :1])))
        count = max(1, len(hidden_MH))
        for g in groups:
            mine_MH = hidden_MH if g.chosen_M is None else hidden_MH[g.chosen_M]
            part = fused.loss(mine_MH, self.head, g.named, g.against, temperature=g.temperature)
            total = total + (part + g.constant) / count
        if read := sum(o.weight for o in asked if o.name == "prompt"):
            ids_M, before_MH = tokens.of_prompts(states[-1])
            named = fused.Named(ids_M[:, None], read * torch.ones_like(before_MH[:, :1]))
            total = total + fused.loss(before_MH, self.head, (named,)) / max(1, len(ids_M))
        return total

    def _hidden(self, o: TokenObjective, ours: Sequence[Tensor], theirs: Sequence[Tensor], tokens: Tokens) -> Tensor:
        mask_BT = tokens.documents_BT > 0
        terms = [
            feature.hidden_mse(self.projections[f"hidden{mine}"](ours[mine]), theirs[its], mask_BT)
            for mine, its in o.layers.items()
        ]
        return torch.stack(terms).mean()

    def _live(self, asked: Sequence[TokenObjective], teacher_MH: Tensor) -> list[_Group]:
        assert isinstance(self.source, Asked)
        teacher, groups = self.source, []
        for temperature in sorted({o.temperature for o in asked if o.name in DIVERGENCES}):
            compare = _weighted([o for o in asked if o.name in DIVERGENCES and o.temperature == temperature])

            def against(log_q_MV: Tensor, part: slice, t: float = temperature, c: _Pair = compare) -> Tensor:
                return c(log_q_MV, teacher.log_probs(teacher_MH[part], t))

            groups.append(_Group(temperature, against=fused.Dense(against)))
        return groups

    def _stored(
        self, asked: Sequence[TokenObjective], signals: TokenSignals, rows_B: Array, device: torch.device
    ) -> list[_Group]:
        compared = [o for o in asked if o.name in DIVERGENCES]
        ulds = [o for o in asked if o.name == "uld"]
        if not compared and not ulds:
            return []
        ids_MK, values_MK, rest_M = (torch.from_numpy(x).to(device) for x in signals.of_rows(rows_B))
        t, groups = signals.temperature, []
        if signals.kind == "sampled":
            weight = sum(o.weight for o in compared) * t**2
            groups.append(_Group(t, (fused.Named(ids_MK, weight * values_MK),), constant=-weight * rest_M.sum()))
            return groups
        log_p_MK1 = torch.cat([values_MK, rest_M[:, None]], -1)
        if compared:
            compare = _weighted(compared)
            groups.append(_Group(t, against=fused.Parted(lambda q, part: compare(q, log_p_MK1[part]), ids_MK)))
        if ulds:
            known_M, weight = signals.known(rows_B), sum(o.weight for o in ulds)
            chosen_M = None if known_M is None else torch.from_numpy(known_M).to(device)
            sorted_MK1 = log_p_MK1 if chosen_M is None else log_p_MK1[chosen_M]
            against = fused.Parted(lambda q, part: weight * sequence.uld(q, sorted_MK1[part]), k=ids_MK.shape[1])
            groups.append(_Group(t, against=against, chosen_M=chosen_M))
        return groups


_Pair = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Group:
    """What one pass over the output matrix computes: everything of one temperature, over the `chosen_M` positions."""

    temperature: float
    named: tuple[fused.Named, ...] = ()
    against: fused.Parted | fused.Dense | None = None
    chosen_M: Tensor | None = None
    constant: Tensor | float = 0.0


def _with_gold(groups: list[_Group], gold: fused.Named) -> list[_Group]:
    """Let gold tokens share the pass of a group over all positions at temperature 1, or give them one of their own."""
    for i, g in enumerate(groups):
        if g.temperature == 1.0 and g.chosen_M is None:
            shared = _Group(1.0, (*g.named, gold), g.against, None, g.constant)
            return [*groups[:i], shared, *groups[i + 1 :]]
    return [*groups, _Group(1.0, (gold,))]


def _weighted(objectives: Sequence[TokenObjective]) -> _Pair:
    """The weighted sum of divergences, with Hinton's squared temperature."""
    parts = [(o.weight * o.temperature**2, DIVERGENCES[o.name](o)) for o in objectives]

    def compare(log_q_MK: Tensor, log_p_MK: Tensor) -> Tensor:
        return torch.stack([weight * divergence(log_q_MK, log_p_MK) for weight, divergence in parts]).sum(0)

    return compare
