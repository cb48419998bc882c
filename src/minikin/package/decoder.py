"""The part of a decoder's kin that transformers reads: configuration, tokenizer, chat template and safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base import atomic, extras
from minikin.base.types import Student

TOKENS: Final = ("bos_token", "eos_token", "pad_token", "unk_token")
KEPT: Final = (*TOKENS, "chat_template", "additional_special_tokens", "extra_special_tokens")
IDS: Final = ("bos_token_id", "eos_token_id", "pad_token_id")


def write(folder: Path, student: Student) -> None:
    """Write what AutoModelForCausalLM and AutoTokenizer open: float32 weights, and the tokenizer as it is.

    A tied output is left out of the weights, as transformers does.
    """
    plain = student.dequantized()
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in plain.tensors.items()}
    config = dict(student.config) | {"dtype": "float32"}
    atomic.write_json(folder / "config.json", config)
    atomic.write_json(
        folder / "generation_config.json", {key: config[key] for key in IDS if config.get(key) is not None}
    )
    spec = json.loads(student.tokenizer_json) | {"truncation": None, "padding": None}
    atomic.write_text(folder / "tokenizer.json", json.dumps(spec, ensure_ascii=False, separators=(",", ":")))
    atomic.write_json(folder / "tokenizer_config.json", _tokenizer_config(student))
    safetensors = extras.need("safetensors.numpy")
    atomic.write_bytes(folder / "model.safetensors", safetensors.save(arrays, {"format": "pt"}))


def _tokenizer_config(student: Student) -> dict[str, Any]:
    """Special tokens and template; the class is the plain one, which reads tokenizer.json and rebuilds nothing."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": student.max_length,
        "clean_up_tokenization_spaces": False,
        **{key: student.tokenizer_config[key] for key in KEPT if student.tokenizer_config.get(key)},
    }
