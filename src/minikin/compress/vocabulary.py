"""Trimming a WordPiece vocabulary to the pieces that a domain uses; the pipeline calls it before training.

WordPiece takes the longest piece that matches at each position. A smaller vocabulary that still holds the pieces
of a word therefore cuts that word in the same way: the longest match was kept, and no new one appeared. Words
that lose a piece fall back to shorter ones, at last to single characters.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from minikin.base.errors import UserError
from minikin.base.types import Array, QuantizedTensor, Student, Text

Fallback: TypeAlias = Literal["all", "scripts", "none"]
"""Single characters that are always kept: all that there are, those of the scripts seen in the texts, or none."""

CHUNK: Final = 1024
WORD_TABLES: Final = ("bert.embeddings.word_embeddings.weight", "embeddings_VH")


def trim(
    tokenizer_json: str, texts: Iterable[Text], *, keep: int | None = None, fallback: bool | Fallback = True
) -> tuple[str, Array]:
    """Return a tokenizer with the pieces that `texts` use, and the old ids that it keeps (V,), ascending.

    The new id of a piece is its place among the kept ids. Special tokens always stay, and so does the character
    fallback (True is "all"): what the old tokenizer could cut without [UNK], the new one can too. `keep` caps the
    vocabulary: the most frequent pieces stay, never fewer than specials and fallback. Raises UserError when the
    tokenizer is not WordPiece.
    """
    spec = _read(tokenizer_json)
    vocabulary: dict[str, int] = spec["model"]["vocab"]
    counts = _counts(tokenizer_json, texts)
    chosen = {int(token["id"]) for token in spec.get("added_tokens", [])} | _named(spec, vocabulary)
    pieces = {i: piece for piece, i in vocabulary.items()}
    mode: Fallback = ("all" if fallback else "none") if isinstance(fallback, bool) else fallback
    chosen |= _characters(spec, pieces, mode, {pieces[i] for i in counts if i in pieces})
    ranked = sorted((i for i in counts if i not in chosen), key=lambda i: (-counts[i], i))
    chosen |= set(ranked if keep is None else ranked[: max(0, keep - len(chosen))])
    kept_ids = np.array(sorted(chosen), np.int64)
    return _rebuilt(spec, kept_ids, pieces), kept_ids


def can_trim(tokenizer_json: str) -> bool:
    """Whether `trim` can take this tokenizer: it is WordPiece."""
    return bool(json.loads(tokenizer_json).get("model", {}).get("type") == "WordPiece")


def apply(student: Student, kept_ids: Array, tokenizer_json: str) -> Student:
    """Return `student` with only the embedding rows `kept_ids` (V,) and the tokenizer that goes with them."""
    tensors = dict(student.tensors)
    for name in WORD_TABLES:
        if name in tensors:
            tensors[name] = _taken(tensors[name], kept_ids)
    config = dict(student.config)
    if "vocab_size" in config:
        config["vocab_size"] = len(kept_ids)
    for key in ("pad_token_id", "unk_token_id"):
        if isinstance(config.get(key), int):
            place = int(np.searchsorted(kept_ids, config[key]))
            config[key] = place if place < len(kept_ids) and kept_ids[place] == config[key] else 0
    return replace(student, tensors=tensors, config=config, tokenizer_json=tokenizer_json)


def _taken(table_VH: Array | QuantizedTensor, kept_ids: Array) -> Array | QuantizedTensor:
    if isinstance(table_VH, QuantizedTensor):
        return replace(table_VH, q_RK=table_VH.q_RK[kept_ids], scales=table_VH.scales[kept_ids])
    return table_VH[kept_ids]


def _read(tokenizer_json: str) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(tokenizer_json)
    kind = spec.get("model", {}).get("type")
    if kind != "WordPiece":
        raise UserError(
            f"Only WordPiece vocabularies can be trimmed; this tokenizer is {kind}. Learn one from the texts instead."
        )
    return spec


def _named(spec: dict[str, Any], vocabulary: dict[str, int]) -> set[int]:
    """Return the ids that the model and the post-processor name."""
    unknown = spec["model"].get("unk_token")
    ids = {vocabulary[unknown]} if unknown in vocabulary else set()
    processor = spec.get("post_processor") or {}
    for entry in processor.get("special_tokens", {}).values():
        ids |= {int(i) for i in entry["ids"]}
    return ids | {int(processor[key][1]) for key in ("cls", "sep") if key in processor}


def _counts(tokenizer_json: str, texts: Iterable[Text]) -> Counter[int]:
    """Return how often each id occurs in `texts`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counts: Counter[int] = Counter()
    for chunk in _chunks(_singles(texts)):
        for encoding in tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def _singles(texts: Iterable[Text]) -> Iterator[str]:
    for text in texts:
        for part in (text,) if isinstance(text, str) else text:
            yield part.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(islice(texts, CHUNK)):
        yield chunk


def _characters(spec: dict[str, Any], pieces: dict[int, str], mode: Fallback, used: set[str]) -> set[int]:
    """Return the ids of the fallback: single characters, at the start of a word and inside it."""
    if mode == "none":
        return set()
    prefix = spec["model"].get("continuing_subword_prefix", "##")
    bare = {i: piece.removeprefix(prefix) if piece != prefix else piece for i, piece in pieces.items()}
    single = {i: piece for i, piece in bare.items() if len(piece) == 1}
    if mode == "scripts":
        seen = {_script(c) for piece in used for c in piece.removeprefix(prefix)} | {"", "LATIN"}
        return {i for i, c in single.items() if c.isascii() or _script(c) in seen}
    starts = {c for i, c in single.items() if pieces[i] == c}
    insides = {c for i, c in single.items() if pieces[i] != c} or starts
    covered = starts & insides
    # A piece with a character that has no piece of its own can't be spelt out, so it stays.
    stuck = {i for i, piece in bare.items() if len(piece) > 1 and not set(piece) <= covered and _plain(pieces[i])}
    return set(single) | stuck


def _plain(piece: str) -> bool:
    """Whether a piece can come from text: not a reserved one like [unused1]."""
    return not (piece.startswith("[") and piece.endswith("]"))


def _script(character: str) -> str:
    """Return the script of a letter by its Unicode name, or "" for what is no letter."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    return unicodedata.name(character, "UNKNOWN").split()[0]


def _rebuilt(spec: dict[str, Any], kept_ids: Array, pieces: dict[int, str]) -> str:
    """Return the tokenizer's JSON with new ids, without truncation and padding, as compact as it gets."""
    place = {int(old): new for new, old in enumerate(kept_ids)}
    new = {key: value for key, value in spec.items() if key not in ("truncation", "padding")}
    new |= {"truncation": None, "padding": None}
    new["added_tokens"] = [token | {"id": place[token["id"]]} for token in spec.get("added_tokens", [])]
    vocabulary = {pieces[old]: i for old, i in place.items() if old in pieces}
    new["model"] = spec["model"] | {"vocab": vocabulary}
    if spec.get("post_processor"):
        new["post_processor"] = _renumbered(spec["post_processor"], place)
    return json.dumps(new, ensure_ascii=False, separators=(",", ":"))


def _renumbered(processor: dict[str, Any], place: dict[int, int]) -> dict[str, Any]:
    new = dict(processor)
    if "special_tokens" in processor:
        new["special_tokens"] = {
            name: entry | {"ids": [place[int(i)] for i in entry["ids"]]}
            for name, entry in processor["special_tokens"].items()
        }
    for key in ("cls", "sep"):
        if key in processor:
            token: Sequence[Any] = processor[key]
            new[key] = [token[0], place[int(token[1])]]
    return new
