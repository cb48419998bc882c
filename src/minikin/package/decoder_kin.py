"""Writes a decoder as a kin folder: what transformers opens, and one GGUF file for llama.cpp and Ollama."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from minikin.base import atomic, manifest
from minikin.base.types import Array, Student
from minikin.feed.template import PLAIN, source
from minikin.package import gguf, transformers

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
) -> None:
    """Write every file of a kin that writes into `folder`, which exists; `mix` is a GGUF type such as Q8_0.

    Raises UserError when the model can't become GGUF. Same student, same bytes.
    """
    transformers.write(folder, student)
    gguf.write(folder, folder / MODEL, mix, importance=importance, name=str(extra.get("name") or "kin"))
    atomic.write_text(folder / "Modelfile", modelfile(student, new_tokens))
    atomic.write_text(folder / "recipe.yaml", recipe_yaml)
    values = {
        "task": "generate",
        "family": "decoder",
        "runtime": "llama_cpp",
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


def modelfile(student: Student, new_tokens: int) -> str:
    """What `ollama create` reads: the file, the context, and how a prompt is written where no template says so."""
    lines = [f"FROM ./{MODEL}", f"PARAMETER num_ctx {student.max_length}", f"PARAMETER num_predict {new_tokens}"]
    lines.append("PARAMETER temperature 0")
    if source(student.tokenizer_config) == PLAIN:
        lines.append(f"TEMPLATE {json.dumps('{{ .Prompt }}' + chr(10))}")
    return "\n".join(lines) + "\n"
