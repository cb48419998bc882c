"""Which words the training texts of each class held, as bits; an answer whose text shares none of them is doubtful.

A build writes the table beside the hashes of its training rows; scores.py makes a part of the score of it.
T terms of a text: its words, and pairs of neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np

from minikin.base.types import Array, Text

WORD = re.compile(rb"[0-9A-Za-z\x80-\xff]+")
BASIS, PRIME = 0x811C9DC5, 0x01000193
BITS_EACH = 8
"""Bits for each term of a class, rounded up to a power of two: at most one in eight that was never seen looks seen."""

LEAST_BITS, MOST_BITS = 1 << 10, 1 << 23
TOGETHER = 1 << 16


def table(texts: Iterable[Text], labels_N: Array) -> Array:
    """The bytes (B,) of a bit for each term of a training text with the text's class; the terms can't be read from it.

    Source: Bloom 1970, "Space/Time Trade-offs in Hash Coding with Allowable Errors" (with one hash).
    """
    held_P, rows = np.zeros(0, np.uint32), zip(texts, labels_N.tolist(), strict=True)
    while some := list(islice(rows, TOGETHER)):
        held_P = np.unique(np.concatenate([held_P, *(_mixed(terms(text), label) for text, label in some)]))
    bits = min(max(1 << (BITS_EACH * len(held_P)).bit_length(), LEAST_BITS), MOST_BITS)
    flags = np.zeros(bits, bool)
    flags[held_P & np.uint32(bits - 1)] = True
    return np.packbits(flags, bitorder="little")


def familiar(bits_B: Array, texts: Sequence[Text], answers_N: Array) -> Array:
    """The share (N,) of each text's terms that training texts of the class answered held; 0 for a text without words.

    Raises ValueError for bytes that are no table.
    """
    if bits_B.dtype != np.uint8 or bits_B.ndim != 1 or len(bits_B) == 0 or len(bits_B) & (len(bits_B) - 1):
        raise ValueError("the table of words is damaged")
    last = np.uint32(8 * len(bits_B) - 1)
    shares_N = np.zeros(len(answers_N))
    for i, (text, answer) in enumerate(zip(texts, answers_N.tolist(), strict=True)):
        places_T = _mixed(terms(text), answer) & last
        if len(places_T):
            shares_N[i] = (bits_B[places_T >> 3] >> (places_T & 7) & 1).mean()
    return shares_N


def terms(text: Text) -> Array:
    """Hashes (T,) of a text's words, case in ASCII aside, and of each pair of neighbours; a pair of texts is joined."""
    words = WORD.findall(joined(text).encode("utf-8", "replace").lower())
    words_W = np.array([_hashed(word) for word in words], np.uint32)
    return np.concatenate([words_W, words_W[:-1] * np.uint32(PRIME) ^ words_W[1:]])


def joined(text: Text) -> str:
    """A text, or both of a pair."""
    return text if isinstance(text, str) else "\n".join(text)


@lru_cache(1 << 16)
def _hashed(word: bytes) -> int:
    """FNV-1a in 32 bits."""
    value = BASIS
    for byte in word:
        value = (value ^ byte) * PRIME & 0xFFFFFFFF
    return value


def _mixed(terms_T: Array, place: int) -> Array:
    """Terms mixed with a class, so that all bits depend on all others (the finalizer of MurmurHash3)."""
    x_T: Array = terms_T ^ np.uint32((place + 1) * 0x9E3779B1 & 0xFFFFFFFF)
    x_T = (x_T ^ x_T >> 16) * np.uint32(0x85EBCA6B)
    x_T = (x_T ^ x_T >> 13) * np.uint32(0xC2B2AE35)
    return np.asarray(x_T ^ x_T >> 16)
