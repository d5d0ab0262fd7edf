"""Counting without a lock: what one thread at a time counts, and anyone may read while it does.

A reader may be one count behind, and sees no half of one.
"""

from bisect import bisect_left

from emporium.shard import TooMany, Written
from emporium.siblings import Damaged

# (source, outcome) of every merge there is: each is counted from 0 on.
MERGES = [
    *(("write", outcome) for outcome in ("stored", "stale", "same", "refused", "damaged")),
    *(("gossip", outcome) for outcome in ("changed", "same", "home", "aside", "damaged")),
    *(("replica", outcome) for outcome in ("changed", "same", "refused", "damaged")),
]
SIBLINGS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
TOGETHER = (1, 2, 4, 8, 16, 32, 64, 128)


class Sizes:
    """How many things there were of which size. `bounds`: the largest size of each bucket but the last, ascending."""

    def __init__(self, bounds):
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0

    def add(self, size):
        self._counts[bisect_left(self._bounds, size)] += 1
        self._sum += size

    def include(self, other):
        """Count these Sizes of the same bounds, too."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self._sum += other._sum

    @property
    def count(self):
        return sum(self._counts)

    def buckets(self):
        """([(bound as text, how many are at most so large), ...], the sum of all sizes)."""
        found, count, total = [], 0, self._sum
        for bound, here in zip((*map(float, self._bounds), "+Inf"), list(self._counts), strict=True):
            count += here
            found.append((str(bound), count))
        return found, total


class Tally:
    """What the steps and merges of one shard came to since it started. Counted by whoever has the shard's turn.

    operations  of users, that were carried out
    told        records that the queue has taken
    merges      {(source, outcome): how many}, the keys those of MERGES
    siblings    how many a value had after a merge, tombstones included
    """

    def __init__(self):
        self.operations = 0
        self.told = 0
        self.merges = dict.fromkeys(MERGES, 0)
        self.siblings = Sizes(SIBLINGS)

    def wrote(self, written):
        """Writes, and deletes that leave tombstones, came to this, as shard.merge_writes says it."""
        for came_to in written:
            match came_to:
                case Written(value, outcome):
                    self._count("write", outcome, len(value.siblings))
                case TooMany():
                    self._count("write", "refused")
                case Damaged():
                    self._count("write", "damaged")

    def heard(self, records):
        """This became of gossip records, as shard.Changes.heard has it, and it is stored."""
        for outcome, siblings in records:
            self._count("gossip", outcome, siblings)

    def compared(self, records):
        """The same of what other shards gave, not by gossip."""
        for outcome, siblings in records:
            self._count("replica", outcome, siblings)

    def _count(self, source, outcome, siblings=None):
        self.merges[source, outcome] += 1
        if siblings is not None:
            self.siblings.add(siblings)

    @property
    def heard_count(self):
        """How many gossip records of the predecessor have been heard, and their effect is stored."""
        return sum(count for (source, _), count in self.merges.items() if source == "gossip")
