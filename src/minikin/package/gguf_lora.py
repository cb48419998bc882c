"""A LoRA adapter that peft trained, as the GGUF file that llama.cpp adds to its base at run time.

What `minikin run --lora` reads; `minikin export --to gguf-lora` calls it. Keys and names are those of llama.cpp's own
convert_lora_to_gguf.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base import atomic, tensors
from minikin.base.errors import UserError
from minikin.base.extras import need
from minikin.base.types import Array
from minikin.package import gguf as whole
from minikin.package import gguf_why
from minikin.package.gguf_families import FAMILIES, Shape
from minikin.package.gguf_tensors import changed, names_of

SETTINGS: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
PAIR: Final = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")


def write(adapter: Path, base: Path, out: Path) -> None:
    """Write the adapter in the folder `adapter`, as peft saved it, for the kin or transformers folder `base`.

    Raises UserError, before anything is written, for a folder without an adapter, for one of another base, and for
    what llama.cpp can't add: DoRA, embeddings, whole layers, biases.
    """
    settings, found = _read(adapter)
    config, _, _ = whole.read(base)
    if reason := gguf_why.model(config):
        raise UserError(f"{base} can't become GGUF: {reason}")
    kind, shape = str(config["model_type"]), Shape.of(config)
    weights, names = tensors.read(base / "model.safetensors")[0], names_of(config)
    pairs = []
    for layer, (a_RI, b_OR) in _layers(adapter, found).items():
        source = f"{layer}.weight"
        conv = kind == "gpt2"  # its Conv1D holds inputs first
        size = (b_OR.shape[0], a_RI.shape[1])[:: -1 if conv else 1]
        name = names.get_name(source, try_suffixes=(".weight",))
        if name is None or source not in weights or weights[source].shape != size:
            has = "x".join(map(str, weights[source].shape)) if source in weights else "no such layer"
            raise UserError(
                f"{adapter} is no adapter of {base}: its {layer} is {'x'.join(map(str, size))}, and there is {has}. "
                "Give the model that it was trained on with --for."
            )
        b_OR = b_OR if conv else changed(kind, shape, source, b_OR)
        pairs.append((name, a_RI, b_OR * np.float32(_factor(settings, layer, len(a_RI)))))
    gguf = need("gguf", "gguf")
    with atomic.file(out) as temporary:
        writer = gguf.GGUFWriter(temporary, FAMILIES[kind].architecture)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", _alpha(settings))
        for name, a_RI, b_OR in pairs:
            writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a_RI))
            writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b_OR))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _read(adapter: Path) -> tuple[dict[str, Any], Mapping[str, Array]]:
    """Settings and weights of an adapter's folder."""
    for name in (SETTINGS, WEIGHTS):
        if not (adapter / name).is_file():
            raise UserError(f"{adapter} holds no adapter: it has no {name}. Save one with peft's save_pretrained.")
    try:
        settings = json.loads((adapter / SETTINGS).read_text(encoding="utf-8"))
        kind, _ = settings["peft_type"], float(settings["lora_alpha"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{adapter / SETTINGS} holds no settings of a LoRA adapter ({error}). Save it again."
        ) from error
    if kind != "LORA" or settings.get("use_dora"):
        what = "DoRA" if settings.get("use_dora") else kind
        raise UserError(f"{adapter} is of the kind {what}, and llama.cpp adds plain LoRA only. Merge it into its base.")
    return settings, tensors.read(adapter / WEIGHTS)[0]


def _layers(adapter: Path, found: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    """Both matrices of every layer: A (rank, inputs) and B (outputs, rank)."""
    sides: dict[str, dict[str, Array]] = {}
    for key, value in found.items():
        if not (match := PAIR.fullmatch(key)):
            raise UserError(f"{adapter} changes more than llama.cpp can add: {key}. Merge it into its base.")
        sides.setdefault(match["layer"], {})[match["side"]] = np.asarray(value, np.float32)
    if not sides or any(len(both) < 2 or len(both["A"]) != both["B"].shape[1] for both in sides.values()):
        raise UserError(f"{adapter / WEIGHTS} is incomplete: a layer lacks one of its two matrices. Save it again.")
    return {layer: (both["A"], both["B"]) for layer, both in sides.items()}


def _alpha(settings: Mapping[str, Any]) -> float:
    return float(settings["lora_alpha"]) or 1.0


def _factor(settings: Mapping[str, Any], layer: str, rank: int) -> float:
    """What B is multiplied by, as llama.cpp scales every layer by alpha / rank and peft may do otherwise."""
    patterns = settings.get("alpha_pattern") or {}
    own = next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", layer)), None)
    alpha = float(settings["lora_alpha"] if own is None else own)
    scaling = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    return scaling * rank / _alpha(settings)
