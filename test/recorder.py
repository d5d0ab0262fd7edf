"""A stand-in for a shard that writes down what it is asked, and holds it until it may pass.

with Recorder(handed_on_to(port)) as shard:        or any other (method, path, body) -> (status, headers, text)
    with shard.holding():
        ...                                        all that comes meanwhile waits
    shard.calls                                    [Call(method, path, body), ...] in the order in which they came
    shard.headers                                  the headers of each of them
"""

import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from asking import ask

READING = '{"rating":3,"choices":[3],"clocks":[{"c0":1}]}'


class Call(NamedTuple):
    method: str
    path: str
    body: bytes

    @property
    def operations(self):
        """Those that travel in it together."""
        return json.loads(self.body)["operations"]


class Recorder:
    """`answer(method, path, body)` gives (status, headers, text)."""

    def __init__(self, answer):
        self.calls, self.headers = [], []
        self._answer = answer
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        self.port = self._server.server_port

    @contextmanager
    def holding(self):
        self._may_pass.clear()
        try:
            yield
        finally:
            self._may_pass.set()

    def answer(self, headers, *call):
        self.headers.append(headers)
        self.calls.append(Call(*call))
        self._may_pass.wait()
        return self._answer(*call)

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._may_pass.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    block_on_close = False  # connections are kept by those who opened them


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, recorder, *where):
        self._recorder = recorder
        super().__init__(*where)

    def _handle(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, text = self._recorder.answer(self.headers, self.command, self.path, body)
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": len(text)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_DELETE = do_POST = _handle

    def log_message(self, *what):
        """Nothing: `calls` tells it."""


def handed_on_to(port):
    """What the server at this port answers."""

    def answer(method, path, body):
        given = ask(port, method, path, body or None)
        kept = {name: given.headers[name] for name in ("Content-Type", "X-Merge", "Retry-After") if given.headers[name]}
        return given.status, kept, given.text.encode()

    return answer


def ours(method, path, body):
    """Like a shard of ours that holds one reading for every tea; a write is answered its own rating."""
    if path != "/operations":
        return 200, {}, _alone(method, body)
    outcomes = [
        b'{"status":200,"body":%b}' % _alone(each["method"], json.dumps(each.get("rated")).encode())
        for each in json.loads(body)["operations"]
    ]
    return 200, {}, b'{"outcomes":[%b]}' % b",".join(outcomes)


def plain(method, path, body):
    """Like a plain course shard, which knows no path but the course's."""
    return (200, {}, _alone(method, body)) if path.startswith("/rating/") else (404, {}, b"no such path")


def _alone(method, body):
    if method == "GET":
        return READING.encode()
    return json.dumps({"rating": json.loads(body)["rating"] if method == "PUT" else None}).encode()
