import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minikin.base.errors import TeacherError, UserError
from minikin.base.wire import Patience
from minikin.teachers.answers import NEVER
from minikin.teachers.endpoint import Endpoint, Prices, money
from minikin.teachers.service import Service


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
        status, value, headers = (*step, {})[:3] if isinstance(step, tuple) else (200, step, {})
        raw = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        handler.send_response(status)
        if status == 302:
            handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
        for name, words in headers.items():
            handler.send_header(name, words)
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


def teacher(url, cache, *, tries=3, concurrency=4, timeout_s=0.5, prices=None, key_env=None, max_tokens=50, logprobs=0):
    service = Service(url, "big", key_env, max_tokens=max_tokens, logprobs=logprobs)
    return Endpoint(service, cache, prices=prices, patience=Patience(timeout_s, tries - 1, 2.0, concurrency, 0.01))


CHATS = [chat(f"prompt {i}") for i in range(12)]


def test_answers_come_in_order(fake, url, tmp_path):
    found = teacher(url, tmp_path).ask(CHATS)
    assert [reply.text for reply in found.replies] == [f"echo prompt {i}" for i in range(12)]
    assert found.faults == {}


def test_nothing_is_paid_for_twice(fake, url, tmp_path):
    prices = Prices(read=1e5, written=2e5)
    first = teacher(url, tmp_path, prices=prices).ask([*CHATS[:5], CHATS[0]])
    assert len(fake.asked) == 5
    assert first.cost == pytest.approx(5 * (10 * 0.1 + 5 * 0.2))
    again = teacher(url, tmp_path, prices=prices).ask(CHATS[:7])
    assert len(fake.asked) == 7
    assert again.cost == pytest.approx(2 * 2.0)
    teacher(url, tmp_path, max_tokens=60).ask(CHATS[:1])
    assert len(fake.asked) == 8  # another question


def test_concurrency_is_bounded(fake, url, tmp_path):
    fake.script = {f"prompt {i}": [(429, "slow down")] for i in range(12)}
    teacher(url, tmp_path, tries=5, concurrency=3).ask(CHATS)
    assert fake.most_busy <= 3


@pytest.mark.parametrize(
    "trouble",
    [(429, "slow"), (500, "broken"), (503, ""), "hang", "cut", "no json", {"choices": []}, (200, "[]")],
    ids=str,
)
def test_trouble_that_passes_is_waited_out(fake, url, tmp_path, trouble):
    fake.script = {"prompt 1": [trouble, trouble]}
    found = teacher(url, tmp_path).ask(CHATS[:3])
    assert [reply.text for reply in found.replies] == ["echo prompt 0", "echo prompt 1", "echo prompt 2"]
    assert fake.asked.count("prompt 1") == 3


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ((500, "broken"), "answered 500"),
        ((429, "slow"), r"answered 429 \(too many requests\)"),
        ("hang", "no answer within 0.5 s"),
        ("cut", "the connection broke"),
        ("no json", "not a JSON object"),
        ({"choices": []}, r"holds no text \(IndexError\)"),
    ],
    ids=str,
)
def test_trouble_that_stays_is_named_and_the_rest_is_kept(fake, url, tmp_path, trouble, why):
    fake.script = {"prompt 1": [trouble] * 3}
    with pytest.raises(TeacherError, match=rf"{why}.*\(3 attempts\)\. 1 of 3 prompts.*'prompt 1' among them"):
        teacher(url, tmp_path).ask(CHATS[:3])
    asked = len(fake.asked)
    found = teacher(url, tmp_path).ask(CHATS[:3])
    assert [reply.text for reply in found.replies] == ["echo prompt 0", "echo prompt 1", "echo prompt 2"]
    assert fake.asked[asked:] == ["prompt 1"]


def test_a_service_that_answers_nobody_is_given_up_soon(fake, url, tmp_path):
    fake.script = {f"prompt {i}": [(503, "")] * 9 for i in range(12)}
    with pytest.raises(TeacherError, match="answered 503"):
        teacher(url, tmp_path, concurrency=2).ask(CHATS)
    assert len(set(fake.asked)) < len(CHATS)


def test_a_longer_wait_than_patience_allows_ends_it(fake, url, tmp_path):
    fake.script = {"prompt 0": [(429, "slow", {"Retry-After": "3600"})]}
    with pytest.raises(TeacherError, match=r"asks to wait 3,600 s"):
        teacher(url, tmp_path).ask(CHATS[:1])
    assert len(fake.asked) == 1


def test_retry_after_is_waited_for(fake, url, tmp_path):
    fake.script = {"prompt 0": [(429, "slow", {"Retry-After": "1"})]}
    started = time.monotonic()
    assert teacher(url, tmp_path).ask(CHATS[:1]).replies[0].text == "echo prompt 0"
    assert time.monotonic() - started >= 1


def test_a_damaged_answer_in_the_cache_is_asked_for_again(fake, url, tmp_path):
    teacher(url, tmp_path).ask(CHATS[:2])
    next(tmp_path.rglob("*.json")).write_text('{"text": "hal')
    assert all(teacher(url, tmp_path).ask(CHATS[:2]).replies)
    assert len(fake.asked) == 3


def test_what_was_paid_before_counts_towards_the_limit(fake, url, tmp_path):
    teacher(url, tmp_path, prices=Prices(1e6, 1e6)).ask(CHATS[:4])
    with pytest.raises(TeacherError, match=r"and 60\.00 was paid before, over the limit of 100\.00"):
        teacher(url, tmp_path, prices=Prices(1e6, 1e6, limit=100.0)).ask(CHATS[:5])
    assert len(teacher(url, tmp_path, prices=Prices(1e6, 1e6, limit=10.0)).ask(CHATS[:4]).replies) == 4
    assert len(fake.asked) == 4


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_refusal_stops_at_once_and_keeps_what_was_answered(fake, url, tmp_path, status, monkeypatch):
    monkeypatch.setenv("SECRET_KEY_NAME", "hush-hush")
    fake.script = {"prompt 2": [(status, "no such model")]}
    big = teacher(url, tmp_path, key_env="SECRET_KEY_NAME", concurrency=1)
    with pytest.raises(TeacherError, match=f"answered {status}.*SECRET_KEY_NAME") as raised:
        big.ask(CHATS)
    assert "hush-hush" not in str(raised.value)
    assert fake.headers[0]["Authorization"] == "Bearer hush-hush"
    assert len(fake.asked) < len(CHATS)
    kept = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(kept) == len(fake.asked) - 1
    assert "hush-hush" not in "".join(kept)
    asked = len(fake.asked)
    assert all(teacher(url, tmp_path).ask(CHATS).replies)
    assert len(fake.asked) == asked + len(CHATS) - len(kept)


def test_answers_are_validated(fake, url, tmp_path):
    fake.script = {"prompt 0": [said(" ")], "prompt 1": [said("half", finish_reason="length")]}
    found = teacher(url, tmp_path).ask(CHATS[:4], validate=lambda text: "a 3" if "3" in text else None)
    assert found.faults == {0: "an empty answer", 1: "an answer that was cut off at max_tokens", 3: "a 3"}
    assert [reply is not None for reply in found.replies] == [False, False, True, False]


def test_the_cost_is_forecast_and_capped_before_anything_is_spent(fake, url, tmp_path):
    told = teacher(url, tmp_path, prices=Prices(1e6, 1e6)).forecast([*CHATS, CHATS[0]])
    assert (told.requests, told.cached, told.tokens_written) == (12, 0, 600)
    assert told.cost == told.tokens_read + told.tokens_written
    with pytest.raises(TeacherError, match="nothing was spent"):
        teacher(url, tmp_path, prices=Prices(1e6, 1e6, limit=10.0)).ask(CHATS)
    assert fake.asked == []


def test_the_limit_holds_for_all_that_one_teacher_is_asked(fake, url, tmp_path):
    fake.script = {
        f"prompt {i}": [said("long") | {"usage": {"prompt_tokens": 40, "completion_tokens": 50}}] for i in range(12)
    }
    big = teacher(url, tmp_path, prices=Prices(1e6, 1e6, limit=200.0), concurrency=1)
    big.ask(CHATS[:2])
    with pytest.raises(TeacherError, match=r"limit of 200\.00 is reached"):
        big.ask(CHATS[2:4])
    assert len(fake.asked) == 2


def test_what_an_endpoint_lacks_is_refused_before_anything_is_spent(fake, url, tmp_path):
    with pytest.raises(TeacherError, match="no hidden"):
        teacher(url, tmp_path).ask(CHATS, keep=["text", "hidden"])
    with pytest.raises(TeacherError, match="number of log-probabilities"):
        teacher(url, tmp_path).ask(CHATS, keep=["logprobs"])
    with pytest.raises(UserError, match="must look like http"):
        teacher("file:///etc", tmp_path)
    with pytest.raises(UserError, match="NO_SUCH_KEY holds no key"):
        teacher(url, tmp_path, key_env="NO_SUCH_KEY")
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
    found = teacher(url, tmp_path, logprobs=2).ask(CHATS[:1], keep=["logprobs"])
    assert found.replies[0].logprobs == [[["on", -0.1], ["on", -0.1], ["off", -3]]]


def test_a_service_without_log_probabilities_is_found_out_by_one_request(fake, url, tmp_path):
    with pytest.raises(TeacherError, match="one request was made"):
        teacher(url, tmp_path, logprobs=2).ask(CHATS, keep=["logprobs"])
    assert len(fake.asked) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_prompt_that_the_service_never_takes_is_a_fault_of_its_row(fake, url, tmp_path, status, concurrency):
    fake.script = {f"prompt {i}": [(status, "too long")] * 9 for i in (0, 5, 6, 7, 8, 9)}
    found = teacher(url, tmp_path, concurrency=concurrency).ask(CHATS)
    assert sorted(found.faults) == [0, 5, 6, 7, 8, 9]
    assert f"answered {status}" in found.faults[0]
    assert found.replies[11].text == "echo prompt 11"
    asked = len(fake.asked)
    assert sorted(teacher(url, tmp_path).ask(CHATS).faults) == sorted(found.faults)
    assert len(fake.asked) == asked == len(CHATS)  # nothing is asked again


def test_a_service_that_takes_no_prompt_is_given_up_and_nothing_of_it_kept(fake, url, tmp_path):
    names = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}
    fake.script = {f"prompt {i}": [(400, names)] for i in range(12)}
    with pytest.raises(TeacherError, match=r"answered 400.* It names max_tokens: .*teacher\.parameters.*'prompt 0'"):
        teacher(url, tmp_path, concurrency=1).ask(CHATS)
    assert len(fake.asked) == 3
    fake.script = {}
    assert all(teacher(url, tmp_path).ask(CHATS).replies)


def test_one_prompt_that_always_fails_leaves_the_rest_answered(fake, url, tmp_path):
    fake.script = {"prompt 1": [(500, "broken")] * 3}
    with pytest.raises(TeacherError, match=r"1 of 12 prompts got no reply, 'prompt 1' among them"):
        teacher(url, tmp_path, concurrency=1).ask(CHATS)
    assert len(list(tmp_path.rglob("*.json"))) == 11


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (said(None, finish_reason="length"), "cut off at max_tokens"),
        (said(None, finish_reason="tool_calls"), "an empty answer"),
        ({"choices": [{"message": {"role": "assistant"}}]}, "an empty answer"),
    ],
)
def test_a_message_without_text_is_paid_once_and_left_out(fake, url, tmp_path, reply, fault):
    fake.script = {"prompt 1": [reply]}
    assert fault in teacher(url, tmp_path).ask(CHATS[:3]).faults[1]
    assert list(teacher(url, tmp_path).ask(CHATS[:3]).faults) == [1]
    assert len(fake.asked) == 3


def test_lone_surrogates_and_missing_numbers_are_read_once(fake, url, tmp_path):
    top = [{"token": "a\ud800", "logprob": None}, {"token": "b", "logprob": float("nan")}]
    content = [{"token": "a\ud800", "logprob": float("-inf"), "top_logprobs": top}]
    fake.script = {"prompt 0": [said("a\ud800", logprobs={"content": content})]}
    for _ in range(2):
        (reply,) = teacher(url, tmp_path, logprobs=2).ask(CHATS[:1], keep=["logprobs"]).replies
        assert (reply.text, reply.logprobs) == ("a\ufffd", [[["a\ufffd", NEVER], ["a\ufffd", NEVER], ["b", NEVER]]])
    assert len(fake.asked) == 1


def test_a_null_that_an_earlier_version_kept_is_read_too(fake, url, tmp_path):
    big = teacher(url, tmp_path, logprobs=1)
    content = [{"token": "on", "logprob": -0.5}]
    fake.script = {"prompt 0": [said("on", logprobs={"content": content})]}
    big.ask(CHATS[:1], keep=["logprobs"])
    (kept,) = tmp_path.rglob("*.json")
    kept.write_text(kept.read_text().replace("-0.5", "null"))
    assert big.ask(CHATS[:1], keep=["logprobs"]).replies[0].logprobs == [[["on", NEVER]]]


def test_log_probabilities_are_looked_for_in_the_first_answer_with_text(fake, url, tmp_path):
    fake.script = {"prompt 0": [(400, "filtered")], "prompt 1": [said("")]}
    with pytest.raises(TeacherError, match="gives no log-probabilities"):
        teacher(url, tmp_path, logprobs=2).ask(CHATS, keep=["logprobs"])
    assert fake.asked == ["prompt 0", "prompt 1", "prompt 2"]


def test_parameters_are_renamed_or_left_out():
    service = Service("http://x", "big", parameters={"max_tokens": "max_completion_tokens", "seed": None})
    assert set(service.body(CHATS[0])) == {"model", "messages", "max_completion_tokens", "temperature"}
    assert service.identity != Service("http://x", "big").identity


@pytest.mark.parametrize(
    ("amount", "words"), [(0.001, "0.001"), (0, "0.00"), (0.5, "0.50"), (0.0125, "0.0125"), (1234.5, "1,234.50")]
)
def test_small_amounts_stay_visible(amount, words):
    assert money(amount) == words
