"""A teacher behind an OpenAI-compatible endpoint: prompts go out, answers come back, and none is paid for twice.

Every reply lies in a cache under the hash of what was asked, so that a killed run goes on where it stopped. What the
asking may cost is forecast, and capped, before the first request. Nothing but the named endpoint is ever called.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from minikin.base import atomic, digest
from minikin.base.errors import TeacherError
from minikin.base.types import Progress, no_progress
from minikin.teachers.wire import Reply, Service, Unusable, post

Chat = Sequence[Mapping[str, str]]
Validate = Callable[[str], str | None]
"""Returns what is wrong with an answer, or None."""

CAN: Final = ("text", "logprobs")
CHARS_PER_TOKEN: Final = 2
"""For the forecast; fewer than most texts have, so that the forecast errs on the dear side."""


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, read and written, in any currency, and what may be spent in it; None: no limit."""

    read: float = 0.0
    written: float = 0.0
    limit: float | None = None

    def of(self, read: int, written: int) -> float:
        """Cost of so many tokens."""
        return (self.read * read + self.written * written) / 1e6


@dataclass(frozen=True)
class Forecast:
    """What asking would take at most: requests not yet in the cache, tokens, and their cost."""

    requests: int
    cached: int
    tokens_read: int
    tokens_written: int
    cost: float


@dataclass(frozen=True)
class Answered:
    """Replies in the order of the chats (None: none that can be used), why some are missing, and what was spent."""

    replies: list[Reply | None]
    faults: dict[int, str] = field(default_factory=dict)
    cost: float = 0.0

    def rows(self, chats: Sequence[Chat]) -> list[list[dict[str, str]]]:
        """Training chats: each one asked, with the answer that it got; those without are left out."""
        both = zip(chats, self.replies, strict=True)
        return [
            [*map(dict, chat), {"role": "assistant", "content": reply.text}]
            for chat, reply in both
            if reply is not None
        ]


class Endpoint:
    """A black-box teacher: it writes, and where the service gives them, tells the log-probabilities of its tokens."""

    def __init__(self, service: Service, cache: Path, *, prices: Prices | None = None, concurrency: int = 4) -> None:
        self.service, self.cache = service, cache
        self.prices, self.concurrency = prices or Prices(), concurrency
        self._lock = threading.Lock()
        self._spent = self._promised = 0.0

    def check(self, keep: Sequence[str]) -> None:
        """Raise TeacherError, before anything is spent, for what an endpoint can't give."""
        lacking = [kind for kind in keep if kind not in CAN]
        if lacking:
            raise TeacherError(
                f"teacher: an endpoint gives no {', '.join(lacking)}, only {' and '.join(CAN)}. Use a local teacher, "
                "or objectives that learn from its text."
            )
        if "logprobs" in keep and not self.service.logprobs:
            raise TeacherError("teacher: set the number of log-probabilities to ask for, which is 0.")

    def forecast(self, chats: Sequence[Chat]) -> Forecast:
        """What asking all of these would take at most; what lies in the cache costs nothing."""
        keys = {self._key(chat): chat for chat in chats}
        open_chats = [chat for key, chat in keys.items() if not self._path(key).is_file()]
        read = sum(_tokens(chat) for chat in open_chats)
        written = self.service.max_tokens * len(open_chats)
        return Forecast(len(open_chats), len(keys) - len(open_chats), read, written, self.prices.of(read, written))

    def ask(
        self,
        chats: Sequence[Chat],
        *,
        keep: Sequence[str] = ("text",),
        validate: Validate | None = None,
        progress: Progress = no_progress,
    ) -> Answered:
        """Ask about every chat that is not in the cache, a few at a time, and return all answers.

        An answer that is empty, cut off or found wrong by `validate` is left out and told by its place. Raises
        TeacherError when the forecast exceeds the limit, when the service refuses, or when it lacks what `keep`
        names, which one first request finds out; what was answered until then stays in the cache.
        """
        self.check(keep)
        told = self.forecast(chats)
        if self.prices.limit is not None and told.cost > self.prices.limit:
            raise TeacherError(
                f"teacher: {told.requests:,} requests may cost up to {told.cost:.2f}, over the limit of "
                f"{self.prices.limit:.2f}. Raise the limit, ask less, or lower max_tokens; nothing was spent."
            )
        keys = [self._key(chat) for chat in chats]
        missing = {key: chat for key, chat in zip(keys, chats, strict=True) if not self._path(key).is_file()}
        failed = self._fetch(missing, "logprobs" in keep, progress)
        replies: list[Reply | None] = []
        faults: dict[int, str] = {}
        for i, key in enumerate(keys):
            reply = None if key in failed else Reply(**json.loads(self._path(key).read_text(encoding="utf-8")))
            wrong = failed[key] if reply is None else _wrong(reply, "logprobs" in keep, validate)
            if wrong:
                faults[i] = wrong
            replies.append(None if wrong else reply)
        return Answered(replies, faults, self._spent)

    def _fetch(self, missing: Mapping[str, Chat], logprobs: bool, progress: Progress) -> dict[str, str]:
        """Ask what is missing; return why some got no usable reply."""
        failed: dict[str, str] = {}
        left = list(missing.items())
        if logprobs and left:
            reply = self._one(*left.pop(0), failed)
            if reply is not None and not reply.logprobs:
                raise TeacherError(
                    f"teacher: {self.service.url} gives no log-probabilities for {self.service.model}. Learn from its "
                    "text, or use another endpoint; one request was made."
                )
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            asked = [pool.submit(self._one, key, chat, failed) for key, chat in left]
            for done, future in enumerate(as_completed(asked), 1):
                future.result()
                progress(done / len(asked), f"{done:,} answers, {self._spent:.2f} spent")
        finally:
            # requests that are on their way end and are kept; those that wait are not made
            pool.shutdown(cancel_futures=True)
        return failed

    def _one(self, key: str, chat: Chat, failed: dict[str, str]) -> Reply | None:
        """Ask about one chat and keep the reply; the worst that it may cost is set aside meanwhile."""
        worst = self.prices.of(_tokens(chat), self.service.max_tokens)
        with self._lock:
            if self.prices.limit is not None and self._spent + self._promised + worst > self.prices.limit:
                raise TeacherError(
                    f"teacher: the limit of {self.prices.limit:.2f} is reached ({self._spent:.2f} spent). What was "
                    "answered is kept; raise the limit to go on."
                )
            self._promised += worst
        cost = 0.0
        try:
            reply = post(self.service, chat)
            cost = self.prices.of(reply.tokens_read or _tokens(chat), reply.tokens_written)
            atomic.write_json(self._path(key), vars(reply))
            return reply
        except Unusable as error:
            cost = worst  # what was sent may have been charged
            failed[key] = str(error)
            return None
        finally:
            with self._lock:
                self._promised -= worst
                self._spent += cost

    def _key(self, chat: Chat) -> str:
        return digest.of_value([self.service.identity, [dict(message) for message in chat]])

    def _path(self, key: str) -> Path:
        return self.cache / key[:2] / f"{key}.json"


def _tokens(chat: Chat) -> int:
    return sum(len(message["content"]) // CHARS_PER_TOKEN + 8 for message in chat)


def _wrong(reply: Reply, logprobs: bool, validate: Validate | None) -> str:
    if not reply.text.strip():
        return "an empty answer"
    if reply.finish == "length":
        return "an answer that was cut off at max_tokens"
    if logprobs and not reply.logprobs:
        return "an answer without log-probabilities"
    return (validate(reply.text) or "") if validate else ""
