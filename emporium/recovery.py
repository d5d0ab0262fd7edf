"""How a shard that has lost its memory, or a part of it, gets back what it had acknowledged.

Of a write that was acknowledged here and is not stored here any more, a copy may be in the log of my own channel, at
my successor, or further round the ring. So these are heard:

    my own channel   first: what the successor takes from it meanwhile, the successor then has
    the other shards in the order of the ring, up to the first that has its memory whole: all of those must answer
    the rest         those that answer within 5 s

When all have lost their memory each hears all, and then all go on: nobody waits for anybody for ever. One that must be
heard and does not answer is waited for, unless an operator gives it up: ./tea recover db2 --without db3. The rest may
know what anti-entropy brought past a successor that was away, so they have some time to come back.

What had not left this shard yet is lost with its disk, unless durability is 2.
"""

import logging
import time

from emporium import failpoints
from emporium.antientropy import round_with
from emporium.failures import PeerError
from emporium.replica import NotYet
from emporium.siblings import UNRATED, merge
from emporium.store import StoreDown, StoreUnsure
from emporium.turn import Busy
from emporium.wire import decode_record

log = logging.getLogger(__name__)

QUEUE = "q"  # as ./tea status calls it
MOST_REPAIRED = 64  # damaged teas at a time
PATIENCE_S = 5.0  # with those that need not be heard


class Unheard(Exception):
    """One that must be heard has not answered."""


class Recovery:
    """Of one guarded shard; `others` are the OtherShards, its successor first. For one caller at a time.

    without  names of shards, and "q" for the queue, that an operator has given up on
    trouble  who has not been heard yet and why, in words; None while nothing is amiss
    """

    def __init__(self, shard, replica, others, now=time.monotonic):
        self.without = set()
        self._now = now
        self._began = None  # when the present recovery or repair did
        self.trouble = None
        self._shard, self._replica, self._others = shard, replica, others
        self._damaged = {}  # {tea: None} that wait for their repair, in order
        self._nowhere = set()  # damaged teas that nobody else holds, as it was logged

    @property
    def is_whole(self):
        """Whether all that is stored here can be given to others."""
        return not self._shard.store.recovering and not self._damaged

    def note_damage(self, teas):
        """These teas have damaged values."""
        self._damaged.update(dict.fromkeys(teas))

    def give_up_on(self, names):
        """Recover without these. Returns what may be lost by that, in words."""
        self.without = self.without | set(names)  # another one: the thread that recovers may just be looking at it
        given_up = ", ".join(sorted(self.without))
        return (
            f"writes that {self._shard.place.name} acknowledged before it lost its memory, and of which only "
            f"{given_up} has a copy: strong reads go back to what was there before them, until they meet again"
        )

    def work(self):
        """Recover, or repair, if there is need. What could not be done now is tried at the next call."""
        if self.is_whole:
            self.trouble = self._began = None
            self.without = set()
            return
        if self._began is None:
            self._began = self._now()
        try:
            if self._shard.store.recovering:
                self._recover()
            if self._damaged:
                self._repair(list(self._damaged)[:MOST_REPAIRED])
            self.trouble = None
        except (Unheard, NotYet, Busy, StoreDown, StoreUnsure) as error:
            self.trouble = str(error)

    def _recover(self):
        why = self._shard.store.recovering
        records = self._heard_from_queue()
        failpoints.hit("recovery-heard-queue")
        self._replica.absorb(records)
        failpoints.hit("recovery-merged-queue")
        self._hear_others(lambda other: round_with(other, self._replica, skips_news=False))
        with self._shard.turn:
            self._shard.store.load([])
            if self._shard.store.standing.life != self._replica.life:  # what was brought back is gone, too
                raise Unheard("its memory was lost again while it recovered")
            failpoints.hit("recovery-unended")
            self._shard.store.end_recovery()
            failpoints.hit("recovery-ended")
        given_up = f", without {', '.join(sorted(self.without))}" if self.without else ""
        teas = len(self._replica.fingerprints)
        if not teas and not self.without:  # as at the first start of all
            log.info("%s, nor do the others: it begins with no teas", why, extra={"event": "began-empty"})
            return
        log.warning(
            "recovered %d teas%s: %s",
            *(teas, given_up, why),
            extra={"event": "recovered", "teas": teas, "without": sorted(self.without)},
        )

    def _repair(self, teas):
        """Give these teas what the replicas, and what has not been told yet, have of them."""
        values = dict.fromkeys(teas, UNRATED)
        wanted = set(teas)

        def add(records):
            for _, tea, value, _ in records:
                if tea in wanted:
                    values[tea] = merge(values[tea], value.siblings)

        add(self._shard.store.waiting())
        add(self._heard_from_queue())
        self._hear_others(lambda other: add(other.exchange([], teas).records))
        found = {tea: value for tea, value in values.items() if value != UNRATED}
        if count := self._replica.replace_damaged(found):
            log.warning(
                "%s damaged values were repaired from the replicas",
                count,
                extra={"event": "values-repaired", "count": count},
            )
        for tea in teas:
            del self._damaged[tea]
        if nowhere := wanted - found.keys() - self._nowhere:  # once, and not each time that they are come across
            log.error(
                "nobody else holds these damaged teas: %s",
                sorted(nowhere),
                extra={"event": "values-lost", "teas": sorted(nowhere)},
            )
        self._nowhere = (self._nowhere | nowhere) - found.keys()

    def _heard_from_queue(self):
        """The Records of my own channel, done with or not. Raises Unheard."""
        if QUEUE in self.without or not self._others:
            return []
        try:
            texts = self._shard.queue.held(self._shard.place.name)
        except PeerError as error:
            raise Unheard(str(error)) from error
        records = []
        for text in texts:
            try:
                records.append(decode_record(text))
            except ValueError as error:
                log.error(
                    "a record of my own channel makes no sense: %s: %r",
                    error,
                    text[:500],
                    extra={"event": "record-senseless"},
                )
        return records

    def _hear_others(self, hear):
        """hear(other) for all that must be heard, and for the rest as far as they answer. Raises Unheard."""
        must_hear = True
        for other in self._others:
            if other.name in self.without:
                continue
            try:
                hear(other)
            except PeerError as error:
                if must_hear or self._now() < self._began + PATIENCE_S:
                    raise Unheard(str(error)) from error
                log.warning(
                    "not heard, and not needed: %s", error, extra={"event": "shard-not-heard", "peer": other.name}
                )
            else:
                failpoints.hit("recovery-heard-other")
                must_hear = must_hear and other.is_recovering
