"""Load on an HTTP server, from one thread: by the clock, or as fast as the answers come.

    open_loop      a request leaves when it is due, whether or not earlier ones were answered. Its latency counts
                   from when it was due, so that neither a slow server nor a slow generator can hide waiting.
    closed_loop    some clients; each sends its next request when its last one was answered.

Both tell what came as Measured. Every wait ends: an answer that is not there after ANSWER_S counts as none.

The reader of answers knows what our servers send: HTTP/1.1 with a Content-Length. A library would cost more CPU a
request than the servers themselves, and on a small machine the generator takes its CPU from them.
"""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from math import ceil, nan
from typing import NamedTuple

ANSWER_S = 5.0
NO_ANSWER = 0  # in the place of a status


class Target(NamedTuple):
    host: str
    port: int


class Asked(NamedTuple):
    """One request and what came of it. Times are in seconds since the load began."""

    status: int  # NO_ANSWER when none came
    due_s: float
    done_s: float
    trouble: str = ""  # why no answer came

    @property
    def latency_s(self):
        return self.done_s - self.due_s


@dataclass
class Measured:
    """What came of some load in a stretch of time.

    asked    in the order of the answers
    lags_s   open loop only: how long after its due time each request left us; large ones are our fault
    """

    duration_s: float
    asked: list[Asked] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)

    def between(self, since_s, until_s):
        """The part that was answered in this stretch."""
        part = [each for each in self.asked if since_s <= each.done_s < until_s]
        return Measured(until_s - since_s, part)

    def latencies_s(self, status=None):
        """Of the requests with this status, or of all."""
        return [each.latency_s for each in self.asked if status in (None, each.status)]

    def count(self, status):
        return sum(each.status == status for each in self.asked)

    def share(self, status):
        """The share of the requests that came to this status, 0 to 1."""
        return self.count(status) / len(self.asked) if self.asked else nan

    def rate_per_s(self, status):
        """How many such answers came a second; `between` leaves out those that came after the load's end."""
        return self.count(status) / self.duration_s

    def others(self, *statuses):
        """{what else came: how often}: other statuses, and why no answer came."""
        return Counter(each.trouble or str(each.status) for each in self.asked if each.status not in statuses)


def percentile(values, share):
    """The smallest value that at least this share (0 to 1) of the values do not exceed; nan when there is none."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)] if values else nan


# ---- requests, as bytes


def get_request(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n".encode()


def put_request(path, body):
    """`body` is JSON, as bytes."""
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


# ---- the two loads


async def open_loop(target, next_request, rate_per_s, duration_s):
    """Send next_request() at even intervals, each on a connection that is free then, or on a new one."""
    measured = Measured(duration_s)
    async with Connections(target) as connections, asyncio.TaskGroup() as tasks:
        began_s = time.monotonic()

        async def ask_at(due_s):
            measured.lags_s.append(time.monotonic() - began_s - due_s)
            status, trouble = await connections.ask(next_request())
            measured.asked.append(Asked(status, due_s, time.monotonic() - began_s, trouble))

        for number in range(round(rate_per_s * duration_s)):
            due_s = number / rate_per_s
            early_s = began_s + due_s - time.monotonic()
            if early_s > 0:
                await asyncio.sleep(early_s)
            tasks.create_task(ask_at(due_s))
    return measured


async def closed_loop(target, next_request, clients, duration_s, pause_s=0.0):
    """Let so many clients ask next_request() one after the other. `pause_s`: a client's wait after anything but 200."""
    measured = Measured(duration_s)
    async with Connections(target) as connections, asyncio.TaskGroup() as tasks:
        began_s = time.monotonic()

        async def keep_asking():
            while (sent_s := time.monotonic() - began_s) < duration_s:
                status, trouble = await connections.ask(next_request())
                measured.asked.append(Asked(status, sent_s, time.monotonic() - began_s, trouble))
                if status != 200:
                    await asyncio.sleep(pause_s)

        for _ in range(clients):
            tasks.create_task(keep_asking())
    return measured


# ---- connections


class Connections:
    """Kept connections to one server: as many as requests are on their way at once. Use it in `async with`."""

    def __init__(self, target):
        self._target = target
        self._idle = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *failure):
        for connection in self._idle:
            connection.close()

    async def ask(self, request):
        """(status, "") of the answer, or (NO_ANSWER, why none came)."""
        connection = None
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = self._free_one() or await self._new_one()
                status = await connection.ask(request)
        except TimeoutError:
            status, trouble = NO_ANSWER, f"no answer in {ANSWER_S:g} s"
        except OSError as error:
            status, trouble = NO_ANSWER, f"{type(error).__name__}: {error}"
        else:
            self._idle.append(connection)
            return status, ""
        if connection:
            connection.close()
        return status, trouble

    def _free_one(self):
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _new_one(self):
        _transport, connection = await asyncio.get_running_loop().create_connection(Connection, *self._target)
        return connection


class Connection(asyncio.Protocol):
    """One connection, with one request on its way at a time."""

    _LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
    _CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)

    def __init__(self):
        self.is_open = False
        self.transport = None
        self._received = bytearray()
        self._status = None  # the future status of the answer that is waited for

    async def ask(self, request):
        """The status of the answer. Raises ConnectionError when the connection ends instead."""
        self._status = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._status

    def close(self):
        self.transport.close()

    # ---- called by asyncio

    def connection_made(self, transport):
        self.transport = transport
        self.is_open = True

    def data_received(self, data):
        self._received += data
        head_ends = self._received.find(b"\r\n\r\n")
        if head_ends < 0:
            return
        head = bytes(self._received[:head_ends])
        length = self._LENGTH.search(head)
        if len(self._received) < head_ends + 4 + (int(length[1]) if length else 0):
            return
        self._received.clear()
        if self._CLOSES.search(head):
            self.is_open = False
            self.transport.close()
        if self._status and not self._status.done():
            self._status.set_result(int(head[9:12]))

    def connection_lost(self, error):
        self.is_open = False
        if self._status and not self._status.done():
            self._status.set_exception(ConnectionError("the connection ended without an answer"))
