"""An endpoint's log-probabilities beside the student's tokens, where both cut the same text at the same place.

Teacher and student have different tokenizers, so only sorted probabilities are compared (`uld`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minikin.base import digest
from minikin.base.types import Array
from minikin.base.writing import TokenSignals
from minikin.data.generate import ANSWER, messages
from minikin.data.tokens import DOCUMENT_BITS
from minikin.feed.align import matched
from minikin.feed.speech import ANSWER_BITS
from minikin.steps.context import Build
from minikin.steps.generate.ask import Told
from minikin.steps.generate.material import Rows
from minikin.teachers.answers import NEVER
from minikin.teachers.token_signals import Kept, realigned


def signals(build: Build, told: Told, rows: Rows) -> TokenSignals | None:
    """What the endpoint told about the tokens of its answers, put beside the student's; None where nothing was told.

    Where no place is in common, that is said, and None returned: the student learns from text.
    """
    if rows.places_M is None or build.recipe.teacher is None:
        return None
    # the training examples come first among those that were written as tokens, in their order
    numbers = {text: number for number, text in enumerate(told.corpus.data.train.texts)}
    kept, places, records = Kept(k=build.recipe.teacher.logprobs), [np.zeros(0, np.int64)], list[Array]()
    for text, given in told.heard:
        chat = messages(text, told.corpus.kind)
        begins = _begins(given, chat[-1]["content"])
        if begins is not None:
            earlier = sum(message["role"] == ANSWER for message in chat[:-1])
            before = (numbers[text] << DOCUMENT_BITS) + (earlier << ANSWER_BITS)
            places.append(np.where(begins < 0, -1, before + begins))
            records.append(_records(given, kept))
    told_M = np.concatenate([np.zeros(0, kept.record(0)), *records])
    match_M = matched(rows.places_M, np.concatenate(places))
    share = float((match_M >= 0).mean())
    if not share:
        build.stages.say("[yellow]The endpoint's tokens fit none of the student's: it learns from text alone.[/]")
        build.notes.append("The endpoint's log-probabilities could not be put beside the student's tokens: text alone.")
        return None
    build.stages.say(f"log-probabilities stand beside {share:.0%} of the tokens to learn; the rest is text alone")
    name = digest.of_arrays({"told": told_M, "matched": match_M})
    return realigned(TokenSignals("top", [told_M], np.array([0, len(told_M)]), 0, digest=name), rows.train, match_M)


def _begins(given: Sequence[Any], answer: str) -> Array | None:
    """Where each of the teacher's tokens begins in the answer, in characters from its first visible one.

    None where they don't spell it.
    """
    spelled = [str(likeliest[0][0]) for likeliest in given]
    text = "".join(spelled)
    if text.strip() != answer:
        return None
    lead = len(text) - len(text.lstrip())
    return np.cumsum([0, *map(len, spelled)])[:-1] - lead


def _records(given: Sequence[Any], kept: Kept) -> Array:
    """What the store holds of each token: sorted log-probabilities and the tail. Ids mean nothing across tokenizers."""
    out = np.zeros(len(given), kept.record(0))
    for i, likeliest in enumerate(given):
        # the written token stands first, and again among the likeliest
        named = {str(token): float(log_p) for token, log_p in likeliest}
        logs = sorted(named.values(), reverse=True)[: kept.k]
        out["values"][i] = np.maximum([*logs, *[NEVER] * (kept.k - len(logs))], NEVER)
        out["rest"][i] = np.log(max(1e-6, 1.0 - float(np.exp(logs).sum())))
    return out
