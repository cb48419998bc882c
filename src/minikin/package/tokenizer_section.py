"""The tokenizer's part of the kernel's model file: tables that kernel/tokenizer.c uses as they lie.

All numbers are little-endian and every table is padded to 4 bytes: 16 numbers, the added tokens, their bytes, the
slots of a hash table, and then either the pieces of WordPiece or the byte ids and merges of byte-level BPE.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from minikin.base.errors import UserError
from minikin.base.framing import framing_ids

MAGIC: Final = int.from_bytes(b"MKTK", "little")
WORDPIECE, BYTE_BPE = 0, 1
CLEAN, CHINESE, STRIP, LOWER, PREFIX_SPACE = 1, 2, 4, 8, 16
ADDED_LEFT, ADDED_RIGHT, ADDED_SECOND = 1, 2, 4
CONTINUED: Final = "##"
MAX_WORD: Final = 256
"""Characters of a word that the kernel has room for."""

MAX_PIECE: Final = 255
MAX_IDS: Final = (1 << 20) - 1
MAX_LENGTH: Final = 1 << 20
LOAD: Final = 0.7
"""How full the hash tables are: emptier ones are quicker, fuller ones are smaller."""

FRAMES: Final = ("BertProcessing", "RobertaProcessing")
MASK: Final = 0xFFFFFFFF
HASH_START: Final = 0x811C9DC5
HASH_CONTINUED: Final = 0x9E3779B9
PRIME: Final = 0x01000193
PAIR_PRIME: Final = 0x85EBCA6B
NAMES_OF_PADDING: Final = ("[PAD]", "<pad>")


def can_run(tokenizer_json: str) -> str | None:
    """Say why the kernel can't run this tokenizer, or None when it can."""
    try:
        spec: dict[str, Any] = json.loads(tokenizer_json)
        kind = spec["model"].get("type")
        if kind not in ("WordPiece", "BPE"):
            return f"its model is {kind}, not WordPiece or BPE"
        return _fault_of_ids(tokenizer_json, spec) or (
            _fault_of_wordpiece(spec) if kind == "WordPiece" else _fault_of_bpe(spec)
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return f"it is no tokenizer.json: {error!r}"


def section(tokenizer_json: str, max_length: int) -> bytes:
    """Return the tables of a tokenizer that cuts texts to `max_length` tokens.

    Raises UserError when the kernel can't run the tokenizer; `can_run` says why.
    """
    if (reason := can_run(tokenizer_json)) is not None:
        raise UserError(f"The kernel can't run this tokenizer: {reason}. Use a BERT or GPT-2 tokenizer.")
    if not 0 <= max_length <= MAX_LENGTH:
        raise UserError(f"max_length is {max_length}; the kernel takes 0 to {MAX_LENGTH}.")
    spec: dict[str, Any] = json.loads(tokenizer_json)
    model, added = spec["model"], _added_tokens(spec)
    vocabulary: dict[str, int] = model["vocab"]
    ids = vocabulary | {str(token["content"]): int(token["id"]) for token in added}
    cls_id, sep_id = framing_ids(spec, FRAMES)
    pad_id = next((ids[name] for name in NAMES_OF_PADDING if name in ids), -1)
    unk_id = vocabulary.get(model.get("unk_token") or "", -1)
    vocab_size = max(ids.values()) + 1
    if model["type"] == "WordPiece":
        kind, flags = WORDPIECE, _normalizer_flags(spec["normalizer"])
        pieces = {place: text.encode() for text, place in vocabulary.items()}
        slots, numbers, tables = _wordpiece(pieces, vocab_size)
        numbers = [numbers[0], int(model["max_input_chars_per_word"]), numbers[1]]
    else:
        kind, flags = BYTE_BPE, PREFIX_SPACE * bool(spec["pre_tokenizer"].get("add_prefix_space", True))
        merges = _merges(model)
        slots, tables = _bpe(_byte_ids(model), merges)
        numbers = [len(merges), 0, 0]
    contents = [str(token["content"]).encode() for token in added]
    starts = np.cumsum([0, *map(len, contents)])
    entries = [(token["id"], starts[i], len(contents[i]), _added_flags(token)) for i, token in enumerate(added)]
    head = [MAGIC, kind, flags, max_length, vocab_size, cls_id, sep_id, pad_id, unk_id]
    head += [len(added), sum(map(len, contents)), len(slots), *numbers, 0]
    parts = [_words(head), _words(np.ravel(entries)), b"".join(contents), _words(slots), *tables]
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def _words(values: Iterable[Any]) -> bytes:
    return np.array(list(values), np.int64).astype("<u4").tobytes()


def _added_tokens(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens that are matched as they are spelt; `tokenizers` ignores empty ones."""
    return [token for token in spec.get("added_tokens") or () if token["content"]]


def _added_flags(token: Mapping[str, Any]) -> int:
    second = bool(token.get("normalized"))
    return ADDED_LEFT * bool(token.get("lstrip")) | ADDED_RIGHT * bool(token.get("rstrip")) | ADDED_SECOND * second


def _normalizer_flags(normalizer: Mapping[str, Any]) -> int:
    lowercase = bool(normalizer["lowercase"])
    accents = normalizer.get("strip_accents")
    return (
        CLEAN * bool(normalizer["clean_text"])
        | CHINESE * bool(normalizer["handle_chinese_chars"])
        | STRIP * (lowercase if accents is None else bool(accents))
        | LOWER * lowercase
    )


# ---- Hash tables, as tokenizer.c searches them ----


def _mixed(value: int) -> int:
    value = (value ^ value >> 15) * 0x2C1B3C6D & MASK
    return value ^ value >> 13


def _slots(hashes: Sequence[int], tags: Sequence[int], indices: Sequence[int]) -> list[int]:
    """Fill an open-addressing table: 12 bits of tag above 20 bits of index + 1."""
    slots = [0] * (int(len(hashes) / LOAD) + 1)
    for value, tag, index in zip(hashes, tags, indices, strict=True):
        place = value * len(slots) >> 32
        while slots[place]:
            place = (place + 1) % len(slots)
        slots[place] = tag << 20 | index + 1
    return slots


def _wordpiece(texts: Mapping[int, bytes], vocab_size: int) -> tuple[list[int], list[int], list[bytes]]:
    """Return slots, (bytes of all pieces, of the longest), and the tables: blocks, offsets, pieces."""
    hashes, tags, indices, pieces = [], [], [], [b""] * vocab_size
    prefix = CONTINUED.encode()
    for index, text in sorted(texts.items()):
        continued = text.startswith(prefix)
        piece = pieces[index] = text.removeprefix(prefix)
        if not piece:
            continue
        value = HASH_CONTINUED if continued else HASH_START
        for byte in piece:
            value = (value ^ byte) * PRIME & MASK
        value = _mixed(value)
        hashes.append(value)
        tags.append((value & 0x7FF) << 1 | continued)
        indices.append(index)
    starts = np.cumsum([0, *map(len, pieces)])
    blocks = starts[:: MAX_PIECE + 1]
    offsets = starts - np.repeat(blocks, MAX_PIECE + 1)[: len(starts)]
    tables = [_words(blocks), offsets.astype("<u2").tobytes(), b"".join(pieces)]
    return _slots(hashes, tags, indices), [int(starts[-1]), max(map(len, pieces))], tables


def _bpe(byte_ids: Sequence[int], merges: Sequence[tuple[int, int, int]]) -> tuple[list[int], list[bytes]]:
    """Return slots and the tables: the id of each byte, and the merges by rank in 20 bits per id."""
    hashes = [_mixed((((HASH_START ^ left) * PRIME & MASK) ^ right) * PAIR_PRIME & MASK) for left, right, _ in merges]
    packed = [half for left, right, new in merges for half in ((left | right << 20) & MASK, right >> 12 | new << 8)]
    slots = _slots(hashes, [value & 0xFFF for value in hashes], range(len(merges)))
    return slots, [_words(byte_ids), _words(packed)]


def byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary: itself when it can be printed."""
    shown = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256)]


def _byte_ids(model: Mapping[str, Any]) -> list[int]:
    """Return the id of each byte (256,): the unknown token's where it has none, -1 where it is left out."""
    unknown = model["vocab"].get(model.get("unk_token") or "", -1)
    return [model["vocab"].get(character, unknown) for character in byte_characters()]


def _merges(model: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """Return (left, right, new) ids by rank. Of a pair that comes twice, the last place counts."""
    vocabulary, ranked = model["vocab"], {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranked[vocabulary[left], vocabulary[right]] = rank, vocabulary[left + right]
    return [(*pair, new) for pair, (_, new) in sorted(ranked.items(), key=lambda entry: entry[1][0])]


# ---- What the kernel can't run ----


def _fault_of_ids(tokenizer_json: str, spec: Mapping[str, Any]) -> str | None:
    from tokenizers import Tokenizer

    try:
        full = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises no type of its own
        return f"`tokenizers` can't read it: {error}"
    vocabulary: dict[str, int] = spec["model"]["vocab"]
    added = _added_tokens(spec)
    ids = [*vocabulary.values(), *(int(token["id"]) for token in added)]
    if not ids or min(ids) < 0 or max(ids) >= MAX_IDS or max(ids) > 4 * len(ids) + 1024:
        return f"its ids are not 0 to {MAX_IDS - 1} without large gaps"
    if len(set(vocabulary.values())) < len(vocabulary):
        return "two of its pieces have the same id"
    for token in added:
        if token.get("single_word"):
            return f"its added token {token['content']!r} matches single words only"
        if token.get("normalized") and spec.get("normalizer"):
            return f"its added token {token['content']!r} is matched in normalised text"
        if full.token_to_id(token["content"]) != token["id"]:
            return f"its added token {token['content']!r} has another id than it says"
    if len({token["content"] for token in added}) < len(added):
        return "it has an added token twice"
    if max(framing_ids(spec, FRAMES)) > max(ids):
        return "it frames texts with ids that it doesn't have"
    return None


def _fault_of_wordpiece(spec: Mapping[str, Any]) -> str | None:
    model, normalizer, pre_tokenizer = spec["model"], spec.get("normalizer") or {}, spec.get("pre_tokenizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        return f"it normalises with {normalizer.get('type')}, not BertNormalizer"
    if pre_tokenizer.get("type") != "BertPreTokenizer":
        return f"it finds words with {pre_tokenizer.get('type')}, not BertPreTokenizer"
    if model.get("continuing_subword_prefix") != CONTINUED:
        return f"its pieces inside words start with {model.get('continuing_subword_prefix')!r}, not {CONTINUED!r}"
    if model.get("unk_token") not in model["vocab"]:
        return "its vocabulary lacks its unknown token"
    if not 0 <= model["max_input_chars_per_word"] <= MAX_WORD:
        return f"it takes words of {model['max_input_chars_per_word']} characters; the kernel, of {MAX_WORD}"
    if any(len(piece.encode()) > MAX_PIECE for piece in model["vocab"]):
        return f"it has pieces of more than {MAX_PIECE} bytes"
    return None


def _fault_of_bpe(spec: Mapping[str, Any]) -> str | None:
    model, pre_tokenizer = spec["model"], spec.get("pre_tokenizer") or {}
    if spec.get("normalizer"):
        return f"it normalises with {spec['normalizer'].get('type')} before BPE"
    if pre_tokenizer.get("type") != "ByteLevel" or not pre_tokenizer.get("use_regex", True):
        return f"it finds words with {pre_tokenizer.get('type')}, not ByteLevel with GPT-2's pattern"
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(name):
            return f"its BPE sets {name}"
    if all(character in model["vocab"] for character in byte_characters()):
        return None
    for name in ("byte_fallback", "fuse_unk"):
        if model.get(name):
            return f"its BPE sets {name} and lacks bytes"
    if model.get("unk_token") and model["unk_token"] not in model["vocab"]:
        return "its vocabulary lacks its unknown token, and bytes"
    return None
