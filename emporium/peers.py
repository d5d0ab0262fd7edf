"""Calls to other services: pooled, each with a deadline, each with one of three outcomes.

    an Answer      the peer answered, whatever its status
    NotReached     definite: it surely did nothing (connection refused, or not made in time)
    NoAnswer       indefinite: it may have done what was asked (it got the request and fell silent)

A peer may be a plain course server, which knows nothing of our own paths beside the course's. `call_ours` finds
that out by asking: such a server answers 404 or 405 and has then done nothing.
"""

import http.client
import socket
import time
from contextlib import suppress
from typing import NamedTuple

from emporium import wire
from emporium.failures import BadAnswer, NoAnswer, NotReached

CONNECT_S = 0.25
IDLE_S = 5.0  # a connection unused for longer is opened anew, since ours are cut by the other side after 10 s
JUDGED_S = 1.0  # for how long a server that gives a new connection for each call counts as plain

# Exactly these: the course's servers compare the type letter by letter, and some crash without an Accept.
JSON_HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}


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
        self._where = host, port
        self._deadline_s = deadline_s
        # More calls than `connections` at once open further connections, which are not kept.
        self._most_kept = connections
        self._kept = []  # those that nobody uses now, the one used last at the end
        self._connections_opened = 0
        self._judged_plain = None  # (connections opened by then, when), while it counts as a plain course server

    def __del__(self):
        for connection in self._kept:
            connection.close()

    def call(self, method, path, body=None, deadline_s=None):
        """The peer's Answer. Raises NotReached or NoAnswer. `path` is already percent-encoded, `body` bytes.

        `deadline_s` may be shorter than the peer's own.
        """
        deadline_s = deadline_s or self._deadline_s
        ends = time.monotonic() + deadline_s
        connection = self._a_connection(ends)
        try:
            connection.sock.ends = ends
            connection.request(method, path, body, JSON_HEADERS)
            response = connection.getresponse()
            answer = Answer(response.status, response.read(), response.headers)
        except TimeoutError as error:
            connection.close()
            message = f"{self.name} at {self.url} did not answer within {deadline_s:.3g} s"
            raise NoAnswer(message, is_timeout=True) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(f"{self.name} at {self.url} did not answer: {_in_words(error)}") from error
        if connection.sock and len(self._kept) < self._most_kept:  # the other side has not said that it closes
            self._kept.append(connection)
        else:
            connection.close()
        return answer

    def call_ours(self, path, body):
        """The Answer to a POST on one of our own paths; None, and nothing done, from a plain course server."""
        if self._judged_plain and not self._may_have_changed(*self._judged_plain):
            return None
        answer = self.call("POST", path, body)
        if answer.status in (404, 405):
            self._judged_plain = (self._connections_opened, time.monotonic())
            return None
        self._judged_plain = None
        return answer

    @property
    def is_plain(self):
        return self._judged_plain is not None

    def _may_have_changed(self, connections_then, judged_at):
        # Another server can only be behind a new connection. A server that closes after each answer gives us a
        # new one for each call, so it is asked again at most once a second.
        return self._connections_opened > connections_then and time.monotonic() - judged_at >= JUDGED_S

    def _a_connection(self, ends):
        """One that stands, kept or new. Raises NotReached."""
        with suppress(IndexError):
            while True:
                connection = self._kept.pop()
                if connection.sock.is_fresh():
                    return connection
                connection.close()
        connection = _Connection(*self._where, timeout=min(CONNECT_S, ends - time.monotonic()))
        try:
            connection.connect()
        except TimeoutError as error:
            raise NotReached(f"{self.name} at {self.url} takes no connection", is_timeout=True) from error
        except OSError as error:
            raise NotReached(f"{self.name} at {self.url} cannot be reached: {_in_words(error)}") from error
        self._connections_opened += 1
        return connection


class _Connection(http.client.HTTPConnection):
    """The standard library's, on a socket of ours."""

    def connect(self):
        super().connect()
        self.sock = _Socket(self.sock)


class _Socket(socket.socket):
    """A socket that keeps the deadline of a whole call, and sends a request as one piece.

    The standard library's limit is for each wait: a peer that sends a byte now and then would be waited for without
    end. And it sends headers and body one after the other, for each of which the other side would wake up.

    ends  when the present call must be over
    """

    def __init__(self, plain):
        super().__init__(plain.family, plain.type, plain.proto, plain.detach())
        self.ends = 0.0
        self._used_at = time.monotonic()
        self._unsent = []

    def is_fresh(self):
        """Whether it can be used for another call: it was used just now, and the other side has not closed it."""
        if time.monotonic() > self._used_at + IDLE_S:
            return False
        self.settimeout(0)
        try:
            self.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True  # nothing to read, as it should be
        except OSError:
            return False
        return False

    def sendall(self, data):
        self._unsent.append(data)

    def recv_into(self, *where):
        self._used_at = now = time.monotonic()
        if now >= self.ends:
            raise TimeoutError("the answer came too slowly")
        self.settimeout(self.ends - now)
        if self._unsent:
            request = b"".join(self._unsent)
            self._unsent.clear()
            with suppress(BrokenPipeError):  # it would not hear all of it, and may have said why
                super().sendall(request)
        return super().recv_into(*where)


def _in_words(error):
    """The last part of a message of the system: 'Connection refused' without the number before it."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
