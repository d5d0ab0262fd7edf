"""Clients that hold what others need: connections that say nothing, dribble their headers, or stall in a body.

    async with silent(target, 200): ...          inside, 200 of them are at it

When the server closes such a connection, or refuses it, its client comes again a second later.
"""

import asyncio
import time
from contextlib import asynccontextmanager, suppress

from bench.load import Connection, get_request, put_request

AGAIN_S = 1.0
BODY = b'{"rating": 3, "clock": {"stalled": 1}}'


class Stalling:
    """Since when each of those that wait with the server now has been there."""

    def __init__(self):
        self.since_s = {}  # by the number of the client
        self.came = set()  # the numbers of those that have been there, or were refused, at least once

    def held(self):
        """How many the server has held for a second: those that it will refuse are refused by then."""
        return sum(time.monotonic() - since_s >= AGAIN_S for since_s in self.since_s.values())


def silent(target, number):
    """Connections on which nothing is ever sent."""
    return _stalling(target, number, lambda connection: connection.ask(b""))


def dribbling(target, number):
    """Connections that send their headers at one byte a second."""
    return _stalling(target, number, _dribble)


def stalled_bodies(target, number, path):
    """Connections that announce a body for a PUT, and send half of it."""
    request = put_request(path, BODY)[: -len(BODY) // 2]
    return _stalling(target, number, lambda connection: connection.ask(request))


@asynccontextmanager
async def _stalling(target, number, behave):
    """`behave(connection)` goes on until the server answers; it raises ConnectionError when the server hangs up."""
    stalling = Stalling()
    connect = asyncio.get_running_loop().create_connection

    async def keep_stalling(index):
        await asyncio.sleep(AGAIN_S * index / number)  # not all in the same moment
        while True:
            with suppress(OSError):  # not accepted, or closed
                try:
                    _transport, connection = await connect(Connection, *target)
                finally:
                    stalling.came.add(index)
                stalling.since_s[index] = time.monotonic()
                try:
                    await behave(connection)
                finally:
                    del stalling.since_s[index]
                    connection.close()
            await asyncio.sleep(AGAIN_S)

    async with asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(keep_stalling(index)) for index in range(number)]
        while len(stalling.came) < number:  # connecting has an end, be it that the kernel gives up
            await asyncio.sleep(AGAIN_S / 10)
        await asyncio.sleep(1.2 * AGAIN_S)  # until all have been there for as long, or were refused once
        try:
            yield stalling
        finally:
            for client in clients:
                client.cancel()


async def _dribble(connection):
    for byte in get_request("/rating/dribbled"):
        if not connection.is_open:
            return
        connection.transport.write(bytes([byte]))
        await asyncio.sleep(1.0)
