"""A shard as a replica: what it holds, compared with what another one holds, and made equal. All outside its steps.

    compare    another shard's sums of fingerprints with mine: which teas in which buckets
    exchange   merge what it gives, and give what it wants
    look_over  read what is stored, page by page: for the fingerprints, and to find what is damaged

Merging is the same join as that of gossip, so that what comes twice, late or in another order changes nothing. What is
merged so is not told on: each shard compares with its neighbour.
"""

import logging

from emporium import failpoints, wire
from emporium.fingerprints import Fingerprints
from emporium.shard import Changes, merge_held
from emporium.siblings import Damaged, Value

log = logging.getLogger(__name__)

MOST_LISTED = 4096  # teas in one answer to compare
MERGED_SIBLINGS = 256  # in one turn, so that requests wait for no more than some milliseconds
LOOKED_OVER = 200  # teas in one page


class NotYet(Exception):
    """What is stored has not been looked over since the start: nothing can be compared."""


class Replica:
    """Of one guarded shard. Raises Busy, StoreDown and StoreUnsure where its Redis is needed.

    life  of the memory that the fingerprints are of; None before the first look

    `bind` gives it the shard: a store needs `learned` before there is a shard.
    """

    def __init__(self, fingerprints=None):
        self.fingerprints = Fingerprints() if fingerprints is None else fingerprints  # empty ones count as false
        self.shard = None
        self._page = 0  # the next one to look over
        self._seen = set()  # the teas that were there, or came, since page 0
        self._is_known = False  # whether all pages have been looked over since the memory began
        self.life = None
        self._unsure = set()  # teas that were changed, perhaps: Redis did not say

    def bind(self, shard):
        self.shard = shard

    def learned(self, tea, check, is_news):
        """The store has changed the value of this tea; see Store."""
        (self._unsure.discard if check else self._unsure.add)(tea)
        self.fingerprints.put(tea, check and int(check, 16), is_news)
        self._seen.add(tea)

    # ---- answers to another shard

    def compare(self, sums, first):
        """(buckets, news, next) as in wire.Compared. Raises NotYet."""
        self.require_known()
        news, listed, buckets = self.fingerprints.news(), 0, {}
        for bucket in self.fingerprints.differing(sums, first):
            if listed > MOST_LISTED:
                return buckets, _news_in(buckets, news), bucket
            buckets[bucket] = self.fingerprints.of(bucket)
            listed += len(buckets[bucket]) + 1
        return buckets, _news_in(buckets, news), None

    def values(self, teas):
        """The values of these teas as Records, of those that are stored and not damaged."""
        found = self.shard.store.peek(teas)
        if damaged := [tea for tea, value in found.items() if isinstance(value, Damaged)]:
            self.shard.on_damage(damaged)
        return [
            record
            for tea, value in found.items()
            if not isinstance(value, Damaged)
            for record in _told(self.shard.place.name, tea, value)
        ]

    def page(self, page, most):
        """(Records, the next page or None): see Store.page."""
        rows, following = self.shard.store.page(page, most)
        name = self.shard.place.name
        good = [(tea, value) for tea, value in rows if not isinstance(value, Damaged)]
        records = [record for tea, value in good for record in _told(name, tea, value)]
        return records, following or None

    # ---- changes

    def absorb(self, records):
        """Merge these Records into what is stored, and tell nobody. Returns how many teas that changed."""
        changed = 0
        while records:
            some = _few(records)
            records = records[len(some) :]
            with self.shard.turn:
                changed += self._merge(some)
        return changed

    def _merge(self, records):
        values = self.shard.store.load({record.key for record in records}).values
        changes = Changes()
        for _, tea, told, _ in records:
            before = changes.values.get(tea, values[tea])
            if isinstance(before, Damaged):  # one replica may not know all that it held: see recovery.py
                self.shard.on_damage([tea])
                changes.heard.append(("damaged", None))
                continue
            after = merge_held(before, told)
            if after is None:
                log.error(
                    "%s has too many siblings to be merged with those of another shard",
                    tea,
                    extra={"event": "too-many-siblings", "tea": tea},
                )
                changes.heard.append(("refused", None))
                continue
            changes.heard.append(("same" if after is before else "changed", len(after.siblings)))
            if after is not before:
                changes.values[tea] = after
        if changes:
            failpoints.hit("absorb-unstored")
        self.shard.store.change(changes, is_news=False)
        self.shard.trace.compared(records, changes.values)
        self.shard.tally.compared(changes.heard)
        if changes:
            failpoints.hit("absorb-stored")
        return len(changes.values)

    def replace_damaged(self, values):
        """Let these take the places of values that are damaged, {tea: Value}. Returns how many were."""
        with self.shard.turn:
            found = self.shard.store.load(values).values
            damaged = [tea for tea in values if isinstance(found[tea], Damaged)]
            mended = {tea: values[tea] for tea in damaged}
            failpoints.hit("repair-unstored")
            self.shard.store.change(Changes(removed=damaged, values=mended, repaired=len(damaged)), is_news=False)
            failpoints.hit("repair-stored")
        return len(damaged)

    # ---- what is stored

    def require_known(self):
        if not self._is_known:
            raise NotYet("what is stored here has not been looked over yet")

    def look(self):
        """Read where the shard stands: it takes its Redis over, if need be, and notices that it has lost something."""
        with self.shard.turn:
            self.shard.store.load([])
            life = self.shard.store.standing.life
            if life != self.life:  # still in the turn: nothing may be put in between
                self.life, self._page, self._is_known, self._seen = life, 0, False, set()
                self.fingerprints.clear()

    def look_over(self):
        """One page of what is stored; all pages, the first time. Damaged values are noticed."""
        while True:
            with self.shard.turn:  # else a fingerprint could be put after that of a newer value
                rows, self._page = self.shard.store.page_of_checks(self._page, LOOKED_OVER, self._unsure)
                self._unsure.clear()
                for tea, check in rows:
                    self.learned(tea, None if isinstance(check, Damaged) else check, False)
                if self._page == 0:
                    self._forget_unseen()
            if damaged := [tea for tea, check in rows if isinstance(check, Damaged)]:
                self.shard.on_damage(damaged)
            if self._is_known:
                return
            self._is_known = self._page == 0

    def _forget_unseen(self):
        """What has gone since it was last looked over, someone has removed by hand: it is compared as missing."""
        for tea in self.fingerprints.teas() - self._seen:
            self.fingerprints.put(tea, None)
        self._seen = set()


def differences(mine, buckets, skipped=frozenset()):
    """(teas to give, teas to want) between my Fingerprints and another shard's `buckets`, but for the skipped."""
    give, want = [], []
    for bucket, theirs in buckets.items():
        ours = mine.of(bucket)
        give += [tea for tea, found in ours.items() if tea not in skipped and theirs.get(tea) != found]
        want += [tea for tea, found in theirs.items() if tea not in skipped and ours.get(tea) != found]
    return give, want


def _told(name, tea, value):
    """The Records that tell this value: more than one, where it has more siblings than a record may have."""
    siblings, most = value.siblings, wire.MOST_TOLD
    return [wire.Record(name, tea, Value(value.rating, siblings[i : i + most])) for i in range(0, len(siblings), most)]


def _news_in(buckets, news):
    return [tea for teas in buckets.values() for tea in teas if tea in news]


def _few(records):
    """The first of these records: so many that they have about 256 siblings."""
    siblings = 0
    for count, record in enumerate(records, 1):
        siblings += len(record.value.siblings)
        if siblings >= MERGED_SIBLINGS:
            return records[:count]
    return records
