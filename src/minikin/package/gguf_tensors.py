"""A decoder's weights as llama.cpp names and orders them; package/gguf writes what comes out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minikin.base.errors import UserError
from minikin.base.extras import need
from minikin.base.types import Array
from minikin.package.gguf_families import FAMILIES, Config, Shape

TIED = ("lm_head.weight", "embed_out.weight")
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")


def tensors(config: Config, weights: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
    """Yield (name in GGUF, name in transformers, float32 array) of every weight, rows first as in PyTorch.

    An output layer tied to the embeddings is left out: llama.cpp then shares them. Raises UserError for a weight
    that the family has no place for.
    """
    kind, shape = str(config["model_type"]), Shape.of(config)
    names = names_of(config)
    embeddings = _embeddings(weights)
    for source, value in weights.items():
        if source.endswith(BUFFERS):
            continue
        array = np.asarray(value, np.float32)
        same = embeddings is not None and np.array_equal(array, embeddings)
        if source in TIED and (config.get("tie_word_embeddings") or same):
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(f"llama.cpp's {FAMILIES[kind].architecture} has no place for the weight {source}.")
        yield name, source, np.ascontiguousarray(changed(kind, shape, source, array))
    if shape.scaling.get("rope_type") == "llama3":
        yield "rope_freqs.weight", "", frequencies(shape)


def names_of(config: Config) -> Any:
    """Return what finds the names in GGUF of a model's weights: the gguf package's own table."""
    gguf = need("gguf", "gguf")
    wanted = FAMILIES[str(config["model_type"])].architecture
    architecture = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == wanted)
    return gguf.get_tensor_name_map(architecture, Shape.of(config).layers)


def frequencies(shape: Shape) -> Array:
    """Return llama3's divisors of the rotation frequencies, float32 (rotated / 2,).

    High frequencies stay, low ones are divided by `factor`, and those between are blended (Llama 3.1, 2024).
    """
    scaling = shape.scaling
    factor, original = float(scaling["factor"]), float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    wavelengths = 2 * math.pi * shape.theta ** (np.arange(0, shape.rotated, 2, dtype=np.float64) / shape.rotated)
    smooth = np.clip((original / wavelengths - low) / (high - low), 0.0, 1.0)
    divisors: Array = (1.0 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    return divisors


def _embeddings(weights: Mapping[str, Array]) -> Array | None:
    endings = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
    return next((np.asarray(v, np.float32) for name, v in weights.items() if name.endswith(endings)), None)


def changed(kind: str, shape: Shape, source: str, array: Array) -> Array:
    """Return a weight as its architecture wants it."""
    if FAMILIES[kind].interleaved and ".self_attn." in source:
        heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(source.split(".")[-2])
        return array if heads is None else _interleaved(array, heads)
    if kind.startswith("gemma") and source.endswith("norm.weight"):
        return array + 1  # Gemma's norms multiply by 1 + weight
    if kind == "gpt2" and source.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return array.T  # Conv1D holds inputs first
    if kind == "gpt_neox" and ".query_key_value." in source:
        parts = array.reshape(shape.heads, 3, shape.head, *array.shape[1:])
        return parts.swapaxes(0, 1).reshape(array.shape)
    return array


def _interleaved(array: Array, heads: int) -> Array:
    """Reorder rows from halves (x₀…, y₀…) to pairs (x₀ y₀ x₁ y₁ …) within each head."""
    halves = array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)
