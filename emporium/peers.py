"""Calls to other services: pooled, each with a deadline, each with one of three outcomes.

    an Answer      the peer answered, whatever its status
    NotReached     definite: it surely did nothing (connection refused, or not made in time)
    NoAnswer       indefinite: it may have done what was asked (it got the request and fell silent)

A peer may be a plain course server, which knows nothing of our own paths beside the course's. `call_ours` finds
that out by asking: such a server answers 404 or 405 and has then done nothing.
"""

import os
import select
import time
from io import BytesIO
from typing import NamedTuple

import pycurl

from emporium import requestid, wire
from emporium.failures import BadAnswer, NoAnswer, NotReached

CONNECT_S = 0.25
IDLE_S = 5  # a connection unused for longer is opened anew, since ours are cut by the other side after 10 s
MOST_BYTES = 64 * 1024 * 1024  # of an answer: as many reads as wait for a shard, each of a tea with 100 large siblings
ONE_PIECE_BYTES, MOST_PIECE_BYTES = 64 * 1024, 2 * 1024 * 1024  # what libcurl sends in one piece, and can be told to
HEAD_BYTES = 8 * 1024  # room for the headers beside the body
JUDGED_S = 1.0  # for how long a server that gives a new connection for each call counts as plain

# Exactly these: the course's servers compare the type letter by letter, and some crash without an Accept.
JSON_HEADERS = ["Accept: application/json", "Content-Type: application/json", "Expect:"]


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict

    @property
    def is_ok(self):
        return 200 <= self.status < 300

    def read(self, decode=wire.decode):
        """decode(the body): by default, what its JSON says. Raises BadAnswer when it is something else."""
        try:
            return decode(self.body)
        except ValueError as error:
            raise BadAnswer(f"answered {self.status} with {self.body[:100]!r}: {error}") from error


class Peer:
    """One other service. Safe to share between threads; a call blocks for at most its deadline."""

    def __init__(self, name, host, port, deadline_s, connections=1):
        self.name = name
        self.url = f"http://{host}:{port}"
        self.deadline_s = deadline_s
        # More calls than `connections` at once open further connections, which are not kept.
        self._most_kept = connections
        self._kept = []  # handles that nobody uses now, each with its connection, the one used last at the end
        self.connections_opened = 0
        self._judged_plain = None  # (connections opened by then, when), while it counts as a plain course server

    def call(self, method, path, body=None, deadline_s=None, may_repeat=True, headers=()):
        """The peer's Answer. Raises NotReached or NoAnswer. `path` is already percent-encoded, `body` bytes.

        `deadline_s` may be shorter than the peer's own. A GET may be sent twice, unless it must not be. `headers` are
        lines beside the usual ones, and those that say whose request leads to this call.
        """
        deadline_s = deadline_s or self.deadline_s
        try:
            handle = self._kept.pop()
        except IndexError:
            handle = _new_handle()
        lines = []
        _prepare(handle, method, self.url + path, body, deadline_s, lines.append)
        # libcurl sends a request once more when a kept connection ends without an answer. The first one may have been
        # carried out, so it must not: it cannot, where the body is given to it only once, or the connection is new.
        needs_new = body is None and not (method == "GET" and may_repeat)
        handle.setopt(pycurl.FRESH_CONNECT, needs_new or _is_ended(handle))
        handle.setopt(pycurl.HTTPHEADER, [*JSON_HEADERS, *headers, *requestid.headers()])
        try:
            text = handle.perform_rb()
        except pycurl.error as error:
            raise self._failure(handle, error, deadline_s) from error
        self.connections_opened += handle.getinfo(pycurl.NUM_CONNECTS)
        answer = Answer(handle.getinfo(pycurl.RESPONSE_CODE), text, _headers(lines))
        if len(self._kept) < self._most_kept:
            self._kept.append(handle)
        else:
            handle.close()
        return answer

    def _failure(self, handle, error, deadline_s):
        """The NotReached or NoAnswer for a call that failed. Whether a byte was sent tells which."""
        code, words = error.args
        is_timeout = code == pycurl.E_OPERATION_TIMEDOUT
        was_sent = handle.getinfo(pycurl.REQUEST_SIZE) > 0
        if code == pycurl.E_SEND_FAIL_REWIND:
            words = "the connection ended"
        elif number := handle.getinfo(pycurl.OS_ERRNO):
            words = os.strerror(number)
        handle.close()
        match was_sent, is_timeout:
            case True, True:
                what = f"did not answer within {deadline_s:.3g} s"
            case True, False:
                what = f"did not answer: {words}"
            case False, True:
                what = "takes no connection"
            case False, False:
                what = f"cannot be reached: {words}"
        return (NoAnswer if was_sent else NotReached)(f"{self.name} at {self.url} {what}", is_timeout)

    def call_ours(self, path, body):
        """The Answer to a POST on one of our own paths; None, and nothing done, from a plain course server."""
        if self.is_plain:
            return None
        answer = self.call("POST", path, body)
        if answer.status in (404, 405):
            self._judged_plain = (self.connections_opened, time.monotonic())
            return None
        self._judged_plain = None
        return answer

    @property
    def was_plain(self):
        """Whether it was a plain course server when it was last asked."""
        return self._judged_plain is not None

    @property
    def is_plain(self):
        """Whether it counts as a plain course server now; it may be another one, and then has to be asked again."""
        if self._judged_plain is None:
            return False
        # Another server can only be behind a new connection. A server that closes after each answer gives us a
        # new one for each call, so it is asked again at most once a second.
        connections_then, judged_at = self._judged_plain
        return self.connections_opened == connections_then or time.monotonic() - judged_at < JUDGED_S


def _new_handle():
    """A handle has one connection, which it keeps from call to call."""
    handle = pycurl.Curl()
    handle.setopt(pycurl.NOSIGNAL, 1)  # else its timeouts would need the main thread
    handle.setopt(pycurl.NOPROXY, "*")
    handle.setopt(pycurl.PATH_AS_IS, 1)  # a channel may be called ..
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, _ms(CONNECT_S))
    handle.setopt(pycurl.MAXFILESIZE, MOST_BYTES)
    handle.setopt(pycurl.MAXCONNECTS, 1)
    handle.setopt(pycurl.MAXAGE_CONN, IDLE_S)
    return handle


def _prepare(handle, method, url, body, deadline_s, add_header_line):
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.TIMEOUT_MS, _ms(deadline_s))
    handle.setopt(pycurl.HEADERFUNCTION, add_header_line)
    if body is None:
        handle.setopt(pycurl.HTTPGET, 1)
    else:
        handle.setopt(pycurl.POST, 1)
        handle.setopt(pycurl.POSTFIELDSIZE, len(body))
        handle.setopt(pycurl.READFUNCTION, BytesIO(body).read)
        if len(body) > ONE_PIECE_BYTES - HEAD_BYTES:
            # In one piece: who refuses it for its size closes the connection, and a second piece would find it cut
            # before the answer is read.
            handle.setopt(pycurl.UPLOAD_BUFFERSIZE, min(len(body) + HEAD_BYTES, MOST_PIECE_BYTES))
    handle.setopt(pycurl.CUSTOMREQUEST, method)


def _is_ended(handle):
    """Whether the other side has closed the connection that the handle keeps, as a service does that ends."""
    number = handle.getinfo(pycurl.ACTIVESOCKET)
    if number < 0:
        return False
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))  # between calls there is nothing else to read


def _ms(seconds):
    return max(1, round(seconds * 1000))


def _headers(lines):
    """{Name: value} of the lines of an answer."""
    headers = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers[name.title()] = value.strip()
    return headers
