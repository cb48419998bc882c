"""The part of a kin that transformers reads: configuration, tokenizer and float32 safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base import atomic, extras
from minikin.base.types import Array, Student
from minikin.package import decoder

NOT_CONFIG: Final = frozenset(
    {
        "_name_or_path",
        "torch_dtype",
        "transformers_version",
        "id2label",
        "label2id",
        "architectures",
        "num_labels",
        "embedding_size",
    }
)
WORDS: Final = "bert.embeddings.word_embeddings.weight"
PROJECTION: Final = "bert.embeddings.word_embeddings.projection.weight"
TYPES: Final = "bert.embeddings.token_type_embeddings.weight"
SPECIAL_TOKENS: Final = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def write(folder: Path, student: Student) -> None:
    """Write config.json, tokenizer files and model.safetensors (dequantized) of an encoder or a decoder student."""
    if student.family == "decoder":
        decoder.write(folder, student)
        return
    arrays = plain(student)
    atomic.write_json(folder / "config.json", config(student, arrays))
    write_tokenizer(folder, student, typed=len(arrays[TYPES]) > 1)
    safetensors = extras.need("safetensors.numpy")
    atomic.write_bytes(folder / "model.safetensors", safetensors.save(arrays, {"format": "pt"}))


def plain(student: Student) -> dict[str, Array]:
    """Return an encoder's float32 weights by BERT's own names; a factorised table is multiplied out."""
    arrays = {name: np.asarray(value, np.float32) for name, value in student.dequantized().tensors.items()}
    projection_HE = arrays.pop(PROJECTION, None)
    if projection_HE is not None:
        arrays[WORDS] = arrays[WORDS] @ projection_HE.T
    return arrays


def config(student: Student, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return the BertConfig of an encoder student, with its labels and the sizes that its tensors have."""
    kept = {key: value for key, value in student.config.items() if key not in NOT_CONFIG}
    embeddings = "bert.embeddings"
    return kept | {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "vocab_size": len(arrays[f"{embeddings}.word_embeddings.weight"]),
        "max_position_embeddings": len(arrays[f"{embeddings}.position_embeddings.weight"]),
        "type_vocab_size": len(arrays[TYPES]),
        "problem_type": "single_label_classification",
        "dtype": "float32",
        "id2label": {str(i): label for i, label in enumerate(student.labels)},
        "label2id": {label: i for i, label in enumerate(student.labels)},
    }


def write_tokenizer(folder: Path, student: Student, *, typed: bool = False) -> None:
    """Write tokenizer.json (compact, without truncation and padding) and tokenizer_config.json.

    `typed` says that the model wants token types beside ids and mask.
    """
    spec = json.loads(student.tokenizer_json) | {"truncation": None, "padding": None}
    compact = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    atomic.write_text(folder / "tokenizer.json", compact)
    present = {token["content"] for token in spec.get("added_tokens", [])}
    normalizer = spec.get("normalizer") or {}
    settings: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer" if normalizer.get("type") == "BertNormalizer" else "PreTrainedTokenizerFast",
        "model_max_length": student.max_length,
        "model_input_names": ["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    for name in SPECIAL_TOKENS:
        token = f"[{name.removesuffix('_token').upper()}]"
        if token in present:
            settings[name] = token
    if normalizer.get("type") == "BertNormalizer":
        settings |= {
            "do_lower_case": bool(normalizer.get("lowercase", True)),
            "strip_accents": normalizer.get("strip_accents"),
            "tokenize_chinese_chars": bool(normalizer.get("handle_chinese_chars", True)),
        }
    atomic.write_json(folder / "tokenizer_config.json", settings)
