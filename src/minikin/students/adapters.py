"""Adapters for causal language models: a few weights learn beside frozen ones (LoRA, DoRA), and are merged after."""

from __future__ import annotations

from typing import Any

import torch

from minikin.base.errors import UserError
from minikin.base.extras import need


def adapted(model: Any, rank: int, *, scale: float = 2.0, dora: bool = False, seed: int = 0) -> Any:
    """Put adapters of a rank on all linear layers but the output, in place, and freeze the rest.

    Returns what `merged` takes; the model itself trains as before. An adapter's output counts `scale` times:
    alpha / rank; `seed` draws its first weights. Raises UserError for a rank below 1, or a model without such layers.
    Source: Hu et al. 2022, "LoRA", eq. 3; Liu et al. 2024, "DoRA", §4.
    """
    peft = need("peft")
    if rank < 1:
        raise UserError(f"Adapters need a rank of at least 1, not {rank}.")
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=scale * rank,
        use_dora=dora,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return peft.get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"The adapters fit no layer of {type(model).__name__}: {error}") from error


def merged(adapters: Any) -> Any:
    """The model with its adapters added into its own weights, of the same architecture as before."""
    return adapters.merge_and_unload()
