"""On-policy distillation: the student writes its own answers, and a live teacher says what it would have written.

Handed to train/sequence.py, which trains on such a batch in place of the one it was going to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minikin.base.errors import UserError
from minikin.feed.decoder import Asked
from minikin.feed.rows import Tokens
from minikin.train.token_objectives import PEOPLES, Source, TokenObjective


@dataclass(frozen=True)
class OnPolicy:
    """The share of batches (λ) whose answers the student writes by sampling, up to `max_new` tokens or `stop_id`.

    Prompt and answer have at most `context` tokens.
    Source: Agarwal et al. 2024, "On-Policy Distillation of Language Models" (GKD), algorithm 1.
    """

    share: float
    max_new: int
    stop_id: int
    context: int
    temperature: float = 1.0

    def check(self, source: Source, objectives: Sequence[TokenObjective]) -> None:
        """Refuse what can't work. Raises UserError."""
        if not isinstance(source, Asked):
            raise UserError("On-policy distillation needs a live teacher: stored signals are of other text.")
        if all(o.name in PEOPLES for o in objectives):
            raise UserError(
                "On-policy distillation needs a divergence: there are no gold tokens for the student's text."
            )
        if not 0 <= self.share <= 1 or self.max_new < 1 or self.temperature <= 0:
            raise UserError("On-policy distillation needs 0 <= share <= 1, max_new >= 1 and a temperature above 0.")

    def instead_of(self, batch: Tokens, model: nn.Module) -> Tokens | None:
        """The batch's prompts with the student's own answers, or None where the given text is to be learnt.

        Draws one number on torch's random state, which the loop seeds and saves, and all else from that: the same
        seed gives the same text, also after a kill, and all processes write in the same steps.
        """
        seed = int(torch.randint(1 << 62, ()))
        device = batch.ids_BT.device
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            torch.manual_seed(seed)
            if float(torch.rand(())) >= self.share:
                return None
            found = prompts(batch)
            return answered(model, found, self) if found else None


def prompts(batch: Tokens) -> list[Tensor]:
    """For each document with a learnt token, the ids before the first one; there are some, no first token is learnt."""
    found = []
    for b in range(len(batch.ids_BT)):
        for document in torch.unique(batch.documents_BT[b]):  # type: ignore[no-untyped-call]
            own_T = batch.documents_BT[b] == document
            learnt_T = batch.learnt_BT[b] & own_T
            if document > 0 and bool(learnt_T.any()):
                begin = int(own_T.int().argmax())
                found.append(batch.ids_BT[b, begin : int(learnt_T.int().argmax())])
    return found


@torch.no_grad()
def answered(model: Any, prompts_: Sequence[Tensor], how: OnPolicy) -> Tokens:
    """Each prompt with what the student writes after it, one document a row; what it wrote is learnt."""
    width = max(len(p) for p in prompts_)
    ids_BT = torch.full((len(prompts_), width), how.stop_id, device=prompts_[0].device)
    mask_BT = torch.zeros_like(ids_BT)
    for b, prompt_T in enumerate(prompts_):
        ids_BT[b, width - len(prompt_T) :], mask_BT[b, width - len(prompt_T) :] = prompt_T, 1
    was_training = model.training
    model.eval()
    try:
        out_BT = model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            do_sample=True,
            temperature=how.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=min(how.max_new, how.context - width),
            eos_token_id=how.stop_id,
            pad_token_id=how.stop_id,
        )
    finally:
        model.train(was_training)
    written_BT = out_BT[:, width:]
    stopped_BT = (written_BT == how.stop_id).int().cumsum(1)
    # the first stop is written too; what comes after it is padding
    lengths_B = ((stopped_BT == 0) | ((stopped_BT == 1) & (written_BT == how.stop_id))).sum(1)
    return _rows(prompts_, written_BT, lengths_B)


def _rows(prompts_: Sequence[Tensor], written_BT: Tensor, lengths_B: Tensor) -> Tokens:
    """Prompt and answer from the left, padded with zeros."""
    rows = [torch.cat([p, w[: int(n)]]) for p, w, n in zip(prompts_, written_BT, lengths_B, strict=True)]
    ids_BT = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    at_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    ends_B1 = torch.tensor([len(r) for r in rows], device=ids_BT.device)[:, None]
    begins_B1 = torch.tensor([len(p) for p in prompts_], device=ids_BT.device)[:, None]
    documents_BT = (at_T[None] < ends_B1).long()
    return Tokens(ids_BT, documents_BT, (at_T[None] >= begins_B1) & (documents_BT > 0), at_T[None] * documents_BT)
