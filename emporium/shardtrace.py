"""What a shard records of its steps, in the words of docs/protocol.md (GET /trace).

A write passes  arrived, merged, stored, remembered, due, told, answered;  gossip  heard, merged, stored, remembered,
due, told. All but `arrived` and `answered` are recorded in a turn, and so by one thread at a time.
"""

from collections import deque

from emporium.shard import Delete, Read, TooMany, Write, Written
from emporium.siblings import Value
from emporium.trace import Event, weight_of, weight_of_siblings
from emporium.wire import Rated

MOST_IN_DIGEST = 256  # records of a digest that are known to wait there
METHODS = {Write: "PUT", Read: "GET", Delete: "DELETE"}


class ShardTrace:
    """The Trace of the shard at this Place: each method says what has just happened."""

    def __init__(self, place, trace):
        self._place = place
        self._redis = f"r{place.shard_id}"
        self._trace = trace
        self._in_digest = deque(maxlen=MOST_IN_DIGEST)  # Records that this process has put there, the newest

    def arrived(self, operations):
        """These Writes, Reads and Deletes are to be carried out."""
        writes = [each.sibling for each in operations if isinstance(each, Write)]
        self._trace.record(_arrived, operations, None, weight_of_siblings(writes))

    def answered(self, operations, came_to, outcomes):
        """What they came to is on its way back, as these batch.Outcomes."""
        answers = zip(operations, map(_value_of, came_to), outcomes, strict=True)
        self._trace.record(_answered, [(each, value, is_.status, is_.merge) for each, value, is_ in answers])

    def merged(self, merged):
        """Each of these Merged has been merged with what stood there; nothing is stored yet."""
        self._trace.record(_merged, merged[:], None, weight_of([each.value for each in merged]))

    def heard(self, records, merged, senseless):
        """These Records came from the predecessor, and were merged; those that came home were dropped. Beside them came
        these `senseless` texts."""
        name, record = self._place.name, self._trace.record
        record(_heard, records, self._place.predecessor, weight_of([each.value for each in records]))
        record(_came_home, [each for each in records if each.primary == name])
        self.merged(merged)
        record(_senseless, [None] * len(senseless))

    def stored(self, changes, digest):
        """These Changes are in Redis; `digest` is the Digest as it stood before."""
        record = self._trace.record
        record(_stored, [each for each in changes.merged if each.outcome in ("stored", "changed")], self._redis)
        record(_due, changes.due_at_once)
        record(_remembered_or_due, self._digested(changes, digest), self._place.digest_length)

    def removed(self, delete):
        """As the course deletes: in this Redis alone."""
        self._trace.record(_removed, [delete], self._redis)

    def told(self, texts):
        """The queue has these records, JSON texts."""
        self._trace.record_texts("told", texts, self._place.name)

    def read(self, operations, found):
        """The Reads among them are answered from these values, {tea: Value or Damaged}."""
        read = [(each, found[each.tea]) for each in operations if isinstance(each, Read)]
        read = [(each, value) for each, value in read if isinstance(value, Value)]
        self._trace.record(_read, read, None, weight_of([value for _, value in read]))

    def compared(self, records, values):
        """Another shard gave these Records, and `values` changed by them, {tea: Value}."""
        compared = [(each, values.get(each.key)) for each in records]
        self._trace.record(_compared, compared, None, weight_of([value or each.value for each, value in compared]))

    def _digested(self, changes, digest):
        """(Record, how many the digest has with it) of each that went into it, and (Record, 0) of each that is due."""
        digested = []
        if digest.count == 0:
            self._in_digest.clear()
        count = digest.count - len(changes.replaced)
        for record in changes.remembered:
            count += 1
            digested.append((record, count))
            self._put_in_digest(record)
            if count >= self._place.digest_length:
                digested += [(each, 0) for each in self._in_digest]
                self._in_digest.clear()
                count = 0
        return digested

    def _put_in_digest(self, record):
        if self._place.coalesces:
            for older in [each for each in self._in_digest if each[:2] == record[:2]]:
                self._in_digest.remove(older)
        self._in_digest.append(record)


def _value_of(came_to):
    """The Value that stands after an operation; None where it came to something else."""
    if isinstance(came_to, Value):
        return came_to
    return came_to.value if isinstance(came_to, Written | TooMany) else None


# ---- how an Entry of each kind is told: tell(thing, about)


def _arrived(asked, _):
    rated = None
    if isinstance(asked, Write):
        rated = Rated(asked.sibling.rating, asked.sibling.clock.asDict())
    return Event("arrived", asked.tea, asked.request, rated, {"method": METHODS[type(asked)]})


def _answered(answered, _):
    asked, value, status, merge = answered
    return Event("answered", asked.tea, asked.request, value, {"status": status, "outcome": merge})


def _merged(merged, _):
    primary, tea, value, request, outcome = merged
    return Event("merged", tea, request, value, {"primary": primary, "outcome": outcome})


def _heard(record, channel):
    return _of_record("heard", record, channel=channel)


def _came_home(record, _):
    return _of_record("merged", record, outcome="home")


def _senseless(_nothing, _):
    return Event("merged", members={"outcome": "aside"})


def _stored(merged, redis):
    return Event("stored", merged.tea, merged.request, merged.value, {"primary": merged.primary, "peer": redis})


def _due(record, _):
    return _of_record("due", record)


def _remembered_or_due(digested, digest_length):
    record, count = digested
    return _of_record("remembered", record, digest=f"{count} of {digest_length}") if count else _due(record, None)


def _removed(delete, redis):
    return Event("stored", delete.tea, delete.request, members={"peer": redis, "outcome": "removed"})


def _read(read, _):
    asked, value = read
    return Event("read", asked.tea, asked.request, value)


def _compared(compared, _):
    record, value = compared
    outcome = "same" if value is None else "changed"
    members = {"peer": record.primary, "outcome": outcome}
    return Event("compared", record.key, record.request, value or record.value, members)


def _of_record(name, record, **members):
    return Event(name, record.key, record.request, record.value, {"primary": record.primary, **members})
