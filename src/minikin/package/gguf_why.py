"""Why a decoder can't run in llama.cpp as it is, found before anything is trained or written; package/gguf asks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from minikin.package.gguf_families import FAMILIES, NEVER, Config, Shape, first
from minikin.package.gguf_pretokenizers import named
from minikin.package.gguf_spec import BYTES, SPACE, byte_level, frame, merges, steps
from minikin.package.tokenizer_section import byte_characters


def model(config: Config) -> str | None:
    """Return why llama.cpp can't run a model of this config.json as it is, or None when it can."""
    kind = str(config.get("model_type"))
    if kind in NEVER:
        return f"{kind} has no GGUF form: {NEVER[kind]}."
    if kind not in FAMILIES:
        return f"{kind} is no family that becomes GGUF here. These are: {', '.join(sorted(FAMILIES))}."
    family = FAMILIES[kind]
    activation = first(config, "hidden_activation", "hidden_act", "activation_function")
    if activation not in family.activations:
        return f"llama.cpp computes {kind} with {sorted(family.activations)[0]}, and this model has {activation}."
    scaling = str(Shape.of(config).scaling.get("rope_type", "default"))
    if family.rotary and scaling not in {"default", *family.scaled}:
        return f"its positions are scaled by {scaling!r}, which is not written for {kind}."
    return _of_windows(kind, config) or _of_details(kind, config)


def _of_windows(kind: str, config: Config) -> str | None:
    """Sliding windows: llama.cpp fixes which layers have one."""
    layers, every = list(config.get("layer_types") or ()), {"gemma2": 2, "gemma3_text": 6}.get(kind)
    if every and layers:
        expected = ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(len(layers))]
        if layers != expected:
            return f"llama.cpp gives every {every}th layer of {kind} full attention, and here others have it."
    if kind in ("qwen2", "qwen3") and config.get("use_sliding_window"):
        return f"llama.cpp computes {kind} without sliding windows. Set use_sliding_window to false."
    return None


def _of_details(kind: str, config: Config) -> str | None:
    shape = Shape.of(config)
    if kind in ("gemma2", "gemma3_text") and config.get("query_pre_attn_scalar") != shape.head:
        return f"llama.cpp scales attention by its head size {shape.head}, not {config.get('query_pre_attn_scalar')}."
    if kind == "phi" and config.get("qk_layernorm"):
        return "llama.cpp's phi2 has no norms of queries and keys."
    if kind == "gpt2" and (config.get("scale_attn_by_inverse_layer_idx") or not config.get("scale_attn_weights", True)):
        return "llama.cpp's gpt2 scales attention by the head size alone."
    if kind == "gpt_neox" and not config.get("attention_bias", True):
        return "llama.cpp's gptneox needs biases in attention."
    if shape.heads % shape.kv_heads:
        return f"{shape.heads} heads can't share {shape.kv_heads} keys evenly."
    return None


def tokenizer(tokenizer_json: str) -> str | None:
    """Return why llama.cpp would tokenize otherwise than this tokenizer.json, or None when it does alike."""
    try:
        spec = json.loads(tokenizer_json)
        return _of_added(spec["added_tokens"]) or _of_frame(tokenizer_json) or _of_model(spec)
    except Exception as error:  # tokenizers raises plain exceptions
        return f"it is no tokenizer.json: {error!r}."


def _of_added(added: Sequence[Mapping[str, Any]]) -> str | None:
    for token in added:
        if not token["special"] and (token["lstrip"] or token["rstrip"] or token["single_word"]):
            return f"its added token {token['content']!r} takes spaces around it or matches whole words only."
    return None


def _of_frame(tokenizer_json: str) -> str | None:
    if frame(tokenizer_json) is None:
        return "it puts more around a text than one token before and one after."
    return None


def _of_model(spec: Mapping[str, Any]) -> str | None:
    kind = spec["model"]["type"]
    if kind == "BPE":
        return _of_bytes(spec) if byte_level(spec) else _of_pieces(spec) or _of_merges(spec["model"])
    if kind == "Unigram":
        return _of_unigram(spec)
    return f"llama.cpp has no {kind} tokenizer for decoders. Use byte-level BPE."


def _of_bytes(spec: Mapping[str, Any]) -> str | None:
    model = spec["model"]
    name, reason = named(spec)
    if name is None:
        return f"{reason}. Use the pre-tokenizer of GPT-2, Llama 3 or Qwen 2."
    if any(step["type"] != "NFC" for step in steps(spec.get("normalizer") or {})):
        return "it normalises texts, and llama.cpp's byte-level BPE does not."
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(setting):
            return f"its BPE sets {setting}."
    if not model["merges"]:
        return "its BPE has no merges, and llama.cpp asks for at least one."
    lacking = sum(character not in model["vocab"] for character in byte_characters())
    return f"its vocabulary lacks {lacking} of the 256 bytes." if lacking else None


def _of_pieces(spec: Mapping[str, Any]) -> str | None:
    """SentencePiece's BPE: spaces become ▁, unknown characters bytes."""
    model = spec["model"]
    if not model.get("byte_fallback") or not set(model["vocab"]) >= BYTES:
        return "it has no bytes to fall back to. Use byte-level BPE, or byte_fallback with all 256 bytes."
    for step in steps(spec.get("normalizer") or {}):
        plain = step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == SPACE
        if not plain and not (step["type"] == "Prepend" and step["prepend"] == SPACE):
            return f"it normalises with {step['type']}."
    for step in steps(spec.get("pre_tokenizer") or {}):
        blank = step["type"] == "Split" and step["pattern"] in ({"String": " "}, {"String": SPACE})
        if step["type"] != "Metaspace" and not blank:
            return f"it cuts texts with {step['type']}."
        joined = next((t for t in model["vocab"] if SPACE in t[1:]), None)
        if step.get("split", True) and not blank and joined:
            return f"it cuts texts at spaces, and has the token {joined!r} with a space inside."
    return None


def _of_merges(model: Mapping[str, Any]) -> str | None:
    """llama.cpp has no merges but scores: it joins any two tokens whose sum is one, the best-scored sum first."""
    pairs, vocab = merges(model), model["vocab"]
    known = set(pairs)
    for token in vocab:
        if token in BYTES:
            continue
        for i in range(1, len(token)):
            pair = (token[:i], token[i:])
            if pair[0] in vocab and pair[1] in vocab and pair not in known:
                return (
                    f"llama.cpp would join {pair[0]!r} and {pair[1]!r}, for which it has no merge. Use byte-level BPE."
                )
    seen: set[str] = set()
    last = ""
    for left, right in pairs:
        if left + right != last and left + right in seen:
            return f"the merges that make {left + right!r} are not next to each other."
        last = left + right
        seen.add(last)
    return None


def _of_unigram(spec: Mapping[str, Any]) -> str | None:
    if spec["model"].get("byte_fallback"):
        return "it falls back to bytes, which llama.cpp's Unigram does not."
    if spec["model"].get("unk_id") is None:
        return "it has no unknown token."
    if spec.get("normalizer"):
        return f"it normalises with {', '.join(step['type'] for step in steps(spec['normalizer']))}."
    cuts = steps(spec.get("pre_tokenizer") or {})
    if [step["type"] for step in cuts] != ["Metaspace"]:
        return "it does not cut texts with Metaspace."
    joined = next((t for t, _ in spec["model"]["vocab"] if SPACE in t[1:]), None)
    return f"it has the token {joined!r} with a space inside." if joined and cuts[0].get("split", True) else None
