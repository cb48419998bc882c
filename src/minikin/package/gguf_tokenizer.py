"""A tokenizer.json as llama.cpp's vocabulary; package/gguf writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tokenizers import Tokenizer

from minikin.base.errors import UserError
from minikin.package.gguf_families import Config, Value
from minikin.package.gguf_pretokenizers import named
from minikin.package.gguf_spec import BYTES, byte_level, frame, merges, prefix

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
NAMES: Final = ("bos", "eos", "unk", "pad")
KEYS: Final = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


@dataclass(frozen=True)
class Vocabulary:
    """llama.cpp's kind of tokenizer, its tokens with types and scores, its merges, and further keys."""

    model: str
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    keys: Mapping[str, Value] = field(default_factory=dict)


def vocabulary(tokenizer_json: str, settings: Config, config: Config) -> Vocabulary:
    """Return the vocabulary of a tokenizer.json, padded to the model's size.

    `settings` is tokenizer_config.json (special tokens), `config` config.json (their ids, `vocab_size`). Raises
    UserError for a tokenizer with more tokens than the model.
    """
    spec = json.loads(tokenizer_json)
    tokens, types = _tokens(spec, int(config["vocab_size"]))
    extra = _special_keys(tokenizer_json, spec, settings, config)
    model = spec["model"]
    spaced, once = prefix(spec)
    if model["type"] == "Unigram":
        scores = [float(score) for _, score in model["vocab"]]
        scores += [0.0] * (len(tokens) - len(scores))
        extra |= {"add_space_prefix": spaced, "remove_extra_whitespaces": False, "minikin.one_space": once}
        return Vocabulary("t5", tokens, types, scores, keys=extra)
    pairs = merges(model)
    if byte_level(spec):
        extra |= {"pre": str(named(spec)[0]), **({"minikin.normalizer": "NFC"} if spec.get("normalizer") else {})}
        return Vocabulary("gpt2", tokens, types, merges=[" ".join(pair) for pair in pairs], keys=extra)
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(pairs):
        ranks.setdefault(left + right, rank)
    scores = [-float(ranks.get(token, len(pairs))) for token in tokens]
    extra |= {"add_space_prefix": spaced, "minikin.one_space": once}
    return Vocabulary("llama", tokens, types, scores, keys=extra)


def _tokens(spec: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    model = spec["model"]
    pieces = model["vocab"]
    ids = pieces if isinstance(pieces, dict) else {piece: i for i, (piece, _) in enumerate(pieces)}
    added = {token["id"]: token for token in spec.get("added_tokens", [])}
    if max([*ids.values(), *added]) >= size:
        raise UserError(f"The tokenizer has ids up to {max([*ids.values(), *added])}, and the model only {size} rows.")
    tokens, types = [f"[PAD{i}]" for i in range(size)], [UNUSED] * size
    unknown = model.get("unk_token")
    if isinstance(model.get("unk_id"), int):
        unknown = pieces[model["unk_id"]][0]
    for piece, i in ids.items():
        byte = piece in BYTES and not byte_level(spec)
        tokens[i], types[i] = piece, UNKNOWN if piece == unknown else BYTE if byte else NORMAL
    for i, token in added.items():
        tokens[i] = token["content"]
        if types[i] != UNKNOWN:
            types[i] = CONTROL if token["special"] else USER
    return tokens, types


def _special_keys(tokenizer_json: str, spec: Mapping[str, Any], settings: Config, config: Config) -> dict[str, Any]:
    """Return ids of special tokens, and whether texts are framed by them."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    first, last = frame(tokenizer_json) or (None, None)
    ids: dict[str, int | None] = {}
    for name in NAMES:
        token = settings.get(f"{name}_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        ids[name] = tokenizer.token_to_id(token) if token else None
    model = spec["model"]
    if model.get("unk_id") is not None or model.get("unk_token") is not None:
        ids["unk"] = model.get("unk_id", tokenizer.token_to_id(model.get("unk_token") or ""))
    stops = config.get("eos_token_id")
    stops = stops if isinstance(stops, list) else [stops] if stops is not None else []
    ids["bos"] = first if first is not None else ids["bos"] if ids["bos"] is not None else config.get("bos_token_id")
    ids["eos"] = last if last is not None else ids["eos"] if ids["eos"] is not None else next(iter(stops), None)
    keys: dict[str, Any] = {f"{KEYS[name]}_token_id": int(i) for name, i in ids.items() if i is not None}
    others = [i for i in stops if i != ids["eos"]]
    if others:
        keys["eot_token_id"] = int(others[0])
    return keys | {"add_bos_token": first is not None, "add_eos_token": last is not None}
