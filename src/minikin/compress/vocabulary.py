"""Trimming a vocabulary to the pieces that a domain uses, exactly: kept text is cut as before.

The pipeline calls it before training; why it is exact for each family of tokenizers stands in `pieces`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import numpy as np

from minikin.base import decoders
from minikin.base.errors import UserError
from minikin.base.joined import readable, sides
from minikin.base.types import Array, QuantizedTensor, Student, Text
from minikin.compress.pieces import FAMILIES, Fallback, WordPiece

CHUNK: Final = 1024
TOKEN_IDS: Final = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
WORD_TABLES: Final = ("bert.embeddings.word_embeddings.weight", "embeddings_VH")


def trim(
    tokenizer_json: str,
    texts: Iterable[Text],
    *,
    keep: int | None = None,
    fallback: bool | Fallback = True,
    ids: Array | None = None,
) -> tuple[str, Array]:
    """Return a tokenizer with the pieces that `texts` use, and the old ids that it keeps (V,), ascending.

    The new id of a piece is its place among the kept ids. Special tokens always stay, and so does the fallback, all
    bytes or (True is "all") characters: what the old tokenizer could cut without [UNK], the new one can too. `keep`
    caps the vocabulary: the most frequent pieces stay, with the parts that they are merged from, never fewer than
    specials and fallback. `ids` are token ids that occur beside the texts, such as those of documents that were cut
    with a chat template. Raises UserError when the tokenizer is not WordPiece, BPE or Unigram.
    """
    spec = json.loads(tokenizer_json)
    family = _family(spec)
    counts = _counts(tokenizer_json, texts)
    if ids is not None:
        used, times = np.unique(ids, return_counts=True)
        counts.update(dict(zip(used.tolist(), times.tolist(), strict=True)))
    chosen = {int(token["id"]) for token in spec.get("added_tokens", [])} | family.named() | _framing(spec)
    mode: Fallback = ("all" if fallback else "none") if isinstance(fallback, bool) else fallback
    chosen |= family.fallback(mode, {family.pieces[i] for i in counts if i in family.pieces})
    for i in sorted(counts, key=lambda i: (-counts[i], i)):
        more = family.parts(i) - chosen
        if keep is None or len(chosen) + len(more) <= keep:
            chosen |= more
    kept_ids = np.array(sorted(chosen), np.int64)
    return _rebuilt(spec, family, kept_ids), kept_ids


def can_trim(tokenizer_json: str, kinds: Sequence[str] = ("WordPiece",)) -> bool:
    """Whether `trim` can take this tokenizer and its family is among `kinds`.

    Classifiers ask for WordPiece, which is what their engines read; decoders for any of `FAMILIES`.
    """
    kind = json.loads(tokenizer_json).get("model", {}).get("type")
    return kind in kinds and kind in FAMILIES


def apply(student: Student, kept_ids: Array, tokenizer_json: str) -> Student:
    """Return `student` with only the rows `kept_ids` (V,) of its embeddings and of a decoder's output, and the
    tokenizer that goes with them."""
    tensors = dict(student.tensors)
    decoder = student.family == "decoder"
    outer = decoders.layout(student.config).outer if decoder else {}
    for name in [name for name, axes in outer.items() if axes.startswith("V")] if decoder else WORD_TABLES:
        if name in tensors:
            table = tensors[name]
            tensors[name] = table.rows(kept_ids) if isinstance(table, QuantizedTensor) else table[kept_ids]
    config = dict(student.config)
    if "vocab_size" in config:
        config["vocab_size"] = len(kept_ids)
    if decoder:
        config |= {key: _moved(config.get(key), kept_ids) for key in TOKEN_IDS if key in config}
        return replace(student, tensors=tensors, config=config, tokenizer_json=tokenizer_json)
    for key in ("pad_token_id", "unk_token_id"):
        if isinstance(config.get(key), int):
            place = int(np.searchsorted(kept_ids, config[key]))
            config[key] = place if place < len(kept_ids) and kept_ids[place] == config[key] else 0
    return replace(student, tensors=tensors, config=config, tokenizer_json=tokenizer_json)


def _moved(token: Any, kept_ids: Array) -> Any:
    """A token id, or a list of them, under the new numbers; None for one that is gone."""
    if isinstance(token, list):
        return [place for place in (_moved(i, kept_ids) for i in token) if place is not None]
    place = int(np.searchsorted(kept_ids, -1 if token is None else token))
    return place if place < len(kept_ids) and kept_ids[place] == token else None


def _family(spec: dict[str, Any]) -> WordPiece:
    kind = spec.get("model", {}).get("type")
    if kind not in FAMILIES:
        raise UserError(
            f"Only {', '.join(FAMILIES)} vocabularies can be trimmed; this tokenizer is {kind}. "
            "Learn one from the texts instead."
        )
    return FAMILIES[kind](spec)


def _framing(spec: dict[str, Any]) -> set[int]:
    """Return the ids that the post-processor puts around a text."""
    ids: set[int] = set()
    for processor in _processors(spec.get("post_processor")):
        for entry in processor.get("special_tokens", {}).values():
            ids |= {int(i) for i in entry["ids"]}
        ids |= {int(processor[key][1]) for key in ("cls", "sep") if key in processor}
    return ids


def _processors(processor: dict[str, Any] | None) -> list[dict[str, Any]]:
    if not processor:
        return []
    return list(processor["processors"]) if processor.get("type") == "Sequence" else [processor]


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
    for part in sides(texts):
        yield readable(part)


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(islice(texts, CHUNK)):
        yield chunk


def _rebuilt(spec: dict[str, Any], family: WordPiece, kept_ids: Array) -> str:
    """Return the tokenizer's JSON with new ids, without truncation and padding, as compact as it gets.

    Raises UserError when an added token would not get its new id: the library numbers those that stand outside the
    vocabulary by itself, after all pieces.
    """
    place = {int(old): new for new, old in enumerate(kept_ids)}
    new = {key: value for key, value in spec.items() if key not in ("truncation", "padding")}
    new |= {"truncation": None, "padding": None}
    new["added_tokens"] = [token | {"id": place[token["id"]]} for token in spec.get("added_tokens", [])]
    new["model"] = family.rewritten(place)
    if spec.get("post_processor"):
        new["post_processor"] = _renumbered(spec["post_processor"], place)
    outside = len(new["model"]["vocab"])
    for token in sorted(new["added_tokens"], key=lambda token: int(token["id"])):
        if token["content"] not in family.ids:
            if token["id"] != outside:
                raise UserError(
                    f"The added token {token['content']!r} stands before pieces of the vocabulary: this tokenizer "
                    "can't be trimmed. Save it again with its added tokens last."
                )
            outside += 1
    return json.dumps(new, ensure_ascii=False, separators=(",", ":"))


def _renumbered(processor: dict[str, Any], place: dict[int, int]) -> dict[str, Any]:
    new = dict(processor)
    if processor.get("type") == "Sequence":
        new["processors"] = [_renumbered(part, place) for part in processor["processors"]]
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
