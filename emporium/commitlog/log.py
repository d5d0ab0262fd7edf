"""The log: a list of segments, of which the last one, the active segment, is written to.

    0.store   0.index      offsets 0 to 15, sealed
    16.store  16.index     offsets 16 to 31, sealed
    32.store  32.index     offsets from 32 on, active

When a record is safe. Under the policies `group` and `always`, `append` returns once the record has been written and
synced; readers see it from then on, and no crash takes it. Under `interval` and `never` that moment is when it has been
written: a kill does not take it, a power loss may (config.py). If `append` raises, its error says what became of the
record (errors.py). What a crash leaves is put right by the next start (recovery.py).

Who waits for whom. Whoever changes files holds the turn. Appends that come meanwhile wait, and then share one write and
one sync (writer.py). Readers take no lock: they see the segments and the next offset as last published (view.py).

Offsets are dense. One is used for another record only where the newest records have gone, by `truncate_back`, a power
loss or a repair; then the log has a new `identity`.
"""

import contextlib
import logging
import os
import threading
import time
from bisect import bisect_right

from emporium import failpoints
from emporium.commitlog import recovery, retention
from emporium.commitlog.background import Background
from emporium.commitlog.config import END_OF_OFFSETS, Config
from emporium.commitlog.errors import Damaged, NotStored, OffsetOutOfRange, Unsure
from emporium.commitlog.files import Disk
from emporium.commitlog.folder import Folder, FolderLock, Marker, Meta
from emporium.commitlog.segment import Segment
from emporium.commitlog.view import View
from emporium.commitlog.writer import Writer

log = logging.getLogger(__name__)


class Log:
    """Safe to share between threads. One process per folder.

    folder  where its files are; made when it is not there
    config  a Config
    floor   the lowest offset that a consumer still needs: retention takes no segment with a record at or above it.
            None, when there is no such consumer: then retention alone decides. May be set at any time
    disk    through which all files are reached, see files.py
    Raises InUse, Damaged, and OSError when the folder cannot be used.

    After `close`, all but the properties raises Closed.
    """

    def __init__(self, folder, config=None, floor=None, disk=None):
        self._config = config or Config()
        self.floor = floor
        self.notes = ()  # what the start found and put right, in lines
        self._folder = Folder(disk or Disk(), os.fspath(folder))
        self._folder.disk.make_folder(self._folder.path)
        self._is_removed = False
        self._lock = FolderLock(self._folder.path)
        try:
            meta, segments = self._start()
        except BaseException:
            self._lock.release()
            raise
        turn = threading.Lock()
        self._view = View(segments, turn)
        self._writer = Writer(self._folder, self._config, meta, self._view, turn)
        self._tender = None
        if self._config.has_retention and self._config.tend_s is not None:
            self._tender = Background(f"retention of {folder}", self.tend, self._config.tend_period_s)
            self._writer.rolled = self._tender.want

    def _start(self):
        """(Meta, [Segment])."""
        meta = self._folder.meta()
        if meta is not None and meta.is_removed:
            recovery.throw_away(self._folder)
            meta = None
        if meta is None:
            if any(self._folder.bases()) or self._folder.has_marker:
                raise Damaged(self._folder.at("log.json"), 0, "it is missing, and there are other files of a log")
            meta = Meta.new(self._config.first_offset)
            self._folder.write_meta(meta)
            self._folder.put_meta_in_place()
        meta, segments = recovery.start(self._folder, self._config, meta, self._note)
        self._folder.remove_marker()
        return meta, segments

    def _note(self, line, is_usual=False):
        self.notes += (line,)
        log.log(logging.INFO if is_usual else logging.WARNING, "%s", line, extra={"event": "log-found"})

    # ---- appending

    def append(self, value):
        """The offset of this value, bytes, which is now stored.

        Waits for the disk as the policy asks. Raises NotStored, TooLarge, ReadOnly and Closed, when it is surely not
        stored, and Unsure; TypeError.
        """
        return self._writer.append((value,))

    def append_many(self, values):
        """The offset of the first of these values; the others follow it. As `append`, with one sync.

        All or nothing, also over a crash. At least one value.
        """
        return self._writer.append(values)

    # ---- reading

    def read(self, offset):
        """The Record with this offset. Raises OffsetOutOfRange, Damaged and Closed. Never waits for a sync."""
        return self._view.ask(offset, Segment.read, offset)

    def read_many(self, offset, most, most_bytes=None):
        """[Record] from this offset on: at most so many, and values of so many bytes together.

        At least one when there is one, whatever its size; none when `offset` is the next one. A record that repair
        noted as lost is left out. Ends in front of a damaged one, and raises Damaged when that is the first. Raises
        OffsetOutOfRange and Closed. Never waits for a sync.
        """
        return self._view.read_many(offset, most, most_bytes)

    def wait_for(self, offset, timeout_s):
        """Whether `offset` is below the next offset, at the latest after so many seconds: then a read finds the record,
        or says that it was truncated. Returns at once when the log is closed meanwhile, or after `wait_no_more`. Raises
        Closed.
        """
        return self._view.wait_for(offset, timeout_s)

    def wait_no_more(self):
        """From now on nobody waits in `wait_for`: those who do return at once. For a process that is told to end."""
        self._view.wait_no_more()

    def reader(self):
        """A Reader over all records that can be read now: a raw stream, as the stores hold them."""
        return self._view.reader()

    # ---- truncating

    def truncate(self, lowest):
        """Drop from the front each segment whose highest offset is at most `lowest`; as proglog does, so the record
        `lowest` may go itself. Beyond the end: all records go, and the next offset stays.

        A crash leaves the old or the new lowest offset. Raises NotStored (nothing has changed), Unsure, ReadOnly and
        Closed.
        """
        with self._writer.changing():
            ends = [*self._view.bases[1:], self.next_offset]
            self._drop_front(sum(end - 1 <= lowest for end in ends))

    def truncate_back(self, next_offset):
        """Drop the records from this offset on, newest first: it is the next one then.

        Their offsets will be given again: `identity` changes. A crash leaves some of them, and none that has lost one
        before it. Raises OffsetOutOfRange when it is not from
        the lowest to the next offset; Damaged and NotStored (nothing has changed), Unsure, ReadOnly and Closed.
        """
        with self._writer.changing():
            if type(next_offset) is not int or not self.lowest_offset <= next_offset <= self.next_offset:
                raise OffsetOutOfRange(next_offset, self.lowest_offset, self.next_offset)
            if next_offset == self.next_offset:
                return
            kept = bisect_right(self._view.bases, next_offset)
            gone, segments = self._view.segments[kept:], self._view.segments[:kept]
            position, cut_at = self._mending(segments[-1], lambda last: _where_to_cut(last, next_offset))
            # First, so that no crash finds half an append and takes all of it, or misses the segments that go.
            self._writer.change_meta(
                cut_at=cut_at, active=segments[-1].base, identity=self._writer.meta.renewed().identity
            )
            self._view.hide(next_offset)
            try:
                for segment in reversed(gone):
                    self._view.publish(self._view.segments[:-1])
                    segment.remove(self._folder.sync)
                segments[-1].cut_at(next_offset, position)
            except OSError as error:
                raise Unsure(self._writer.fail(f"{self._folder} could not be truncated: {error}")) from error
            self._writer.goes_on_in(segments[-1])

    def _mending(self, segment, ask):
        """What `ask` gives, called with this segment; the turn is ours. An index that is wrong is made anew, once."""
        try:
            return ask(segment)
        except Damaged:
            if segment.was_mended:
                raise
            segment.mend()
            return ask(segment)

    def reset(self, next_offset=None):
        """Drop all records. The next offset stays, or becomes this one, which must not be lower.

        A crash leaves all records or none. Raises ValueError; NotStored (nothing has changed), Unsure, ReadOnly and
        Closed.
        """
        with self._writer.changing():
            if next_offset is not None and (type(next_offset) is not int or next_offset < self.next_offset):
                raise ValueError(f"offsets never go back: {next_offset} is below {self.next_offset}")
            if next_offset is not None and next_offset >= END_OF_OFFSETS:
                raise ValueError(f"offsets are below {END_OF_OFFSETS}: {next_offset}")
            self._drop_front(len(self._view.segments))
            if next_offset is not None and next_offset > self.next_offset:
                self._begin_at(next_offset)

    def tend(self):
        """One round of retention: drop what is too old or too much, and what no consumer needs. See Config.

        Raises what `truncate` does, and Damaged when the age of a segment cannot be read.
        """
        with self._writer.changing():
            now_ns = time.time_ns()
            active = self._writer.active
            if active.count and retention.is_too_old(active, active.base, self._config, now_ns):
                self._writer.roll()  # or what it holds would wait for as long as it takes to fill it
            self._drop_front(retention.surplus(self._view.segments, self._config, self.floor, now_ns))

    def _drop_front(self, count):
        """Drop the oldest `count` segments. Where the active one is among them, another takes its place."""
        if count == len(self._view.segments):
            if self._writer.active.count:
                self._writer.roll()
            else:
                count -= 1
        if count == 0:
            return
        gone, kept = self._view.segments[:count], self._view.segments[count:]
        self._writer.change_meta(start=kept[0].base)
        failpoints.hit("log-start-noted")
        self._view.publish(kept)
        self._remove(gone)

    def _begin_at(self, next_offset):
        """The empty log goes on at this offset."""
        gone = self._view.segments
        self._writer.change_meta(start=next_offset, active=next_offset, is_begun=False)
        try:
            segments = [recovery.begin(self._folder, self._config, self._writer.meta)]
            self._writer.change_meta(is_begun=True)
        except (OSError, NotStored) as error:
            raise Unsure(self._writer.fail(f"{self._folder} could not begin anew: {error}")) from error
        self._view.publish(segments)
        self._writer.goes_on_in(segments[-1])
        self._view.show(next_offset)
        self._remove(gone)

    def _remove(self, segments):
        """Unlink files below the start, oldest first. One that stays is removed by the next start."""
        try:
            for segment in segments:
                segment.remove()
            self._folder.sync()
        except OSError as error:
            log.warning(
                "%s: a segment was dropped, and its files are still there: %s",
                self._folder,
                error,
                extra={"event": "files-left"},
            )

    # ---- the end

    def close(self):
        """Everything is on the disk, and the folder is free for another. May be called again.

        Raises Unsure when a policy has left something to sync, and that failed.
        """
        if not self._writer.is_own_process:
            return  # a child that inherited the log: it is not its own
        with self._writer.turn:
            if self._view.is_closed:
                return
            self._view.close()
            try:
                self._close_files()
            finally:
                self._lock.release()
        self._writer.stop()
        if self._tender:
            self._tender.stop()
        if self.failure and not self._writer.is_durable:
            raise Unsure(self.failure)

    def _close_files(self):
        if not self.failure:
            try:
                self._writer.seal()
                self._folder.write_marker(Marker(self.next_offset, self._writer.active.size))
            except OSError as error:
                if not self._writer.is_durable:
                    self._writer.fail(f"{self._folder} could not be synced: {error}")
                log.warning(
                    "%s: the next start will read the last segment whole: %s",
                    self._folder,
                    error,
                    extra={"event": "log-not-sealed"},
                )
        for segment in self._view.segments:
            segment.let_go()

    def remove(self):
        """Close the log and delete its folder, unless other things are in there. A crash leaves all or nothing of it.

        May be called after `close`, and again.
        """
        self.close()
        if self._is_removed or not self._writer.is_own_process:
            return
        self._lock = FolderLock(self._folder.path)
        self._folder.write_meta(self._writer.meta.changed(is_removed=True))
        self._folder.put_meta_in_place()
        recovery.throw_away(self._folder)
        self._is_removed = True
        self._lock.remove()
        with contextlib.suppress(OSError):  # there are other things
            os.rmdir(self._folder.path)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    # ---- what it holds

    @property
    def lowest_offset(self):
        """Of the oldest record; of an empty log the next one. Still known when it is closed, as are the next four."""
        return self._view.lowest_offset

    @property
    def next_offset(self):
        """What the next record will get: readers see all below it."""
        return self._view.next_offset

    @property
    def highest_offset(self):
        """Of the newest record; None when there is none."""
        return self.next_offset - 1 if self.count else None

    @property
    def count(self):
        """How many records can be read."""
        return max(0, self.next_offset - self.lowest_offset)

    @property
    def size(self):
        """How many bytes the stores have."""
        return sum(segment.size for segment in self._view.segments)

    def size_from(self, offset):
        """How many bytes the stores have for the records from this offset on. Raises Damaged."""
        return self._view.size_from(offset)

    @property
    def segments(self):
        """How many segments there are; at least one."""
        return len(self._view.segments)

    @property
    def id(self):
        """The text that all its records carry, drawn at random when the log was made."""
        return self._writer.meta.log

    @property
    def identity(self):
        """A random text. Another one means that offsets may have been given again: a reader begins anew then.

        It changes with truncate_back, when a start or a repair finds that the newest records may be gone, and with a
        new folder; a kill alone changes nothing.
        """
        return self._writer.meta.identity

    @property
    def failure(self):
        """Why nothing more is written, in words; None while all is well."""
        return self._writer.failure

    @property
    def oldest_ns(self):
        """When the oldest record was appended, in nanoseconds since 1970; None when there is none. Raises Damaged."""
        while self.count:
            lowest = self.lowest_offset
            try:
                return self._view.ask(lowest, Segment.timestamp, lowest)
            except OffsetOutOfRange:
                continue  # truncated in between
        return None


def _where_to_cut(segment, next_offset):
    """(the position of this offset in the store, the offset if it is inside of an append of many, else None)."""
    return segment.position_of(next_offset), next_offset if segment.is_inside_append(next_offset) else None
