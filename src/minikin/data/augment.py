"""New texts made from the training texts, for the teacher to label: more text is what helps a student most.

Word swaps and dropouts follow J. Wei, K. Zou, "EDA" (2019); words exchanged for their neighbours in an embedding
follow X. Jiao et al., "TinyBERT" (2020), algorithm 1; splices and typos are ours. Called by `steps/material.py`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from minikin.base.types import Text
from minikin.data.typo import with_one_typo

DROP_SHARE = 0.15
SWAP_SHARE = 0.15
EXCHANGE_SHARE = 0.25
TRIES = 4
WORD = re.compile(r"[^\W\d_]+")

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_Rng = np.random.Generator
_Change = Callable[[str, str, _Rng], str]


Neighbours = Mapping[str, Sequence[str]]
"""Lower-case word to words that stand for something similar."""


def augment(texts: Sequence[Text], copies: int, seed: int, neighbours: Neighbours | None = None) -> list[Text]:
    """Return up to `copies` changed versions of each text (or pair); the same for the same arguments.

    Versions of one text differ from it and from each other; of very short texts there are fewer than `copies`.
    With `neighbours`, some of the versions exchange words for their neighbours (`SHARES`).
    """
    return [text for _, _, text in stream(texts, copies, seed, neighbours)]


def stream(
    texts: Sequence[Text], copies: int, seed: int, neighbours: Neighbours | None = None
) -> Iterator[tuple[int, int, Text]]:
    """Yield (index into `KINDS`, index of the source text, new text), one text's versions after another's."""
    rng = np.random.default_rng(seed)
    changes: list[_Change] = [*_CHANGES.values(), partial(_exchange, neighbours or {})]
    shares = np.array([SHARES[kind] if neighbours or kind != "exchange" else 0.0 for kind in KINDS])
    shares /= shares.sum()
    for source, text in enumerate(texts):
        seen: set[Text] = {text}
        for _ in range(copies):
            for _ in range(TRIES):
                kind = int(rng.choice(len(KINDS), p=shares))
                other = texts[int(rng.integers(len(texts)))]
                new = _changed(text, other, KINDS[kind], changes[kind], rng)
                if new not in seen:
                    seen.add(new)
                    yield kind, source, new
                    break


def _changed(text: Text, other: Text, kind: str, change: _Change, rng: _Rng) -> Text:
    """Return the text changed in one way; of a pair, one side or both, and a splice joins sides of two pairs."""
    if isinstance(text, str) and isinstance(other, str):
        return change(text, other, rng) or text
    first, second = text[0], text[1]
    if kind == "splice":
        return (first, other[1]) if rng.random() < 0.5 else (other[0], second)
    sides = int(rng.integers(1, 4))
    return (
        (change(first, other[0], rng) or first) if sides & 1 else first,
        (change(second, other[1], rng) or second) if sides & 2 else second,
    )


def _swap(text: str, _other: str, rng: _Rng) -> str:
    """Swap neighbouring words, about one in seven of them and at least one."""
    words = text.split()
    if len(words) < 2:
        return text
    for at in rng.integers(0, len(words) - 1, max(1, round(SWAP_SHARE * len(words)))):
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def _drop(text: str, _other: str, rng: _Rng) -> str:
    """Drop about one word in seven, at least one and never all."""
    words = text.split()
    if len(words) < 2:
        return text
    kept = rng.random(len(words)) >= DROP_SHARE
    kept[int(rng.integers(len(words)))] = False
    if not kept.any():
        kept[int(rng.integers(len(words)))] = True
    return " ".join(word for word, keep in zip(words, kept, strict=True) if keep)


def _typo(text: str, _other: str, rng: _Rng) -> str:
    return with_one_typo(text, rng)


def _splice(text: str, other: str, rng: _Rng) -> str:
    """Join the first half of one text's words with the second half of another's, whichever comes first."""
    head, tail = (text.split(), other.split()) if rng.random() < 0.5 else (other.split(), text.split())
    return " ".join([*head[: (len(head) + 1) // 2], *tail[len(tail) // 2 :]])


def _plain(text: str, _other: str, _rng: _Rng) -> str:
    """Write as people do in a hurry: lower case, no punctuation."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def _exchange(neighbours: Neighbours, text: str, _other: str, rng: _Rng) -> str:
    """Exchange about a quarter of the words that have neighbours, at least one, for one of them."""
    found = [m for m in WORD.finditer(text) if m.group().lower() in neighbours]
    if not found:
        return text
    chosen = rng.random(len(found)) < EXCHANGE_SHARE
    chosen[int(rng.integers(len(found)))] = True
    parts, at = [], 0
    for match, exchange in zip(found, chosen.tolist(), strict=True):
        if exchange:
            near = neighbours[match.group().lower()]
            parts += [text[at : match.start()], near[int(rng.integers(len(near)))]]
            at = match.end()
    return "".join([*parts, text[at:]])


_CHANGES: dict[str, _Change] = {"swap": _swap, "drop": _drop, "typo": _typo, "splice": _splice, "plain": _plain}
SHARES = {"swap": 0.1, "drop": 0.2, "typo": 0.2, "splice": 0.3, "plain": 0.05, "exchange": 0.15}
KINDS: tuple[str, ...] = (*_CHANGES, "exchange")
"""The ways of changing a text, as `stream` counts them."""
