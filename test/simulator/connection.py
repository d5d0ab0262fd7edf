"""How a store reaches its Redis: a connection as the library's, with all that can happen on the way."""

from collections import deque

from redis.exceptions import ConnectionError, TimeoutError

from emporium.redisconnection import DEADLINE_S
from simulator.memoryredis import READS, Session


class Connection:
    """Between the process of a shard and the Redis of its node.

    Faults that it can meet, beside death: redis-refuses (nothing is done), redis-silent (nothing is done, and the
    deadline passes), redis-unheard (all is done, and the answer is lost), redis-late (done only later).
    """

    def __init__(self, world, process, node):
        self._world, self._process, self._node = world, process, node
        self._session = None
        self._answers = ()

    @property
    def is_connected(self):
        return self._session is not None

    def can_read(self):
        if self._session is not None and not self._stands(self._session):
            self._session = None
            raise ConnectionError("Connection closed by server.")
        return bool(self._answers)

    def connect(self):
        if self._process.is_dead or self._node.is_redis_down:
            self._node.redis_missed()
            raise ConnectionError("Connection refused.")
        self._session = Session(self._node.redis)
        self._session.server_life = self._node.redis_life

    def disconnect(self):
        self._session, self._answers = None, ()

    def pack_commands(self, commands):
        return [
            tuple([word.encode() if type(word) is str else _packed(word) for word in command]) for command in commands
        ]

    def send_packed_command(self, commands):
        world, process = self._world, self._process
        fault = world.effect(process, "redis")
        self._note("asks", commands, fault)
        session = self._session
        if session is None or not self._stands(session):
            self._node.redis_missed()
            self._fail(ConnectionError("Connection closed by server."))
        kind = fault.kind if fault else None
        if kind in ("redis-refuses", "redis-silent", "redis-late"):
            world.hit(fault)
            if kind == "redis-late":
                world.later(fault.seconds, lambda: self._late(session, commands))
            if kind == "redis-refuses":
                self._fail(ConnectionError("Connection closed by server."))
            world.now += DEADLINE_S
            self._fail(TimeoutError("Timeout reading from socket"))
        answers = session.execute(commands)
        world.done(process, fault)
        if kind == "redis-unheard":
            world.hit(fault)
            world.now += DEADLINE_S
            answers = [TimeoutError("Timeout reading from socket")]
        self._answers = deque(answers)

    def read_response(self):
        answer = self._answers.popleft()
        if isinstance(answer, Exception):
            if isinstance(answer, TimeoutError):
                self.disconnect()
            raise answer
        return answer

    def _late(self, session, commands):
        if self._stands(session):
            self._note("late", commands)
            session.execute(commands)

    def _stands(self, session):
        return session.server_life == self._node.redis_life and not self._node.is_redis_down

    def _fail(self, error):
        self.disconnect()
        raise error

    def _note(self, what, commands, fault=None):
        if self._world.trace is None:
            return
        # What is read at once stands in a set's order.
        reads = sorted(command for command in commands if command[0] in READS)
        others = [command for command in commands if command[0] not in READS]
        told = "; ".join(b" ".join(command).decode(errors="replace") for command in [*others, *reads])
        self._world.note(self._process.name, f"redis {what}", told, f"<{fault.kind}>" if fault else "")


def _packed(word):
    return word if type(word) is bytes else repr(word).encode()
