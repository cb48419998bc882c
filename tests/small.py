"""Small students with random weights, and a WordPiece tokenizer written by hand."""

from __future__ import annotations

import json
import string

import numpy as np

from minikin.base.types import Student

WORDS = [
    "card",
    "arrived",
    "the",
    "my",
    "not",
    "is",
    "where",
    "money",
    "transfer",
    "lost",
    "pin",
    "top",
    "up",
    "refund",
    "pay",
    "account",
    "bank",
    "##ed",
    "##ing",
]
INSTRUCTIONS = ("scalar", "avx2", "avx-vnni", "avx512-vnni", "amx-int8", "neon", "neon-dotprod")
"""All that the kernel knows by name; a processor has some of them."""

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "where is my card?",
    "The refund hasn't arrived, and I PAID twice!",
    "top-up failed",
    "",
    "pin",
    "my card is lost, where do I block the account transfers? " * 3,
    "naïve café — ünïcödé ☃ 漢字",
]


def tokenizer_json(lowercase: bool = True) -> str:
    """A BERT tokenizer of about 190 pieces."""
    singles = string.ascii_lowercase + string.digits + string.punctuation + "éü漢"
    continued = ["##" + c for c in string.ascii_lowercase + string.digits + "éü漢"]
    pieces = [*SPECIALS, *singles, *continued, *WORDS]
    ids = {piece: i for i, piece in enumerate(pieces)}
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    cls, sep = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
    a, b = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    spec = {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": [{"id": ids[name], "content": name, **token} for name in SPECIALS],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, a, sep],
            "pair": [cls, a, sep, b, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }
    return json.dumps(spec)


def vocabulary_size() -> int:
    """Number of pieces of the tokenizer."""
    return len(json.loads(tokenizer_json())["model"]["vocab"])


def encoder(
    layers: int = 2,
    hidden: int = 32,
    heads: int = 2,
    feed_forward: int = 64,
    *,
    types: int = 2,
    classes: int = 5,
    max_length: int = 24,
    activation: str = "gelu",
    seed: int = 0,
    temperature: float = 1.0,
    pair: bool = False,
    embedding: int = 0,
) -> Student:
    """A BERT classifier whose every weight is random, biases and norms too; `embedding` factorises its tokens."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, mean: float = 0.0) -> np.ndarray:
        return (mean + 0.15 * rng.standard_normal(shape)).astype(np.float32)

    tensors = {
        "bert.embeddings.word_embeddings.weight": normal(vocabulary_size(), embedding or hidden),
        "bert.embeddings.position_embeddings.weight": normal(max_length, hidden),
        "bert.embeddings.token_type_embeddings.weight": normal(types, hidden),
    }

    if embedding:
        projection = normal(hidden, embedding) / np.float32(0.15 * embedding**0.5)
        tensors["bert.embeddings.word_embeddings.projection.weight"] = projection

    def dense(name: str, outputs: int, inputs: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = normal(outputs, inputs), normal(outputs)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = normal(hidden, mean=1.0), normal(hidden)

    norm("bert.embeddings.LayerNorm")
    for i in range(layers):
        part = f"bert.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            dense(f"{part}.attention.self.{name}", hidden, hidden)
        dense(f"{part}.attention.output.dense", hidden, hidden)
        norm(f"{part}.attention.output.LayerNorm")
        dense(f"{part}.intermediate.dense", feed_forward, hidden)
        dense(f"{part}.output.dense", hidden, feed_forward)
        norm(f"{part}.output.LayerNorm")
    dense("bert.pooler.dense", hidden, hidden)
    dense("classifier", classes, hidden)
    config = {
        "model_type": "bert",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
        "vocab_size": vocabulary_size(),
        "max_position_embeddings": max_length,
        "type_vocab_size": types,
        "hidden_act": activation,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "pair": pair,
        **({"embedding_size": embedding} if embedding else {}),
    }
    labels = tuple(f"label {i}" for i in range(classes))
    return Student("encoder", config, tensors, tokenizer_json(), labels, max_length, temperature)


def static(
    hidden: int = 16,
    *,
    window: int = 3,
    pool: str = "mean-max",
    pair: bool = False,
    classes: int = 5,
    max_length: int = 24,
    seed: int = 0,
    temperature: float = 1.0,
) -> Student:
    """A static student with random weights."""
    rng = np.random.default_rng(seed)
    width = hidden * (2 if pool == "mean-max" else 1) * (4 if pair else 1)
    shapes = {"embeddings_VH": (vocabulary_size(), hidden), "head_weight": (classes, width), "head_bias": (classes,)}
    if window:
        shapes |= {"convolution_weight": (2 * hidden, window * hidden), "convolution_bias": (2 * hidden,)}
    tensors = {name: (0.5 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    config = {"model_type": "minikin-static", "hidden": hidden, "window": window, "pool": pool, "pair": pair}
    labels = tuple(f"label {i}" for i in range(classes))
    return Student("static", config, tensors, tokenizer_json(), labels, max_length, temperature)


def bert(student: Student):
    """The same weights in transformers' BertForSequenceClassification, strictly loaded."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from minikin.package.transformers import plain

    config = {key: value for key, value in student.config.items() if key not in ("pair", "embedding_size")}
    model = BertForSequenceClassification(BertConfig(**config, num_labels=len(student.labels)))
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in plain(student).items()})
    return model.eval()
