"""What is asked of an OpenAI-compatible service about one prompt, and what comes back. Called by `endpoint`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minikin.base.joined import readable
from minikin.base.wire import Failed, usage
from minikin.teachers.answers import Chat, Reply, likeliest


@dataclass(frozen=True)
class Service:
    """Where and what to ask: `url` ends before /chat/completions; `key_env` is the environment variable of the key.

    `parameters` are other names for max_tokens, temperature and seed where the service has them; None leaves one out.
    """

    url: str
    model: str
    key_env: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = 0
    logprobs: int = 0
    parameters: Mapping[Any, str | None] = field(default_factory=dict)

    @property
    def identity(self) -> list[Any]:
        """What decides a reply, and so its place in the cache; never the key."""
        asked = [self.url.rstrip("/"), self.model, self.max_tokens, self.temperature, self.seed, self.logprobs]
        return [*asked, dict(self.parameters)] if self.parameters else asked

    def body(self, chat: Chat) -> dict[str, Any]:
        """The request about one chat."""
        asked: dict[str, Any] = {"model": self.model, "messages": [dict(message) for message in chat]}
        ours = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        ours |= {} if self.seed is None else {"seed": self.seed}
        for name, value in ours.items():
            if called := self.parameters.get(name, name):
                asked[called] = value
        return asked | ({"logprobs": True, "top_logprobs": self.logprobs} if self.logprobs else {})


def read(said: Mapping[str, Any], guess: int) -> Reply:
    """The reply in a service's JSON; `guess` is the number of tokens read where it tells none.

    A message without text (a filter, a call of a tool, tokens that were all spent on reasoning) reads as an empty one.
    Raises `Failed` when there is no message, which may have cost money.
    """
    try:
        choice = said["choices"][0]
        text, finish = choice["message"].get("content"), str(choice.get("finish_reason") or "")
        text = "" if text is None else text
        if not isinstance(text, str):
            raise TypeError("no text")
        given = (choice.get("logprobs") or {}).get("content") or []
        named = [
            [[t["token"], t["logprob"]], *([o["token"], o["logprob"]] for o in t.get("top_logprobs") or ())]
            for t in given
        ]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        why = f"the endpoint's answer holds no text ({type(error).__name__})"
        raise Failed(why, again=True, may_cost=True) from None
    counted = usage(said)
    return Reply(readable(text), readable(finish), *(counted or (guess, len(text))), likeliest(named))
