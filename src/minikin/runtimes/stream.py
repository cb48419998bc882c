"""A completion as it is written: tokens become whole characters, stop strings end it; runtimes/writing begins it."""

from __future__ import annotations

import codecs
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np

from minikin.base.types import Array
from minikin.base.writing import Completion, Decoding, Timing
from minikin.runtimes import sampling

Finish: TypeAlias = Literal["end", "stop", "length", "cancelled"]


class Session(Protocol):
    """One sequence being written."""

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

    def session(self) -> Session:
        """Begin a sequence."""
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
        self._constraint = constraint
        self._text = ""
        self._finish: Finish = "cancelled"
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._start_s = self._first_s = self._last_s = time.perf_counter()
        self._pieces = self._written()

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def close(self) -> None:
        """Stop writing; what was written stays in `completion`."""
        self._pieces.close()
        if self._constraint is not None:
            self._constraint.close()

    def finished(self) -> Completion:
        """Write to the end, and return all of it."""
        for _ in self:
            pass
        return self.completion

    @property
    def completion(self) -> Completion:
        """What was written so far, or all of it once the pieces have ended."""
        prefill_s = self._first_s - self._start_s
        timing = Timing(len(self._prompt), len(self._tokens), prefill_s, self._last_s - self._first_s)
        logprobs = tuple(self._logprobs) if self._how.logprobs else None
        return Completion(self._text, tuple(self._tokens), self._finish, timing, self._truncated, logprobs)

    def _written(self) -> Generator[str]:
        """Yield what can no longer turn into a stop string or an unfinished character."""
        spell, held = codecs.getincrementaldecoder("utf-8")("replace"), ""
        session = self._writer.session()
        self._start_s = time.perf_counter()
        try:
            for token in self._chosen(session):
                ended = token in self._writer.ends
                held += spell.decode(b"" if ended else self._writer.spelled(token), ended or self._full())
                if (place := _first(held, self._how.stop)) is not None:
                    yield from self._given(held[:place])
                    self._finish = "stop"
                    return
                if ended or self._full():
                    yield from self._given(held)
                    self._finish = "end" if ended else "length"
                    return
                safe = len(held) - _may_begin(held, self._how.stop)
                yield from self._given(held[:safe])
                held = held[safe:]
        finally:
            session.close()

    def _chosen(self, session: Session) -> Iterator[int]:
        """Yield token after token."""
        rng = np.random.default_rng(self._how.seed)
        logits_V = session.feed(self._prompt)
        while True:
            if self._constraint is None:
                token = sampling.pick(logits_V, self._how, rng)
            else:
                token = self._constraint.choose(logits_V, self._how, rng)
            if self._how.logprobs:
                self._logprobs.append(sampling.logprob(logits_V, token))
            self._tokens.append(token)
            self._last_s = time.perf_counter()
            if len(self._tokens) == 1:
                self._first_s = self._last_s
            yield token
            logits_V = session.feed([token])

    def _full(self) -> bool:
        written = len(self._tokens)
        return written >= self._how.max_tokens or len(self._prompt) + written >= self._writer.context

    def _given(self, piece: str) -> Iterator[str]:
        if piece:
            self._text += piece
            yield piece


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
