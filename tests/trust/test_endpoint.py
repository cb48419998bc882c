from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest

from fake_api import chat, drip, hang, hang_up, serving
from minikin.base.errors import UserError
from minikin.base.wire import Patience
from minikin.trust.book import Memory
from minikin.trust.endpoint import Endpoint, Prices
from minikin.trust.queue import NONE, Queue

LABELS = ("billing", "Delivery", "out age")


def endpoint(api, *, retries: int = 0, timeout_s: float = 5.0, concurrency: int = 4, **more) -> Endpoint:
    patience = Patience(timeout_s, retries, 30.0, concurrency)
    return Endpoint(api.url, "big", LABELS, patience=patience, **more)


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ('{"label": "billing"}', "billing"),
        ("billing", "billing"),
        (' "billing".\n', "billing"),
        ("delivery", "Delivery"),
        ('{"label": "out age"}', "out age"),
        ('{"label": "refund"}', None),
        ("It is billing", None),
        ("billing, Delivery", None),
        ("", None),
        (None, None),
        ('{"label": null}', None),
        ('["billing"]', None),
        (NONE, None),
        (f'{{"label": "{NONE}"}}', None),
    ],
)
def test_an_answer_is_a_label_or_a_failure(content, label) -> None:
    with serving(lambda _: (200, {}, chat(content))) as api:
        (reply,) = endpoint(api).ask(["hello"])
    assert reply.label == label
    assert bool(reply.why) == (label is None)


def test_what_is_sent() -> None:
    with serving(lambda _: "billing") as api:
        endpoint(api, about="Messages of a telephone company.").ask(["my bill", ("left", "right")])
        endpoint(api, structured=False).ask(["my bill"])
    first = next(body for body in api.bodies if body["messages"][1]["content"] == "my bill")
    system = first["messages"][0]["content"]
    assert system.startswith("Messages of a telephone company. ")
    assert all(f"\n{label}" in system for label in (*LABELS, NONE))
    assert first["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == [*LABELS, NONE]
    assert "First text:\nleft\n\nSecond text:\nright" in api.texts
    assert "response_format" not in api.bodies[-1]
    assert not any("Authorization" in headers for headers in api.headers)


GARBAGE = [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 3}]}', b"[" * 200_000]


@pytest.mark.parametrize("body", [*GARBAGE, b'"' + b"x" * 2_000_000 + b'"', b"\xff\xfe"])
def test_garbage_is_a_failure(body: bytes) -> None:
    with serving(lambda _: (200, {}, body)) as api:
        (reply,) = endpoint(api).ask(["hello"])
    assert reply.label is None
    assert reply.why.startswith("big")


@pytest.mark.parametrize(
    ("script", "why"),
    [(hang, "no answer within 0.3 s"), (drip, "no answer within 0.3 s"), (hang_up, "the connection broke")],
)
def test_an_endpoint_that_hangs_or_breaks(script, why: str) -> None:
    with serving(lambda _: script) as api:
        started = time.monotonic()
        (reply,) = endpoint(api, timeout_s=0.3).ask(["hello"])
        assert time.monotonic() - started < 2
    assert reply.label is None
    assert why in reply.why


def test_an_endpoint_that_is_not_there() -> None:
    with serving(lambda _: "billing") as api:
        pass
    (reply,) = endpoint(api).ask(["hello"])
    assert "the connection broke (ConnectionRefusedError)" in reply.why


def failing(*statuses: int, **headers: str):
    """Answer with these statuses, one after another, then well."""
    rest = list(statuses)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: (rest.pop(0), named, b"my card 4111 and sk-hush") if rest else "billing"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    waits: list[float] = []
    with serving(failing(status, status)) as api:
        (reply,) = endpoint(api, retries=3, sleep=waits.append, chance=lambda: 1.0).ask(["hello"])
    assert reply.label == "billing"
    assert waits == [0.5, 1.0]  # full jitter: chance × 0.5 × 2ⁿ


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not(status: int) -> None:
    with serving(failing(status, Location="http://127.0.0.1:1/elsewhere")) as api:
        (reply,) = endpoint(api, retries=3, sleep=pytest.fail).ask(["hello"])
    assert len(api.bodies) == 1
    assert str(status) in reply.why
    assert "hush" not in reply.why
    assert "4111" not in reply.why


def test_it_gives_up_after_so_many_attempts() -> None:
    with serving(failing(*[500] * 9)) as api:
        (reply,) = endpoint(api, retries=2, sleep=lambda _: None).ask(["hello"])
    assert len(api.bodies) == 3
    assert reply.why == "big: the endpoint answered 500 (3 attempts)"


@pytest.mark.parametrize(("asked", "waits"), [("2", [2.0]), ("0", [0.25]), ("soon", [0.25]), ("31", [])])
def test_retry_after_is_honoured(asked: str, waits: list[float]) -> None:
    slept: list[float] = []
    with serving(failing(429, Retry_After=asked)) as api:
        (reply,) = endpoint(api, retries=1, sleep=slept.append, chance=lambda: 0.5).ask(["hello"])
    assert slept == waits
    assert reply.label == ("billing" if waits else None)


def test_no_more_requests_at_once_than_allowed() -> None:
    def slowly(_):
        time.sleep(0.02)
        return "billing"

    with serving(slowly) as api:
        replies = endpoint(api, concurrency=3).ask([f"text {i}" for i in range(20)])
    assert [reply.label for reply in replies] == ["billing"] * 20
    assert 1 < api.most_at_once <= 3


def test_one_failure_leaves_the_others_alone_and_in_order() -> None:
    def by_text(body):
        text = body["messages"][-1]["content"]
        return (500, {}, b"") if text == "bad" else "Delivery" if text == "parcel" else "billing"

    with serving(by_text) as api:
        replies = endpoint(api).ask(["bill", "bad", "parcel"])
    assert [reply.label for reply in replies] == ["billing", None, "Delivery"]


def test_cost_is_counted_from_the_tokens_told(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.db")
    with serving(lambda _: "billing") as api:
        endpoint(api, prices=Prices(1.0, 10.0), book=queue.book).ask(["a", "b"])
    assert queue.book.spent() == pytest.approx(2 * (100 * 1.0 + 5 * 10.0) / 1e6)


def test_unknown_costs_are_counted_at_their_highest_and_refusals_not_at_all() -> None:
    book = Memory()
    with serving(lambda _: (200, {}, b'{"choices": [{"message": {"content": "billing"}}]}')) as api:
        endpoint(api, prices=Prices(1.0, 10.0), book=book).ask(["a"])
        unknown = book.spent()
        sent = len(json.dumps(api.bodies[0]).encode())
        assert unknown >= sent / 1e6
    with serving(lambda _: hang) as api:
        endpoint(api, prices=Prices(1.0, 10.0), book=book, timeout_s=0.2).ask(["a"])
        assert book.spent() == pytest.approx(2 * unknown)
    with serving(lambda _: (429, {}, b"")) as api:
        endpoint(api, prices=Prices(1.0, 10.0), book=book).ask(["a"])
    assert book.spent() == pytest.approx(2 * unknown)


def test_the_cap_is_never_passed() -> None:
    book = Memory()
    with serving(lambda _: (200, {}, chat("billing", sent=400, received=20))) as api:
        large = endpoint(api, prices=Prices(1.0, 10.0, cap_per_day=0.005), book=book, concurrency=8)
        replies = large.ask(["a"] * 40)
        assert book.spent() <= 0.005
        assert 0 < len(api.bodies) < 40
        assert "today's limit of 0.005" in next(reply.why for reply in replies if reply.label is None)


KEY = "sk-hush-123"


def test_the_key_is_sent_and_shown_nowhere(monkeypatch, caplog, capsys, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SOME_KEY", KEY)
    queue = Queue(tmp_path / "queue.db")
    with serving(failing(401)) as api:
        large = endpoint(api, key_from="SOME_KEY", book=queue.book)
        replies = large.ask(["a"])
    assert api.headers[0]["Authorization"] == f"Bearer {KEY}"
    queue.close()
    shown = [repr(large), repr(vars(large)), repr(replies), caplog.text, *capsys.readouterr()]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(KEY in words for words in shown)
    assert KEY.encode() not in stored


def test_a_key_that_is_not_there_or_would_leave_in_the_clear(monkeypatch) -> None:
    with pytest.raises(UserError, match="SOME_MISSING_KEY holds no key"):
        Endpoint("http://localhost:1/v1", "big", LABELS, key_from="SOME_MISSING_KEY")
    monkeypatch.setenv("SOME_KEY", KEY)
    with pytest.raises(UserError, match="plain http"):
        Endpoint("http://example.org/v1", "big", LABELS, key_from="SOME_KEY")


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x/v1", "http://", "http://me:hush@x/v1", "http://[x/v1"])
def test_bad_urls(url: str) -> None:
    with pytest.raises(UserError, match="The large model's url") as raised:
        Endpoint(url, "big", LABELS)
    assert "hush" not in str(raised.value)
