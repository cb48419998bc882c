"""What is asked of an OpenAI-compatible service about one prompt, and what comes back. Called by `endpoint`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minikin.base.wire import Failed, usage

Chat = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Service:
    """Where and what to ask: `url` ends before /chat/completions; `key_env` is the environment variable of the key."""

    url: str
    model: str
    key_env: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = 0
    logprobs: int = 0

    @property
    def identity(self) -> list[Any]:
        """What decides a reply, and so its place in the cache; never the key."""
        return [self.url.rstrip("/"), self.model, self.max_tokens, self.temperature, self.seed, self.logprobs]

    def body(self, chat: Chat) -> dict[str, Any]:
        """The request about one chat."""
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in chat],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        asked |= {} if self.seed is None else {"seed": self.seed}
        return asked | ({"logprobs": True, "top_logprobs": self.logprobs} if self.logprobs else {})


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why it ended, tokens read and written, and for each token of it the likeliest ones.

    `logprobs` hold for each token a list of [token, log-probability], the written one first.
    """

    text: str
    finish: str
    tokens_read: int
    tokens_written: int
    logprobs: tuple[Any, ...] = ()


def read(said: Mapping[str, Any], guess: int) -> Reply:
    """The reply in a service's JSON; `guess` is the number of tokens read where it tells none.

    Raises `Failed` when there is none in it, which may have cost money.
    """
    try:
        choice = said["choices"][0]
        text, finish = choice["message"]["content"], str(choice.get("finish_reason") or "")
        if text is None and finish == "content_filter":
            text = ""
        if not isinstance(text, str):
            raise TypeError("no text")
        given = (choice.get("logprobs") or {}).get("content") or []
        likeliest = [
            [[t["token"], t["logprob"]], *([o["token"], o["logprob"]] for o in t.get("top_logprobs") or ())]
            for t in given
        ]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        why = f"the endpoint's answer holds no text ({type(error).__name__})"
        raise Failed(why, again=True, may_cost=True) from None
    counted = usage(said)
    return Reply(text, finish, *(counted or (guess, len(text))), tuple(likeliest))
