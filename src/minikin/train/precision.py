"""Matrix products in bfloat16 for the training loop, with attention left in float32. Called by `loop.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

IN_FLOAT32 = "sdpa_in_float32"


def _attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **more: Any) -> Any:
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    with torch.autocast(query.device.type, enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **more)


AttentionInterface.register(IN_FLOAT32, _attend)
AttentionMaskInterface.register(IN_FLOAT32, sdpa_mask)


@contextmanager
def bfloat16_products(module: nn.Module, device: torch.device, enabled: bool) -> Iterator[torch.autocast]:
    """Yield the context for forward passes of `module`; on a CPU its fused attention stays in float32 inside.

    PyTorch's fused attention for CPUs takes thirteen times as long backwards in bfloat16 (64 texts of 16 tokens, 6
    heads of 32: 20.7 ms instead of 1.6), more than the matrix products gain.
    """
    apart = enabled and device.type == "cpu"
    configs: list[Any] = [m.config for m in module.modules() if apart and hasattr(m, "config")]
    fused = [c for c in configs if getattr(c, "_attn_implementation", None) == "sdpa"]
    for config in fused:
        config._attn_implementation = IN_FLOAT32
    try:
        yield torch.autocast(device.type, torch.bfloat16, enabled=enabled)
    finally:
        for config in fused:
            config._attn_implementation = "sdpa"
