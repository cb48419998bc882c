"""An endpoint's log-probabilities beside the student's tokens, where both cut the same text at the same byte.

Teacher and student have different tokenizers, so only sorted probabilities are compared (`uld`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from minikin.base import digest
from minikin.base.types import Array, Packed, TokenSignals
from minikin.data.generate import messages
from minikin.feed.align import matched
from minikin.feed.rows import learnt_offsets
from minikin.feed.speech import Speaker
from minikin.steps.context import Build
from minikin.steps.generate.ask import Told
from minikin.steps.generate.material import Rows, Voice
from minikin.teachers.token_signals import Kept, realigned

NEVER: Final = -1e4
"""The log-probability of what a service did not name."""

Place = tuple[int, int]
"""Number of a document, and the byte of its answer at which a token begins; negative: nobody knows."""


def signals(build: Build, told: Told, voice: Voice, rows: Rows) -> TokenSignals | None:
    """What the endpoint told about the tokens of its answers, put beside the student's; None where nothing was told.

    Where no place is in common, that is said, and None returned: the student learns from text.
    """
    spec = build.recipe.teacher
    if spec is None or not spec.logprobs:
        return None
    speaker, pieces = Speaker(voice.tokenizer_json, voice.tokenizer_config), Tokenizer.from_str(voice.tokenizer_json)
    places: list[Place] = []
    records: list[Array] = []
    numbers: dict[bytes, int] = {}
    kept = Kept(k=spec.logprobs)
    chats = [messages(text, told.corpus.kind) for text, _ in told.heard]
    for (_, given), chat, spoken in zip(told.heard, chats, speaker.chats(chats), strict=True):
        begins = _begins(given, chat[-1]["content"])
        if begins is not None:
            number = numbers.setdefault(spoken.ids_T.tobytes(), len(numbers))
            places += [(number, at) for at in begins]
            records.append(_records(given, kept, pieces.get_vocab_size()))
    match_M = matched(np.array(_student(rows.train, numbers, pieces)), np.array(places).reshape(-1, 2))
    share = float((match_M >= 0).mean())
    if not share:
        build.stages.say("[yellow]The endpoint's tokens fit none of the student's: it learns from text alone.[/]")
        build.notes.append("The endpoint's log-probabilities could not be put beside the student's tokens: text alone.")
        return None
    build.stages.say(f"log-probabilities stand beside {share:.0%} of the tokens to learn; the rest is text alone")
    told_M = np.concatenate(records)
    offsets = np.array([0, len(told_M)])
    raw = TokenSignals("top", [told_M], offsets, pieces.get_vocab_size(), digest=digest.of_arrays({"told": told_M}))
    return realigned(raw, rows.train, match_M)


def _begins(given: Sequence[Any], answer: str) -> list[int] | None:
    """Where each of the teacher's tokens begins in the answer, in bytes; None where they don't spell it."""
    spelled = [str(likeliest[0][0]) for likeliest in given]
    text = "".join(spelled)
    lead = len(text.encode()) - len(text.lstrip().encode())
    if text.strip() != answer:
        return None
    sizes = [len(token.encode("utf-8", "replace")) for token in spelled]
    return [int(at) - lead for at in np.cumsum([0, *sizes[:-1]])] if sizes else []


def _records(given: Sequence[Any], kept: Kept, vocabulary: int) -> Array:
    """What the store holds of each token: sorted log-probabilities and the tail. Ids mean nothing across tokenizers."""
    out = np.zeros(len(given), kept.record(vocabulary))
    for i, likeliest in enumerate(given):
        # the written token stands first, and again among the likeliest
        named = {str(token): float(log_p) for token, log_p in likeliest}
        logs = sorted(named.values(), reverse=True)[: kept.k]
        out["values"][i] = np.maximum([*logs, *[NEVER] * (kept.k - len(logs))], NEVER)
        out["rest"][i] = np.log(max(1e-6, 1.0 - float(np.exp(logs).sum())))
    return out


def _student(packed: Packed, numbers: dict[bytes, int], pieces: Tokenizer) -> list[Place]:
    """The place of every learnt token, in row-major order."""
    found: list[Place] = []
    for n in range(len(packed.ids_NT)):
        ids_T, documents_T, learnt_T = (
            np.asarray(a[n]) for a in (packed.ids_NT, packed.documents_NT, packed.learnt_NT)
        )
        for document in range(1, int(documents_T.max(initial=0)) + 1):
            mine_T = documents_T == document
            number = numbers.get(ids_T[mine_T].astype(np.int32).tobytes(), -1)
            found += _places(number, ids_T[mine_T & learnt_T], pieces)
    assert len(found) == learnt_offsets(packed)[-1]
    return found


def _places(number: int, ids: Array, pieces: Tokenizer) -> Iterator[Place]:
    at = 0
    for i in ids:
        yield number, (at if number >= 0 else -1)
        # of a byte-level tokenizer, each character of a piece stands for one byte
        at += len(str(pieces.id_to_token(int(i))))
