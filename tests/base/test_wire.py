from __future__ import annotations

import socket
from email.utils import formatdate

import pytest

from minikin.base.errors import UserError
from minikin.base.wire import Address, Failed, Patience, key_of, patiently, post, retry_after_s


def test_retry_after_as_a_date() -> None:
    assert retry_after_s(formatdate(1_000_060, usegmt=True), 1_000_000) == 60
    assert retry_after_s(formatdate(999_000, usegmt=True), 1_000_000) == 0
    assert retry_after_s(None, 0) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_key_may_stay_on_this_machine_in_the_clear(host) -> None:
    assert Address.of(f"http://{host}:8000/v1/", with_key=True).path == "/v1/chat/completions"


@pytest.mark.parametrize("host", ["example.org", "localhost.example.org", "127.0.0.2", "0.0.0.0"])
def test_a_key_never_leaves_this_machine_in_the_clear(host) -> None:
    with pytest.raises(UserError, match="over plain http"):
        Address.of(f"http://{host}/v1", with_key=True)
    assert Address.of(f"https://{host}/v1", with_key=True).secure
    assert not Address.of(f"http://{host}/v1", with_key=False).secure


@pytest.mark.parametrize("key", ["", "  ", "a\nb", "schlüssel"])
def test_a_key_that_is_none_is_named_by_its_variable_alone(key, monkeypatch) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(UserError, match="SOME_KEY holds no key") as raised:
        key_of("SOME_KEY", "The teacher")
    assert not key.strip() or key not in str(raised.value)
    assert key_of(None, "The teacher") == ""


def test_pauses_grow_with_jitter_up_to_the_longest() -> None:
    slept: list[float] = []

    def once() -> None:
        raise Failed("broken", again=True)

    with pytest.raises(Failed, match="broken") as raised:
        patiently(once, Patience(1, 5, 3.0, 1, 0.5), sleep=slept.append, chance=lambda: 0.5)
    assert slept == [0.25, 0.5, 1.0, 1.5, 1.5]
    assert raised.value.why == "broken (6 attempts)"


def test_an_unknown_host_is_named(monkeypatch):
    def unknown(*_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Failed, match="no host is known by the name api"):
        post(Address.of("https://api.invalid/v1", False), {}, "", 1.0)


def test_a_missing_key_says_whose_it_is(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UserError, match="NO_SUCH_KEY holds no key for the teacher"):
        key_of("NO_SUCH_KEY", "The teacher")
