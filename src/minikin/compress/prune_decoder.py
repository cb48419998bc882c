"""Structured cuts of decoders: fewer layers, key/value groups, neurons and hidden width, always a configuration that
transformers reloads. The order is Minitron's: score once by forward activations (students/decoder.probe), cut often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from minikin.base import decoders
from minikin.base.decoders import Layout, Sizes
from minikin.base.errors import UserError
from minikin.base.types import Array, Saliency, Student
from minikin.compress.prune import top


def to_shape(
    student: Student,
    saliency: Saliency,
    *,
    layers: int | None = None,
    hidden: int | None = None,
    groups: int | None = None,
    feed_forward: int | None = None,
) -> Student:
    """Cut a decoder to a smaller shape, keeping the units of largest saliency in their order.

    Layers go by block influence; heads go by whole key/value groups, so that each group that stays keeps all its
    query heads and their width; `groups` is the number that stays. What is not given stays as it is. Source:
    Muralidharan et al. 2024 (Minitron), §2; Men et al. 2024 (ShortGPT), §3. Raises UserError for a family that is
    not in base/decoders.py and for a shape that the weights can't be cut to.
    """
    layout = decoders.layout(student.config)
    old = layout.sizes(student.config)
    new = shape(layout, old, layers=layers, hidden=hidden, groups=groups, feed_forward=feed_forward)
    per_group, groups = old.heads // old.groups, new.groups
    keep_layers = [int(i) for i in top(saliency.blocks_L, new.layers)]
    keep_H = top(saliency.hidden_H, new.hidden)
    tensors = {name: np.asarray(t) for name, t in student.dequantized().tensors.items()}
    cut = {
        name: _taken(tensor, layout.outer[name], {"H": keep_H})
        for name, tensor in tensors.items()
        if _known(name, layout) and not name.startswith(f"{layout.layers}.")
    }
    for place, source in enumerate(keep_layers):
        kept = _units(old, top(saliency.heads_LA[source], groups), per_group)
        kept["F"] = top(saliency.neurons_LF[source], new.feed_forward)
        kept["FF"] = np.concatenate([kept["F"], kept["F"] + old.feed_forward])
        kept["H"] = keep_H
        cut |= _layer(tensors, layout, source, place, kept)
    return replace(student, config=_config(student.config, layout, old, new, keep_layers), tensors=cut, scheme="fp32")


def shape(
    layout: Layout,
    old: Sizes,
    *,
    layers: int | None = None,
    hidden: int | None = None,
    groups: int | None = None,
    feed_forward: int | None = None,
) -> Sizes:
    """Return the shape that `to_shape` cuts a decoder of the shape `old` to; raises UserError as it does."""
    per_group = old.heads // old.groups
    groups = groups or (hidden // old.head_width if layout.bound and hidden else old.groups)
    new = Sizes(
        layers or old.layers,
        hidden or (groups * old.head_width if layout.bound else old.hidden),
        groups * per_group,
        groups,
        feed_forward or old.feed_forward,
        old.head_width,
    )
    _refuse(old, new, layout)
    return new


def _units(old: Sizes, kept_G: Array, per_group: int) -> dict[str, Array]:
    """Rows of queries, keys and values, and of all in one, that belong to the kept groups."""
    width = np.arange(old.head_width)
    heads_A = (kept_G[:, None] * per_group + np.arange(per_group)).ravel()
    queries = (heads_A[:, None] * old.head_width + width).ravel()
    keys = (kept_G[:, None] * old.head_width + width).ravel()
    all_queries, all_keys = old.heads * old.head_width, old.groups * old.head_width
    return {
        "Q": queries,
        "K": keys,
        "QKV": np.concatenate([queries, keys + all_queries, keys + all_queries + all_keys]),
        "heads": (heads_A[:, None] * 3 * old.head_width + np.arange(3 * old.head_width)).ravel(),
    }


def _layer(
    tensors: Mapping[str, Array], layout: Layout, source: int, place: int, kept: Mapping[str, Array]
) -> dict[str, Array]:
    prefix = f"{layout.layers}.{source}."
    cut: dict[str, Array] = {}
    for name, tensor in tensors.items():
        if not name.startswith(prefix):
            continue
        inside = name.removeprefix(prefix)
        outputs, inputs = layout.inner[inside.rpartition(".")[0]]
        axes = (inputs, outputs) if layout.flipped and tensor.ndim == 2 else (outputs, inputs)
        cut[f"{layout.layers}.{place}.{inside}"] = _taken(tensor, axes, kept)
    return cut


def _taken(tensor: Array, axes: str | tuple[str, ...], kept: Mapping[str, Array]) -> Array:
    """Keep the units of every axis that is cut."""
    for k, axis in enumerate(axes[: tensor.ndim]):
        if axis in kept:
            tensor = np.take(tensor, kept[axis], axis=k)
    return np.ascontiguousarray(tensor)


def _known(name: str, layout: Layout) -> bool:
    """Whether the table says how to cut this tensor. Raises UserError if not: a silent copy would not fit."""
    if name.startswith(f"{layout.layers}."):
        inside = name.removeprefix(f"{layout.layers}.").partition(".")[2]
        known = inside.rpartition(".")[0] in layout.inner
    else:
        known = name in layout.outer
    if not known:
        raise UserError(f"This decoder can't be cut: nothing is known of its tensor {name}. Use student.start: grown.")
    return True


def _config(
    config: Mapping[str, Any], layout: Layout, old: Sizes, new: Sizes, keep_layers: list[int]
) -> dict[str, Any]:
    """The configuration of the cut; lists with an entry for each layer keep those of the layers that stay."""
    found = {
        key: [value[i] for i in keep_layers] if isinstance(value, list) and len(value) == old.layers else value
        for key, value in config.items()
    }
    found |= {name: getattr(new, key) for key, name in layout.names.items() if name in config or key != "groups"}
    if not layout.bound:
        # heads keep their width, which hidden / heads no longer gives
        found["head_dim"] = new.head_width
    return found


def _refuse(old: Sizes, new: Sizes, layout: Layout) -> None:
    names = ("layers", "hidden", "groups", "feed_forward")
    grown = [f"{k} {getattr(new, k)} > {getattr(old, k)}" for k in names if getattr(new, k) > getattr(old, k)]
    if grown:
        raise UserError(f"A cut can't be larger than its source: {', '.join(grown)}.")
    if layout.bound and new.hidden != new.heads * new.head_width:
        raise UserError(
            f"This family's hidden width is heads times head width: {new.heads} heads of {new.head_width} make "
            f"{new.heads * new.head_width}, not {new.hidden}. Give one of the two alone."
        )
    if new.hidden % new.heads:
        nearest = max(new.heads, round(new.hidden / new.heads) * new.heads)
        raise UserError(
            f"A cut keeps whole heads, {old.heads // old.groups} to each of its kv_heads, and hidden: {new.hidden} is "
            f"no multiple of {new.heads} heads. Give hidden: {nearest}, or other kv_heads."
        )
