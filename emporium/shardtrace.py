"""What a shard records of its steps, in the words of docs/protocol.md (GET /trace).

A write passes  arrived, merged, stored, remembered, due, told, answered;  gossip  heard, merged, stored, remembered,
due, told. All but `arrived` and `answered` are recorded in a turn, and so by one thread at a time.
"""

from collections import deque

from emporium.shard import Delete, Read, Write
from emporium.siblings import Value

MOST_IN_DIGEST = 256  # records of a digest that are known to wait there
METHODS = {Write: "PUT", Read: "GET", Delete: "DELETE"}


class ShardTrace:
    """The Trace of the shard at this Place: each method says what has just happened."""

    def __init__(self, place, trace):
        self._place = place
        self._redis = f"r{place.shard_id}"
        self._record, self._record_all = trace.record, trace.record_all
        self._in_digest = deque(maxlen=MOST_IN_DIGEST)  # Records that this process has put there, the newest

    def arrived(self, operations):
        """These Writes, Reads and Deletes are to be carried out."""
        for each in operations:
            self._record("arrived", each.tea, each.request, method=METHODS[type(each)])

    def answered(self, operations, outcomes):
        """Their batch.Outcomes are on their way back."""
        for each, outcome in zip(operations, outcomes, strict=True):
            self._record("answered", each.tea, each.request, status=outcome.status, outcome=outcome.merge)

    def merged(self, merged):
        """Each of these Merged has been merged with what stood there; nothing is stored yet."""
        for primary, tea, value, request, outcome in merged:
            self._record("merged", tea, request, value, primary=primary, outcome=outcome)

    def heard(self, records, merged, senseless):
        """These Records came from the predecessor, and were merged; those that came home were dropped. Beside them came
        so many `senseless` texts."""
        channel, name = self._place.predecessor, self._place.name
        for primary, tea, value, request in records:
            self._record("heard", tea, request, value, primary=primary, channel=channel)
            if primary == name:
                self._record("merged", tea, request, value, primary=primary, outcome="home")
        self.merged(merged)
        for _ in senseless:
            self._record("merged", outcome="aside")

    def stored(self, changes, digest):
        """These Changes are in Redis; `digest` is the Digest as it stood before."""
        for primary, tea, value, request, outcome in changes.merged:
            if outcome in ("stored", "changed"):
                self._record("stored", tea, request, value, primary=primary, peer=self._redis)
        for record in changes.due_at_once:
            self._note("due", record)
        if digest.count == 0:
            self._in_digest.clear()
        count = digest.count - len(changes.replaced)
        for record in changes.remembered:
            count += 1
            self._note("remembered", record, digest=f"{count} of {self._place.digest_length}")
            self._put_in_digest(record)
            if count >= self._place.digest_length:
                for due in self._in_digest:
                    self._note("due", due)
                self._in_digest.clear()
                count = 0

    def removed(self, delete):
        """As the course deletes: in this Redis alone."""
        self._record("stored", delete.tea, delete.request, peer=self._redis, outcome="removed")

    def told(self, texts):
        """The queue has these records, JSON texts."""
        self._record_all("told", texts, channel=self._place.name)

    def read(self, operations, found):
        """The Reads among them are answered from these values, {tea: Value or Damaged}."""
        for each in operations:
            if isinstance(each, Read) and isinstance(value := found[each.tea], Value):
                self._record("read", each.tea, each.request, value)

    def compared(self, records, values):
        """Another shard gave these Records, and `values` changed by them, {tea: Value}."""
        for primary, tea, told, request in records:
            value = values.get(tea)
            outcome = "same" if value is None else "changed"
            self._record("compared", tea, request, value or told, peer=primary, outcome=outcome)

    def _put_in_digest(self, record):
        if self._place.coalesces:
            for older in [each for each in self._in_digest if each[:2] == record[:2]]:
                self._in_digest.remove(older)
        self._in_digest.append(record)

    def _note(self, name, record, **members):
        self._record(name, record.key, record.request, record.value, primary=record.primary, **members)
