"""One shard's step, as pure rules: what is stored and what arrives go in; what to store and to send comes out.

    write    merge it into its tea's siblings, remember the merged value under my own name; refuse it when it would
             leave more than 100 siblings, since every read and every record carries them all
    gossip   drop it when the write it tells of was mine; merge the rest, remember each, merged, under its own primary

*Remember* is: append to the digest. Whenever the digest has reached digest-length it becomes due, whole, and a
new one begins. Stale writes and gossip that changes nothing are remembered too: the digest counts what happened
here, not what changed.

Redis, HTTP, time and chance stay outside: serverDB.py carries these rules out.

Source: the assignment's "DB Gossip protocol".
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from emporium.siblings import UNRATED, Damaged, Sibling, Value, merge
from emporium.wire import Record, encode_record

MOST_SIBLINGS = 100  # after a user's write
MOST_HELD = 1024  # after gossip: what ten shards could leave of a tea, and still merged within a second


class Write(NamedTuple):
    tea: str
    sibling: Sibling


class Read(NamedTuple):
    tea: str


class Delete(NamedTuple):
    tea: str


class Written(NamedTuple):
    """What a write came to: the value that stands now, and `stored`, `stale` or `same` (nothing changed)."""

    value: Value
    outcome: str


class TooMany(NamedTuple):
    """What a write came to that would have left more than 100 siblings: the value that stands, unchanged."""

    value: Value


@dataclass(frozen=True)
class Place:
    """A shard's place in the ring: who it is, whom it tells, whom it hears, and when its digest is full."""

    shard_id: int
    ndb: int
    digest_length: int

    @property
    def name(self):
        """Its name as a primary, and the channel on which it tells its successor."""
        return f"db{self.shard_id}"

    @property
    def predecessor(self):
        """The channel on which it hears its predecessor."""
        return f"db{(self.shard_id - 1) % self.ndb}"

    def knows(self, primary):
        """Whether a shard of this ring is called so."""
        return primary.startswith("db") and primary[2:] in map(str, range(self.ndb))

    @property
    def has_neighbours(self):
        """False for the only shard: an instance that is its own neighbour sends nothing and takes nothing."""
        return self.ndb > 1


@dataclass
class Changes:
    """What is to be stored, in one piece, after a part of a step."""

    removed: list = field(default_factory=list)  # teas to forget, before anything else
    values: dict = field(default_factory=dict)  # {tea: Value}, only those that changed
    remembered: list = field(default_factory=list)  # Records to append to the digest, in this order
    now_due: int = 0  # how many of the digest's records, oldest first, become due after that
    set_aside: list = field(default_factory=list)  # JSON texts that came as gossip, and cannot be merged

    def __bool__(self):
        """Whether there is anything to store."""
        return bool(self.removed or self.values or self.remembered or self.set_aside)


def merge_writes(place, values, digest_count, writes):
    """(what each Write came to, in their order; the Changes that make it so).

    A write comes to a Written. It changes nothing, and is not remembered, when it comes to a TooMany or to the Damaged
    that stands in its tea's place.

    values        {tea: Value or Damaged} of at least the written teas, as stored; left alone
    digest_count  how many records the digest holds
    """
    changes = Changes()
    written = []
    for tea, sibling in writes:
        before = changes.values.get(tea, values[tea])
        if isinstance(before, Damaged):
            written.append(before)
            continue
        after = merge(before, [sibling])
        if after is before:
            outcome = "same" if sibling in before.siblings else "stale"
        elif len(after.siblings) > MOST_SIBLINGS:
            written.append(TooMany(before))
            continue
        else:
            changes.values[tea] = after
            outcome = "stored"
        written.append(Written(after, outcome))
        _remember(place, changes, digest_count, Record(place.name, tea, after))
    return written, changes


def merge_gossip(place, values, digest_count, records, changes=None):
    """The Changes that these Records, in their order, make to the `values` stored of their teas: those of the step so
    far, if given, with theirs behind them.

    A record stops at the shard that took the write: it has been all round the ring, so all have it. This is also
    why the ring comes to rest: a record of one of its shards passes at most ndb - 1 times. Gossip replaces a damaged
    value, since what other shards hold is the best there is. The limit of users does not hold for it, since that would
    keep replicas apart for ever. One much higher does: a merge costs the square of the siblings.

    A record of no shard of this ring has no home where it stops. It is told on only where it changed something, so
    that it goes round at most once and a bit; one that nobody can stop would cost every step for ever.
    """
    changes = Changes() if changes is None else changes
    for primary, tea, told in records:
        if primary == place.name:
            continue
        before = changes.values.get(tea, values[tea])
        if isinstance(before, Damaged):
            if not told.siblings:
                continue
            changes.removed.append(tea)
            before = UNRATED
        if len(before.siblings) + len(told.siblings) > MOST_HELD:
            changes.set_aside.append(encode_record(Record(primary, tea, told)))
            continue
        after = merge(before, told.siblings)
        if after is not before:
            changes.values[tea] = after
        elif not place.knows(primary):
            continue
        _remember(place, changes, digest_count, Record(primary, tea, after))
    return changes


def _remember(place, changes, digest_count, record):
    if not place.has_neighbours:
        return
    changes.remembered.append(record)
    in_digest = digest_count + len(changes.remembered) - changes.now_due
    if in_digest >= place.digest_length:
        changes.now_due += in_digest
