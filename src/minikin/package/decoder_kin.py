"""Writes a decoder as a kin folder: what transformers opens, and one GGUF file for llama.cpp and Ollama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from minikin.base import atomic, manifest, tensors
from minikin.base.types import Array, Student
from minikin.feed.template import source
from minikin.package import gguf, modelfile, transformers

MODEL: Final = "model.gguf"


def write(
    folder: Path,
    student: Student,
    mix: str,
    *,
    kind: str,
    new_tokens: int,
    recipe_yaml: str,
    extra: Mapping[str, Any],
    importance: Mapping[str, Array] | None = None,
    name: str = "",
    trained_on: Array | None = None,
) -> None:
    """Write every file of a kin that writes into `folder`, which exists; `mix` is a GGUF type such as Q8_0.

    `name` is what the GGUF file calls itself: not its folder, so that one student is the same bytes wherever it is
    built. `trained_on` holds 64-bit hashes of the prompts that the build learned from, so that nobody certifies on
    them. Raises UserError when the model can't become GGUF. Same student, same bytes.
    """
    if kind != "text":
        # other tools must prompt as the model was trained, also where it came without a template
        told = {**student.tokenizer_config, "chat_template": source(student.tokenizer_config)}
        student = replace(student, tokenizer_config=told)
    transformers.write(folder, student)
    gguf.write(folder, folder / MODEL, mix, importance=importance, name=name or "kin")
    modelfile.write(folder, MODEL, new_tokens)
    atomic.write_text(folder / "recipe.yaml", recipe_yaml)
    if trained_on is not None:
        atomic.write_bytes(folder / manifest.TRAINED_ON, tensors.of_hashes(trained_on))
    values = {
        "task": "generate",
        "family": "decoder",
        "runtime": manifest.WRITER,
        "scheme": mix.lower(),
        "model": MODEL,
        "labels": [],
        "max_length": student.max_length,
        "kind": kind,
        "new_tokens": new_tokens,
        "parameters": student.parameters,
        **extra,
    }
    manifest.write(folder, values)
