"""Training decoders on packed rows: from gold tokens, stored next-token signals or a live teacher, by the one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minikin.base.types import Array, Progress, no_progress
from minikin.base.writing import Packed
from minikin.feed.buckets import in_order
from minikin.feed.decoder import head_of, states
from minikin.feed.rows import Tokens, tokens
from minikin.train import fused
from minikin.train.loop import History, Settings, optimise
from minikin.train.on_policy import OnPolicy
from minikin.train.token_objectives import Source, TokenLoss, TokenObjective

EVALUATION_TOKENS = 8192


def distil(
    model: nn.Module,
    packed: Packed,
    objectives: Sequence[TokenObjective],
    settings: Settings,
    *,
    source: Source = None,
    own: OnPolicy | None = None,
    validation: Packed | None = None,
    dropout: float = 0.0,
    checkpointing: bool = False,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> History:
    """Train a causal language model of transformers in place on N packed rows and what `source` says about them.

    `own` mixes in text that the student writes itself, which a live teacher judges. `validation` are rows whose
    cross-entropy picks the epoch that is kept. `dropout` is the share of the embeddings, and of what each layer's two
    halves add to them, that is zeroed while training (Llama-shaped models). With `checkpointing` each layer is computed
    twice and its inside not held. Settings' batch counts rows. Parameters that need no gradient stay as they are, so
    adapters train alone. Raises UserError for what can't be learnt so, before any step.
    """
    both = _WithLoss(model, TokenLoss(objectives, source, head_of(model), settings.seed))
    if own is not None:
        own.check(source, objectives)

    def loss_of_batch(prepared: nn.Module, rows_B: Array) -> Tensor:
        batch = tokens(packed, rows_B).to(next(model.parameters()).device)
        written = own.instead_of(batch, model) if own is not None else None
        loss: Tensor = prepared(batch, rows_B) if written is None else prepared(written, None)
        return loss

    def evaluate(_prepared: nn.Module) -> float:
        assert validation is not None
        return -cross_entropy(model, validation)

    switched: Any = model
    hooks = _dropping(switched, dropout) if dropout else []
    if checkpointing:
        switched.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        return optimise(
            both,
            _lengths(packed),
            loss_of_batch,
            settings,
            weights_N=np.asarray(packed.learnt_NT).sum(1),
            evaluate=evaluate if validation is not None and len(validation.ids_NT) else None,
            scratch=scratch,
            progress=progress,
        )
    finally:
        for hook in hooks:
            hook.remove()
        if checkpointing:
            switched.gradient_checkpointing_disable()


def follow(
    model: nn.Module,
    packed: Packed,
    wanted: Callable[[Tokens], Tensor],
    settings: Settings,
    *,
    validation: Packed | None = None,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> History:
    """Train a causal language model in place to compute the last hidden states (B, T, H) that `wanted` gives of N rows.

    The loss, and minus the score of an epoch on the `validation` rows, is the share of their variance that is missed,
    over all tokens but each document's first. Nothing is dropped out. Source: Jiao et al. 2020, "TinyBERT", equation 9
    (hidden states), without a projection: both are equally wide.
    """
    both = _Following(model, wanted)

    def loss_of_batch(prepared: nn.Module, rows_B: Array) -> Tensor:
        missed, whole = prepared(tokens(packed, rows_B).to(next(model.parameters()).device))
        return missed / whole  # type: ignore[no-any-return]

    def evaluate(_prepared: nn.Module) -> float:
        assert validation is not None
        batches = _batches(validation, next(model.parameters()).device)
        missed, whole = np.sum([[float(x) for x in both(batch)] for batch in batches], 0)
        return -float(missed / whole)

    with _without_dropout(model):
        return optimise(
            both,
            _lengths(packed),
            loss_of_batch,
            settings,
            evaluate=evaluate if validation is not None and len(validation.ids_NT) else None,
            scratch=scratch,
            progress=progress,
        )


class _Following(nn.Module):
    """How far a model's states are from those wanted: squared distance, and squared width of the wanted ones."""

    def __init__(self, module: nn.Module, wanted: Callable[[Tokens], Tensor]) -> None:
        super().__init__()
        self.module, self.wanted = module, wanted

    def forward(self, batch: Tokens) -> tuple[Tensor, Tensor]:
        read_BT = (batch.documents_BT > 0) & (batch.positions_BT > 0)
        wanted_MH, given_MH = (x[read_BT].float() for x in (self.wanted(batch), states(self.module, batch)[-1]))
        return (given_MH - wanted_MH).square().sum(), (wanted_MH - wanted_MH.mean(0)).square().sum()


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Inside, the model's own dropout drops nothing."""
    found = [(part, part.p) for part in model.modules() if isinstance(part, nn.Dropout)]
    for part, _ in found:
        part.p = 0.0
    try:
        yield
    finally:
        for part, share in found:
            part.p = share


def _dropping(model: Any, share: float) -> list[Any]:
    """Zero a share of what the embeddings, attentions and neurons give, while the model is in training."""

    def drop(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return nn.functional.dropout(output, share, module.training)

    parts = [part for layer in model.base_model.layers for part in (layer.self_attn.o_proj, layer.mlp)]
    return [part.register_forward_hook(drop) for part in (model.get_input_embeddings(), *parts)]


class _WithLoss(nn.Module):
    """The student and its loss as one module, so that projections train and any launcher can wrap both."""

    def __init__(self, module: nn.Module, loss: TokenLoss) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Tokens, rows_B: Array | None) -> Tensor:
        loss: Tensor = self.loss(states(self.module, batch, every=self.loss.inside), batch, rows_B)
        return loss


@torch.no_grad()
def cross_entropy(model: nn.Module, packed: Packed) -> float:
    """Mean over learnt tokens of −log q, in nats; its exponential is the perplexity. NaN for no learnt token."""
    was_training = model.training
    model.eval()
    head = head_of(model)
    total, count = 0.0, 0
    try:
        for batch_tokens in _batches(packed, head.weight_VH.device):
            hidden_MH = batch_tokens.before_learnt(states(model, batch_tokens)[0])
            gold = fused.Named(batch_tokens.learnt_M[:, None], torch.ones_like(hidden_MH[:, :1]))
            total += float(fused.loss(hidden_MH, head, (gold,)))
            count += len(hidden_MH)
    finally:
        model.train(was_training)
    return total / count if count else float("nan")


def _lengths(packed: Packed) -> Array:
    """Tokens of each row (N,), padding left out."""
    lengths_N: Array = (np.asarray(packed.documents_NT) > 0).sum(1)
    return lengths_N


def _batches(packed: Packed, device: torch.device) -> Iterator[Tokens]:
    """All rows, in batches of at most `EVALUATION_TOKENS`, rows of like length together."""
    for rows_B in in_order(_lengths(packed), max(1, EVALUATION_TOKENS // packed.ids_NT.shape[1])):
        yield tokens(packed, rows_B).to(device)
