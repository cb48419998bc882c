"""Structured cuts: fewer layers, heads, neurons and hidden width, always a standard configuration that reloads.

Every layer keeps the same numbers of heads and neurons, because BertConfig knows one number for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from minikin.base.errors import UserError
from minikin.base.types import Array, Saliency, Student

NEURON_MULTIPLE = 32
SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
"""Keys of a configuration that say what can be cut."""

WORDS = "bert.embeddings.word_embeddings.weight"
PROJECTION = "bert.embeddings.word_embeddings.projection.weight"


def to_shape(
    student: Student,
    saliency: Saliency,
    *,
    layers: int | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    feed_forward: int | None = None,
) -> Student:
    """Cut an encoder to a smaller shape, keeping the units of largest saliency in their order.

    Layers are chosen by block influence (Men et al. 2024, "ShortGPT"): of a tuned encoder these are the last ones,
    which do better than layers spread evenly (LOG.md). Heads keep their width, so `hidden` must equal heads × head
    width when both are cut; when only `hidden` is given, heads follow from it. Raises UserError for a shape that the
    weights can't be cut to.
    """
    config = student.config
    head_width = int(config["hidden_size"]) // int(config["num_attention_heads"])
    hidden, layers = hidden or int(config["hidden_size"]), layers or int(config["num_hidden_layers"])
    heads, feed_forward = heads or max(1, hidden // head_width), feed_forward or int(config["intermediate_size"])
    wanted = dict(zip(SHAPE, (layers, hidden, heads, feed_forward), strict=True))
    _refuse_growth(config, wanted, head_width)

    keep_layers = [int(i) for i in top(saliency.blocks_L, layers)]
    keep_H = top(saliency.hidden_H, hidden)
    source_tensors = {name: np.asarray(t) for name, t in student.dequantized().tensors.items()}
    tensors = {
        name: _outer(name, tensor, keep_H, factorised=PROJECTION in source_tensors)
        for name, tensor in source_tensors.items()
        if "encoder.layer." not in name
    }
    for new, source in enumerate(keep_layers):
        keep_A = top(saliency.heads_LA[source], heads)
        units = (keep_A[:, None] * head_width + np.arange(head_width)).ravel()
        keep_F = top(saliency.neurons_LF[source], feed_forward)
        tensors.update(_layer(source_tensors, source, new, keep_H, units, keep_F))
    return replace(student, config={**config, **wanted}, tensors=tensors, scheme="fp32")


def neurons(student: Student, saliency: Saliency, keep: float) -> Student:
    """Keep a share of each layer's neurons, rounded up to a multiple of 32."""
    if not 0.0 < keep <= 1.0:
        raise UserError(f"prune.keep is {keep}: give a share above 0 and up to 1.")
    kept = kept_neurons(int(student.config["intermediate_size"]), keep)
    return to_shape(student, saliency, feed_forward=kept, heads=int(student.config["num_attention_heads"]))


def kept_neurons(width: int, keep: float) -> int:
    """How many of `width` neurons a share of them is, rounded up to a multiple of 32."""
    return min(width, int(np.ceil(width * keep / NEURON_MULTIPLE)) * NEURON_MULTIPLE)


def top(scores: Array, count: int) -> Array:
    """Indices of the `count` largest scores, ascending; ties go to the lower index."""
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def _refuse_growth(config: Mapping[str, Any], wanted: Mapping[str, int], head_width: int) -> None:
    grown = [f"{key} {value} > {config[key]}" for key, value in wanted.items() if value > int(config[key])]
    if grown:
        raise UserError(f"A cut can't be larger than its source: {', '.join(grown)}. Use start: grown instead.")
    hidden = wanted["hidden_size"]
    if wanted["num_attention_heads"] * head_width != hidden:
        raise UserError(
            f"A cut keeps heads of {head_width} units: hidden {hidden} needs {hidden // head_width} heads "
            f"and a multiple of {head_width}."
        )


def _outer(name: str, tensor: Array, keep_H: Array, *, factorised: bool) -> Array:
    """Embeddings, their normalisation, the pooler and the classifier. A factorised table keeps a width of its own."""
    if name == PROJECTION:
        return np.asarray(tensor[keep_H])
    if name == "bert.pooler.dense.weight":
        return np.asarray(tensor[np.ix_(keep_H, keep_H)])
    if name == "classifier.bias" or (factorised and name == WORDS):
        return tensor
    return np.asarray(tensor[..., keep_H])


def _layer(
    tensors: Mapping[str, Array], source: int, new: int, keep_H: Array, units: Array, keep_F: Array
) -> dict[str, Array]:
    prefix = f"bert.encoder.layer.{source}."
    rows_columns = {
        "attention.self.query": (units, keep_H),
        "attention.self.key": (units, keep_H),
        "attention.self.value": (units, keep_H),
        "attention.output.dense": (keep_H, units),
        "intermediate.dense": (keep_F, keep_H),
        "output.dense": (keep_H, keep_F),
    }
    cut: dict[str, Array] = {}
    for name, (rows, columns) in rows_columns.items():
        cut[f"bert.encoder.layer.{new}.{name}.weight"] = tensors[f"{prefix}{name}.weight"][np.ix_(rows, columns)]
        cut[f"bert.encoder.layer.{new}.{name}.bias"] = tensors[f"{prefix}{name}.bias"][rows]
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        for part in ("weight", "bias"):
            cut[f"bert.encoder.layer.{new}.{name}.{part}"] = tensors[f"{prefix}{name}.{part}"][keep_H]
    return cut
