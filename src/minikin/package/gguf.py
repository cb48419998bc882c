"""A decoder's folder as one GGUF file, which llama.cpp and Ollama run; package/kin and `minikin export` call it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base import atomic, tensors
from minikin.base.errors import UserError
from minikin.base.extras import need
from minikin.base.types import Array
from minikin.package import gguf_families, gguf_tokenizer, gguf_types, gguf_why
from minikin.package.gguf_families import FAMILIES, Config
from minikin.package.gguf_tensors import tensors as named_tensors

FILES: Final = ("config.json", "tokenizer.json", "model.safetensors")
QUANTIZATION_VERSION: Final = 2


def why_not(tokenizer_json: str, config: Config) -> str | None:
    """Return why a model of this tokenizer and config.json can't become GGUF, or None: to be asked before training."""
    reason = gguf_why.model(config)
    if reason is None and (reason := gguf_why.tokenizer(tokenizer_json)):
        reason = f"llama.cpp can't tokenize as its tokenizer does: {reason}"
    return reason


def write(
    folder: Path,
    path: Path,
    mix: str = "F16",
    *,
    importance: Mapping[str, Array] | None = None,
    name: str = "",
) -> None:
    """Write the transformers folder of a decoder as the GGUF file `path`, whole or not at all.

    `mix` is a key of `gguf_types.MIXES`. `importance` holds, by transformers' name of a weight, the mean square of
    what goes into each of its columns. Raises UserError, before anything is written, for a family, tokenizer or mix
    that can't be.
    """
    gguf_types.check(mix, importance)
    config, settings, tokenizer_json = read(folder)
    if reason := why_not(tokenizer_json, config):
        raise UserError(f"{folder} can't become GGUF: {reason}")
    gguf = need("gguf", "gguf")
    architecture = FAMILIES[config["model_type"]].architecture
    vocabulary = gguf_tokenizer.vocabulary(tokenizer_json, settings, config)
    weights, _ = tensors.read(folder / "model.safetensors")
    with atomic.file(path) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        writer.add_name(name or str(config.get("name") or path.resolve().parent.name))
        writer.add_file_type(gguf_types.MIXES[mix].number)
        writer.add_quantization_version(QUANTIZATION_VERSION)
        for key, value in gguf_families.keys(config).items():
            _add(writer, f"{architecture}.{key}", value)
        _add_vocabulary(writer, vocabulary)
        if template := chat_template(folder, settings):
            writer.add_chat_template(template)
        _add_tensors(writer, config, weights, mix, importance or {})
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def chat_template(folder: Path, settings: Config) -> str:
    """Return the folder's Jinja chat template, or nothing."""
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several by name, an older form
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    return template if isinstance(template, str) else ""


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return config.json, tokenizer_config.json and the text of tokenizer.json. Raises UserError for a missing one."""
    for name in FILES:
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}. Save the model and its fast tokenizer there with transformers.")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings_file = folder / "tokenizer_config.json"
        settings = json.loads(settings_file.read_text(encoding="utf-8")) if settings_file.is_file() else {}
        tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
        json.loads(tokenizer_json)
    except ValueError as error:
        raise UserError(f"A file in {folder} is not JSON: {error}. Save the model again with transformers.") from error
    return config, settings, tokenizer_json


def _add(writer: Any, key: str, value: Any) -> None:
    """Add a key with the type that llama.cpp reads it in."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _add_vocabulary(writer: Any, vocabulary: gguf_tokenizer.Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_token_list([token.encode() for token in vocabulary.tokens])
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
    if vocabulary.model == "gpt2":
        writer.add_token_merges([merge.encode() for merge in vocabulary.merges])
    for key, value in vocabulary.keys.items():
        _add(writer, key if key.startswith("minikin.") else f"tokenizer.ggml.{key}", value)


def _add_tensors(
    writer: Any, config: Config, weights: Mapping[str, Array], mix: str, importance: Mapping[str, Array]
) -> None:
    found = list(named_tensors(config, weights))
    tied = all(name != "output.weight" for name, _, _ in found)
    layers = gguf_families.Shape.of(config).layers
    for name, source, array in found:
        block = re.match(r"blk\.(\d+)\.", name)
        kind = gguf_types.chosen(mix, name, array, (int(block[1]) if block else -1, layers), tied)
        data, number = gguf_types.packed(array, kind, importance.get(source))
        writer.add_tensor(name, np.ascontiguousarray(data), raw_dtype=number)
