"""What every unit of a transformer did on sample texts: sums from forward passes alone, turned into saliency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minikin.base.types import Array, Saliency
from minikin.equations import saliency


class Seen:
    """Sums of squares of every unit's activation, over the tokens that are not padding."""

    def __init__(self, layers: int) -> None:
        self.mask_BT: Tensor | None = None
        self.squares: dict[tuple[str, int], Array] = {}
        self.cosines = np.zeros(layers)
        self.count = 0
        self.hidden_watched = 1

    def watch(
        self, i: int, layer: nn.Module, heads_out: nn.Module, neurons_out: nn.Module, hidden: Sequence[nn.Module]
    ) -> list[Any]:
        """Hook one layer: the inputs of the modules that read heads and neurons, the outputs that rank the hidden
        units, and the layer as a whole."""
        self.hidden_watched = len(hidden)
        return [
            heads_out.register_forward_pre_hook(lambda _m, x: self._add("heads", i, x[0])),
            neurons_out.register_forward_pre_hook(lambda _m, x: self._add("neurons", i, x[0])),
            layer.register_forward_hook(self._layer(i), with_kwargs=True),
            *(m.register_forward_hook(lambda _m, _x, y: self._add("hidden", i, _first(y))) for m in hidden),
        ]

    def _add(self, kind: str, i: int, x_BTU: Tensor) -> None:
        values_MU = x_BTU[self.mask_BT].double().square().sum(0).numpy()
        self.squares[kind, i] = self.squares.get((kind, i), 0) + values_MU

    def _layer(self, i: int) -> Callable[..., None]:
        def compare(_module: nn.Module, args: Any, named: Any, after: Any) -> None:
            before_BTH = args[0] if args else named["hidden_states"]
            before_MH, after_MH = before_BTH[self.mask_BT], _first(after)[self.mask_BT]
            self.cosines[i] += float(torch.cosine_similarity(before_MH, after_MH, dim=-1).sum())
            if i == 0:
                self.count += len(before_MH)

        return compare

    def saliency(self, groups: int, outgoing: Callable[[str, int], Array]) -> Saliency:
        """Turn the sums into scores: RMS activation times the norm of the outgoing weights.

        `outgoing` gives the weights (H, units) that read the "heads" or "neurons" of a layer; the units of the heads
        are summed up in `groups` of equal size.
        """
        neurons, per_group = [], []
        for i in range(len(self.cosines)):
            rms = {k: saliency.activation_magnitude(self.squares[k, i], self.count) for k in ("heads", "neurons")}
            neurons.append(saliency.output_norm(rms["neurons"], outgoing("neurons", i)))
            units = saliency.output_norm(rms["heads"], outgoing("heads", i))
            per_group.append(np.sqrt(np.square(units).reshape(groups, -1).sum(1)))
        positions = self.count * self.hidden_watched
        states = [saliency.activation_magnitude(self.squares["hidden", i], positions) for i in range(len(neurons))]
        blocks_L = saliency.block_influence(self.cosines, self.count)
        return Saliency(np.mean(states, 0), np.stack(per_group), np.stack(neurons), blocks_L)


def _first(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found
