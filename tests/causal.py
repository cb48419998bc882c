"""Small decoders of every family with random weights, biases and norms too."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import talk
from minikin.base.types import Ragged, Student
from minikin.base.writing import Packed

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "vocab_size": 300,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama tied, with biases": {"model_type": "llama", "tie_word_embeddings": True, "attention_bias": True},
    "mistral": {"sliding_window": None},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16},
    "phi": {},
    "phi3": {},
    "granite": {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gpt_neox": {"num_key_value_heads": 4},
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64, "attn_pdrop": 0.0},
}


def model_of(family: str, **more: Any) -> Any:
    """transformers' own model, every weight random."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {"model_type": family} | SIZES | FAMILIES[family] | more
    kind = values.pop("model_type")
    if kind == "gpt2":
        values = {k: v for k, v in values.items() if not k.startswith(("hidden_", "num_", "intermediate_", "max_"))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@cache
def student(family: str = "llama", **more: Any) -> Student:
    """The same as a value, with a byte-level tokenizer of 300 pieces."""
    from minikin.feed.causal import student_of

    return student_of(model_of(family, **more), talk.byte_level(297), talk.byte_config())


@cache
def rows(count: int = 6, length: int = 24, vocabulary: int = 300) -> Packed:
    """Packed rows of random ids."""
    from minikin.feed.packing import Documents, pack

    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *rng.integers(3, length, count * 2)])
    ids = Ragged(rng.integers(3, vocabulary, offsets[-1]).astype(np.int32), offsets)
    return pack(Documents(ids, Ragged(np.ones(offsets[-1], bool), offsets)), length)


def logits(student: Student, packed: Packed) -> np.ndarray:
    """What the model of a student gives for packed rows."""
    import torch

    from minikin.feed.causal import model_of
    from minikin.feed.decoder import head_of, states
    from minikin.feed.rows import tokens

    model = model_of(student)
    with torch.no_grad():
        return head_of(model).logits(states(model, tokens(packed, np.arange(len(packed.ids_NT))))[0]).numpy()
