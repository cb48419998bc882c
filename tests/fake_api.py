"""An OpenAI-compatible API in a thread that misbehaves as told, and remembers what reached it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[dict[str, Any]], Any]


class Api:
    """`say` turns the request into what to answer: a label, (status, headers, body), or a callable on the handler."""

    def __init__(self, say: Script) -> None:
        self.say = say
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    @property
    def texts(self) -> list[str]:
        """What users' texts arrived."""
        return [body["messages"][-1]["content"] for body in self.bodies]


def chat(content: Any, sent: int = 100, received: int = 5) -> bytes:
    """The body of a good answer."""
    usage = {"prompt_tokens": sent, "completion_tokens": received}
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}], "usage": usage}).encode()


@contextmanager
def serving(say: Script) -> Iterator[Api]:
    """Serve on a free port of this machine."""
    api = Api(say)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with api.lock:
                api.at_once += 1
                api.most_at_once = max(api.most_at_once, api.at_once)
                api.bodies.append(asked)
                api.headers.append(dict(self.headers))
            try:
                said = api.say(asked)
            finally:
                with api.lock:  # before the answer goes out, which may bring the next request
                    api.at_once -= 1
            try:
                if callable(said):
                    said(self)
                    return
                status, headers, body = said if isinstance(said, tuple) else (200, {}, chat(said))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the other side had enough

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Say nothing for longer than anybody waits."""
    time.sleep(3)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Send one byte at a time, which no socket's time-out notices."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True
