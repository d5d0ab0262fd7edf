"""TeaStore: what a program can do with the store."""

import json
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from emporium.client import values
from emporium.client.calls import Calls, Given, new_request_id
from emporium.client.errors import BadAnswer, BadRequest, Conflict, Unavailable, Unsure
from emporium.client.names import named, path_of
from emporium.client.session import TeaSession
from emporium.client.values import Listing, Rating, Reading, Written
from vectorclock import VectorClock

DEADLINE_S = 5.0
LIST_S = 12.0  # the load balancer takes 10 s for a list, at most
CLOCK_BYTES = 4000  # of the header X-Clock: a load balancer takes 40 KB of headers, and nginx before it 8 KB
MOST_ROUNDS = 3
LOCKS = 64
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
NODE = REQUEST_ID  # the id of a node is made of the same characters


class TeaStore:
    """The store behind the load balancer at `url`. Use it in a with statement, or close() it.

    node         whose entry of the clocks `observe` advances. Programs that run at the same time need different ones,
                 and one that is started again should keep its own: a clock has room for 64
    deadline_s   within which each call is over, tries and waits between them included (of `list`: 12 s)
    connections  how many are kept open; more threads than that may use it all the same

    Threads may share it. All methods raise TeaError (errors.py); those which write and read may be repeated safely as
    said there. `request_id` goes to the services, which write it into their logs; without it one is drawn.
    """

    def __init__(
        self,
        url: str = "http://localhost:2500",
        *,
        node: str | None = None,
        deadline_s: float = DEADLINE_S,
        connections: int = 16,
    ) -> None:
        if node is not None and not NODE.fullmatch(node):
            raise ValueError(f"a node is 1 to 64 characters out of A-Z a-z 0-9 . _ -, not {node!r}")
        if not deadline_s > 0 or connections < 1:
            raise ValueError("deadline_s must be more than 0, and connections at least 1")
        self.node = node
        self.deadline_s = deadline_s
        self._calls = Calls(url, connections)
        self._observing = [threading.Lock() for _ in range(LOCKS)]
        self._begun: dict[str, int] = {}  # {tea: the count of an observe that is not known to be answered}

    @property
    def url(self) -> str:
        return self._calls.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        self._calls.close()

    # ---- ratings

    def observe(
        self, tea: str, rating: Rating, *, deadline_s: float | None = None, request_id: str | None = None
    ) -> Written:
        """Rate a tea, in the knowledge of all ratings that stand there now: yours replaces them.

        Reads strongly, advances our node's entry past all that was read, a deletion included, and writes. Someone who
        observes at the same time with another node has not seen yours: both stand side by side until the next one.
        Threads that share this TeaStore observe a tea one after the other.

        After Unsure it may simply be called again. Raises Conflict when others write with this very node all the time.
        """
        if self.node is None:
            raise ValueError('observe needs to know whose clock to advance: TeaStore(..., node="anna")')
        tea, ends, request_id = named(tea), self._ends(deadline_s), _id(request_id)
        with self._one_at_a_time(tea, ends, request_id):
            for _ in range(MOST_ROUNDS):
                seen = self._read(tea, ends, request_id).clock
                count = max(seen.asDict().get(self.node, 0), self._begun.get(tea, 0)) + 1
                self._begun[tea] = count
                written, tries = self._write(tea, rating, seen.update(self.node, count), ends, request_id)
                # Nothing can be newer than what is past all, unless another program writes with our node; and where an
                # earlier try was carried out, whoever has seen it.
                if written.outcome != "stale" or tries > 1:
                    self._begun.pop(tea, None)
                    return written
        raise Conflict(f"another program writes {tea} with the node {self.node}", request_id=request_id)

    def get(
        self,
        tea: str,
        *,
        weak: bool = False,
        seen: VectorClock | None = None,
        deadline_s: float | None = None,
        request_id: str | None = None,
    ) -> Reading:
        """What stands there. A tea that nobody has rated has no siblings, and raises nothing.

        weak  from any shard, perhaps out of date; goes on where the tea's primary is away
        seen  of a weak read: the answer is at or above this clock, as far as the primary knows it (`session` keeps it)
        """
        return self._read(named(tea), self._ends(deadline_s), _id(request_id), weak, seen)

    def put(
        self,
        tea: str,
        rating: Rating,
        clock: VectorClock,
        *,
        deadline_s: float | None = None,
        request_id: str | None = None,
    ) -> Written:
        """Rate a tea at this clock, which is yours to advance; `observe` does that for you."""
        return self._write(named(tea), rating, clock, self._ends(deadline_s), _id(request_id))[0]

    def delete(self, tea: str, *, deadline_s: float | None = None, request_id: str | None = None) -> None:
        """Delete what stands there now. Raises NotRated when there is nothing.

        After Unsure look first (`get`): a second delete would take, too, what has been written meanwhile.
        """
        request_id = _id(request_id)
        self._calls.call("DELETE", path_of(named(tea)), self._ends(deadline_s), request_id)

    def session(self) -> TeaSession:
        """One person's view: weak reads that show what this session has written, and never less than it has read."""
        return TeaSession(self)

    # ---- the store

    def list(self, *, deadline_s: float | None = None, request_id: str | None = None) -> Listing:
        """All teas, at most about 10,000."""
        ends = _from_now(LIST_S if deadline_s is None else deadline_s)
        given = self._calls.call("GET", "/ratings", ends, _id(request_id), answer_s=LIST_S)
        with _understood(given):
            return values.read_listing(given.body, given.request_id)

    def status(self, *, deadline_s: float | None = None, request_id: str | None = None) -> dict[str, Any]:
        """How the load balancer is: its `ndb`, and its `shards` with their addresses (docs/protocol.md)."""
        given = self._calls.call("GET", "/status", self._ends(deadline_s), _id(request_id))
        with _understood(given):
            return values.read_object(given.body)

    # ---- underneath

    def _ends(self, deadline_s: float | None) -> float:
        return _from_now(self.deadline_s if deadline_s is None else deadline_s)

    def _read(
        self, tea: str, ends: float, request_id: str, weak: bool = False, seen: VectorClock | None = None
    ) -> Reading:
        headers: Mapping[str, str] = {}
        if weak and seen is not None and seen.asDict():
            told = _json(seen.asDict())
            weak = len(told) <= CLOCK_BYTES  # else the primary, which need not be told
            headers = {"X-Clock": told.decode()} if weak else {}
        path = path_of(tea) + ("?consistency=weak" if weak else "")
        given = self._calls.call("GET", path, ends, request_id, headers=headers)
        with _understood(given):
            return values.read_reading(tea, given.body, given.headers, given.request_id)

    def _write(self, tea: str, rating: Rating, clock: VectorClock, ends: float, request_id: str) -> tuple[Written, int]:
        """The Written, and with how many tries."""
        if not isinstance(clock, VectorClock):
            raise TypeError(f"a clock is a VectorClock, as VectorClock.fromDict makes it of a dict, not {clock!r}")
        clock = VectorClock.fromDict(clock.asDict())  # the caller may go on with the given one
        try:
            body = _json({"rating": rating, "clock": clock.asDict()})
        except (TypeError, ValueError) as error:
            raise BadRequest(f"a rating is a finite number, at a VectorClock: {error}") from error
        try:
            given = self._calls.call("PUT", path_of(tea), ends, request_id, body)
        except Unsure as error:
            error.clock = clock
            raise
        with _understood(given):
            return values.read_written(tea, clock, given.body, given.headers, given.request_id), given.tries

    @contextmanager
    def _one_at_a_time(self, tea: str, ends: float, request_id: str) -> Iterator[None]:
        """Inside, no other thread of this TeaStore observes the tea: they share one entry of the clock."""
        lock = self._observing[hash(tea) % LOCKS]
        if not lock.acquire(timeout=min(max(0.0, ends - time.monotonic()), threading.TIMEOUT_MAX)):
            raise Unavailable(f"other threads observe {tea} all the time", request_id=request_id)
        try:
            yield
        finally:
            lock.release()


@contextmanager
def _understood(given: Given) -> Iterator[None]:
    """A ValueError inside becomes a BadAnswer."""
    try:
        yield
    except ValueError as error:
        raise BadAnswer(f"this is not how a tea store answers: {error}", 200, given.request_id) from error


def _from_now(deadline_s: float) -> float:
    if math.isnan(deadline_s):
        raise ValueError("a deadline is a number of seconds, not NaN, which is never over")
    return time.monotonic() + deadline_s


def _id(request_id: str | None) -> str:
    if request_id is None:
        return new_request_id()
    if not REQUEST_ID.fullmatch(request_id):
        raise ValueError(f"a request id is 1 to 64 characters out of A-Z a-z 0-9 . _ -, not {request_id!r}")
    return request_id


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
