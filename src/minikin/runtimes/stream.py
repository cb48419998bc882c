"""A completion as it is written: tokens become whole characters, stop strings end it; runtimes/writing begins it."""

from __future__ import annotations

import codecs
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from minikin.base.types import Array
from minikin.base.writing import Completion, Decoding, Timing
from minikin.runtimes import sampling

Finish: TypeAlias = Literal["end", "stop", "length", "cancelled"]


class Session(Protocol):
    """One sequence being written."""

    @property
    def reused(self) -> int:
        """How many tokens of its prompt need not be computed, since a text before began with them."""
        ...

    def feed(self, ids: Sequence[int]) -> Array:
        """Append tokens and return the logits (V,) of the next one; what is returned may be overwritten."""
        ...

    def close(self) -> None:
        """Give back what the sequence holds."""
        ...


class Constraint(Protocol):
    """A grammar that rules tokens out."""

    def choose(self, logits_V: Array, how: Decoding, rng: np.random.Generator) -> int:
        """Return the next token, which the grammar allows."""
        ...

    def close(self) -> None:
        """Give back what the grammar holds."""
        ...


class Source(Protocol):
    """What computes and spells tokens: a writer."""

    context: int
    ends: frozenset[int]

    def session(self, prompt: Sequence[int]) -> Session:
        """Begin a sequence with a prompt, which is then fed to it."""
        ...

    def step(self, asked: Sequence[tuple[Any, Sequence[int]]]) -> Sequence[Array]:
        """Append tokens to each of several sequences, and return the logits (V,) of the next one of each."""
        ...

    def spelled(self, token: int) -> bytes:
        """Return the bytes of a token inside a text; nothing for special ones."""
        ...


class Stream:
    """A completion as it is written: iterate over its pieces of text, then read `completion`."""

    def __init__(
        self, writer: Source, prompt: Sequence[int], truncated: bool, how: Decoding, constraint: Constraint | None
    ) -> None:
        self._writer, self._prompt, self._truncated, self._how = writer, prompt, truncated, how
        self._constraint, self._closed, self._reused = constraint, False, 0
        self._session: Session | None = None
        self._spell, self._rng = codecs.getincrementaldecoder("utf-8")("replace"), np.random.default_rng(how.seed)
        self._text = self._unsaid = ""
        self._finish: Finish | None = None
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._start_s = self._first_s = self._last_s = time.perf_counter()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """The next piece of text. Raises BusyError and UserError as the writer's session and constraint do."""
        try:
            while self._finish is None and not self._closed:
                session = self._session or self._begin()
                if piece := self._take(session.feed(self._next)):
                    return piece
        except BaseException:
            self.close()
            raise
        raise StopIteration

    def close(self) -> None:
        """Stop writing; what was written stays in `completion`."""
        self._closed = True
        session, self._session = self._session, None
        if session:
            session.close()
        if self._constraint is not None:
            self._constraint.close()

    __del__ = close  # a place that nobody writes on in is not kept from others

    def finished(self) -> Completion:
        """Write to the end, and return all of it."""
        for _ in self:
            pass
        return self.completion

    @property
    def completion(self) -> Completion:
        """What was written so far, or all of it once the pieces have ended."""
        prefill_s, decode_s = self._first_s - self._start_s, self._last_s - self._first_s
        timing = Timing(len(self._prompt), len(self._tokens), prefill_s, decode_s, self._reused)
        logprobs = tuple(self._logprobs) if self._how.logprobs else None
        finish = self._finish or "cancelled"
        return Completion(self._text, tuple(self._tokens), finish, timing, self._truncated, logprobs)

    def _begin(self) -> Session:
        self._session = session = self._writer.session(self._prompt)
        self._reused, self._start_s = session.reused, time.perf_counter()
        return session

    @property
    def _next(self) -> Sequence[int]:
        """What is to be computed next: the prompt, and then the last token."""
        return self._tokens[-1:] or self._prompt

    def _take(self, logits_V: Array) -> str:
        """Choose the next token, and return what can no longer turn into a stop string or an unfinished character."""
        if self._constraint is None:
            token = sampling.pick(logits_V, self._how, self._rng)
        else:
            token = self._constraint.choose(logits_V, self._how, self._rng)
        if self._how.logprobs:
            self._logprobs.append(sampling.logprob(logits_V, token))
        self._tokens.append(token)
        self._last_s = time.perf_counter()
        if len(self._tokens) == 1:
            self._first_s = self._last_s
        ended = token in self._writer.ends
        last = ended or self._full()
        held = self._unsaid + self._spell.decode(b"" if ended else self._writer.spelled(token), last)
        safe = len(held) - (0 if last else _may_begin(held, self._how.stop))
        if last:
            self._finish = "end" if ended else "length"
        if (place := _first(held, self._how.stop)) is not None:
            self._finish, safe = "stop", place
        if self._finish:
            self.close()
        self._text += held[:safe]
        self._unsaid = held[safe:]
        return held[:safe]

    def _full(self) -> bool:
        written = len(self._tokens)
        return written >= self._how.max_tokens or len(self._prompt) + written >= self._writer.context


def abreast(writer: Source, streams: Iterable[Stream], most: int) -> Iterator[Completion]:
    """Write completions to their ends, up to `most` at a time, one pass for a token of each; yield them in order."""
    waiting, order = iter(streams), deque[Stream]()
    writing: list[Stream] = []
    try:
        while True:
            for stream in islice(waiting, most - len(writing)):
                stream._begin()
                writing.append(stream)
                order.append(stream)
            if not writing:
                return
            logits = writer.step([(stream._session, stream._next) for stream in writing])
            for stream, logits_V in zip(writing, logits, strict=True):
                stream._take(logits_V)
            writing = [stream for stream in writing if stream._finish is None]
            while order and order[0]._finish:
                yield order.popleft().completion
    finally:
        for stream in writing:
            stream.close()


def _first(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first stop string begins."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(places) if places else None


def _may_begin(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop string."""
    longest = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:size]):
                longest = size
                break
    return longest
