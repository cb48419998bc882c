"""Writes a student as a kin folder, and seals it with what was measured on it; the pipeline calls both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base import atomic, extras, manifest, tensors
from minikin.base.errors import KinError
from minikin.base.types import Array, QuantizedTensor, Student
from minikin.package import kernel, onnx, transformers

KERNEL: Final = "model.kernel"
RUNTIMES: Final = {"encoder": "onnx", "static": "static"}
TYPES: Final = "bert.embeddings.token_type_embeddings.weight"
HEADS: Final = ("classifier.weight", "classifier.bias", "head_weight", "head_bias")


def write(
    folder: Path,
    student: Student,
    *,
    recipe_yaml: str,
    extra: Mapping[str, Any],
    trained_on: Array | None = None,
) -> None:
    """Write every file of a kin into `folder`, which exists; `extra` is merged into minikin.json.

    `trained_on` holds 64-bit hashes of the rows that the build learned or chose from, so that nobody certifies on them.

    The temperature is folded into the classifier, so that every reader of the folder (transformers, ONNX
    Runtime, numpy) gives the calibrated probabilities. Same student, same bytes.
    """
    pair = bool(extra.get("pair", student.config.get("pair", False)))
    cooled = fold_temperature(student) if pair else one_type(fold_temperature(student))
    if student.family == "encoder":
        transformers.write(folder, cooled)
        model = "onnx/model.onnx" if student.scheme == "fp32" else "onnx/model_quantized.onnx"
        atomic.write_bytes(folder / model, onnx.encoder(cooled))
    else:
        model = "model.safetensors"
        _write_static(folder, cooled)
    atomic.write_text(folder / "recipe.yaml", recipe_yaml)
    if trained_on is not None:
        atomic.write_bytes(folder / manifest.TRAINED_ON, tensors.of_hashes(trained_on))
    reason = kernel.why_not(cooled)
    if reason is None:
        atomic.write_bytes(folder / KERNEL, kernel.kernel_file(cooled, pair=pair))
    values = {
        "task": "classify",
        "family": student.family,
        "runtime": RUNTIMES[student.family],
        "scheme": student.scheme,
        "model": model,
        "labels": list(student.labels),
        "max_length": student.max_length,
        "pair": pair,
        "temperature": student.temperature,
        "parameters": student.parameters,
        **({"kernel": KERNEL} if reason is None else {"kernel_reason": reason}),
        **extra,
    }
    manifest.write(folder, values)


def remember(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Add arrays for certifying (see trust/words.py and held.py) to the hashes of the training rows in a kin."""
    rows = tensors.read(folder / manifest.TRAINED_ON)[0]["rows"]
    atomic.write_bytes(folder / manifest.TRAINED_ON, tensors.of_hashes(rows, **arrays))
    manifest.write(folder, manifest.read(folder).raw)


def seal(
    folder: Path,
    *,
    measurements: Mapping[str, Any],
    gate: Mapping[str, Any],
    teacher: Mapping[str, Any] | None,
    machine: Mapping[str, Any],
    recipe_sha256: str,
    data_sha256: str,
    seeds: Mapping[str, int],
    story: Mapping[str, Any],
) -> None:
    """Add what was measured to minikin.json and write report.json; both appear whole.

    Raises KinError when a file that `write` made was changed since.
    """
    current = manifest.read(folder)
    manifest.verify(folder, current)
    values = dict(current.raw)
    values |= {
        "measurements": dict(measurements),
        "gate": dict(gate),
        "teacher": None if teacher is None else dict(teacher),
        "machine": dict(machine),
        "recipe_sha256": recipe_sha256,
        "data_sha256": data_sha256,
        "seeds": dict(seeds),
    }
    try:
        json.dumps(values, allow_nan=False)
    except ValueError as error:
        raise KinError(f"The measurements hold a number that JSON can't carry: {error}. Measure again.") from error
    atomic.write_json(folder / "report.json", story)
    atomic.write_json(folder / manifest.NAME, values)


def fold_temperature(student: Student) -> Student:
    """Return the student with its temperature divided into the classifier: softmax(logits) is calibrated."""
    if student.temperature == 1.0:
        return student
    cooled = {
        name: _scaled(value, 1.0 / student.temperature) if name in HEADS else value
        for name, value in student.tensors.items()
    }
    return replace(student, tensors=cooled, temperature=1.0)


def one_type(student: Student) -> Student:
    """Return a student for single texts with one token type, which spares a lookup; the answers are the same."""
    types = student.tensors.get(TYPES)
    if types is None or isinstance(types, QuantizedTensor):
        return student
    return replace(student, tensors={**student.tensors, TYPES: types[:1]})


def _scaled(value: Array | QuantizedTensor, factor: float) -> Array | QuantizedTensor:
    if isinstance(value, QuantizedTensor):
        return replace(value, scales=value.scales.astype(np.float32) * np.float32(factor))
    return np.asarray(value, np.float32) * np.float32(factor)


def _write_static(folder: Path, student: Student) -> None:
    """Write what the numpy runtime loads: configuration, tokenizer, packed integers."""
    settings = {"model_type": "minikin-static", **student.config}
    settings["id2label"] = {str(i): label for i, label in enumerate(student.labels)}
    settings["label2id"] = {label: i for i, label in enumerate(student.labels)}
    atomic.write_json(folder / "config.json", settings)
    transformers.write_tokenizer(folder, student)
    arrays, metadata = tensors.pack(student.tensors)
    safetensors = extras.need("safetensors.numpy")
    atomic.write_bytes(folder / "model.safetensors", safetensors.save(arrays, metadata or None))
