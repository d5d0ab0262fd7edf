"""Calls to other services: pooled, each with a deadline, each with one of three outcomes.

    an Answer      the peer answered, whatever its status
    NotReached     definite: it surely did nothing (connection refused, or not made in time)
    NoAnswer       indefinite: it may have done what was asked (it got the request and fell silent)

A peer may be a plain course server, which knows nothing of our own paths beside the course's. `call_ours` finds
that out by asking: such a server answers 404 or 405 and has then done nothing.
"""

import logging
import socket
import threading
import time
from typing import NamedTuple

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from emporium import wire

log = logging.getLogger(__name__)

CONNECT_S = 0.25
PROBE_S = 1.0

# Exactly these: the course's servers compare the type letter by letter, and some crash without an Accept.
JSON_HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}


class PeerError(Exception):
    """A call to another service that brought nothing usable."""


class NotReached(PeerError):
    """The peer surely did nothing."""


class NoAnswer(PeerError):
    """The peer may have done what was asked, or may yet."""


class BadAnswer(PeerError):
    """The peer answered, and not as the protocol says."""


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
        # More calls than `connections` at once open further connections, which are not kept.
        self._pool = _Pool(
            host,
            port,
            maxsize=connections,
            timeout=urllib3.Timeout(connect=CONNECT_S, total=deadline_s),
            retries=False,
            headers=JSON_HEADERS,
            deadline_s=deadline_s,
            on_connect=self._note_connection,
        )
        self._connections_opened = 0
        self._judged_plain = None  # (connections opened by then, when), while it counts as a plain course server

    def call(self, method, path, body=None):
        """The peer's Answer. Raises NotReached or NoAnswer. `path` is already percent-encoded, `body` bytes."""
        try:
            response = self._pool.urlopen(method, path, body=body, redirect=False)
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise NotReached(f"{self.name} at {self.url} cannot be reached: {_in_words(error)}") from error
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
        return self._connections_opened > connections_then and time.monotonic() - judged_at >= PROBE_S

    def _note_connection(self):
        self._connections_opened += 1


class _Connection(urllib3.connection.HTTPConnection):
    """Keeps the deadline of a whole call, and tells when it is opened.

    urllib3's own limit is for each wait: a peer that sends a byte now and then would be waited for without end. And it
    counts its connection objects, while it opens one anew when the other side had closed it.
    """

    def __init__(self, *where, deadline_s, on_connect, **options):
        super().__init__(*where, **options)
        self._deadline_s = deadline_s
        self._on_connect = on_connect
        self.ends = 0.0

    def request(self, *what, **options):
        self.ends = time.monotonic() + self._deadline_s
        super().request(*what, **options)

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


class Watch:
    """Whether a peer answers. Once it failed it is left alone, and probed once a second until it is back.

    The probe asks GET /healthz; any answer at all will do, since a plain course server knows no /healthz.
    `on_return` is called, in the probing thread, each time that the peer is back.
    """

    def __init__(self, peer, on_return):
        self._peer = peer
        self._on_return = on_return
        self._lock = threading.Lock()
        self._trouble = None

    @property
    def trouble(self):
        """What went wrong, in words; None while the peer answers."""
        return self._trouble

    def failed(self, error):
        """Note that a call failed. The first one starts the probing."""
        with self._lock:
            is_new = self._trouble is None
            self._trouble = str(error)
        if is_new:
            log.warning("%s; left alone until it answers again", error)
            threading.Thread(target=self._probe, name=f"probe-{self._peer.name}", daemon=True).start()

    def _probe(self):
        while True:
            time.sleep(PROBE_S)
            try:
                self._peer.call("GET", "/healthz")
            except PeerError as error:
                self._trouble = str(error)
                continue
            break
        with self._lock:
            self._trouble = None
        log.warning("%s answers again", self._peer.name)
        self._on_return()


def _in_words(error):
    """The last part of a urllib3 message: 'Connection refused' rather than the object that saw it."""
    return str(error.args[-1] if error.args else error).rpartition(": ")[2]
