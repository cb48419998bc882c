"""Adapters for causal language models: a few weights learn beside frozen ones (LoRA, DoRA), and are merged after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikin.base.errors import UserError
from minikin.base.extras import need


def adapted(model: Any, rank: int, *, scale: float = 2.0, dora: bool = False, targets: Sequence[str] = ()) -> Any:
    """Put adapters of a rank on the linear layers, in place, and freeze the rest; return what `merged` takes.

    `targets` are names of layers (default: all linear ones but the output). An adapter's output counts `scale`
    times: alpha / rank. The model itself trains as before. Raises UserError for a rank below 1 or no such layer.
    Source: Hu et al. 2022, "LoRA", eq. 3; Liu et al. 2024, "DoRA", §4.
    """
    peft = need("peft")
    if rank < 1:
        raise UserError(f"Adapters need a rank of at least 1, not {rank}.")
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=scale * rank,
        use_dora=dora,
        target_modules=list(targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"The adapters fit no layer of {type(model).__name__}: {error}") from error


def merged(adapters: Any) -> Any:
    """The model with its adapters added into its own weights, of the same architecture as before."""
    return adapters.merge_and_unload()
