"""Decoder students: Llama-shaped ones grown from nothing, and what the units of any decoder matter."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from minikin.base import decoders
from minikin.base.types import Array, Saliency, Student
from minikin.base.writing import Packed
from minikin.feed.causal import model_of, student_of
from minikin.feed.decoder import states
from minikin.feed.rows import tokens
from minikin.students.seen import Seen


def config_of(
    *,
    layers: int,
    hidden: int,
    heads: int,
    groups: int,
    feed_forward: int,
    vocabulary: int,
    max_length: int,
    tied: bool = True,
    bos: int | None = None,
    eos: int | None = None,
    pad: int | None = None,
) -> dict[str, Any]:
    """LlamaConfig keys of a student; `groups` are its key/value heads, `bos`, `eos` and `pad` token ids."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": feed_forward,
        "vocab_size": vocabulary,
        "max_position_embeddings": max_length,
        "tie_word_embeddings": tied,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.02,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
    }


def grow(config: Mapping[str, Any], tokenizer_json: str, tokenizer_config: Mapping[str, Any], seed: int) -> Student:
    """A student with fresh weights, normal with the configuration's deviation."""
    values = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **values))
    return student_of(model, tokenizer_json, tokenizer_config)


@torch.no_grad()
def probe(student: Student, samples: Packed, batch: int = 4) -> Saliency:
    """Measure saliency on packed samples with forward passes alone: score once, cut often.

    Heads are scored by whole key/value groups (L, groups). Hidden units are ranked by the outputs of the norms.
    Source: Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation" (Minitron),
    §2.2; blocks by Men et al. 2024, "ShortGPT", eq. 1. Raises UserError for families that can't be cut.
    """
    layout = decoders.layout(student.config)
    shape = layout.sizes(student.config)
    model = model_of(student)
    seen = Seen(shape.layers)
    handles = []
    for i in range(shape.layers):
        layer = model.get_submodule(f"{layout.layers}.{i}")
        norms = [layer.get_submodule(name) for name in layout.norms]
        outs = [layer.get_submodule(name) for name in (layout.heads_out, layout.neurons_out)]
        handles.append(seen.watch(i, layer, outs[0], outs[1], norms))
    for start in range(0, len(samples.ids_NT), batch):
        rows = tokens(samples, np.arange(start, min(start + batch, len(samples.ids_NT))))
        seen.mask_BT = rows.documents_BT > 0
        states(model, rows)
    for handle in chain.from_iterable(handles):
        handle.remove()
    tensors = student.dequantized().tensors
    names = {"heads": layout.heads_out, "neurons": layout.neurons_out}

    def outgoing(kind: str, i: int) -> Array:
        weight = np.asarray(tensors[f"{layout.layers}.{i}.{names[kind]}.weight"])
        return weight.T if layout.flipped else weight

    return seen.saliency(shape.groups, outgoing)
