"""Which pieces of words the training texts of each class held, as bits; a text that shares few of them is doubtful.

A build writes the table beside the hashes of its training rows; scores.py makes a part of the score of it.
T pieces of a text: six bytes that follow each other, ends of words marked by a space.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from minikin.base.joined import readable
from minikin.base.types import Array, Text

APART = re.compile(rb"[^0-9a-z\x80-\xff]+")
PIECE = 6
BITS_EACH = 4
"""Bits for each piece of a class, rounded up to a power of two: at most a quarter of what was never held looks held."""

LEAST_BITS, MOST_BITS = 1 << 16, 1 << 23
FULLEST = 4
"""A table may be so many times smaller than it should be, where a budget leaves no more room."""

TOGETHER = 1 << 16


def table(texts: Iterable[Text], labels_N: Array, most_bytes: float = math.inf) -> Array:
    """The bytes (B,) of a bit for each piece of a training text with the text's class; at most `most_bytes`, if it can.

    Source: Bloom 1970, "Space/Time Trade-offs in Hash Coding with Allowable Errors" (with one hash).
    """
    held_P, rows = np.zeros(0, np.uint32), zip(texts, labels_N.tolist(), strict=True)
    while some := list(islice(rows, TOGETHER)):
        held_P = np.unique(np.concatenate([held_P, *(_places(text, label) for text, label in some)]))
    bits = min(max(1 << (BITS_EACH * len(held_P)).bit_length(), LEAST_BITS), MOST_BITS)
    least = max(bits // FULLEST, LEAST_BITS)
    while bits > max(least, 8 * most_bytes):
        bits //= 2
    flags = np.zeros(bits, bool)
    flags[held_P & np.uint32(bits - 1)] = True
    return np.packbits(flags, bitorder="little")


def shares(bits_B: Array, texts: Sequence[Text], probabilities_NC: Array) -> Array:
    """`familiar` of each text for the label answered and for the likeliest other one (N, 2)."""
    columns = (probabilities_NC.argmax(1), runner_up(probabilities_NC))
    return np.stack([familiar(bits_B, texts, labels_N) for labels_N in columns], axis=1)


def runner_up(probabilities_NC: Array) -> Array:
    """The likeliest label (N,) beside the one answered."""
    others_NC = np.array(probabilities_NC, np.float32)
    others_NC[np.arange(len(others_NC)), others_NC.argmax(1)] = -1.0
    return np.asarray(others_NC.argmax(1))


def familiar(bits_B: Array, texts: Sequence[Text], answers_N: Array) -> Array:
    """The share (N,) of each text's pieces that training texts of the class answered held; 0 for a text without any.

    Raises ValueError for bytes that are no table.
    """
    if bits_B.dtype != np.uint8 or bits_B.ndim != 1 or len(bits_B) == 0 or len(bits_B) & (len(bits_B) - 1):
        raise ValueError("the table of words is damaged")
    last = np.uint32(8 * len(bits_B) - 1)
    shares_N = np.zeros(len(answers_N))
    for i, (text, answer) in enumerate(zip(texts, answers_N.tolist(), strict=True)):
        places_T = _places(text, answer) & last
        if len(places_T):
            shares_N[i] = (bits_B[places_T >> 3] >> (places_T & 7) & 1).mean()
    return shares_N


def pieces(text: Text) -> Array:
    """A text's pieces (T,) as integers: case in ASCII aside, all between two words as one space; a pair is joined."""
    plain = APART.sub(b" ", b" " + readable(joined(text)).encode().lower() + b" ")
    bytes_T = np.frombuffer(plain, np.uint8).astype(np.uint64)
    ends = len(bytes_T) - PIECE + 1
    found_T = np.zeros(max(ends, 0), np.uint64)
    for i in range(PIECE if ends > 0 else 0):
        found_T = found_T << np.uint64(8) | bytes_T[i : i + ends]
    return found_T


def joined(text: Text) -> str:
    """A text, or both of a pair."""
    return text if isinstance(text, str) else "\n".join(text)


def _places(text: Text, label: int) -> Array:
    """A text's pieces mixed with a class so that every bit depends on all others (MurmurHash3's finalizer)."""
    x_T: Array = (pieces(text) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)).astype(np.uint32)
    x_T = x_T ^ np.uint32((label + 1) * 0x9E3779B1 & 0xFFFFFFFF)
    x_T = (x_T ^ x_T >> 16) * np.uint32(0x85EBCA6B)
    x_T = (x_T ^ x_T >> 13) * np.uint32(0xC2B2AE35)
    return np.asarray(x_T ^ x_T >> 16)
