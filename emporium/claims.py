"""Which records of a channel are still to be had: a book of offsets, and nothing else.

    0 1 2 3 4 5 6 7 8 9        d done, L leased, . free
    d d d d . d L . . .
            ^ floor            all below it are done

Pure: records, time and files are elsewhere. In seconds of whatever clock the caller reads.
"""

import heapq
import secrets
from typing import NamedTuple


class Lease(NamedTuple):
    receipt: str
    ends: float


class Claims:
    """Who has what. Offsets that nobody has spoken of are free.

    floor  all below it are done
    done   those above it that are done, too
    """

    def __init__(self, floor=0, done=()):
        self.floor = floor
        self.done = set(done)
        self.leases = {}  # {offset: Lease}
        self._ends = []  # heap of (when, offset, receipt); some may be over already
        self._deliveries = {}  # {offset: how often it was leased}, of those that are not done
        self._first = floor  # all below it are done or leased

    @property
    def first_free(self):
        """The lowest offset that is neither done nor leased."""
        while not self.is_free(self._first):
            self._first += 1
        return self._first

    @property
    def first_leased(self):
        """The lowest offset that is leased, or None."""
        return min(self.leases, default=None)

    @property
    def next_end(self):
        """When the next lease ends, at the earliest, or None."""
        return self._ends[0][0] if self._ends else None

    def is_free(self, offset):
        return offset >= self.floor and offset not in self.done and offset not in self.leases

    def free_below(self, offset):
        """How many offsets below this one, which is above all that are done or leased, are free."""
        return offset - self.floor - len(self.done) - len(self.leases)

    def finish(self, offsets):
        """These are done."""
        for offset in offsets:
            self.leases.pop(offset, None)
            self._deliveries.pop(offset, None)
            self.done.add(offset)
        while self.floor in self.done:
            self.done.remove(self.floor)
            self.floor += 1
        self._first = max(self._first, self.floor)

    def finish_up_to(self, offset):
        """All up to this one are done, leased or not."""
        if offset < self.floor:
            return
        self.floor = offset + 1
        self.done = {each for each in self.done if each > offset}
        for book in (self.leases, self._deliveries):
            for each in [each for each in book if each <= offset]:
                del book[each]
        self.finish(())

    def lease(self, offset, ends):
        """(The receipt for this offset, which was free and is leased until `ends`; how often it has been leased)."""
        lease = self.leases[offset] = Lease(f"{offset}.{secrets.token_urlsafe(12)}", ends)
        heapq.heappush(self._ends, (ends, offset, lease.receipt))
        if len(self._ends) > 2 * len(self.leases) + 100:  # most of them were acknowledged, and end later
            self._ends = [(each.ends, where, each.receipt) for where, each in self.leases.items()]
            heapq.heapify(self._ends)
        self._deliveries[offset] = self._deliveries.get(offset, 0) + 1
        return lease.receipt, self._deliveries[offset]

    def give_back(self, offsets):
        """These, which were leased, are free again."""
        for offset in offsets:
            del self.leases[offset]
            self._first = min(self._first, offset)

    def end_leases(self, now):
        """Those that are over by now are free again."""
        while self._ends and self._ends[0][0] <= now:
            _, offset, receipt = heapq.heappop(self._ends)
            if offset in self.leases and self.leases[offset].receipt == receipt:
                self.give_back([offset])

    def leased_as(self, receipts):
        """(The offsets that are leased under these receipts, the receipts that are no good any more)."""
        offsets, stale = [], []
        for receipt in dict.fromkeys(receipts):
            number = receipt.partition(".")[0]
            offset = int(number) if number.isdecimal() and len(number) < 20 else None
            if offset in self.leases and self.leases[offset].receipt == receipt:
                offsets.append(offset)
            else:
                stale.append(receipt)
        return offsets, stale
