"""Connections that are kept between calls, and on which an answer has a deadline.

The read time-out of requests counts anew for each piece that comes in, so that a server which sends a byte now and then
holds its client for ever. Here it counts for the answer as a whole.
"""

import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import HTTPResponse


class _DeadlineSocket(socket.socket):
    """A socket that receives nothing any more once it is `ends`, by time.monotonic()."""

    ends = float("inf")

    def recv_into(self, *into: Any) -> int:
        left_s = self.ends - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self.settimeout(min(left_s, 3600))
        return super().recv_into(*into)


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        assert self.sock is not None  # else connect() would have raised
        timeout_s = self.sock.gettimeout()
        self.sock = _DeadlineSocket(fileno=self.sock.detach())
        self.sock.settimeout(timeout_s)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as its base class has it
        if isinstance(self.sock, _DeadlineSocket) and self.timeout is not None:
            self.sock.ends = time.monotonic() + self.timeout
        return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class DeadlineAdapter(HTTPAdapter):
    """Keeps at most `connections` open; more threads than that open others, and close them behind the answer.

    It repeats nothing: which requests may be repeated is decided in calls.py. https has the time-outs of requests.
    """

    def __init__(self, connections: int) -> None:
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0, pool_block=False)

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        super().init_poolmanager(*sizes, **options)
        kinds = self.poolmanager.pool_classes_by_scheme
        self.poolmanager.pool_classes_by_scheme = {**kinds, "http": _Pool}
