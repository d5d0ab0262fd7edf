"""One channel of the queue: a log of records, and which of them are still to be had.

Whoever wants records has three ways: a plain get is done with a record as it is answered; a reader with a cursor is
done with all up to it; a lease gives a record to one consumer for some seconds, who acknowledges it, or else it is to
be had again. They can be mixed: nobody is given what is leased to another, and no cursor passes it.

Source: the assignment's "The queue service (Q)" for order and plain gets.
"""

import logging
import threading
import time
from bisect import bisect_left
from typing import NamedTuple

from emporium import failpoints, wire
from emporium.claims import Claims
from emporium.commitlog.errors import Closed, Damaged, LogError, TooLarge

log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """How much may wait in a channel before its oldest records are dropped, and how many may be leased at once."""

    most_records: int = 1_000_000
    most_bytes: int = 256 * 2**20
    most_leased: int = 1000


class Progress(NamedTuple):
    """What must be remembered of a channel besides its records.

    floor    all below it are done
    done     those above it that are done, too, as (first, last) of each run of them
    dropped  how many were dropped unread because too many waited
    log      the id of the log that this is about; None: not noted
    """

    floor: int = 0
    done: tuple[tuple[int, int], ...] = ()
    dropped: int = 0
    log: str | None = None


class Leased(NamedTuple):
    """A record as a consumer gets it: `deliveries` counts how often it was given out, this time included."""

    offset: int
    value: bytes
    deliveries: int
    receipt: str


class TooManyLeased(Exception):
    """As many records are leased as may be: acknowledge some."""


class Channel:
    """The records of a log that wait. Safe between threads. Raises the log's errors.

    shelf  where it is kept: its log, and load(), save(progress) and close() (emporium/shelf.py)
    now    () -> monotonic seconds, for leases
    """

    def __init__(self, shelf, limits=None, now=time.monotonic):
        self.log = shelf.log
        self.limits = limits or Limits()
        self._shelf = shelf
        self._now = now
        self._changed = threading.Condition()
        self._saving = threading.Lock()
        self._is_ending = False
        self._gate = None  # in a lab: what is at this offset or behind it is held back; None: nothing is
        progress = shelf.load()
        end = self.log.next_offset
        floor = min(max(progress.floor, self.log.lowest_offset), end)
        done = [offset for first, last in progress.done for offset in range(max(first, floor), min(last + 1, end))]
        self._claims = Claims(floor, done)
        self._dropped = progress.dropped
        # A log that has lost its end may be behind the progress. That must not be taken for true once there is more.
        self._is_behind = end < max([progress.floor, *(last + 1 for _, last in progress.done)])
        self._is_saved = not self._is_behind

    @property
    def life(self):
        """Names this channel from its first record to its end: a cursor of another life counts as none."""
        return self.log.identity

    @property
    def waiting(self):
        """How many records are to be had."""
        with self._changed:
            return self._waiting()

    def put(self, values):
        """(The offset of the first of `values`, how many wait now). Returns when the log has them safe: all or none.

        Raises TooLarge when they could not wait here even alone.
        """
        self._check_size(values)
        if self._is_behind:
            self.save()
            self._is_behind = False
        first = self.log.append_many(values)
        with self._changed:
            self._drop_beyond_limits()
            self._changed.notify_all()
            return first, self._waiting()

    def get(self, most, wait_s=0):
        """The values of at most `most` records, done with; none when nothing waits, or comes within `wait_s`."""
        with self._changed:
            self._wait(wait_s)
            records = self._first_waiting(most)
            self._finish([record.offset for record in records])
            return [record.value for record in records]

    def take(self, cursor, most):
        """Be done with the records up to `cursor`. One that stands ahead of all that was ever put counts as none.

        Returns (at most `most` of those behind it, the cursor after them, how many are left behind that).
        """
        with self._changed:
            if cursor is not None and cursor.life == self.life and cursor.offset < self.log.next_offset:
                self._finish_up_to(cursor.offset)
            self._claims.end_leases(self._now())
            # Not beyond a leased one: the next cursor would end what somebody else is at work on.
            leased = self._claims.first_leased
            floor = self._claims.floor
            records = self._read(floor, most if leased is None else min(most, leased - floor))
            if records:
                cursor = wire.Cursor(self.life, records[-1].offset)
            return [record.value for record in records], cursor, self._to_be_had() - len(records)

    def lease(self, most, lease_s, wait_s=0):
        """At most `most` records, as Leased, for one consumer, who has `lease_s` seconds to acknowledge them.

        None when nothing waits, or comes within `wait_s`. Raises TooManyLeased.
        """
        with self._changed:
            self._wait(wait_s)
            self._claims.end_leases(self._now())
            count = len(self._claims.leases)
            if count >= self.limits.most_leased:
                raise TooManyLeased(f"{count} records are leased: acknowledge some, or wait for their end")
            leased = []
            for record in self._first_waiting(min(most, self.limits.most_leased - count)):
                receipt, deliveries = self._claims.lease(record.offset, self._now() + lease_s)
                leased.append(Leased(record.offset, record.value, deliveries, receipt))
            return leased

    def acknowledge(self, receipts):
        """Be done with these, and remember it. Returns the receipts that are no good any more: their leases are over.

        When it raises, they are done with, but would come again after a crash.
        """
        with self._changed:
            self._claims.end_leases(self._now())
            offsets, stale = self._claims.leased_as(receipts)
            self._finish(offsets)
        self.save()
        return stale

    def release(self, receipts):
        """Let these wait again, for anyone. Returns the receipts that are no good any more."""
        with self._changed:
            self._claims.end_leases(self._now())
            offsets, stale = self._claims.leased_as(receipts)
            self._claims.give_back(offsets)
            self._changed.notify_all()
            return stale

    def peek(self, offset, most):
        """At most `most` Records from `offset` on, done or not, as far as the log still has them."""
        with self._changed:
            begin = max(offset, self.log.lowest_offset)
            return self.log.read_many(begin, most, wire.MOST_BYTES) if begin < self.log.next_offset else []

    def hold(self):
        """Hold back what waits, and what comes."""
        with self._changed:
            if self._gate is None:
                self._gate = self._claims.floor

    def play(self):
        """Hold nothing back any longer."""
        with self._changed:
            self._gate = None
            self._changed.notify_all()

    def first_held(self):
        """The Record that is held back and would be the next one; None when there is none."""
        with self._changed:
            end = self.log.next_offset
            begin = end if self._gate is None else max(self._gate, self._claims.floor)
            waits = next((offset for offset in range(begin, end) if self._claims.is_free(offset)), None)
            return None if waits is None else next(iter(self.log.read_many(waits, 1, 0)), None)

    def let_through(self, offset):
        """Hold this one back no longer, nor those before it."""
        with self._changed:
            if self._gate is not None:
                self._gate = max(self._gate, offset + 1)
                self._changed.notify_all()

    def wake(self):
        """Let nobody wait any longer."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def info(self):
        """Where this channel stands, as docs/protocol.md lists it."""
        with self._changed:
            waiting, floor, next_offset = self._waiting(), self._claims.floor, self.log.next_offset
            oldest, size, trouble = [], None, self.log.failure
            try:
                oldest = self.log.read_many(floor, 1, 0) if floor < next_offset else []
                size = self.log.size_from(floor)
            except Damaged as error:
                trouble = str(error)
            return {
                "life": self.life,
                "waiting": waiting,
                "leased": len(self._claims.leases),
                "lowest": self.log.lowest_offset,
                "floor": floor,
                "next": next_offset,
                "bytes": size,
                "oldest_age_s": max(0, time.time_ns() - oldest[0].timestamp) / 1e9 if oldest else None,
                "dropped": self._dropped,
                "trouble": trouble,
            }

    # ---- what outlives the process

    def save(self):
        """Remember who is done with what, if that has changed."""
        with self._saving:
            with self._changed:
                if self._is_saved:
                    return
                self._is_saved = True
                progress = Progress(self._claims.floor, _runs(self._claims.done), self._dropped)
            failpoints.hit("progress-unsaved")
            try:
                self._shelf.save(progress)
            except LogError:
                self._is_saved = False
                raise

    def tend(self):
        """Remember what has changed, and let the log forget what is done with."""
        self.save()
        if self._claims.floor > self.log.lowest_offset:
            failpoints.hit("progress-saved")
            self.log.truncate(self._claims.floor - 1)

    def end(self):
        """Close the log: nothing can be put any more, and nothing waits. Returns how many had waited."""
        self.log.close()
        with self._changed:
            waited = self._waiting()
            self._finish_up_to(self.log.next_offset - 1)
        self._shelf.close()
        self.wake()
        return waited

    def close(self):
        """Remember what has changed, and close the log."""
        self.wake()
        try:
            self.save()
        finally:
            self.log.close()
            self._shelf.close()

    # ---- with the lock held

    def _wait(self, seconds):
        """Return when something waits here, the time is over, or the channel or the queue is about to end.

        The lock is still ours then, so that nobody else gets what we were woken for.
        """
        deadline = self._now() + seconds
        while not self._is_ending and self._to_be_had() == 0 and (now := self._now()) < deadline:
            ends = self._claims.next_end
            self._changed.wait(min(deadline, deadline if ends is None else ends) - now)

    def _waiting(self):
        self._claims.end_leases(self._now())
        return self._claims.free_below(self.log.next_offset)

    def _to_be_had(self):
        """How many of those that wait are not held back."""
        if self._gate is None:
            return self._waiting()
        self._claims.end_leases(self._now())
        return sum(map(self._claims.is_free, range(self._claims.floor, self._end())))

    def _end(self):
        return self.log.next_offset if self._gate is None else min(self._gate, self.log.next_offset)

    def _first_waiting(self, most):
        """At most `most` Records that wait, the first ones."""
        self._claims.end_leases(self._now())
        return self._read(self._claims.first_free, most)

    def _read(self, offset, most):
        """Those that wait among the `most` Records from `offset` on."""
        end = self._end()
        if most <= 0 or offset >= end:
            return []
        try:
            records = self.log.read_many(offset, min(most, end - offset), wire.MOST_BYTES)
        except Closed:  # cleared in this very moment
            return []
        # A log that was repaired leaves out what it has lost.
        there = {record.offset for record in records}
        behind = records[-1].offset + 1 if records else end
        if len(there) < behind - offset:
            self._finish([each for each in range(offset, behind) if each not in there])
        return [record for record in records if self._claims.is_free(record.offset)]

    def _finish(self, offsets):
        if offsets:
            self._claims.finish(offsets)
            self._is_saved = False

    def _finish_up_to(self, offset):
        if offset >= self._claims.floor:
            self._claims.finish_up_to(offset)
            self._is_saved = False

    def _check_size(self, values):
        size = sum(map(len, values))
        if len(values) > self.limits.most_records or size > self.limits.most_bytes:
            most = f"{self.limits.most_records} records and {self.limits.most_bytes} bytes may wait in a channel"
            raise TooLarge(f"{len(values)} records of {size} bytes, and {most}")

    def _drop_beyond_limits(self):
        next_offset, most_bytes = self.log.next_offset, self.limits.most_bytes
        lowest = max(self._claims.floor, next_offset - self.limits.most_records)
        if self.log.size > most_bytes:  # with what is done with: this is quickly asked
            try:
                lowest += bisect_left(
                    range(lowest, next_offset - 1), True, key=lambda offset: self.log.size_from(offset) <= most_bytes
                )
            except Closed:  # cleared in this very moment
                return
            except Damaged as error:  # what was put is stored all the same
                log.warning("a channel may be beyond its limit: %s", error, extra={"event": "channel-unbounded"})
        if lowest > self._claims.floor:
            self._dropped += lowest - self._claims.floor - sum(offset < lowest for offset in self._claims.done)
            self._finish_up_to(lowest - 1)


def _runs(offsets):
    """These as (first, last) of each run of them."""
    runs = []
    for offset in sorted(offsets):
        if runs and runs[-1][1] == offset - 1:
            runs[-1][1] = offset
        else:
            runs.append([offset, offset])
    return tuple(map(tuple, runs))
