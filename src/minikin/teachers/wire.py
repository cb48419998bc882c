"""One request to an OpenAI-compatible service, tried again where that may help. Called by `endpoint`."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from minikin.base.errors import TeacherError

AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REPLY_BYTES: Final = 16 << 20


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody: prompts and key are for the address that was named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse, which leaves the status to be told."""
        return None


_OPENER: Final = urllib.request.build_opener(_Stay)


class Unusable(Exception):
    """No usable reply to one request, after all tries; the words say why."""


@dataclass(frozen=True)
class Service:
    """Where and what to ask: `url` ends before /chat/completions; `key_name` is the environment variable of the key."""

    url: str
    model: str
    key_name: str = "OPENAI_API_KEY"
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = 0
    logprobs: int = 0
    timeout_s: float = 60.0
    tries: int = 5
    pause_s: float = 1.0

    @property
    def identity(self) -> list[Any]:
        """What decides a reply, and so its place in the cache; never the key."""
        return [self.url.rstrip("/"), self.model, self.max_tokens, self.temperature, self.seed, self.logprobs]


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why it ended, tokens read and written, and for each token of it the likeliest ones."""

    text: str
    finish: str
    tokens_read: int
    tokens_written: int
    logprobs: list[list[list[Any]]] = field(default_factory=list)
    """For each token a list of [token, log-probability], the written one first."""


def post(service: Service, chat: Sequence[Mapping[str, str]]) -> Reply:
    """Ask once, and again after a pause where the service is busy, broken or silent.

    Raises TeacherError when it refuses (another request would be refused too), Unusable when all tries failed.
    """
    request = _request(service, chat)
    why, pause = "", 0.0
    for attempt in range(service.tries):
        if attempt:
            time.sleep(pause)
        pause = service.pause_s * 2**attempt
        try:
            with _OPENER.open(request, timeout=service.timeout_s) as response:
                return _read(json.loads(response.read(REPLY_BYTES)))
        except urllib.error.HTTPError as error:
            why = f"status {error.code}"
            if error.code not in AGAIN:
                words = error.read(500).decode("utf-8", "replace").strip()
                raise TeacherError(
                    f"teacher: {service.url} refuses with status {error.code}: {words[:200]}. Check the address, the "
                    f"model '{service.model}' and the key in {service.key_name}."
                ) from error
            pause = max(pause, min(60.0, _after(error)))
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            why = f"no reply ({getattr(error, 'reason', None) or error or type(error).__name__})"
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            why = f"a reply that can't be read ({type(error).__name__})"
    raise Unusable(f"{why}, {service.tries} times")


def _request(service: Service, chat: Sequence[Mapping[str, str]]) -> urllib.request.Request:
    if not service.url.startswith(("http://", "https://")):
        raise TeacherError(f"teacher: {service.url} is no address of a service. Give one that begins with https://.")
    body: dict[str, Any] = {
        "model": service.model,
        "messages": [dict(message) for message in chat],
        "max_tokens": service.max_tokens,
        "temperature": service.temperature,
    }
    body |= {} if service.seed is None else {"seed": service.seed}
    body |= {"logprobs": True, "top_logprobs": service.logprobs} if service.logprobs else {}
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(service.key_name):
        headers["Authorization"] = f"Bearer {key}"
    return urllib.request.Request(f"{service.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)


def _read(raw: Any) -> Reply:
    choice, usage = raw["choices"][0], raw.get("usage") or {}
    text = choice["message"]["content"]
    if not isinstance(text, str):
        raise TypeError("no text")
    given = (choice.get("logprobs") or {}).get("content") or []
    likeliest = [[[t["token"], t["logprob"]], *([o["token"], o["logprob"]] for o in t["top_logprobs"])] for t in given]
    return Reply(
        text,
        str(choice.get("finish_reason") or ""),
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        likeliest,
    )


def _after(error: urllib.error.HTTPError) -> float:
    """Seconds that the service asks to wait, or 0."""
    try:
        return float(error.headers.get("Retry-After") or 0)
    except ValueError:
        return 0.0
