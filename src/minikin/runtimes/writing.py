"""What generators share: prompts are fitted to the context, and completions begun; runtimes/llama_cpp is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from minikin.base.errors import UserError
from minikin.base.types import Array
from minikin.base.writing import Completion, Decoding
from minikin.runtimes import sampling
from minikin.runtimes.stream import Constraint, Session, Stream, abreast

GREEDY = Decoding()


class Writer(ABC):
    """Writes on from prompts. A generator says how to tokenize, compute and spell."""

    context: int
    ends: frozenset[int]
    """Ids that end a text."""

    specials: Mapping[str, int]
    """Special tokens, which texts only have where a chat template puts them."""

    end: int
    """Of the ids that end a text, the one that the tokenizer's settings name."""

    @abstractmethod
    def tokens(self, text: str) -> list[int]:
        """Return the ids of a text as a prompt has them; special tokens inside the text are plain characters."""

    @abstractmethod
    def plain(self, text: str) -> list[int]:
        """Return the ids of a text without the tokens that frame it."""

    @abstractmethod
    def session(self, prompt: Sequence[int] = ()) -> Session:
        """Begin a sequence with a prompt, which is then fed to it."""

    @abstractmethod
    def spelled(self, token: int) -> bytes:
        """Return the bytes of a token inside a text; nothing for special ones."""

    @abstractmethod
    def constraint(self, schema: Mapping[str, Any]) -> Constraint:
        """Return the grammar of a JSON Schema. Raises UserError for one that can't be used."""

    def grammar(self, source: str) -> Constraint:
        """Return a grammar in GBNF. Raises UserError for one that can't be used."""
        raise UserError("Only llama.cpp follows a grammar. Leave --engine torch out, or give a JSON Schema.")

    def step(self, asked: Sequence[tuple[Any, Sequence[int]]]) -> Sequence[Array]:
        """Append tokens to each of several sequences, and return the logits (V,) of the next one of each."""
        return [session.feed(ids) for session, ids in asked]

    @abstractmethod
    def computed(self, ids: Sequence[int]) -> tuple[Array, Array]:
        """Of each token after the first return its natural log-probability, and whether it is likeliest: (T - 1,)."""

    def scores(self, text: str | Sequence[int]) -> tuple[Array, Array]:
        """Of each token of a text after its first return its natural log-probability, and whether it is likeliest.

        Both have the shape (T - 1,). Raises UserError for a text of more tokens than the context.
        """
        ids = self.tokens(text) if isinstance(text, str) else list(text)
        if len(ids) > self.context:
            raise UserError(f"The text has {len(ids)} tokens, and the model reads {self.context}. Cut it in parts.")
        return self.computed(ids)

    def logprobs(self, text: str | Sequence[int]) -> Array:
        """Return the natural log-probability (T - 1,) of each token of a text after its first; raises as `scores`."""
        return self.scores(text)[0]

    def stream(self, prompt: str | Sequence[int], how: Decoding = GREEDY) -> Stream:
        """Begin to write on from a prompt, given as text or as ids.

        Raises UserError for an empty prompt where the model has no token to begin with, for one that leaves no room
        in the context (unless `how.cut`), and for settings that mean nothing.
        """
        ids, truncated = self._fitted(self.tokens(prompt) if isinstance(prompt, str) else list(prompt), how)
        return Stream(self, ids, truncated, how, self._constraint(how))

    def check(self, how: Decoding) -> None:
        """Raise UserError for settings that mean nothing, and a schema or grammar that can't be followed."""
        if constraint := self._constraint(how):
            constraint.close()

    def _constraint(self, how: Decoding) -> Constraint | None:
        sampling.check(how)
        if how.grammar is not None:
            return self.grammar(how.grammar)
        return None if how.schema is None else self.constraint(how.schema)

    def abreast(self, asked: Iterable[tuple[Sequence[int], Decoding]], most: int) -> Iterator[Completion]:
        """Write completions of several prompts, up to `most` at a time, one pass for a token of each; in order.

        `most` may not be more than was loaded with `parallel`. llama.cpp rounds a little differently when it computes
        several tokens at once, so that near-ties may fall otherwise than one at a time.
        """
        return abreast(self, (self.stream(ids, how) for ids, how in asked), most)

    def complete(self, prompt: str | Sequence[int], how: Decoding = GREEDY, n: int = 1) -> list[Completion]:
        """Write `n` completions, with the seeds `how.seed`, `how.seed` + 1, …"""
        return [self.stream(prompt, replace(how, seed=how.seed + i)).finished() for i in range(n)]

    def room(self, how: Decoding) -> int:
        """Tokens of a prompt that leave room for its answer; half of the context where that is longer."""
        return max(self.context - how.max_tokens, self.context // 2)

    def _fitted(self, ids: list[int], how: Decoding) -> tuple[list[int], bool]:
        if not ids:
            raise UserError("The prompt is empty, and this model has no token to begin with. Give some text.")
        room = self.context - 1
        if len(ids) <= room:
            return ids, False
        if not how.cut:
            raise UserError(
                f"The prompt has {len(ids)} tokens, and the model reads {self.context} with its answer. "
                "Shorten it, or ask for it to be cut."
            )
        room = self.room(how)
        head = ids[:1] if ids[:1] == self.tokens("")[:1] else []
        return [*head, *ids[len(ids) - room + len(head) :]], True
