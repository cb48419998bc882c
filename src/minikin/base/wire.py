"""Requests to an OpenAI-compatible API with the standard library: a hard deadline, no redirects, nothing logged.

Used by those who label (teachers/endpoint) and those who are handed over to (trust/endpoint); they say what is asked,
what it may cost, and what counts as an answer.
"""

from __future__ import annotations

import email.utils
import http.client
import itertools
import json
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from minikin import __version__
from minikin.base.errors import UserError

MOST_BYTES = 1 << 20
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
Found = TypeVar("Found")


class Failed(Exception):
    """A request without a usable answer: whether to try again, after how long, and whether it may have cost money.

    `status` is what the server answered, 0 where it did not; `names` are the parameters that its words name.
    """

    def __init__(
        self,
        why: str,
        *,
        again: bool,
        wait_s: float | None = None,
        may_cost: bool = False,
        status: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(why)
        self.why, self.again, self.wait_s, self.may_cost = why, again, wait_s, may_cost
        self.status, self.names = status, names


@dataclass(frozen=True)
class Patience:
    """Seconds for one attempt, attempts after the first, the longest pause, and how many requests run at once.

    The first pause is at most `first_wait_s` seconds; each later one at most twice the one before.
    """

    timeout_s: float = 20.0
    retries: int = 3
    longest_wait_s: float = 30.0
    concurrency: int = 4
    first_wait_s: float = 0.5


@dataclass(frozen=True)
class Address:
    """Where an API lives. Redirects are not followed: a text goes to the host that the user named, or nowhere."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str, with_key: bool, whose: str = "The large model") -> Address:
        """Take a URL apart. Raises UserError for one that is none, or that would send a key in the clear."""
        try:
            parts: SplitResult = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UserError(f"{whose}'s url can't be read ({error}). Give http(s)://host:port/v1.") from error
        if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
            raise UserError(f"{whose}'s url must look like http(s)://host:port/v1, without key or query.")
        if with_key and parts.scheme == "http" and host not in LOOPBACK:
            raise UserError(f"{whose} at {host} would get its key over plain http. Use https, or name no key.")
        return cls(parts.scheme == "https", host, port or (443 if parts.scheme == "https" else 80),
                   parts.path.rstrip("/") + "/chat/completions")  # fmt: skip


def key_of(variable: str | None, whose: str) -> str:
    """The key in an environment variable; nothing where none is named. Raises UserError when it holds none."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        of_whom = whose[:1].lower() + whose[1:]
        raise UserError(f"The environment variable {variable} holds no key for {of_whom}. Set it, or name no key.")
    return key


def patiently(
    once: Callable[[], Found],
    patience: Patience,
    *,
    sleep: Callable[[float], object] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> Found:
    """Return what `once` returns, which is called again after a pause where it failed in a way that may pass.

    Full jitter over an exponentially growing time; never earlier than the server asks for. Raises the last `Failed`,
    with the number of attempts in its words.
    """
    for attempt in itertools.count():
        try:
            return once()
        except Failed as failed:
            asked_s = failed.wait_s or 0.0
            too_long = asked_s > patience.longest_wait_s
            if failed.again and attempt < patience.retries and not too_long:
                jitter_s = chance() * min(patience.longest_wait_s, patience.first_wait_s * 2.0**attempt)
                sleep(max(jitter_s, asked_s))
                continue
            failed.why += f", and asks to wait {asked_s:,.0f} s" if too_long else ""
            failed.why += f" ({attempt + 1} attempts)" if attempt else ""
            raise
    raise AssertionError("the last attempt returns or raises")  # pragma: no cover


def post(
    address: Address, body: Mapping[str, Any], key: str, timeout_s: float, most_bytes: int = MOST_BYTES
) -> dict[str, Any]:
    """Send one chat request and return its JSON object, all within `timeout_s`. Raises `Failed`.

    What the server says in an error is not passed on: it may repeat the text or the key.
    """
    headers = {"Content-Type": "application/json", "User-Agent": f"minikin/{__version__}"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    kind = http.client.HTTPSConnection if address.secure else http.client.HTTPConnection
    connection = kind(address.host, address.port, timeout=timeout_s)
    ran_out = threading.Event()

    def cut() -> None:
        ran_out.set()
        if connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    # A socket's own time-out begins anew with every byte; this one doesn't.
    deadline = threading.Timer(timeout_s, cut)
    deadline.daemon = True
    deadline.start()
    sent = False
    try:
        connection.connect()
        sent = True
        connection.request("POST", address.path, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        said = response.read(most_bytes + 1)
        if response.length and len(said) <= most_bytes:
            raise http.client.IncompleteRead(said, response.length)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, ssl.SSLCertVerificationError):
            raise Failed(f"the certificate of {address.host} is not valid", again=False) from None
        if isinstance(error, socket.gaierror):
            why = f"no host is known by the name {address.host}, or the network is down"
            raise Failed(why, again=True) from None
        late = ran_out.is_set() or isinstance(error, TimeoutError)
        why = f"no answer within {timeout_s:g} s" if late else f"the connection broke ({type(error).__name__})"
        raise Failed(why, again=True, may_cost=sent) from None
    finally:
        deadline.cancel()
        connection.close()
    return _read(response, said, most_bytes, [name for name in body if name not in ("model", "messages")])


def _read(response: http.client.HTTPResponse, said: bytes, most_bytes: int, sent: Sequence[str]) -> dict[str, Any]:
    status = response.status
    if status != 200:
        wait_s = retry_after_s(response.getheader("Retry-After"), time.time())
        why = f"the endpoint answered {status}{_meaning(status)}"
        # in quotes, as APIs name what they don't know: a prompt that is repeated may hold the bare word
        names = [name for name in sent if re.search(rf"['\"`]{name}\\?['\"`]".encode(), said)]
        raise Failed(why, again=status in RETRIED, wait_s=wait_s, status=status, names=names)
    try:
        value = json.loads(said) if len(said) <= most_bytes else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Failed("the endpoint's answer is not a JSON object", again=True, may_cost=True)
    return value


def usage(said: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tokens read and written by a reply's own count; None where it tells none."""
    told = said.get("usage")
    if not isinstance(told, dict):
        return None
    read, written = told.get("prompt_tokens"), told.get("completion_tokens")
    if not (isinstance(read, int) and isinstance(written, int) and min(read, written) >= 0):
        return None
    return read, written


def _meaning(status: int) -> str:
    if 300 <= status < 400:
        return " (elsewhere; redirects are not followed, so give the url it should be)"
    meanings = {
        400: " (it does not take such a request)",
        401: " (the key is not accepted)",
        403: " (the key may not do this)",
        404: " (there is no such model or path; the url usually ends in /v1)",
        429: " (too many requests)",
    }
    return meanings.get(status, "")


def retry_after_s(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110 §10.2.3); None if it says neither."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header.strip()[:9])
    with suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now)
    return None
