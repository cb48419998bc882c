"""What the small model says, before it is judged: labels with probabilities, or texts. Called by `handover`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minikin.base.types import Answer, Array, Text
from minikin.base.writing import Completion, Decoding
from minikin.trust.verdicts import PARTS, parts_of


@dataclass(frozen=True)
class Said:
    """Answers to N texts, and what their scores are made of: the arguments of a guard's `decide`."""

    answers: list[Answer]
    given: tuple[Array, Array | None]


def writes(small: Any) -> bool:
    """Whether a small model writes (a loaded kin of the task `generate`) rather than sorts."""
    return isinstance(getattr(small, "usual", None), Decoding)


def said(small: Any, texts: Sequence[Text]) -> Said:
    """Ask a small model, whichever kind it is."""
    return _written(small, texts) if writes(small) else _sorted(small, texts)


def completed(author: Any, prompt: Text) -> Completion:
    """One completion as a certificate covers it; a prompt that is too long is cut from its front, and said."""
    found: Completion = author.complete(prompt, replace(author.usual, logprobs=True, cut=True))[0]
    return found


def _sorted(small: Any, texts: Sequence[Text]) -> Said:
    at_once = getattr(small, "both", None)
    probabilities_NC, pooled_NH = at_once(texts) if at_once else (small.probabilities(texts), None)
    truncated = getattr(small, "truncated", None)
    cut_N = truncated(texts) if truncated is not None else [False] * len(texts)
    answers = []
    for row_C, cut in zip(probabilities_NC, cut_N, strict=True):
        best = int(row_C.argmax())
        named = dict(zip(small.labels, row_C.tolist(), strict=True))
        answers.append(Answer(small.labels[best], float(row_C[best]), named, cut))
    return Said(answers, (np.asarray(probabilities_NC), pooled_NH))


def _written(small: Any, texts: Sequence[Text]) -> Said:
    """`confidence` is the geometric mean of the tokens' probabilities."""
    found = [completed(small, text) for text in texts]
    parts_NK = np.array([parts_of(one) for one in found]).reshape(-1, len(PARTS))
    answers = [Answer(c.text, math.exp(row[0]), {}, c.truncated) for c, row in zip(found, parts_NK, strict=True)]
    return Said(answers, (parts_NK, None))
