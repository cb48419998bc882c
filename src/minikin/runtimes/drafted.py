"""A large model that writes while a small one runs ahead of it: several tokens in one pass, and the same text.

Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", section 2, but what is chosen is
always chosen from the large model's own logits, in order; a guess only decides which of them are computed early. So
temperatures, seeds, schemas and stop strings mean what they mean without a draft. llama.cpp rounds most formats a
little differently when it computes several tokens at once, so that near-ties may fall otherwise, as on other machines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base.errors import UserError
from minikin.base.types import Array
from minikin.runtimes import sampling
from minikin.runtimes.llama_cpp import LlamaCpp
from minikin.runtimes.llama_sequences import Sequence as Computed
from minikin.runtimes.writing import Writer

AHEAD: Final = 8
"""The most tokens that are guessed at once."""

SURE: Final = 0.5
"""A token that the draft thinks less likely than this ends its guesses."""

SHARED: Final = 0.5
"""The least share of the draft's tokens that the large model must have."""


class Drafted(LlamaCpp):
    """Writes with the model of one GGUF file, from the guesses of another; `guessed` and `taken` count them."""

    name = "llama.cpp with a draft"

    def __init__(self, path: Path, draft: Any, *, threads: int = 1, parallel: int = 1) -> None:
        """Load the large model's file. Raises KinError as `LlamaCpp` does, and UserError for alien vocabularies."""
        super().__init__(path, threads=threads, parallel=parallel)
        self.draft, self.guessed, self.taken = draft, 0, 0
        theirs = {piece: i for i, piece in reversed(list(enumerate(draft.pieces())))}
        own = self.pieces()
        self._small = {i: theirs[piece] for i, piece in enumerate(own) if piece in theirs}
        self._large = {small: large for large, small in reversed(self._small.items())}
        if len(self._large) < SHARED * len(theirs):
            raise UserError(
                f"The draft shares {len(self._large):,} of its {len(theirs):,} tokens with the large model. "
                "Give a draft that was cut from it, or distilled with its tokenizer."
            )

    def session(self, prompt: Sequence[int] = ()) -> Drafting:  # type: ignore[override]
        """Begin a sequence in both models. Raises BusyError where this thread has an unfinished text."""
        large = super().session(prompt)
        try:
            return Drafting(self, large, self.draft.session())
        except BaseException:
            large.close()
            raise

    def step(self, asked: Sequence[tuple[Any, Sequence[int]]]) -> Sequence[Array]:
        """Append tokens to each of several texts, one after the other: each has guesses of its own."""
        return Writer.step(self, asked)

    def small(self, ids: Sequence[int]) -> list[int]:
        """The draft's tokens for the large model's: the same, or those of the same characters."""
        found: list[int] = []
        for i in ids:
            if i in self._small:
                found.append(self._small[i])
            else:
                found += self.draft.plain(self.spelled(i).decode("utf-8", "replace"))
        return found

    def large(self, token: int) -> int | None:
        """The large model's token for one of the draft's, if there is one."""
        return self._large.get(token)


class Drafting:
    """One text in both models; the logits after guessed tokens wait until the guesses turn out right."""

    def __init__(self, within: Drafted, large: Computed, small: Computed) -> None:
        self._within, self._large, self._small = within, large, small
        self._text: list[int] = []
        self._read: list[int] = []
        self._agreed = 0
        self._guesses: list[int] = []
        self._waiting_TV: Array = np.empty((0, 0), np.float32)

    @property
    def reused(self) -> int:
        """How many tokens of the prompt the large model had in memory."""
        return self._large.reused

    def feed(self, ids: Sequence[int]) -> Array:
        """Append tokens and return the large model's logits (V,) of the next one."""
        within, large = self._within, self._large
        self._text += within.small(ids)
        if self._guesses and list(ids) == self._guesses[:1]:
            within.taken += 1
            del self._guesses[0]
            self._waiting_TV = self._waiting_TV[1:]
            return self._next()
        if self._guesses:
            large.back(large.length - len(self._guesses))
            self._guesses = []
        if len(ids) != 1:  # a prompt: its first token should not wait for the draft
            return large.feed(ids)
        self._guesses = self._ahead(min(AHEAD, within.context - large.length - 1))
        within.guessed += len(self._guesses)
        self._waiting_TV = large.follow([*ids, *self._guesses])
        return self._next()

    def _next(self) -> Array:
        logits_V: Array = self._waiting_TV[0]
        return logits_V

    def _ahead(self, most: int) -> list[int]:
        """Let the draft read what it has not, and return its guesses in the large model's tokens."""
        within, small, text = self._within, self._small, self._text
        if not text or len(text) + most > within.draft.context:
            return []
        same = self._agreed
        while same < min(len(text) - 1, len(self._read)) and text[same] == self._read[same]:
            same += 1
        if same < small.length:
            small.back(same)
        logits_V = small.feed(text[same:])
        self._read, self._agreed = list(text), len(text)
        guesses: list[int] = []
        while len(guesses) < most:
            token = int(logits_V.argmax())
            guess = within.large(token)
            if guess is None or sampling.logprob(logits_V, token) < math.log(SURE):
                break
            guesses.append(guess)
            if guess in within.ends or len(guesses) == most:
                break
            logits_V = small.feed([token])
            self._read.append(token)
        return guesses

    def close(self) -> None:
        """Forget the text, and leave its places to another."""
        self._large.close()
        self._small.close()
