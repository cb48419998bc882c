"""Small decoders that any test can use: random ones of every family, and the real stories260k as a Llama folder."""

from __future__ import annotations

import json
import os
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SPACE = "▁"
TEXT = [
    "The lamp in the kitchen is on, and the fan in the attic isn't.",
    "Set the heating to 21.5 degrees at 7:45 tomorrow — please!",
    "naïve café, Zoë's œuvre; 東京 で 12,000 円… привет мир 🙂👩‍👩‍👧",
    "def f(x):\n    return x ** 2  # squares\n\n\n\tprint('done')",
    "I'll, you've, WE'RE, it'd; they'Ll    spaces   and\ttabs\r\nlines\n\n  end ",
]


def data() -> Path:
    """The public sets, or a skip."""
    for folder in (os.environ.get("MINIKIN_DATA"), Path(__file__).parents[2] / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("the public sets are not here (set MINIKIN_DATA)")


@cache
def bytes_tokenizer(vocabulary: int = 400, pattern: str = "", digits: bool = False) -> str:
    """A byte-level BPE learned from `TEXT`, with <s> and </s>; cut by `pattern`, or as GPT-2 does."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
    steps: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    steps += [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, level]) if steps else level
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    return tokenizer.to_str()


def save(
    folder: Path, config: dict[str, Any], tensors: dict[str, np.ndarray], tokenizer_json: str, **more: Any
) -> Path:
    """Write a transformers folder by hand; `more` goes into tokenizer_config.json."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", **more}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@cache
def stories_weights(path: Path) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Header and tensors of a llama2.c file, with transformers' names and order of rows."""
    raw = path.read_bytes()
    names = ("dim", "hidden", "layers", "heads", "kv_heads", "vocabulary", "context")
    n = dict(zip(names, struct.unpack_from("<7i", raw), strict=True))
    flat, place = np.frombuffer(raw, "<f4", offset=28), 0

    def take(*shape: int) -> np.ndarray:
        nonlocal place
        place += int(np.prod(shape))
        return flat[place - int(np.prod(shape)) : place].reshape(shape)

    def halves(rows_LRK: np.ndarray, heads: int) -> np.ndarray:
        pairs = rows_LRK.reshape(n["layers"], heads, -1, 2, n["dim"])
        return pairs.swapaxes(2, 3).reshape(rows_LRK.shape)

    layers, dim, hidden = n["layers"], n["dim"], n["hidden"]
    wide = dim // n["heads"] * n["kv_heads"]
    tensors = {"model.embed_tokens.weight": take(n["vocabulary"], dim)}
    parts = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": halves(take(layers, dim, dim), n["heads"]),
        "self_attn.k_proj": halves(take(layers, wide, dim), n["kv_heads"]),
        "self_attn.v_proj": take(layers, wide, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
    }
    for name, rows in parts.items():
        tensors |= {f"model.layers.{i}.{name}.weight": np.ascontiguousarray(rows[i]) for i in range(layers)}
    tensors["model.norm.weight"] = take(dim)
    return n, {name: np.array(tensor) for name, tensor in tensors.items()}


def stories_tokenizer(path: Path) -> str:
    """tok512.bin as a tokenizer.json: SentencePiece's BPE, whose merges are all pairs in the order of the scores."""
    raw, place, pieces = path.read_bytes(), 4, []
    while place < len(raw):
        _, length = struct.unpack_from("<fi", raw, place)
        pieces.append(raw[place + 8 : place + 8 + length].decode().replace(" ", SPACE))
        place += 8 + length
    pieces[1:3] = ["<s>", "</s>"]
    ids = {piece: i for i, piece in enumerate(pieces)}
    merges = [
        [piece[:i], piece[i:]]
        for piece in pieces[259:]
        for i in range(1, len(piece))
        if piece[:i] in ids and piece[i:] in ids
    ]
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bos, a = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": pieces[i], **token} for i in range(3)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, a],
            "pair": [bos, a, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": ids,
            "merges": merges,
        },
    }
    return json.dumps(spec)


def stories(folder: Path) -> Path:
    """The real weights of stories260k as a Llama folder of transformers."""
    source = data() / "stories260k"
    n, tensors = stories_weights(source / "stories260K.bin")
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": n["dim"],
        "intermediate_size": n["hidden"],
        "num_hidden_layers": n["layers"],
        "num_attention_heads": n["heads"],
        "num_key_value_heads": n["kv_heads"],
        "vocab_size": n["vocabulary"],
        "max_position_embeddings": n["context"],
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float32",
    }
    return save(folder, config, tensors, stories_tokenizer(source / "tok512.bin"), unk_token="<unk>")


def families() -> dict[str, Any]:
    """Name → configuration of every family that llama.cpp runs, at toy size."""
    import transformers as t

    size = {
        "vocab_size": len(json.loads(bytes_tokenizer())["model"]["vocab"]),
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }
    shared = {**size, "num_key_value_heads": 2}
    gemma = {**shared, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
    gpt2 = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128, "bos_token_id": 0, "eos_token_id": 1}
    granite = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2}
    llama3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 64}
    llama3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 64}
    linear = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    return {
        "llama": t.LlamaConfig(**shared),
        "llama tied, llama3 positions": t.LlamaConfig(**shared, rope_parameters=llama3, tie_word_embeddings=True),
        "llama biased, linear positions": t.LlamaConfig(**shared, rope_parameters=linear, attention_bias=True),
        "llama yarn": t.LlamaConfig(**shared, rope_parameters=yarn),
        "mistral": t.MistralConfig(**shared, head_dim=32, sliding_window=96),
        "qwen2": t.Qwen2Config(**shared, tie_word_embeddings=True),
        "qwen3": t.Qwen3Config(**shared, head_dim=32),
        "gemma": t.GemmaConfig(**shared, head_dim=32, hidden_act="gelu_pytorch_tanh"),
        "gemma2": t.Gemma2Config(**{**gemma, "num_hidden_layers": 4}),
        "gemma3": t.Gemma3TextConfig(**{**gemma, "num_hidden_layers": 6}),
        "phi": t.PhiConfig(**size, hidden_act="gelu_new", partial_rotary_factor=0.5),
        "phi3": t.Phi3Config(**shared, sliding_window=None),
        "granite": t.GraniteConfig(**shared, logits_scaling=2.0, **granite),
        "gpt2": t.GPT2Config(vocab_size=size["vocab_size"], **gpt2),
        "gpt_neox": t.GPTNeoXConfig(**size, hidden_act="gelu", rotary_pct=0.25),
        "gpt_neox in series": t.GPTNeoXConfig(**size, hidden_act="gelu", rotary_pct=0.5, use_parallel_residual=False),
    }


def random_decoder(folder: Path, config: Any, tokenizer_json: str = "", seed: int = 0) -> Any:
    """Write a decoder with random weights (larger than usual, so that tokens differ) and return transformers' model."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval().float()
        for weights in model.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=0.15)
            else:
                weights.data += 0.1 * torch.randn_like(weights)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json or bytes_tokenizer(), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return model


def toy_config(tokenizer_json: str = "", **changes: Any) -> dict[str, Any]:
    """The config.json of a Llama of two layers, whatever its tokenizer's size."""
    spec = json.loads(tokenizer_json or bytes_tokenizer())
    top = max([len(spec["model"]["vocab"]) - 1, *(token["id"] for token in spec["added_tokens"])])
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": top + 1,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "hidden_act": "silu",
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
        **changes,
    }


def toy_llama(folder: Path, tokenizer_json: str = "", **changes: Any) -> Path:
    """A random Llama, written without PyTorch; `changes` are settings of `toy_config`."""
    config = toy_config(tokenizer_json, **changes)
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    narrow = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    rng = np.random.default_rng(0)
    parts = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (narrow, hidden)}
    parts |= {"self_attn.v_proj": (narrow, hidden), "self_attn.o_proj": (hidden, hidden)}
    parts |= {"mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden), "mlp.down_proj": (hidden, wide)}
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    shapes |= {} if config["tie_word_embeddings"] else {"lm_head.weight": (config["vocab_size"], hidden)}
    norms = {"model.norm.weight": np.ones(hidden, np.float32)}
    for i in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in parts.items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            norms[f"model.layers.{i}.{name}.weight"] = np.ones(hidden, np.float32)
    random = {name: (0.15 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    return save(folder, config, random | norms, tokenizer_json or bytes_tokenizer())
