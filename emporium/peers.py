"""Calls to other services: pooled, each with a deadline, each with one of three outcomes.

    an Answer      the peer answered, whatever its status
    NotReached     definite: it surely did nothing (connection refused, or not made in time)
    NoAnswer       indefinite: it may have done what was asked (it got the request and fell silent)

A peer may be a plain course server, which knows nothing of our own paths beside the course's. `call_ours` finds
that out by asking: such a server answers 404 or 405 and has then done nothing.
"""

import socket
import time
from typing import NamedTuple

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

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
        self._deadline_s = deadline_s
        # More calls than `connections` at once open further connections, which are not kept.
        self._pool = _Pool(
            host,
            port,
            maxsize=connections,
            retries=False,
            headers=JSON_HEADERS,
            on_connect=self._note_connection,
        )
        self._connections_opened = 0
        self._judged_plain = None  # (connections opened by then, when), while it counts as a plain course server

    def call(self, method, path, body=None, deadline_s=None):
        """The peer's Answer. Raises NotReached or NoAnswer. `path` is already percent-encoded, `body` bytes.

        `deadline_s` may be shorter than the peer's own.
        """
        deadline_s = deadline_s or self._deadline_s
        timeout = urllib3.Timeout(connect=CONNECT_S, total=deadline_s)
        try:
            response = self._pool.urlopen(method, path, body=body, redirect=False, timeout=timeout)
        except NewConnectionError as error:
            raise NotReached(f"{self.name} at {self.url} cannot be reached: {_in_words(error)}") from error
        except ConnectTimeoutError as error:
            raise NotReached(f"{self.name} at {self.url} takes no connection", is_timeout=True) from error
        except ReadTimeoutError as error:
            message = f"{self.name} at {self.url} did not answer within {deadline_s:.3g} s"
            raise NoAnswer(message, is_timeout=True) from error
        except HTTPError as error:
            raise NoAnswer(f"{self.name} at {self.url} did not answer: {_in_words(error)}") from error
        return Answer(response.status, response.data, response.headers)

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

    def _note_connection(self):
        self._connections_opened += 1


class _Connection(urllib3.connection.HTTPConnection):
    """Keeps the deadline of a whole call, and tells when it is opened.

    urllib3's own limit is for each wait: a peer that sends a byte now and then would be waited for without end. And it
    counts its connection objects, while it opens one anew when the other side had closed it.
    """

    def __init__(self, *where, on_connect, **options):
        super().__init__(*where, **options)
        self._on_connect = on_connect
        self._used_at = 0.0
        self.ends = 0.0  # when the present call must be over

    def request(self, *what, **options):
        now = time.monotonic()
        if now > self._used_at + IDLE_S:
            self.close()
        self._used_at = now
        super().request(*what, **options)

    def getresponse(self):
        self.ends = time.monotonic() + self.timeout  # by now urllib3 has put there what is left for this call
        return super().getresponse()

    def connect(self):
        super().connect()
        self.sock = _BoundedSocket(self, self.sock)
        self._on_connect()


class _BoundedSocket(socket.socket):
    """A socket on which no wait for bytes goes beyond the end of its connection's call."""

    def __init__(self, connection, plain):
        timeout = plain.gettimeout()
        super().__init__(plain.family, plain.type, plain.proto, plain.detach())
        self.settimeout(timeout)
        self._connection = connection

    def recv_into(self, *where):
        left = self._connection.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer came too slowly")
        self.settimeout(left)
        return super().recv_into(*where)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


def _in_words(error):
    """The last part of a urllib3 message: 'Connection refused' rather than the object that saw it."""
    return str(error.args[-1] if error.args else error).rpartition(": ")[2]
