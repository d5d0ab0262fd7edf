"""One shard's step, as pure rules: what is stored and what arrives go in; what to store and to send comes out.

    write    merge it into its tea's siblings, remember the merged value under my own name; refuse it when it would
             leave more than 100 siblings, since every read and every record carries them all
    delete   where tombstones are kept: as a write of one that dominates all that stands there
    gossip   drop it when the write it tells of was mine; merge the rest, remember each, merged, under its own primary

*Remember* is: append to the digest. Whenever the digest has reached digest-length it becomes due, whole, and a
new one begins. Stale writes and gossip that changes nothing are remembered too: the digest counts what happened
here, not what changed. Beyond the course, a shard may coalesce: a newer record of the same write's home and tea takes
the place of the older one in the digest. One with durability 2 has its own writes due at once, outside the digest.

Redis, HTTP, time and chance stay outside: serverDB.py carries these rules out.

Source: the assignment's "DB Gossip protocol".
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from emporium.siblings import UNRATED, Damaged, Sibling, Value, merge, tombstone
from emporium.wire import Record, encode_record

MOST_SIBLINGS = 100  # after a user's write
MOST_HELD = 1024  # after gossip: what ten shards could leave of a tea, and still merged within a second


# `request` is the id of the request that is this operation; None where nobody says.


class Write(NamedTuple):
    tea: str
    sibling: Sibling
    request: str | None = None


class Read(NamedTuple):
    """`is_weak`: any replica's answer will do, also that of one which has lost its memory."""

    tea: str
    is_weak: bool = False
    request: str | None = None


class Delete(NamedTuple):
    tea: str
    request: str | None = None


class Written(NamedTuple):
    """What a write came to: the value that stands now, and `stored`, `stale` or `same` (nothing changed)."""

    value: Value
    outcome: str


class TooMany(NamedTuple):
    """What a write came to that would have left more than 100 siblings: the value that stands, unchanged."""

    value: Value


class Recovering(NamedTuple):
    """What a strong operation came to on a shard that has lost its memory, and does not have it back yet."""

    reason: str


class Unsafe(NamedTuple):
    """What a write came to that is stored, and of which the queue has no copy yet, though one was asked for."""

    reason: str


@dataclass(frozen=True)
class Place:
    """A shard's place in the ring: who it is, whom it tells, whom it hears, and by which rules it tells.

    digest_length     how many records make the digest full
    keeps_tombstones  whether a delete leaves a tombstone, and so is told to the others
    coalesces         whether a newer record replaces an older one of the same tea in the digest
    durability        2: an own write is due at once, outside the digest, and answered once the queue has it
    replaces_damaged  whether gossip takes the place of a damaged value; otherwise that waits for its repair
    tells_requests    whether gossip says whose write it tells of
    """

    shard_id: int
    ndb: int
    digest_length: int
    keeps_tombstones: bool = False
    coalesces: bool = False
    durability: int = 1
    replaces_damaged: bool = True
    tells_requests: bool = False

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
class Digest:
    """What waits in the digest, as stored: how many records, and for a shard that coalesces, which.

    texts  {(primary, tea): the record's JSON}; None where nothing coalesces
    """

    count: int = 0
    texts: dict | None = None

    def show(self, changes):
        """What is stored once these Changes are made."""
        self.count += len(changes.remembered) - len(changes.replaced) - changes.now_due
        if self.texts is not None:
            gone = set(changes.replaced)
            kept = {} if changes.now_due else {home: text for home, text in self.texts.items() if text not in gone}
            for record in changes.remembered[changes.kept_from :]:
                kept[record.primary, record.key] = encode_record(record)
            self.texts = kept


class Merged(NamedTuple):
    """What one write or gossip record came to: `stored`, `stale` or `same` of a write, `changed`, `same` or `aside` (it
    cannot be merged) of gossip. `value` is what stands then; of what went aside, what was told."""

    primary: str
    tea: str
    value: Value
    request: str | None
    outcome: str


@dataclass
class Changes:
    """What is to be stored, in one piece, after a part of a step."""

    removed: list = field(default_factory=list)  # teas to forget, before anything else
    values: dict = field(default_factory=dict)  # {tea: Value}, only those that changed
    replaced: list = field(default_factory=list)  # JSON texts to take out of the digest: newer ones come instead
    remembered: list = field(default_factory=list)  # Records to append to the digest, in this order
    now_due: int = 0  # how many of the digest's records, oldest first, become due after that
    kept_from: int = field(default=0, compare=False)  # the first of the remembered that stays in the digest
    due_at_once: list = field(default_factory=list)  # Records that become due without having been in the digest
    set_aside: list = field(default_factory=list)  # JSON texts that came as gossip, and cannot be merged
    repaired: int = 0  # how many of the values take the place of damaged ones
    merged: list = field(default_factory=list, compare=False)  # Merged of each write and record, for the trace
    heard: list = field(default_factory=list, compare=False)  # what became of each record, see _hear

    def __bool__(self):
        """Whether there is anything to store."""
        return bool(self.removed or self.values or self.remembered or self.due_at_once or self.set_aside)


def merge_writes(place, values, digest, writes, changes=None):
    """(what each Write or Delete came to, in their order; the Changes that make it so).

    A write comes to a Written, a delete to a Written or, where nothing is stored, to False. It changes nothing, and is
    not remembered, when it comes to False, to a TooMany or to the Damaged that stands in its tea's place.

    values  {tea: Value or Damaged} of at least the written teas, as stored; left alone
    digest  the Digest, as stored
    """
    changes = Changes() if changes is None else changes
    written = []
    for write in writes:
        before = changes.values.get(write.tea, values[write.tea])
        outcome = before if isinstance(before, Damaged) else _written(write, before)
        written.append(outcome)
        if isinstance(outcome, Written):
            value, what = outcome
            if value is not before:
                changes.values[write.tea] = value
            changes.merged.append(Merged(place.name, write.tea, value, write.request, what))
            _remember_own(place, changes, digest, _record(place, place.name, write.tea, value, write.request))
    return written, changes


def _written(write, before):
    """What this Write or Delete comes to, where this Value stands."""
    if isinstance(write, Delete):
        return Written(merge(before, [tombstone(before)]), "stored") if before.living else False
    after = merge(before, [write.sibling])
    if after is before:
        return Written(after, "same" if write.sibling in before.siblings else "stale")
    return Written(after, "stored") if len(after.siblings) <= MOST_SIBLINGS else TooMany(before)


def merge_gossip(place, values, digest, records, changes=None):
    """The Changes that these Records, in their order, make to the `values` stored of their teas: those of the step so
    far, if given, with theirs behind them.

    A record stops at the shard that took the write: it has been all round the ring, so all have it. This is also
    why the ring comes to rest: a record of one of its shards passes at most ndb - 1 times. Gossip replaces a damaged
    value, since what other shards hold is the best there is; but where damage is repaired from all replicas, one of
    them is not enough, and the record is only passed on. The limit of users does not hold for gossip, since that would
    keep replicas apart for ever. One much higher does: a merge costs the square of the siblings.

    A record of no shard of this ring has no home where it stops. It is told on only where it changed something, so
    that it goes round at most once and a bit; one that nobody can stop would cost every step for ever.
    """
    changes = Changes() if changes is None else changes
    for record in records:
        changes.heard.append(_hear(place, values, digest, record, changes))
    return changes


def _hear(place, values, digest, record, changes):
    """What became of this Record: (home, damaged, aside, changed or same, how many siblings its tea has then)."""
    primary, tea, told, request = record
    if primary == place.name:
        return "home", None
    before = changes.values.get(tea, values[tea])
    if isinstance(before, Damaged):
        if not place.replaces_damaged:
            _remember(place, changes, digest, _record(place, *record))
            return "damaged", None
        if not told.siblings:
            return "damaged", None
        changes.removed.append(tea)
        before = UNRATED
    after = merge_held(before, told)
    if after is None:
        changes.set_aside.append(encode_record(record))
        changes.merged.append(Merged(primary, tea, told, request, "aside"))
        return "aside", None
    outcome = "same" if after is before else "changed"
    changes.merged.append(Merged(primary, tea, after, request, outcome))
    if outcome == "changed":
        changes.values[tea] = after
    if outcome == "changed" or place.knows(primary):
        _remember(place, changes, digest, _record(place, primary, tea, after, request))
    return outcome, len(after.siblings)


def merge_held(before, told):
    """This Value with what another shard holds merged in; None when that would cost too much."""
    if len(before.siblings) + len(told.siblings) > MOST_HELD:
        return None
    return merge(before, told.siblings)


def _record(place, primary, tea, value, request):
    """The Record that this shard tells. As in the course it says nothing of requests, unless it is to."""
    return Record(primary, tea, value, request if place.tells_requests else None)


def _remember_own(place, changes, digest, record):
    if place.durability > 1 and place.has_neighbours:
        changes.due_at_once.append(record)
    else:
        _remember(place, changes, digest, record)


def _remember(place, changes, digest, record):
    if not place.has_neighbours:
        return
    if place.coalesces:
        _forget_older(changes, digest, record)
    changes.remembered.append(record)
    in_digest = digest.count - len(changes.replaced) + len(changes.remembered) - changes.now_due
    if in_digest >= place.digest_length:
        changes.now_due += in_digest
        changes.kept_from = len(changes.remembered)


def _forget_older(changes, digest, record):
    """Take out of the digest what waits there of the same home and tea."""
    text = digest.texts.get((record.primary, record.key)) if digest.texts and changes.now_due == 0 else None
    if text is not None and text not in changes.replaced:
        changes.replaced.append(text)
    for i in range(changes.kept_from, len(changes.remembered)):
        if changes.remembered[i][:2] == record[:2]:
            del changes.remembered[i]
            return
