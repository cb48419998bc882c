import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minikin.base.errors import TeacherError
from minikin.teachers.endpoint import Endpoint, Prices
from minikin.teachers.wire import Service


def chat(words):
    return [{"role": "user", "content": words}]


def said(words, **more):
    choice = {"message": {"role": "assistant", "content": words}, "finish_reason": "stop"} | more
    return {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


class Fake:
    """A service in this process: `script` maps a prompt to what happens at each try; else it echoes."""

    def __init__(self):
        self.asked, self.headers, self.script = [], [], {}
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()

    def reply(self, handler, body):
        words = body["messages"][-1]["content"]
        with self.lock:
            self.asked.append(words)
            self.headers.append(dict(handler.headers))
            steps = self.script.get(words, [])
            step = steps.pop(0) if steps else said(f"echo {words}")
        if step == "hang":
            time.sleep(1.5)
            return
        if step == "cut":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            return
        status, value = step if isinstance(step, tuple) else (200, step)
        raw = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        handler.send_response(status)
        if status == 302:
            handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)


@contextmanager
def serving(fake):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            with fake.lock:
                fake.busy += 1
                fake.most_busy = max(fake.most_busy, fake.busy)
            try:
                fake.reply(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            finally:
                with fake.lock:
                    fake.busy -= 1

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def url(fake):
    with serving(fake) as address:
        yield address


def service(url, **more):
    return Service(url, "big", **({"pause_s": 0.01, "timeout_s": 0.5, "tries": 3, "max_tokens": 50} | more))


CHATS = [chat(f"prompt {i}") for i in range(12)]


def test_answers_come_in_order_and_become_training_rows(fake, url, tmp_path):
    found = Endpoint(service(url), tmp_path).ask(CHATS)
    assert [reply.text for reply in found.replies] == [f"echo prompt {i}" for i in range(12)]
    assert found.rows(CHATS)[3] == [*CHATS[3], {"role": "assistant", "content": "echo prompt 3"}]
    assert found.faults == {}


def test_nothing_is_paid_for_twice(fake, url, tmp_path):
    prices = Prices(read=1e5, written=2e5)
    first = Endpoint(service(url), tmp_path, prices=prices).ask([*CHATS[:5], CHATS[0]])
    assert len(fake.asked) == 5
    assert first.cost == pytest.approx(5 * (10 * 0.1 + 5 * 0.2))
    again = Endpoint(service(url), tmp_path, prices=prices).ask(CHATS[:7])
    assert len(fake.asked) == 7
    assert again.cost == pytest.approx(2 * 2.0)
    Endpoint(service(url, max_tokens=60), tmp_path).ask(CHATS[:1])
    assert len(fake.asked) == 8  # another question


def test_concurrency_is_bounded(fake, url, tmp_path):
    fake.script = {f"prompt {i}": [(429, "slow down")] for i in range(12)}
    Endpoint(service(url, tries=5), tmp_path, concurrency=3).ask(CHATS)
    assert fake.most_busy <= 3


@pytest.mark.parametrize(
    "trouble",
    [(429, "slow"), (500, "broken"), (503, ""), "hang", "cut", "no json", {"choices": []}, (200, "[]"), said(None)],
    ids=str,
)
def test_trouble_that_passes_is_waited_out(fake, url, tmp_path, trouble):
    fake.script = {"prompt 1": [trouble, trouble]}
    found = Endpoint(service(url), tmp_path).ask(CHATS[:3])
    assert [reply.text for reply in found.replies] == ["echo prompt 0", "echo prompt 1", "echo prompt 2"]
    assert fake.asked.count("prompt 1") == 3


def test_trouble_that_stays_costs_one_row_and_is_told(fake, url, tmp_path):
    fake.script = {"prompt 1": [(500, "broken")] * 3}
    found = Endpoint(service(url), tmp_path).ask(CHATS[:3])
    assert found.replies[1] is None
    assert found.faults == {1: "status 500, 3 times"}
    assert len(found.rows(CHATS[:3])) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_a_refusal_stops_at_once_and_keeps_what_was_answered(fake, url, tmp_path, status, monkeypatch):
    monkeypatch.setenv("SECRET_KEY_NAME", "hush-hush")
    fake.script = {"prompt 2": [(status, "no such model")]}
    teacher = Endpoint(service(url, key_name="SECRET_KEY_NAME"), tmp_path, concurrency=1)
    with pytest.raises(TeacherError, match=f"status {status}.*SECRET_KEY_NAME") as raised:
        teacher.ask(CHATS)
    assert "hush-hush" not in str(raised.value)
    assert fake.headers[0]["Authorization"] == "Bearer hush-hush"
    assert len(fake.asked) < len(CHATS)
    kept = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(kept) == len(fake.asked) - 1
    assert "hush-hush" not in "".join(kept)
    asked = len(fake.asked)
    assert all(Endpoint(service(url), tmp_path).ask(CHATS).replies)
    assert len(fake.asked) == asked + len(CHATS) - len(kept)


def test_answers_are_validated(fake, url, tmp_path):
    fake.script = {"prompt 0": [said(" ")], "prompt 1": [said("half", finish_reason="length")]}
    found = Endpoint(service(url), tmp_path).ask(CHATS[:4], validate=lambda text: "a 3" if "3" in text else None)
    assert found.faults == {0: "an empty answer", 1: "an answer that was cut off at max_tokens", 3: "a 3"}
    assert [reply is not None for reply in found.replies] == [False, False, True, False]


def test_the_cost_is_forecast_and_capped_before_anything_is_spent(fake, url, tmp_path):
    prices = Prices(read=1e6, written=1e6, limit=10.0)
    teacher = Endpoint(service(url), tmp_path, prices=prices)
    told = teacher.forecast([*CHATS, CHATS[0]])
    assert (told.requests, told.cached, told.tokens_written) == (12, 0, 600)
    assert told.cost == told.tokens_read + told.tokens_written
    with pytest.raises(TeacherError, match="nothing was spent"):
        teacher.ask(CHATS)
    assert fake.asked == []


def test_the_limit_holds_for_all_that_one_teacher_is_asked(fake, url, tmp_path):
    fake.script = {
        f"prompt {i}": [said("long") | {"usage": {"prompt_tokens": 40, "completion_tokens": 50}}] for i in range(12)
    }
    teacher = Endpoint(service(url), tmp_path, prices=Prices(1e6, 1e6, limit=200.0), concurrency=1)
    teacher.ask(CHATS[:2])
    with pytest.raises(TeacherError, match=r"limit of 200\.00 is reached"):
        teacher.ask(CHATS[2:4])
    assert len(fake.asked) == 2


def test_what_an_endpoint_lacks_is_refused_before_anything_is_spent(fake, url, tmp_path):
    with pytest.raises(TeacherError, match="no hidden"):
        Endpoint(service(url), tmp_path).ask(CHATS, keep=["text", "hidden"])
    with pytest.raises(TeacherError, match="number of log-probabilities"):
        Endpoint(service(url), tmp_path).ask(CHATS, keep=["logprobs"])
    with pytest.raises(TeacherError, match="no address"):
        Endpoint(service("file:///etc"), tmp_path).ask(CHATS[:1])
    assert fake.asked == []


def test_log_probabilities_are_kept_where_they_are_given(fake, url, tmp_path):
    content = [
        {
            "token": "on",
            "logprob": -0.1,
            "top_logprobs": [{"token": "on", "logprob": -0.1}, {"token": "off", "logprob": -3}],
        }
    ]
    fake.script = {"prompt 0": [said("on", logprobs={"content": content})]}
    found = Endpoint(service(url, logprobs=2), tmp_path).ask(CHATS[:1], keep=["logprobs"])
    assert found.replies[0].logprobs == [[["on", -0.1], ["on", -0.1], ["off", -3]]]


def test_a_service_without_log_probabilities_is_found_out_by_one_request(fake, url, tmp_path):
    with pytest.raises(TeacherError, match="one request was made"):
        Endpoint(service(url, logprobs=2), tmp_path).ask(CHATS, keep=["logprobs"])
    assert len(fake.asked) == 1
