"""A server that says what it is told to say, for what a real one does not do on demand."""

import json
import socket
import threading
import time
from contextlib import suppress
from typing import NamedTuple

STALL = object()  # in a script: say nothing, and keep the connection


class Asked(NamedTuple):
    """A request as it came: `headers` with their names in lower case, and the connection that it came on."""

    method: str
    path: str
    headers: dict
    body: bytes
    connection: int


class Slowly(NamedTuple):
    """In a script: these bytes, one after the other, with so many seconds between two."""

    text: bytes
    pause_s: float


def answer(status, body=None, **headers):
    """The bytes of an answer: a problem from 400 on."""
    text = json.dumps(body if body is not None else {"status": status, "detail": f"told to say {status}"}).encode()
    kind = "application/json" if status < 400 else "application/problem+json"
    told = {"Content-Type": kind, "Content-Length": len(text), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status} Told\r\n{lines}\r\n".encode() + text


class ScriptedServer:
    """Says the lines of its script, one a request, and the last one again and again. `asked`: the requests so far.

    A line is bytes to send as they are, None to hang up, STALL, a Slowly, or a function of the Asked that gives one.
    """

    def __init__(self, *script):
        self._script = script
        self.asked = []
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._is_over.set()
        for each in [self._listener, *self._connections]:
            with suppress(OSError):  # it is closed already
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        with suppress(OSError):  # the test is over
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                number = len(self._connections)
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                method, path, _ = line.decode().split(" ", 2)
                headers = {}
                while (line := stream.readline().decode().strip()) != "":
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get("content-length", 0)))
                with self._lock:
                    said = self._script[min(len(self.asked), len(self._script) - 1)]
                    asked = Asked(method, path, headers, body, number)
                    self.asked.append(asked)
                said = said(asked) if callable(said) else said
                if said is None:
                    return
                if said is STALL:
                    self._is_over.wait()
                elif isinstance(said, Slowly):
                    for byte in said.text:
                        connection.sendall(bytes([byte]))
                        time.sleep(said.pause_s)  # a server that is slow
                else:
                    connection.sendall(said)
