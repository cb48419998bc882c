"""What a teacher said in text, kept for good under the hash of what it was asked. Used by `endpoint` and `rewriter`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from minikin.base import atomic
from minikin.base.joined import readable

Chat = Sequence[Mapping[str, str]]
Validate = Callable[[str], str | None]
"""Returns what is wrong with an answer, or None."""

NEVER: Final = -1e4
"""The log-probability of what a service did not name, or gave no number for."""


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why it ended, tokens read and written, and for each token of it the likeliest ones.

    `logprobs` hold for each token a list of [token, log-probability], the written one first. `fault` says why a
    teacher gave no text.
    """

    text: str
    finish: str
    tokens_read: int
    tokens_written: int
    logprobs: Sequence[Any] = ()
    fault: str = ""


@dataclass(frozen=True)
class Answered:
    """Replies in the order of the chats (None: none that can be used), why some are missing, and what was spent."""

    replies: list[Reply | None]
    faults: dict[int, str] = field(default_factory=dict)
    cost: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """What asking would take at most: requests not yet in the cache, tokens, and their cost; `paid` is for the rest."""

    requests: int
    cached: int
    tokens_read: int
    tokens_written: int
    cost: float = 0.0
    paid: float = 0.0


class Answers:
    """A folder with one file for each reply."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Reply | None:
        """The reply under a key; None where there is none, or a damaged one."""
        try:
            kept = json.loads(self._path(key).read_text(encoding="utf-8"))
            return Reply(**{**kept, "logprobs": likeliest(kept["logprobs"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply under a key."""
        atomic.write_json(self._path(key), vars(reply))

    def answered(self, keys: Sequence[str], validate: Validate | None, *, logprobs: bool = False) -> Answered:
        """The replies under keys that all lie here; those that are empty, cut off or found wrong are told by place."""
        replies: list[Reply | None] = []
        faults: dict[int, str] = {}
        for i, key in enumerate(keys):
            reply = self.get(key)
            assert reply is not None
            if wrong := _wrong(reply, logprobs, validate):
                faults[i] = wrong
            replies.append(None if wrong else reply)
        return Answered(replies, faults)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def likeliest(given: Sequence[Sequence[Sequence[Any]]]) -> list[list[list[Any]]]:
    """For each token its list of [token, log-probability], without lone surrogates, nulls and infinities."""
    return [[[readable(str(token)), _finite(log_p)] for token, log_p in named] for named in given]


def _finite(log_p: Any) -> float:
    return float(log_p) if isinstance(log_p, int | float) and math.isfinite(log_p) else NEVER


def _wrong(reply: Reply, logprobs: bool, validate: Validate | None) -> str:
    if reply.fault:
        return reply.fault
    if reply.finish == "length":
        return "an answer that was cut off at max_tokens"
    if not reply.text.strip():
        return "an empty answer"
    if logprobs and not reply.logprobs:
        return "an answer without log-probabilities"
    return (validate(reply.text) or "") if validate else ""
