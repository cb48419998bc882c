"""Toy decoders and packed rows for tests: tiny models of several architectures, documents of random tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from minikin.base.writing import Packed

VOCABULARY = 53
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GEMMA = {"num_key_value_heads": 1, "head_dim": 4}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "gemma": _GEMMA,
    "gemma2": {**_GEMMA, "sliding_window": 3, "final_logit_softcapping": 2.0},
    "gpt_neox": {},
    "granite": {"logits_scaling": 3.0},
    "bloom": {},
    "mamba": {},
}


def decoder(kind: str = "llama", seed: int = 0, spread: float = 0.3, **changes: Any) -> Any:
    """An untrained causal language model of transformers, its matrices from N(0, `spread`²)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **{**_SHAPE, **SHAPES[kind], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0.0, spread)
    return model


def packed(rows: Sequence[Sequence[int]], width: int = 16, seed: int = 0, vocabulary: int = VOCABULARY) -> Packed:
    """One row for each list of document lengths, filled up with padding; about two tokens of three are learnt."""
    rng = np.random.default_rng(seed)
    ids_NT = np.zeros((len(rows), width), np.int32)
    documents_NT, learnt_NT = np.zeros_like(ids_NT), np.zeros(ids_NT.shape, bool)
    for n, lengths in enumerate(rows):
        at = 0
        for number, length in enumerate(lengths, 1):
            ids_NT[n, at : at + length] = rng.integers(3, vocabulary, length)
            documents_NT[n, at : at + length] = number
            learnt_NT[n, at + 1 : at + length] = rng.random(length - 1) < 0.7
            at += length
    return Packed(ids_NT, documents_NT, learnt_NT)


def many(rows: int, width: int = 16, seed: int = 0) -> Packed:
    """Rows of two or three documents each."""
    rng = np.random.default_rng(seed + 1)
    lengths = [[int(x) for x in rng.integers(2, width // 3 + 1, int(rng.integers(2, 4)))] for _ in range(rows)]
    return packed(lengths, width, seed)
