"""A student on disk, in float32: `student.json` and `student.safetensors`. What the run folder keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from minikin.base.types import Student


def save(student: Student, folder: Path) -> None:
    """Write a float student into an existing folder."""
    tensors = {k: np.ascontiguousarray(v) for k, v in student.dequantized().tensors.items()}
    save_file(tensors, folder / "student.safetensors")
    about = {
        "family": student.family,
        "config": dict(student.config),
        "labels": student.labels,
        "max_length": student.max_length,
        "temperature": student.temperature,
        "tokenizer_config": dict(student.tokenizer_config),
    }
    (folder / "student.json").write_text(json.dumps(about, sort_keys=True), encoding="utf-8")
    (folder / "tokenizer.json").write_text(student.tokenizer_json, encoding="utf-8")


def load(folder: Path) -> Student:
    """Read a student that `save` wrote."""
    about = json.loads((folder / "student.json").read_text(encoding="utf-8"))
    return Student(
        family=about["family"],
        config=about["config"],
        tensors=load_file(folder / "student.safetensors"),
        tokenizer_json=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        labels=tuple(about["labels"]),
        max_length=about["max_length"],
        temperature=about["temperature"],
        tokenizer_config=about.get("tokenizer_config", {}),
    )
