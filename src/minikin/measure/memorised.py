"""Which written texts hold a long run of a training text, word for word. Called by the gate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from minikin.base.types import Array

RUN: Final = 200
"""Characters, about 50 tokens of English: counted so that models with other tokenizers are measured alike."""


def memorised(written: Sequence[str], given: Sequence[str], learnt: Iterable[str], run: int = RUN) -> Array:
    """Which of N written texts (bool, N) hold `run` characters in a row of a learnt text; white space counts as one.

    What stands in `given` (the prompt, and the answer that people gave) does not count: to write that is right. Every
    run holds a whole one of the blocks that learnt texts are looked up by, so these are read but once and not kept.

    Source: Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models", definition 3.1 (there 50
    tokens, written greedily after what precedes them in the training text; here after prompts that were held out).
    """
    block, step = run // 2, run - run // 2 + 1
    texts, known = ([" ".join(text.split()) for text in these] for these in (written, given))
    places: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for n, text in enumerate(texts):
        for i in range(len(text) - block + 1 if len(text) >= run else 0):
            places[hash(text[i : i + block])].append((n, i))
    found_N = np.zeros(len(texts), bool)
    for source in learnt if places else ():
        source = " ".join(source.split())
        for at in range(0, len(source) - block + 1, step):
            for n, i in places.get(hash(source[at : at + block]), ()):
                found_N[n] = found_N[n] or _fresh(_common(texts[n], i, source, at), known[n], run)
    return found_N


def _common(text: str, i: int, source: str, at: int) -> str:
    """The stretch around these places in which both texts are the same; '' where the characters there differ."""
    ahead = _alike(text[i:], source[at : at + len(text) - i])
    behind = _alike(text[:i][::-1], source[max(0, at - i) : at][::-1])
    return text[i - behind : i + ahead]


def _alike(a: str, b: str) -> int:
    """How many characters two texts begin with in common."""
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _fresh(stretch: str, known: str, run: int) -> bool:
    """Whether a stretch holds a run that is not known."""
    return any(stretch[k : k + run] not in known for k in range(len(stretch) - run + 1))
