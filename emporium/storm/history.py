"""What the clients asked and saw: one Operation a line, as JSON, in a file that is written while the storm goes on.

A time is in seconds since the storm began, on one monotonic clock that all clients share. It is taken before the
request is sent and after the answer is read, so an operation took effect, if it did, between its two times.

    ok       it was answered with success
    fail     it surely did nothing: refused, 503, 409
    unknown  it may have taken effect, or may yet: 504, no answer
"""

import threading
from typing import NamedTuple

import msgspec

from vectorclock import VectorClock

WRITE, READ, WEAK, DELETE = "write", "read", "weak", "delete"
OK, FAIL, UNKNOWN = "ok", "fail", "unknown"


class Pair(NamedTuple):
    """A rating and its clock, as entries sorted by node, so that it can be a key. Rating None: a tombstone."""

    rating: int | float | None
    clock: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, rating, entries):
        return cls(rating, tuple(sorted(entries.items())))

    def dominates(self, other):
        """Whether the other pair cannot stand beside this one."""
        mine, theirs = VectorClock.fromDict(dict(self.clock)), VectorClock.fromDict(dict(other.clock))
        buries = self.rating is None and other.rating is not None and theirs == mine
        return theirs < mine or buries

    def __str__(self):
        entries = ",".join(f"{node}={count}" for node, count in self.clock)
        return f"{'deleted' if self.rating is None else self.rating} at {entries}"


class Operation(msgspec.Struct, omit_defaults=True, frozen=True):
    """One operation of one client, from its invocation to its outcome.

    written  of a write
    seen     of a read that is ok: the siblings in the answer
    session  of a weak read that carried X-Clock: what it asked for
    status   of the answer; 0 when there was none
    odd      what the protocol does not allow in the answer, in words
    """

    client: int
    what: str
    tea: str
    begin: float
    end: float
    outcome: str
    written: Pair | None = None
    seen: tuple[Pair, ...] = ()
    session: dict[str, int] | None = None
    status: int = 0
    odd: str | None = None

    @property
    def is_ok(self):
        return self.outcome == OK


class History:
    """Safe to share between threads."""

    def __init__(self, path):
        self.operations = []
        self._lock = threading.Lock()
        self._file = open(path, "wb")  # noqa: SIM115  closed by `close`

    def add(self, operation):
        line = msgspec.json.encode(operation) + b"\n"
        with self._lock:
            self.operations.append(operation)
            self._file.write(line)

    def close(self):
        self._file.close()


def read(path):
    """The Operations in this file."""
    with open(path, "rb") as file:
        return [msgspec.json.decode(line, type=Operation) for line in file]


def by_tea(operations):
    """{tea: its operations}, in their order."""
    found = {}
    for operation in operations:
        found.setdefault(operation.tea, []).append(operation)
    return found
