"""Decoders between two forms: a plain value, and a causal model of transformers (which feed/decoder.py runs)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from minikin.base.errors import UserError
from minikin.base.types import Array, Student

NOT_CONFIG: Final = frozenset(
    {
        "_name_or_path",
        "transformers_version",
        "dtype",
        "torch_dtype",
        "output_hidden_states",
        "output_attentions",
        "return_dict",
        "chunk_size_feed_forward",
        "is_encoder_decoder",
        "id2label",
        "label2id",
        "problem_type",
    }
)
"""What transformers adds to a configuration and what says nothing of the model."""


def model_of(student: Student) -> Any:
    """The model of a decoder's weights, ready to be asked. Raises UserError when they don't fit the configuration."""
    model = AutoModelForCausalLM.from_config(_config(student.config), dtype=torch.float32)
    tensors = {name: torch.from_numpy(np.array(t)) for name, t in student.dequantized().tensors.items()}
    try:
        missing, unknown = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise UserError(f"The decoder's weights do not fit its configuration: {error}") from error
    missing = [name for name in missing if name not in _tied(model)]
    if missing or unknown:
        raise UserError(
            f"The decoder's weights do not fit its configuration: missing {missing[:4]}, unknown {unknown[:4]}."
        )
    model.tie_weights()
    return model.eval()


def student_of(
    model: Any, tokenizer_json: str, tokenizer_config: Mapping[str, Any], max_length: int | None = None
) -> Student:
    """A causal model of transformers as a value; its context is what the model was made for unless given."""
    values = {k: v for k, v in model.config.to_dict().items() if k not in NOT_CONFIG}
    config = json.loads(json.dumps(values)) | {"architectures": [type(model).__name__]}
    longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    return Student(
        "decoder",
        config,
        state(model),
        tokenizer_json,
        (),
        max_length or longest,
        tokenizer_config=dict(tokenizer_config),
    )


def state(model: Any) -> dict[str, Array]:
    """The weights by transformers' names in float32, without a tied output."""
    tied = _tied(model)
    return {
        name: tensor.detach().cpu().float().numpy().copy()
        for name, tensor in model.state_dict().items()
        if name not in tied
    }


def tokenizer_settings(folder: Path) -> dict[str, Any]:
    """What a checkpoint's files say of its special tokens and chat template: tokenizer_config.json, with the
    template of chat_template.jinja where it lies beside."""
    path, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if template.is_file():
        found["chat_template"] = template.read_text(encoding="utf-8")
    return found


def _config(config: Mapping[str, Any]) -> Any:
    values = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
    return AutoConfig.for_model(config["model_type"], **json.loads(json.dumps(values)))


def _tied(model: Any) -> set[str]:
    """Names of the tensors that are another one's twin."""
    if not model.config.tie_word_embeddings:
        return set()
    return set(model._tied_weights_keys or ())
