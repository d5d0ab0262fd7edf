"""A client that may say anything: raw bytes go out, and what comes back must be answers in the documented form.

    with connect(port) as connection:
        connection.sendall(Request(b"GET", b"/healthz").raw())
        [answer] = read_answers(connection, 1)

A BadAnswer says in what an answer differs from docs/protocol.md.
"""

import json
import re
import socket
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import psutil
from asking import ask
from harness import CALL_S, eventually

from emporium.environment import ROOT

QUIET_S = 0.2  # a server that says nothing for so long probably waits for more
PATIENCE_S = 8  # for it to close a connection whose client has hung up: less than the 10 s after which it closes any
EMPTY = {400, 414, 431}  # may come without a body: what granian refuses before our code is asked
ERRORS = {int(status) for status in re.findall(r"^\| (\d{3}) \|", (ROOT / "docs" / "protocol.md").read_text(), re.M)}
CLOSED, BROKEN_OFF, HUNG_UP = "closed", "broken off", "hung up"
DOCUMENTED = {200, 204} | ERRORS - {500, 502}  # these two are documented, and are ours to avoid

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [ -~]*\r\n")
HEADER = re.compile(rb"([!#-'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)\r\n")
NEVER = (b"traceback (most recent", b"<html", b"<!doctype")


class Request(NamedTuple):
    """A request that is as it should be, until somebody changes it."""

    method: bytes
    path: bytes
    body: bytes | None = None
    headers: tuple = ((b"Host", b"tea"), (b"Accept", b"application/json"), (b"Content-Type", b"application/json"))
    framing: bytes | None = None  # the header lines that tell the length of the body, unless they tell it rightly

    def raw(self):
        lines = b"".join(b"%b: %b\r\n" % header for header in self.headers)
        length = b"" if self.body is None else b"Content-Length: %d\r\n" % len(self.body)
        framing = length if self.framing is None else self.framing
        return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (self.method, self.path, lines, framing, self.body or b"")


class BadAnswer(Exception):
    """What came back is not as docs/protocol.md says."""


class RawAnswer(NamedTuple):
    status: int
    headers: dict  # by name in small letters
    body: bytes  # empty for an answer to HEAD

    @property
    def json(self):
        return strict_json(self.body)

    @property
    def is_ours(self):
        """Whether our code gave it. What the HTTP server refuses by itself it does not sign."""
        return "server" in self.headers


class Heard(NamedTuple):
    """What came back on one connection, and how that ended: CLOSED by the server, BROKEN_OFF by it, or we HUNG_UP."""

    answers: list
    ending: str

    @property
    def is_all(self):
        """Whether it is certain that the server had nothing else to say."""
        return self.ending == CLOSED


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=CALL_S)


@contextmanager
def crowd(port, number, said=b""):
    """So many connections at a time, on each of which this was said."""
    with ExitStack() as left:
        connections = [left.enter_context(connect(port)) for _ in range(number)]
        for connection in connections:
            connection.sendall(said)
        yield connections


def warm_up(port, request, rounds=6):
    """Have a server make its threads, and take what memory they need for this good request."""
    for _ in range(rounds):
        with crowd(port, 256, request.raw()) as connections:
            for connection in connections:
                read_answers(connection, 1)


def served(port, *request):
    """The answer to a request, as for `ask`, that is made again for as long as it is refused for now."""
    return eventually(lambda: _unless_refused(ask(port, *request)), f"{request} is served")


def _unless_refused(answer):
    return None if answer.status == 503 else answer


def memory_mb(pid):
    return psutil.Process(pid).memory_info().rss / 1e6


def converse(port, said, hangs_up=False, quiet_s=QUIET_S):
    """Heard, when `said` was sent on a connection of its own that is read to its end. Raises BadAnswer.

    When the server falls silent for `quiet_s`, or at once if `hangs_up`, our side of the connection is closed. The
    server then need not answer what it has not answered yet.
    """
    received, ending = bytearray(), CLOSED
    with connect(port) as connection:
        try:
            connection.sendall(said)
            if hangs_up or not _reads_to_the_end(connection, received, quiet_s):
                ending = HUNG_UP
                connection.shutdown(socket.SHUT_WR)
                if not _reads_to_the_end(connection, received, PATIENCE_S):
                    raise BadAnswer("the connection stays open after its client has hung up")
        except TimeoutError:
            raise BadAnswer("the server neither takes what is sent nor closes the connection") from None
        except OSError:  # it did not want all that was sent
            ending = BROKEN_OFF
    answers, rest = answers_in(bytes(received), b"HEAD" in said)
    if rest and ending == CLOSED:
        raise BadAnswer(f"an answer breaks off: {rest!r}")
    return Heard(answers, ending)


def _reads_to_the_end(connection, received, patience_s):
    """Add to `received` what comes until the server closes the connection. False when it is silent for so long."""
    connection.settimeout(patience_s)
    try:
        while piece := connection.recv(65536):
            received += piece
    except TimeoutError:
        return False
    return True


def read_answers(connection, number):
    """The next answers on this connection, so many of them, or fewer when it ends. Nothing may come after them."""
    received, answers = b"", []
    while len(answers) < number and (piece := connection.recv(65536)):
        received += piece
        answers, rest = answers_in(received)
    if len(answers) > number or (answers and rest):
        raise BadAnswer(f"more than {number} answers came: {received!r}")
    return answers


def is_closed(connection):
    """Whether the server has closed the connection. Waits for it, as long as the connection's timeout."""
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


def answers_in(received, may_be_to_head=False):
    """(the whole answers in these bytes, interim ones too; the rest, in which one has begun). Raises BadAnswer."""
    if any(words in received.lower() for words in NEVER):
        raise BadAnswer(f"this is for our eyes, or for a browser: {received!r}")
    answers = []
    while b"\r\n\r\n" in received:
        head, _, rest = received.partition(b"\r\n\r\n")
        answer, length = _head_of(head + b"\r\n")
        if may_be_to_head and (not rest or rest.startswith(b"HTTP/1.")):
            length = 0
        elif len(rest) < length:
            break
        else:
            answer = answer._replace(body=rest[:length])
            _check(answer)
        answers.append(answer)
        received = rest[length:]
    return answers, received


def _head_of(head):
    """(an answer without its body, the length of that)"""
    status_line = STATUS_LINE.match(head)
    if not status_line:
        raise BadAnswer(f"this is no HTTP: {head!r}")
    headers, at = {}, status_line.end()
    while at < len(head):
        header = HEADER.match(head, at)
        if not header or header[1].lower().decode() in headers:
            raise BadAnswer(f"a header is malformed, or there twice: {head!r}")
        headers[header[1].lower().decode()] = header[2].decode("latin-1")
        at = header.end()
    status = int(status_line[1])
    has_length = status >= 200 and status != 204
    if has_length != ("content-length" in headers) or "transfer-encoding" in headers:
        raise BadAnswer(f"its length is told in no way that we know: {head!r}")
    return RawAnswer(status, headers, b""), int(headers.get("content-length", 0))


def _check(answer):
    """Raises BadAnswer unless it is one of the documented answers, in its form."""
    status, headers, body = answer
    if status == 100:
        return
    if not answer.is_ours:
        if status not in EMPTY or body:
            raise BadAnswer(f"not an answer of ours, and not one that the HTTP server may give: {answer}")
        return
    if status not in DOCUMENTED:
        raise BadAnswer(f"this status is not documented, or tells of a fault of ours: {answer}")
    for among, name in ((503,), "retry-after"), ((204, 405), "allow"):
        if status in among and name not in headers and b'"ready":false' not in body:
            raise BadAnswer(f"{name} is missing: {answer}")
    if status == 204:
        return
    said = answer.json
    kind = headers.get("content-type")
    if status == 200 or (status == 503 and "ready" in said):
        if kind != "application/json" or not isinstance(said, dict):
            raise BadAnswer(f"not the JSON object that was expected: {answer}")
    elif (
        kind != "application/problem+json"
        or said.get("status") != status
        or not all(isinstance(said.get(name), str) and said[name] for name in ("type", "title", "detail"))
    ):
        raise BadAnswer(f"not a problem as RFC 9457 has it: {answer}")


def strict_json(text):
    """What the JSON says. Raises BadAnswer for what is none, be Python's reader ever so lenient."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text.decode(), parse_constant=refuse, parse_int=_whole)
    except ValueError as error:
        raise BadAnswer(f"this is no JSON: {error}: {text!r}") from error
    except RecursionError:
        return {}  # a message of the queue, as deep as somebody put it there


def _whole(digits):
    return int(digits) if len(digits) < 100 else digits  # Python refuses to read thousands of them
