"""The values and protocols of the task `generate`: what decoders learn from, and how they are asked and answer.

Axis letters in names: as in types.py; K tokens kept of each distribution, M learnt tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np

from minikin.base.types import Array

ROLES: Final = ("system", "user", "assistant")


@dataclass(frozen=True)
class Packed:
    """N rows of T tokens: ids, the number of the document each token is of (0: padding), and which tokens are learnt.

    A token is predicted from those before it in its own document; positions restart with each document. Arrays may
    be memory-mapped.
    """

    ids_NT: Array  # int32
    documents_NT: Array  # int32, 1.. within a row, 0 padding
    learnt_NT: Array  # bool; a document's first token is never learnt


@dataclass(frozen=True)
class TokenSignals:
    """What a teacher said about the M learnt tokens of packed rows, in row-major order: K tokens of each distribution.

    `shards` are structured arrays of `ids` (K), `values` (K) and `rest`, memory-mapped; the learnt tokens of row n are
    records `offsets[n]` to `offsets[n + 1]`, all in one shard. Of kind `top`, `values` are the log-probabilities of the
    K likeliest tokens, likeliest first, and `rest` that of all other tokens together. Of kind `sampled`, `values` are
    the importance weights of tokens drawn at random, and `rest` is the distribution's entropy in nats. A teacher with
    another tokenizer has `shared` False, and says nothing about the tokens for which `known_M` is False.
    """

    kind: Literal["top", "sampled"]
    shards: Sequence[Array]
    offsets: Array
    vocabulary: int
    temperature: float = 1.0
    digest: str = ""
    shared: bool = True
    known_M: Array | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def known(self, rows_B: Array) -> Array | None:
        """Which learnt tokens of the chosen rows the teacher says something about (M,); None for all."""
        if self.known_M is None:
            return None
        parts = [self.known_M[self.offsets[row] : self.offsets[row + 1]] for row in rows_B]
        return np.concatenate([np.zeros(0, bool), *parts])

    def of_rows(self, rows_B: Array) -> tuple[Array, Array, Array]:
        """Ids (M, K) int64, values (M, K) and rest (M,) float32 of the learnt tokens of the chosen rows."""
        starts = np.cumsum([0, *(len(s) for s in self.shards)])
        parts = []
        for row in rows_B:
            begin, end = int(self.offsets[row]), int(self.offsets[row + 1])
            if begin < end:
                shard = int(np.searchsorted(starts, begin, "right")) - 1
                parts.append(self.shards[shard][begin - starts[shard] : end - starts[shard]])
        found = np.concatenate(parts) if parts else self.shards[0][:0]
        values_MK, rest_M = found["values"].astype(np.float32), found["rest"].astype(np.float32)
        return found["ids"].astype(np.int64), values_MK, rest_M


@dataclass(frozen=True)
class Decoding:
    """How to write on from a prompt.

    At `temperature` 0 the likeliest token is taken; above it, one is drawn from the `top_k` likeliest (0: all) that
    together hold `top_p` of the probability, by `seed`. Writing ends after `max_tokens`, at the model's own end, or
    before the first of the `stop` strings. `schema` is a JSON Schema that the text must satisfy, `grammar` one in
    llama.cpp's GBNF that it must follow. With `logprobs` the log-probability of each token is kept. A prompt that
    leaves no room is refused, or cut from its front with `cut`.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    grammar: str | None = None
    logprobs: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Timing:
    """What one completion took: tokens read and written, seconds to the first token and from it to the last.

    Of the tokens read, `reused` were not computed, since a prompt before began with them.
    """

    read: int
    written: int
    prefill_s: float
    decode_s: float
    reused: int = 0

    @property
    def prefill_tokens_per_s(self) -> float:
        """Tokens of the prompt computed in a second."""
        return (self.read - self.reused) / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens written in a second, after the first."""
        return (self.written - 1) / self.decode_s if self.decode_s and self.written > 1 else 0.0


@dataclass(frozen=True)
class Completion:
    """What a generator wrote: `finish` is `end` (the model's own), `stop` (a string), `length` or `cancelled`.

    `tokens` hold all that was computed, the end and what a stop string cut off too; `logprobs` lie beside them.
    `certified` says that a valid certificate covers this answer; where one lies in the kin's folder and does not,
    `reason` says why.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Literal["end", "stop", "length", "cancelled"]
    timing: Timing
    truncated: bool = False
    logprobs: tuple[float, ...] | None = None
    certified: bool = False
    reason: str = ""


class Stream(Protocol):
    """A completion as it is written: pieces of valid text, then `completion`."""

    def __iter__(self) -> Iterator[str]:
        """Yield pieces of text, as soon as their characters are whole."""
        ...

    @property
    def completion(self) -> Completion:
        """What was written so far, or all of it once the pieces have ended."""
        ...

    def close(self) -> None:
        """Stop writing."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Something that writes: a GGUF file in llama.cpp, a checkpoint in PyTorch."""

    @property
    def context(self) -> int:
        """Tokens that a prompt and its completion may have together."""
        ...

    def tokens(self, text: str) -> list[int]:
        """Return the ids of a text as a prompt has them; special tokens inside the text are plain characters."""
        ...

    def spelled(self, token: int) -> bytes:
        """Return the bytes of a token inside a text; nothing for special ones."""
        ...

    def room(self, how: Decoding) -> int:
        """Tokens of a prompt that leave room for its answer."""
        ...

    def check(self, how: Decoding) -> None:
        """Raise UserError for settings that mean nothing here, before anything is asked."""
        ...

    def stream(self, prompt: str | Sequence[int], how: Decoding = ...) -> Stream:
        """Begin to write on from a prompt, given as text or as ids."""
        ...

    def abreast(self, asked: Iterable[tuple[Sequence[int], Decoding]], most: int) -> Iterator[Completion]:
        """Write completions of several prompts, up to `most` at a time; yield them in order."""
        ...

    def complete(self, prompt: str | Sequence[int], how: Decoding = ..., n: int = 1) -> list[Completion]:
        """Write `n` completions, with the seeds `how.seed`, `how.seed` + 1, …"""
        ...

    def logprobs(self, text: str | Sequence[int]) -> Array:
        """Return the natural log-probability (T - 1,) of each token of a text after its first."""
        ...


def no_chat(messages: Any) -> str:
    """Why something is not the messages of a chat that is to be answered; '' where it is."""
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        return f"it is {'an empty list' if messages == [] else f'of the type {type(messages).__name__}'}"
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            return f"message {number} is a {type(message).__name__} and no object with role and content"
        if message.get("role") not in ROLES:
            return f"message {number} has the role {message.get('role')!r} and none of {', '.join(ROLES)}"
        if not isinstance(message.get("content"), str):
            return f"message {number} has no text under 'content'"
    if not messages[-1]["content"].strip():
        return "the last message is empty"
    if messages[-1]["role"] == "assistant":
        return "the last message is an answer already"
    return ""
