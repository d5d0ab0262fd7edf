"""The fault proxy: one process that carries the bytes of every link, and does not understand one of them.

    python -m emporium.storm.proxy '{"db0>q": [12001, 6000], ...}'      link: [its port, the port it leads to]

Commands come on standard input, one a line, and each is answered with a line: how often the link has harmed since the
start, in bytes swallowed or delayed and in connections reset. It ends when its standard input does.

    {"link": "db0>q", "mode": "delay", "delay_s": 0.2}       {"harm": 0}

    pass       all is carried
    delay      all comes so much later
    drop       nothing arrives, in either direction, and nobody is told
    half-open  what is asked arrives; the answers do not
    reset      connections are reset, those that stand and those that come

TCP has no holes: of a connection that has lost a byte nothing passes in that direction any more, also when the link
has healed. And where nobody listens, a link refuses connections, so that its user can tell that nothing was done.
"""

import asyncio
import json
import socket
import struct
import sys
from collections import deque

PASS, DELAY, DROP, HALF_OPEN, RESET = "pass", "delay", "drop", "half-open", "reset"
MODES = (PASS, DELAY, DROP, HALF_OPEN, RESET)
PROBE_S = 0.02
REACH_S = 1.0  # for a connection on this machine that is more than enough


class Link:
    """One port on which connections come, and the port that they lead to."""

    def __init__(self, port, target):
        self.port, self.target = port, target
        self.mode, self.delay_s, self.harm = PASS, 0.0, 0
        self.ends = set()  # of the connections that are carried
        self._bereft = []  # ends whose other end closed while nothing could be told
        self._tasks = set()
        self._is_probing = False
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.setblocking(False)
        self._listen()

    def set(self, mode, delay_s=0.0):
        self.mode, self.delay_s = mode, delay_s
        if mode == RESET:
            for end in [end for end in self.ends if end.is_asking]:
                self._reset(end)
        if mode not in (DROP, HALF_OPEN):
            for end in self._bereft:
                end.transport.close()
            self._bereft = []

    def swallows(self, end):
        """Whether what comes in at this end goes nowhere now."""
        return self.mode == DROP or (self.mode == HALF_OPEN and not end.is_asking)

    def close_behind(self, end):
        """One end of a connection has closed: the other end hears of it, unless nothing passes."""
        self.ends.discard(end)
        if not end.is_asking:
            self.look_for_target()
        if end.other and not end.other.transport.is_closing():
            if self.swallows(end):
                self._bereft.append(end.other)
            else:
                end.other.close_soon()

    def look_for_target(self):
        """Listen as long as the target does."""
        if not self._is_probing:
            self._is_probing = True
            self._spawn(self._probe())

    def _listen(self):
        self._listener.listen(128)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self):
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the client has gone again
            return
        if self.mode == RESET:
            self.harm += 1
            _close_by_reset(connection)
            return
        self._spawn(self._carry(connection))

    async def _carry(self, connection):
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        _, asking = await loop.connect_accepted_socket(lambda: End(self), connection)
        if self.mode == DROP:
            asking.transport.resume_reading()  # into the void
            return
        try:
            async with asyncio.timeout(REACH_S):
                await loop.create_connection(lambda: End(self, asking), "127.0.0.1", self.target)
        except (OSError, TimeoutError):
            self._reset(asking, counts=False)
            self.look_for_target()

    async def _probe(self):
        loop = asyncio.get_running_loop()
        is_listening = True
        while not await self._target_listens():
            if is_listening:
                is_listening = False
                loop.remove_reader(self._listener)
                self._listener.shutdown(socket.SHUT_RDWR)  # it stays bound, and refuses
            await asyncio.sleep(PROBE_S)
        if not is_listening:
            self._listen()
        self._is_probing = False

    async def _target_listens(self):
        with socket.socket() as probe:
            probe.setblocking(False)
            try:
                # Not wait_for, which forgets that the task is cancelled when the answer comes at the same moment.
                async with asyncio.timeout(REACH_S):
                    await asyncio.get_running_loop().sock_connect(probe, ("127.0.0.1", self.target))
            except ConnectionRefusedError:
                return False
            except (OSError, TimeoutError):  # it is there, and has no time
                return True
        return True

    def _reset(self, end, counts=True):
        self.harm += counts
        for each in (end, end.other):
            if each:
                self.ends.discard(each)
                _linger_not(each.transport.get_extra_info("socket"))
                each.transport.abort()

    def _spawn(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # a loop keeps only weak references to its tasks
        task.add_done_callback(self._tasks.discard)


class End(asyncio.Protocol):
    """One end of a carried connection: what comes in here goes out at the other one, as the link allows.

    The asking end is the one that came to the link; it waits until the other one stands.
    """

    def __init__(self, link, asking=None):
        self.link, self.other = link, asking
        self.is_asking = asking is None
        self.transport = None
        self._has_lost = False  # something that came in here
        self._late = deque()  # (when it is due, bytes) that came in here
        self._is_closing_late = False

    def connection_made(self, transport):
        self.transport = transport
        self.link.ends.add(self)
        if self.is_asking:
            transport.pause_reading()
        elif self.other.transport.is_closing():
            transport.abort()
        else:
            self.other.other = self
            self.other.transport.resume_reading()

    def data_received(self, data):
        link = self.link
        if self._has_lost or not self.other or link.swallows(self):
            self._has_lost = True
            link.harm += len(data)
        elif link.mode == DELAY or self._late:
            link.harm += len(data)
            now = asyncio.get_running_loop().time()
            self._late.append((now + link.delay_s, data))
            if len(self._late) == 1:
                asyncio.get_running_loop().call_later(link.delay_s, self._carry_late)
        else:
            self.other.transport.write(data)

    def close_soon(self):
        """Close when all that comes late has gone out here."""
        if self.other and self.other._late:
            self.other._is_closing_late = True
        else:
            self.transport.close()

    def _carry_late(self):
        if not self._late:
            return
        _, data = self._late.popleft()
        if self.link.swallows(self):
            self._has_lost = True
            self._late.clear()
            return
        self.other.transport.write(data)
        if self._late:
            left_s = self._late[0][0] - asyncio.get_running_loop().time()
            asyncio.get_running_loop().call_later(max(0, left_s), self._carry_late)
        elif self._is_closing_late:
            self.other.transport.close()

    def pause_writing(self):
        if self.other and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self):
        if self.other and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, _error):
        self.link.close_behind(self)


def _linger_not(connection):
    """Closing it sends a reset."""
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _close_by_reset(connection):
    _linger_not(connection)
    connection.close()


async def serve(ports):
    """Carry until standard input ends. `ports`: {link: [its port, the port it leads to]}."""
    links = {name: Link(*pair) for name, pair in ports.items()}
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print("ready", flush=True)
    while line := await commands.readline():
        asked = json.loads(line)
        link = links[asked["link"]]
        link.set(asked["mode"], asked.get("delay_s", 0.0))
        print(json.dumps({"harm": link.harm}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
