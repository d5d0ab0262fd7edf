"""Writing: appends go to the active segment, are synced as the policy asks, and are then shown to the readers.

Whoever changes files holds the turn. Appends that come meanwhile wait, and then share one write and one sync, see
group.py. What fails is either taken back whole, or the writer fails: then it never writes again.
"""

import contextlib
import logging
import os
import time

from emporium import failpoints
from emporium.commitlog.background import Background
from emporium.commitlog.errors import Closed, InUse, LogError, NotStored, ReadOnly, TooLarge, Unsure
from emporium.commitlog.files import FULL
from emporium.commitlog.group import Append, Group
from emporium.commitlog.segment import Segment

log = logging.getLogger(__name__)


class Writer:
    """Owns the active segment, the durable offset and the failure.

    turn     the lock of whoever changes files
    active   the segment that is written to: the last one that the view shows
    durable  all records below this offset are synced
    meta     what log.json holds
    rolled   called after each roll; the turn is not free then
    failure  why nothing more is written, in words; None while all is well
    """

    def __init__(self, folder, config, meta, view, turn):
        self.turn = turn
        self.meta = meta
        self.active = view.segments[-1]
        self.durable = view.next_offset
        self.rolled = lambda: None
        self.failure = None
        self._folder = folder
        self._config = config
        self._view = view
        self._pid = os.getpid()
        self._syncs_first = config.fsync in ("group", "always")
        self._group = Group(self._commit) if config.fsync == "group" else None
        self._syncer = None
        if config.fsync == "interval":
            self._syncer = Background(f"sync of {folder}", self.sync, config.interval_s, only_when_wanted=True)

    # ---- appending

    def append(self, values):
        """See Log.append_many."""
        mine = Append(self._checked(values))
        if self._group:
            self._group.join(mine)
        else:
            self._commit([mine])
        if mine.error is not None:
            raise mine.error
        return mine.first

    def _checked(self, values):
        self.require_own_process()
        values = [value if type(value) is bytes else _as_bytes(value) for value in values]
        if not values:
            raise ValueError("no values to append")
        size = sum(map(len, values))
        if size > self._config.append_bytes:
            raise TooLarge(f"{size} bytes in one append, of which {self._config.append_bytes} are allowed")
        return values

    def _commit(self, appends):
        """Store these, in order, each as if it had come alone; each has an outcome then."""
        with self.turn:
            left = appends
            try:
                while left:
                    left = self._commit_some(left)
            except LogError as error:  # closed, or read only: nothing of the rest was written
                for each in left:
                    each.error = each.error or error
            finally:
                for each in appends:  # only an interrupt can have left one without an outcome
                    if not each.is_done:
                        self.failure = self.failure or "interrupted while it wrote"
                        each.error = Unsure(self.failure)

    def _commit_some(self, appends):
        """Store those that fit, or roll. Returns those that are left. Raises Closed and ReadOnly."""
        self._require_writable()
        fitting = self.active.has_room([len(each.values) for each in appends])
        if fitting:
            self._store(appends[:fitting])
            return appends[fitting:]
        if not self.active.count:
            most = self.active.most
            appends[0].error = TooLarge(f"more than the {most} records that one append may hold")
            return appends[1:]
        try:
            self.roll()
        except NotStored as error:  # there is no room for new files
            appends[0].error = error
            return appends[1:]
        return appends

    def _store(self, appends):
        """Write these to the active segment and, as the policy asks, sync it."""
        segment = self.active
        position, first = segment.size, segment.next_offset
        try:
            segment.append([each.values for each in appends], time.time_ns(), self.durable)
        except OSError as error:
            self._take_back(segment, first, position, error, appends)
            return
        failpoints.hit("log-unsynced")
        if self._syncs_first:
            try:
                segment.sync()
            except OSError as error:
                failure = self.fail(f"{segment.path} could not be synced: {error}")
                for each in appends:
                    each.error = Unsure(failure)
                return
            self.durable = segment.next_offset
        elif self._syncer:
            self._syncer.want()
        failpoints.hit("log-synced")
        for each in appends:
            each.first = first
            first += len(each.values)
        self._view.show(first)

    def _take_back(self, segment, first, position, error, appends):
        """A write has failed: nothing of it may stay. Each append is then tried alone, since one may be too much."""
        try:
            segment.cut_at(first, position)
        except OSError as again:
            failure = self.fail(f"{segment.path} could not be written ({error}) nor cut back ({again})")
            for each in appends:
                each.error = Unsure(failure)
            return
        self.durable = max(self.durable, first)
        if len(appends) == 1:
            appends[0].error = not_stored(error)
            return
        for each in appends:
            if self.failure:
                each.error = ReadOnly(self.failure)
            else:
                self._store([each])

    # ---- for whoever holds the turn

    def roll(self):
        """Begin a new active segment. The old one is on the disk before the new one exists.

        That it exists is noted before it holds a record: should it be missing later, the start can tell.
        """
        old = self.active
        try:
            old.seal()
        except OSError as error:
            raise ReadOnly(self.fail(f"{old.path} could not be synced: {error}")) from error
        self.durable = max(self.durable, old.next_offset)
        failpoints.hit("roll-sealed")
        try:
            new = Segment.create(self._folder.disk, self._folder.path, old.log_id, old.next_offset, self._config)
        except OSError as error:
            self._remove_half_made(old.next_offset)
            raise not_stored(error) from error
        try:
            self._folder.sync()
        except OSError as error:
            raise ReadOnly(self.fail(f"{self._folder} could not be synced: {error}")) from error
        failpoints.hit("roll-created")
        try:
            self.change_meta(active=new.base)
        except NotStored:
            self._remove_half_made(new.base)
            raise
        except Unsure as error:
            raise ReadOnly(self.failure) from error
        failpoints.hit("roll-noted")
        self.active = new
        self._view.publish([*self._view.segments, new])
        self._view.note_open(old)
        self.rolled()

    def _remove_half_made(self, base):
        for kind in ("index", "store"):
            with contextlib.suppress(OSError):  # an empty one that stays is used by the next roll
                self._folder.disk.unlink(self._folder.at(f"{base}.{kind}"))

    def change_meta(self, **fields):
        """From here on a crash finds these, and before all is as it was. Raises NotStored and Unsure."""
        meta = self.meta.changed(**fields)
        try:
            self._folder.write_meta(meta)
        except OSError as error:
            raise not_stored(error) from error
        try:
            self._folder.put_meta_in_place()
        except OSError as error:
            raise Unsure(self.fail(f"{self._folder.at('log.json')} could not be replaced: {error}")) from error
        self.meta = meta

    def goes_on_in(self, segment):
        """This one is the active segment now, and all that it holds is on the disk."""
        self.active = segment
        self.durable = segment.next_offset

    def seal(self):
        """All that was written is on the disk. Raises OSError."""
        self.active.seal()
        self.durable = max(self.durable, self._view.next_offset)

    def fail(self, why):
        """Write no more. Returns why."""
        self.failure = self.failure or why
        log.error("%s: nothing more is written: %s", self._folder, why, extra={"event": "log-read-only"})
        return why

    # ---- for all

    @property
    def is_durable(self):
        """Whether all that readers see is on the disk."""
        return self.durable >= self._view.next_offset

    @property
    def is_own_process(self):
        """Whether this is the process that opened the log, and no child that inherited it by fork."""
        return os.getpid() == self._pid

    @contextlib.contextmanager
    def changing(self):
        """Inside, the turn is ours, and files may be changed. Raises InUse, ReadOnly and Closed."""
        self.require_own_process()
        with self.turn:
            self._require_writable()
            yield

    def sync(self):
        """What is written becomes durable: the background's work under `interval`."""
        with self.turn:
            if self._view.is_closed or self.failure or self.durable == self._view.next_offset:
                return
            try:
                self.active.sync()
            except OSError as error:
                self.fail(f"{self.active.path} could not be synced: {error}")
                return
            self.durable = max(self.durable, self._view.next_offset)

    def stop(self):
        """End the background. Not while the turn is ours, which it may wait for."""
        if self._syncer:
            self._syncer.stop()

    def require_own_process(self):
        if os.getpid() != self._pid:  # a fork inherits the lock, and two who append would write over each other
            raise InUse(self._folder, self._pid)

    def _require_writable(self):
        if self._view.is_closed:
            raise Closed
        if self.failure:
            raise ReadOnly(self.failure)


def not_stored(error):
    """The NotStored for this OSError."""
    return NotStored(str(error), is_full=error.errno in FULL)


def _as_bytes(value):
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a value is bytes, not {type(value).__name__}")
    return bytes(value)
