"""What a shard records of its steps, in the words of docs/protocol.md (GET /trace).

A write passes  arrived, merged, stored, remembered, due, told, answered;  gossip  heard, merged, stored, remembered,
due, told. Where the digest coalesces either may end as `replaced` instead. All but `arrived` and `answered` are
recorded in a turn, and so by one thread at a time.

An operation without a request is not recorded (emporium/sampling.py). Gossip without one is told by servers that know
of none, or of a write that was not chosen: it is recorded while there is little of it.
"""

from collections import deque

from emporium.shard import Delete, Read, TooMany, Write, Written
from emporium.siblings import Value
from emporium.wire import Rated

MOST_IN_DIGEST = 256  # recorded ones that are known to wait in the digest
METHODS = {Write: "PUT", Read: "GET", Delete: "DELETE"}


class ShardTrace:
    """The Trace of the shard at this Place: each method says what has just happened."""

    def __init__(self, place, trace):
        self._place = place
        self._redis = f"r{place.shard_id}"
        self._trace, self._record = trace, trace.record
        self._takes_unnamed = None  # in this step; None: not yet asked
        self._in_digest = deque(maxlen=MOST_IN_DIGEST)  # Records that this process has put there, and recorded

    def arrived(self, operations):
        """These Writes, Reads and Deletes are to be carried out."""
        for each in _named(operations):
            rated = Rated(each.sibling.rating, each.sibling.clock.asDict()) if isinstance(each, Write) else None
            self._record("arrived", each.tea, each.request, rated, method=METHODS[type(each)])

    def answered(self, operations, came_to, outcomes):
        """What they came to is on its way back, as these batch.Outcomes."""
        for each, value, outcome in zip(operations, came_to, outcomes, strict=True):
            if each.request is not None:
                self._record(
                    "answered", each.tea, each.request, _value_of(value), status=outcome.status, outcome=outcome.merge
                )

    def begun(self):
        """A step has begun."""
        self._takes_unnamed = None

    def merged(self, merged):
        """Each of these Merged has been merged with what stood there; nothing is stored yet."""
        for primary, tea, value, request, outcome in filter(self._is_chosen, merged):
            self._record("merged", tea, request, value, primary=primary, outcome=outcome)

    def heard(self, records, merged, senseless):
        """These Records came from the predecessor, and were merged; those that came home were dropped. Beside them came
        these `senseless` texts."""
        channel, name = self._place.predecessor, self._place.name
        for primary, tea, value, request in filter(self._is_chosen, records):
            self._record("heard", tea, request, value, primary=primary, channel=channel)
            if primary == name:
                self._record("merged", tea, request, value, primary=primary, outcome="home")
        self.merged(merged)
        for _ in senseless:
            self._record("merged", outcome="aside")

    def stored(self, changes, digest):
        """These Changes are in Redis; `digest` is the Digest as it stood before."""
        for primary, tea, value, request, outcome in filter(self._is_chosen, changes.merged):
            if outcome in ("stored", "changed"):
                self._record("stored", tea, request, value, primary=primary, peer=self._redis)
        for record in filter(self._is_chosen, changes.due_at_once):
            self._note("due", record)
        for merged in self._replaced_at_once(changes):
            self._record("replaced", merged.tea, merged.request, merged.value, primary=merged.primary)
        if digest.count == 0:
            self._in_digest.clear()
        count = digest.count - len(changes.replaced)
        for record in changes.remembered:
            count += 1
            if self._place.coalesces:
                self._forget_older(record)
            if self._is_chosen(record):
                self._note("remembered", record, digest=f"{count} of {self._place.digest_length}")
                self._in_digest.append(record)
            if count >= self._place.digest_length:
                for due in self._in_digest:
                    self._note("due", due)
                self._in_digest.clear()
                count = 0

    def removed(self, delete):
        """As the course deletes: in this Redis alone."""
        for each in _named([delete]):
            self._record("stored", each.tea, each.request, peer=self._redis, outcome="removed")

    def told(self, texts):
        """The queue has these records, JSON texts."""
        self._trace.record_texts("told", texts, self._place.name)

    def read(self, operations, found):
        """The Reads among them are answered from these values, {tea: Value or Damaged}."""
        for each in _named(operations):
            if isinstance(each, Read) and isinstance(value := found[each.tea], Value):
                self._record("read", each.tea, each.request, value)

    def compared(self, records, values):
        """Another shard gave these Records, and `values` changed by them, {tea: Value}."""
        self.begun()
        for primary, tea, told, request in filter(self._is_chosen, records):
            value = values.get(tea)
            outcome = "same" if value is None else "changed"
            self._record("compared", tea, request, value or told, peer=primary, outcome=outcome)

    def _is_chosen(self, thing):
        """Whether this Merged or Record is recorded."""
        if thing.request is not None:
            return True
        if self._takes_unnamed is None:
            self._takes_unnamed = self._trace.has_room_for_unnamed()
            self._trace.unrecorded += not self._takes_unnamed
        return self._takes_unnamed

    def _replaced_at_once(self, changes):
        """The Merged that never came into the digest, since a newer one of their tea came in the same step."""
        place = self._place
        if not (place.coalesces and place.tells_requests and place.has_neighbours):
            return []
        told = {record.request for record in (*changes.remembered, *changes.due_at_once)}
        by_shards = [each for each in _named(changes.merged) if each.outcome != "aside" and place.knows(each.primary)]
        return [each for each in by_shards if each.request not in told]

    def _forget_older(self, record):
        for older in [each for each in self._in_digest if each[:2] == record[:2]]:
            self._in_digest.remove(older)
            self._note("replaced", older)

    def _note(self, name, record, **members):
        self._record(name, record.key, record.request, record.value, primary=record.primary, **members)


def _named(operations):
    return [each for each in operations if each.request is not None]


def _value_of(came_to):
    """The Value that stands after an operation; None where it came to something else."""
    if isinstance(came_to, Value):
        return came_to
    return came_to.value if isinstance(came_to, Written | TooMany) else None
