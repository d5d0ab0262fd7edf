"""TeaSession: weak reads for one person, who never sees less than before.

A weak read may come from any shard, also from one that has not heard of what this person has written or read. The
session keeps the clock of what it has seen of each tea, and sends it along: then the load balancer takes the answer of
no shard that is behind it (docs/protocol.md, X-Clock).
"""

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from emporium.client.names import named
from emporium.client.values import Rating, Reading, Written
from vectorclock import VectorClock

if TYPE_CHECKING:
    from emporium.client.store import TeaStore


class TeaSession:
    """What it has written it reads, and what it has read it never reads an older state of, also with weak reads.

    Both as far as the tea's primary still knows it (docs/guarantees.md). Made by TeaStore.session(). It keeps a clock
    for each tea that it was used for, so it is meant for one person or one task. Threads may share it.
    """

    def __init__(self, store: "TeaStore") -> None:
        self._store = store
        self._lock = threading.Lock()
        self._seen: dict[str, VectorClock] = {}
        # Teas whose next read is strong: a deletion has the clock of what it deleted, so a shard that has not heard of
        # it is not behind that clock. Each with a mark of its own, so that a read takes back none that came meanwhile.
        self._buried: dict[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to be done: the connections are the store's."""

    def seen(self, tea: str) -> VectorClock:
        """The clock that subsumes all that this session has seen of the tea; a copy."""
        tea = named(tea)
        with self._lock:
            return VectorClock.fromDict(self._seen.get(tea, VectorClock()).asDict())

    def get(self, tea: str, *, weak: bool = True, deadline_s: float | None = None) -> Reading:
        """As TeaStore.get, and at or above all that was seen. Where a deletion stands it reads strongly."""
        tea = named(tea)
        with self._lock:
            mark = self._buried.get(tea)
        reading = self._store.get(tea, weak=weak and mark is None, seen=self.seen(tea), deadline_s=deadline_s)
        self._note(tea, reading.clock)
        with self._lock:
            if reading.is_buried:
                self._buried[tea] = object()
            elif self._buried.get(tea) is mark:
                self._buried.pop(tea, None)
        return reading

    def observe(self, tea: str, rating: Rating, *, deadline_s: float | None = None) -> Written:
        """As TeaStore.observe."""
        written = self._store.observe(tea, rating, deadline_s=deadline_s)
        self._note(written.tea, written.clock)
        return written

    def put(self, tea: str, rating: Rating, clock: VectorClock, *, deadline_s: float | None = None) -> Written:
        """As TeaStore.put."""
        written = self._store.put(tea, rating, clock, deadline_s=deadline_s)
        self._note(written.tea, written.clock)
        return written

    def delete(self, tea: str, *, deadline_s: float | None = None) -> None:
        """As TeaStore.delete."""
        tea = named(tea)
        try:
            self._store.delete(tea, deadline_s=deadline_s)
        finally:  # it may be done though the answer did not come
            with self._lock:
                self._buried[tea] = object()

    def _note(self, tea: str, clock: VectorClock) -> None:
        with self._lock:
            self._seen[tea] = VectorClock.converge([clock, self._seen.get(tea, VectorClock())])
