"""A teacher behind an OpenAI-compatible endpoint: prompts go out, answers come back, and none is paid for twice.

Every reply lies in a cache under the hash of what was asked, so that a killed run goes on where it stopped. What the
asking may cost is forecast, and capped, before the first request. Nothing but the named endpoint is ever called.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from minikin.base import digest, wire
from minikin.base.errors import TeacherError
from minikin.base.types import Progress, no_progress
from minikin.base.wire import Failed, Patience
from minikin.teachers.answers import Answered, Answers, Chat, Forecast, Reply, Validate
from minikin.teachers.service import Service, read

PATIENCE: Final = Patience(timeout_s=60.0, retries=4, longest_wait_s=120.0)
CAN: Final = ("text", "logprobs")
CHARS_PER_TOKEN: Final = 2
"""For the forecast; fewer than most texts have, so that the forecast errs on the dear side."""

REPLY_BYTES: Final = 16 << 20
WHOSE: Final = "The teacher"

OF_ONE_PROMPT: Final = (400, 413, 422)
"""What a service that answers other prompts says of one that it can't take: too long, filtered."""

SEVERAL: Final = 3
"""Prompts in a row that must get no answer before the rest is not tried; more where more are asked at once."""


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, read and written, in any currency, and what may be spent in it; None: no limit."""

    read: float = 0.0
    written: float = 0.0
    limit: float | None = None

    def of(self, read: int, written: int) -> float:
        """Cost of so many tokens."""
        return (self.read * read + self.written * written) / 1e6


class Endpoint:
    """A black-box teacher: it writes, and where the service gives them, tells the log-probabilities of its tokens."""

    def __init__(
        self, service: Service, cache: Path, *, prices: Prices | None = None, patience: Patience = PATIENCE
    ) -> None:
        """Nothing is sent yet. Raises UserError for a bad url, or a key that is missing or would leave in the clear."""
        self.service, self.answers = service, Answers(cache)
        self.prices, self.patience = prices or Prices(), patience
        self.address = wire.Address.of(service.url, service.key_env is not None, WHOSE)
        wire.key_of(service.key_env, WHOSE)
        self._lock = threading.Lock()
        self._spent = self._promised = 0.0
        self._in_a_row, self._given_up, self._answering = 0, False, False
        self._stop = threading.Event()

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
        """What asking all of these would take at most; what lies in the cache costs nothing any more.

        Raises TeacherError when that, with what was paid for the rest, may exceed the limit.
        """
        keys = {self._key(chat): chat for chat in chats}
        known = {key: reply for key in keys if (reply := self.answers.get(key)) is not None}
        self._answering |= any(not reply.fault for reply in known.values())
        read_tokens = sum(_tokens(chat) for key, chat in keys.items() if key not in known)
        requests = len(keys) - len(known)
        written = self.service.max_tokens * requests
        paid = sum(self.prices.of(reply.tokens_read, reply.tokens_written) for reply in known.values())
        cost = self.prices.of(read_tokens, written)
        limit = self.prices.limit
        if limit is not None and requests and paid + cost > limit:
            before = f", and {money(paid)} was paid before" if paid else ""
            raise TeacherError(
                f"teacher: {requests:,} requests may cost up to {money(cost)}{before}, over the limit of "
                f"{money(limit)}. Raise the limit, ask less, or lower max_tokens; nothing was spent now."
            )
        return Forecast(requests, len(known), read_tokens, written, cost, paid)

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
        TeacherError when the forecast exceeds the limit, when the service refuses, gives no reply to some prompts
        after all attempts, or lacks what `keep` names, which one first request finds out. What was answered until
        then stays in the cache.
        """
        self.check(keep)
        with self._lock:
            self._spent = max(self._spent, self.forecast(chats).paid)
        before = self._spent
        keys = [self._key(chat) for chat in chats]
        missing = {key: chat for key, chat in zip(keys, chats, strict=True) if self.answers.get(key) is None}
        self._fetch(missing, "logprobs" in keep, progress)
        found = self.answers.answered(keys, validate, logprobs="logprobs" in keep)
        return replace(found, cost=self._spent - before)

    def _fetch(self, missing: Mapping[str, Chat], logprobs: bool, progress: Progress) -> None:
        """Ask what is missing. Raises TeacherError for what got no reply."""
        left = list(missing.items())
        self._in_a_row, self._given_up = 0, False
        self._stop.clear()
        failed: list[tuple[str, Chat, Failed]] = []
        while logprobs and left and not self._given_up:
            reply = self._one(*left.pop(0), failed)
            if reply is not None and reply.text and not reply.logprobs:
                raise TeacherError(
                    f"teacher: {self.service.url} gives no log-probabilities for {self.service.model}. Learn from its "
                    "text, or use another endpoint; one request was made."
                )
            logprobs = reply is None or not reply.text
        pool = ThreadPoolExecutor(self.patience.concurrency)
        try:
            asked = [] if self._given_up else [pool.submit(self._one, key, chat, failed) for key, chat in left]
            for done, future in enumerate(as_completed(asked), 1):
                future.result()
                progress(done / len(asked), f"{done:,} answers, {money(self._spent)} spent")
                if self._given_up:
                    break  # nobody is there: the rest need not be tried
        finally:
            # requests that are on their way end and are kept; those that wait are not made
            self._stop.set()
            pool.shutdown(cancel_futures=True)
        self._judge(failed, len(missing))

    def _judge(self, failed: Sequence[tuple[str, Chat, Failed]], asked: int) -> None:
        """Keep what the service says of single prompts. Raises TeacherError for all else that got no reply."""
        bad = [(chat, why) for _, chat, why in failed if why.status not in OF_ONE_PROMPT]
        if not bad and failed and (self._given_up or not self._answering):
            bad = [(chat, why) for _, chat, why in failed]
        if bad:
            why, named = bad[0][1], ", ".join(f"'{chat[-1]['content'][:60]}'" for chat, _ in bad[:SEVERAL])
            raise TeacherError(
                f"teacher: {why.why}.{self._hint(why)} {len(failed):,} of {asked:,} prompts got no reply, "
                f"{named} among them. What was answered is kept: run the same command again to "
                "ask for the rest, or take out what the service can't answer."
            )
        for key, _, why in failed:
            self.answers.put(key, Reply("", "", 0, 0, fault=why.why))

    def _hint(self, why: Failed) -> str:
        """What to do about a request that the service does not take."""
        if why.names:
            return (
                f" It names {' and '.join(why.names)}: give another name for it, or null to leave it out, "
                "in teacher.parameters."
            )
        return f" Check the model '{self.service.model}'." if why.status in OF_ONE_PROMPT else ""

    def _one(self, key: str, chat: Chat, failed: list[tuple[str, Chat, Failed]]) -> Reply | None:
        """Ask about one chat and keep the reply. Raises TeacherError when another request would be refused too."""
        if self._given_up:
            return None
        try:
            reply = wire.patiently(lambda: self._once(chat), self.patience, sleep=self._stop.wait)
        except Failed as error:
            of_one = error.status in OF_ONE_PROMPT
            if not error.again and not of_one:
                service = self.service
                named = f" and the key in {service.key_env}" if service.key_env else ""
                raise TeacherError(
                    f"teacher: {error.why}. Check the address {service.url}, the model '{service.model}'{named}."
                ) from None
            with self._lock:
                failed.append((key, chat, error))
                # a service that answers others is there, whatever it says of this one
                self._in_a_row += not (of_one and self._answering)
                self._given_up |= self._in_a_row >= max(SEVERAL, self.patience.concurrency)
            return None
        self.answers.put(key, reply)
        with self._lock:
            self._in_a_row, self._answering = 0, True
        return reply

    def _once(self, chat: Chat) -> Reply:
        """One attempt; the worst that it may cost is set aside meanwhile."""
        if self._stop.is_set():
            raise Failed("stopped", again=False)
        worst = self.prices.of(_tokens(chat), self.service.max_tokens)
        with self._lock:
            if self.prices.limit is not None and self._spent + self._promised + worst > self.prices.limit:
                raise TeacherError(
                    f"teacher: the limit of {money(self.prices.limit)} is reached ({money(self._spent)} spent). What "
                    "was answered is kept; raise the limit to go on."
                )
            self._promised += worst
        cost = worst
        try:
            key = wire.key_of(self.service.key_env, WHOSE)
            said = wire.post(self.address, self.service.body(chat), key, self.patience.timeout_s, REPLY_BYTES)
            reply = read(said, _tokens(chat))
            cost = self.prices.of(reply.tokens_read, reply.tokens_written)
            return reply
        except Failed as error:
            cost = worst if error.may_cost else 0.0
            raise
        finally:
            with self._lock:
                self._promised -= worst
                self._spent += cost

    def _key(self, chat: Chat) -> str:
        return digest.of_value([self.service.identity, [dict(message) for message in chat]])


def money(amount: float) -> str:
    """An amount with two decimals, or with three digits where those would hide it."""
    return f"{amount:,.2f}" if amount >= 1 or round(amount, 2) == amount else f"{amount:.3g}"


def _tokens(chat: Chat) -> int:
    return sum(len(message["content"]) // CHARS_PER_TOKEN + 8 for message in chat)
