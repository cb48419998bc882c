"""A causal language model of transformers in two parts: what computes hidden states, and the output matrix.

Taken apart so that nobody need ever hold a whole batch's logits; checked once that the parts make up the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from minikin.base.errors import UserError
from minikin.feed.rows import Tokens

PROBE_IDS = 11
CLOSE = {torch.float64: 1e-8, torch.float32: 3e-5}
CLOSE_HALF = 3e-2


@dataclass(frozen=True)
class Head:
    """From hidden states to logits: cap · tanh(scale · (h Wᵀ + b) / cap); without a cap, scale · (h Wᵀ + b)."""

    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden_MH: Tensor) -> Tensor:
        """Logits (M, V) in float32 (or float64)."""
        bias_V = None if self.bias_V is None else self.bias_V.to(hidden_MH.dtype)
        logits_MV = nn.functional.linear(hidden_MH, self.weight_VH.to(hidden_MH.dtype), bias_V)
        logits_MV = logits_MV if logits_MV.dtype == torch.float64 else logits_MV.float()
        if self.scale != 1.0:
            logits_MV = logits_MV * self.scale
        return logits_MV if self.softcap is None else self.softcap * torch.tanh(logits_MV / self.softcap)


def states(model: nn.Module, tokens: Tokens, *, every: bool = False) -> tuple[Tensor, ...]:
    """Hidden states (B, T, H) before the output matrix; with `every`, those of the embeddings and each layer, last too.

    No token sees another document's. transformers makes the block-diagonal mask, sliding windows included, from
    positions that restart, when it is given neither a mask nor a cache.
    """
    out: Any = model.base_model(  # type: ignore[operator]
        input_ids=tokens.ids_BT, position_ids=tokens.positions_BT, use_cache=False, output_hidden_states=every
    )
    return (*out.hidden_states[:-1], out.last_hidden_state) if every else (out.last_hidden_state,)


def head_of(model: nn.Module) -> Head:
    """The model's output matrix with what follows it.

    Raises UserError for a model that can't be taken apart so, or whose tokens see other documents' in a packed row:
    both are tried on a few tokens, since either would be silently wrong.
    """
    output = getattr(model, "get_output_embeddings", lambda: None)()
    name = type(model).__name__
    if not isinstance(output, nn.Linear):
        raise UserError(
            f"{name} has no plain output matrix, and decoders are trained through it. "
            "Use a model of AutoModelForCausalLM, and leave adapters off its output."
        )
    was_training, close = model.training, CLOSE.get(output.weight.dtype, CLOSE_HALF)
    model.eval()
    try:
        with torch.no_grad():
            return _checked(model, output, name, close)
    finally:
        model.train(was_training)


def _checked(model: Any, output: nn.Linear, name: str, close: float) -> Head:
    device, vocabulary = output.weight.device, output.weight.shape[0]
    ids_T = torch.arange(PROBE_IDS, device=device) * 7 % vocabulary
    cut = PROBE_IDS // 2
    documents_T = (torch.arange(PROBE_IDS, device=device) >= cut).long() + 1
    positions_T = torch.cat([torch.arange(cut), torch.arange(PROBE_IDS - cut)]).to(device)
    packed = Tokens(*(x[None] for x in (ids_T, documents_T, documents_T > 0, positions_T)))
    (hidden_BTH,) = states(model, packed)
    apart_TV = torch.cat([model(input_ids=part[None]).logits[0] for part in (ids_T[:cut], ids_T[cut:])]).float()
    plain = Head(output.weight, output.bias)
    config: Any = model.config
    softcap = getattr(config, "final_logit_softcapping", None)
    scaling = [getattr(config, key, None) for key in ("logit_scale", "logits_scaling")]
    scales = [1.0, *(float(s) for s in scaling if s), *(1.0 / float(s) for s in scaling if s)]
    found = [replace(plain, scale=scale, softcap=softcap) for scale in scales]
    whole_TV = model(input_ids=ids_T[None]).logits[0].float()
    (alone_BTH,) = states(model, replace(packed, positions_BT=torch.arange(PROBE_IDS, device=device)[None]))
    fitting = [head for head in found if _close(head.logits(alone_BTH[0]), whole_TV, close)]
    if not fitting:
        raise UserError(
            f"{name} does more between hidden states and logits than an output matrix, a scale and a cap; "
            "its losses would be wrong. Use another architecture."
        )
    if not _close(fitting[0].logits(hidden_BTH[0]), apart_TV, close):
        raise UserError(
            f"In {name}, tokens of a packed row see other documents: it takes no positions that restart, or keeps a "
            "state from token to token. Use another architecture."
        )
    return fitting[0]


def _close(a: Tensor, b: Tensor, close: float) -> bool:
    return bool((a.float() - b).abs().max() <= close * b.abs().max())


class Asked:
    """A teacher with the student's tokens, asked about packed rows; frozen, and in evaluation mode.

    `head` is its output matrix. `digest` identifies it in what is stored. Raises UserError as `head_of` does.
    """

    def __init__(self, model: nn.Module, digest: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self.head = head_of(model)
        self.device, self.digest = self.head.weight_VH.device, digest

    @property
    def vocabulary(self) -> int:
        """Rows of the output matrix."""
        return int(self.head.weight_VH.shape[0])

    @torch.no_grad()
    def states(self, tokens: Tokens, *, every: bool = False) -> tuple[Tensor, ...]:
        """Hidden states (B, T, H) as `states` gives them, on the device of the tokens."""
        found = states(self.model, tokens.to(self.device), every=every)
        return tuple(states_BTH.to(tokens.ids_BT.device) for states_BTH in found)

    def log_probs(self, hidden_MH: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probabilities (M, V)."""
        logits_MV = self.head.logits(hidden_MH.to(self.device)) / temperature
        return torch.log_softmax(logits_MV, -1).to(hidden_MH.device)
