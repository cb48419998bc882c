"""One slip of the finger: used by the typo test of the gate and by augmentation."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

QWERTY = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
WORD_CHARS = 3
"""Words at least this long are preferred: people misspell those, and short ones turn into other words."""

_WORD = re.compile(r"\w+")


def _neighbours() -> dict[str, str]:
    """Return key → the keys that touch it on a QWERTY keyboard, whose rows are each shifted by half a key."""
    near: dict[str, str] = {}
    for r, row in enumerate(QWERTY):
        for k, key in enumerate(row):
            touching = [row[k - 1 : k], row[k + 1 : k + 2]]
            if r:
                touching.append(QWERTY[r - 1][k : k + 2])
            if r + 1 < len(QWERTY):
                touching.append(QWERTY[r + 1][max(k - 1, 0) : k + 1])
            near[key] = "".join(c for c in "".join(touching) if c.isalpha() or key.isdigit())
    return near


NEIGHBOURS = _neighbours()


def with_one_typo(text: str, rng: np.random.Generator) -> str:
    """Return the text with one typo in one word: a neighbouring key, or a letter swapped, lost or doubled.

    The result always differs from `text`, unless that holds no word character.
    """
    words = [match.span() for match in _WORD.finditer(text)]
    words = [span for span in words if span[1] - span[0] >= WORD_CHARS] or words
    if not words:
        return text
    start, end = words[int(rng.integers(len(words)))]
    for k in rng.permutation(len(SLIPS)):
        at = int(rng.integers(start, end))
        slipped = text[:start] + SLIPS[int(k)](text[start:end], at - start, rng) + text[end:]
        if slipped != text:
            return slipped
    return text


def _neighbour(word: str, at: int, rng: np.random.Generator) -> str:
    keys = NEIGHBOURS.get(word[at].lower(), "")
    if not keys:
        return word
    key = keys[int(rng.integers(len(keys)))]
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


def _transposed(word: str, at: int, _rng: np.random.Generator) -> str:
    at = min(at, len(word) - 2)
    return word if at < 0 else word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _lost(word: str, at: int, _rng: np.random.Generator) -> str:
    return word if len(word) == 1 else word[:at] + word[at + 1 :]


def _doubled(word: str, at: int, _rng: np.random.Generator) -> str:
    return word[: at + 1] + word[at:]


SLIPS: tuple[Callable[[str, int, np.random.Generator], str], ...] = (_neighbour, _transposed, _lost, _doubled)
