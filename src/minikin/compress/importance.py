"""How much each column of a decoder's weights matters on sample texts: package/gguf weights its errors by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minikin.base.errors import UserError
from minikin.base.types import Array


def importance(model: nn.Module, texts: Iterable[Sequence[int]]) -> dict[str, Array]:
    """Return, by name of each linear weight, the mean square (K,) of what goes into its columns.

    `texts` are token ids, each of two or more and within the context. An output layer tied to the embeddings is found
    under the embeddings' name. The expected squared error of a product is Σ_k E[x_k²] (w_k − ŵ_k)² where inputs are
    uncorrelated: the diagonal of GPTQ's Hessian (Frantar et al. 2022, equation 1). Raises UserError without texts.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    names = {id(module): f"{name}.weight" for name, module in model.named_modules() if _linear(module)}
    tied = {id(weight): name for name, weight in model.named_parameters()}  # a shared weight has its first name

    def seen(module: Any, inputs: tuple[Tensor, ...]) -> None:
        x_NK = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
        name = tied.get(id(module.weight), names[id(module)])
        sums[name] = sums.get(name, 0) + x_NK.square().sum(0)
        counts[name] = counts.get(name, 0) + len(x_NK)

    hooks = [module.register_forward_pre_hook(seen) for module in model.modules() if id(module) in names]
    training = model.training
    try:
        model.eval()
        with torch.inference_mode():
            for ids in texts:
                model(input_ids=torch.tensor([list(ids)], device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not sums:
        raise UserError("An importance matrix needs sample texts, and there are none. Give some, or leave it out.")
    return {name: (total / counts[name]).cpu().numpy().astype(np.float32) for name, total in sums.items()}


def _linear(module: nn.Module) -> bool:
    """Whether a module multiplies by a weight: PyTorch's linear layer, or GPT-2's transposed one."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
