"""A segment: a store and an index that begin with the same base offset.

    16.store   the records 16, 17, 18 ...
    16.index   where each of them begins in the store

The names are the base offset, unpadded. Only the last segment of a log is written to. A record is in the segment once
`append` has returned, and safe from a power loss once `sync` has. One caller at a time may change a segment; any number
may read meanwhile, up to the offset that they know of.
"""

import os
from itertools import pairwise

from emporium.commitlog.errors import Damaged
from emporium.commitlog.index import ENTRY_BYTES, Index
from emporium.commitlog.record import HEAD_BYTES, MORE, NoRecord, check, decode, head_for
from emporium.commitlog.scan import records_behind, scan
from emporium.commitlog.store import PREFIX_BYTES, Store


def path_of(folder, base, kind):
    """Where the store or the index (`kind`) of this base offset is."""
    return os.path.join(folder, f"{base}.{kind}")


def store_of(folder, base):
    """The Store with this base offset in a Folder, for who reads files that are no log: see tools.py."""
    return Store(folder.disk, path_of(folder.path, base, "store"))


class Segment:
    """Reading raises Damaged, also for what the disk cannot read; all else raises OSError."""

    def __init__(self, log_id, base, store, index, config):
        self.log_id = log_id
        self.base = base
        self.store = store
        self.index = index
        self.next_offset = base + index.count
        self.was_mended = False  # whether the index was made anew since this start
        self._config = config

    @classmethod
    def create(cls, disk, folder, log_id, base, config):
        """An empty one. Its names are safe once the folder is synced."""
        store = Store.create(disk, path_of(folder, base, "store"), config.set_aside_bytes)
        return cls(log_id, base, store, Index.create(disk, path_of(folder, base, "index"), config.index_bytes), config)

    @classmethod
    def open(cls, disk, folder, log_id, base, config):
        """One that is there. A missing index is created empty: what the segment holds is only known after `fits` or
        `take`.
        """
        path = path_of(folder, base, "index")
        try:
            index = Index(disk, path, config.index_bytes)
        except FileNotFoundError:
            index = Index.create(disk, path, config.index_bytes)
        return cls(log_id, base, Store(disk, path_of(folder, base, "store"), config.set_aside_bytes), index, config)

    # ---- writing

    @property
    def count(self):
        """How many records it holds."""
        return self.next_offset - self.base

    @property
    def size(self):
        """How many bytes of records it holds."""
        return self.store.size

    @property
    def most(self):
        """How many records it can hold at most."""
        return self.index.most

    @property
    def path(self):
        """Of its store: who looks for a record looks there."""
        return self.store.path

    @property
    def index_path(self):
        return self.index.path

    @property
    def is_full(self):
        """Whether one of the files has reached its size. The index is full when no whole entry fits any more."""
        return self.store.size >= self._config.segment_bytes or self.count >= self.index.most

    def has_room(self, counts):
        """How many of these appends, given by their numbers of records, fit in one after the other."""
        if self.store.size >= self._config.segment_bytes:
            return 0
        free, fitting = self.index.most - self.next_offset + self.base, 0
        for count in counts:
            free -= count
            if free < 0:
                break
            fitting += 1
        return fitting

    def append(self, appends, timestamp, durable):
        """Write these appends, each a list of values. All or, when it raises, perhaps a part: then `cut_at`.

        durable  all records below this offset are synced
        """
        offset, position = self.next_offset, self.store.size
        parts, positions = [], []
        for values in appends:
            last = offset + len(values) - 1
            for value in values:
                parts += (head_for(value, self.log_id, offset, timestamp, durable, MORE if offset < last else 0), value)
                positions.append(position)
                position += HEAD_BYTES + len(value)
                offset += 1
        self.store.append_framed(b"".join(parts))
        self.index.append_many(positions)
        self.next_offset = offset

    def cut_at(self, next_offset, position):
        """Take away the records from this offset on, the first of which stands at this position. Syncs the new end."""
        # The index first: a crash leaves a record without an entry then, as in an append, and never the reverse.
        self.next_offset = next_offset
        self.index.cut(next_offset - self.base)
        self.store.cut(position)
        self.store.sync()

    def sync(self):
        """Returns when all records are on the disk."""
        self.store.sync()

    def seal(self):
        """Sync it whole, since nothing more will be written to it."""
        self.store.trim()
        self.store.sync()
        self.index.sync()

    @property
    def is_open(self):
        return self.store.is_open

    def let_go(self):
        """Close the files, once nobody reads from them; the next use opens them anew."""
        self.store.let_go()
        self.index.let_go()

    def remove(self, sync_folder=lambda: None):
        """Unlink both files. With `sync_folder`, no crash leaves an index that has lost its store."""
        self.index.remove()
        sync_folder()
        self.store.remove()
        sync_folder()

    # ---- reading

    def read(self, offset):
        """The Record with this offset."""
        position, end = self._span(offset)
        try:
            record, head = decode(self.store.read_at(end - position, position), self.log_id, offset)
        except (NoRecord, OSError) as error:
            raise Damaged(self.store.path, position, str(error)) from error
        if head.is_lost:
            raise Damaged(self.store.path, position, f"the record of offset {offset} was lost, and repair noted it")
        return record

    def read_many(self, offset, most, most_bytes):
        """([Records from this offset on], the offset behind them): at most so many, and bytes of values; at least one.

        Ends early in front of a record that is damaged, and raises Damaged when that is the first. Leaves out those
        that repair noted as lost.
        """
        try:
            ends = self._ends(offset, most)
        except (EOFError, OSError) as error:
            raise Damaged(self.index.path, (offset - self.base) * ENTRY_BYTES, str(error)) from error
        first, fitting = ends[0], 1
        while fitting < len(ends) - 1 and ends[fitting + 1] - first - (fitting + 1) * HEAD_BYTES <= most_bytes:
            fitting += 1
        records, position = [], first
        try:
            data = self.store.read_at(ends[fitting] - first, first)
            for _ in range(fitting):
                record, head = decode(data, self.log_id, offset, position - first)
                if not head.is_lost:
                    records.append(record)
                offset += 1
                position += head.frame_bytes
        except (NoRecord, OSError) as error:
            if not records:
                raise Damaged(self.store.path, position, str(error)) from error
        return records, offset

    def frames(self, offset, most, most_bytes):
        """(bytes of whole records as they stand in the store, the offset behind them): see read_many."""
        try:
            ends = self._ends(offset, most)
            fitting = 1
            while fitting < len(ends) - 1 and ends[fitting + 1] - ends[0] <= most_bytes:
                fitting += 1
            data = self.store.read_at(ends[fitting] - ends[0], ends[0])
        except (EOFError, OSError) as error:
            raise Damaged(self.index.path, (offset - self.base) * ENTRY_BYTES, str(error)) from error
        at = 0
        for i in range(fitting):
            try:
                at += check(data, self.log_id, offset + i, at).frame_bytes
            except NoRecord as error:
                raise Damaged(self.store.path, ends[0] + at, str(error)) from error
        return data[:at], offset + fitting

    def timestamp(self, offset):
        """When the record with this offset was appended, in nanoseconds since 1970."""
        return self._checked(offset)[1].timestamp

    def position_of(self, offset):
        """Where the record with this offset begins in the store. It is checked that it does."""
        return self._checked(offset)[0]

    def is_inside_append(self, offset):
        """Whether the record before this one was appended together with it. `offset` is in this segment."""
        return offset > self.base and self._checked(offset - 1)[1].has_more

    def _checked(self, offset):
        """(position of the record with this offset, its Head)."""
        position, end = self._span(offset)
        try:
            return position, check(self.store.read_at(end - position, position), self.log_id, offset)
        except (NoRecord, OSError) as error:
            raise Damaged(self.store.path, position, str(error)) from error

    def _span(self, offset):
        """(position of the record with this offset, where it ends at the latest). Raises Damaged."""
        try:
            position, end = self.index.span(offset - self.base)
            size = self.store.size
            end = size if end is None else end  # the last one ends with the store, which may have grown behind it since
            if not position < end <= size:  # before so much is asked for: it may be any number
                raise EOFError(f"the entry says from {position} to {end}, and the store has {size} bytes")
            return position, end
        except (EOFError, OSError) as error:
            raise Damaged(self.index.path, (offset - self.base) * ENTRY_BYTES, str(error)) from error

    def _ends(self, offset, most):
        """The positions of the records from this one on, at most so many, and the end of the last. Raises EOFError."""
        i = offset - self.base
        positions = self.index.positions(i, most + 1)
        if len(positions) <= most:
            positions.append(self.store.size)  # of an active segment that may be beyond the record's end
        if len(positions) < 2:
            raise EOFError(f"entry {i} is missing")
        if positions[-1] > self.store.size:
            raise EOFError(f"an entry from {i} on says {positions[-1]}, and the store has {self.store.size} bytes")
        if any(first >= second for first, second in pairwise(positions)):
            raise EOFError(f"the entries from {i} on do not rise")
        return positions

    # ---- the index against the store

    def fits(self, next_offset, store_bytes=None):
        """Whether the index looks right for a segment that ends before `next_offset`: then that is so noted.

        Reads the first and the last entry and the last record, however large the segment is.
        """
        if store_bytes is not None and self.store.size != store_bytes:
            return False
        count = next_offset - self.base
        if self.index.size != count * ENTRY_BYTES:
            return False
        if count == 0:
            return self.store.size == 0
        try:
            relative, position = self.index.read(-1)
            if self.index.read(0) != (0, 0) or relative != count - 1:
                return False
            size = self.store.size - position
            if size < PREFIX_BYTES:
                return False
            if check(self.store.read_at(size, position), self.log_id, next_offset - 1).frame_bytes != size:
                return False
        except (NoRecord, EOFError):
            return False
        self.next_offset = next_offset
        return True

    def scan(self, whole_at):
        """What the store holds, read from the beginning to the end: a Scan. For `whole_at` see there."""
        return scan(self.store, self.log_id, self.base, whole_at)

    def good_records_behind(self, found):
        """(position, Head) of each good record behind what this Scan found, with a higher offset."""
        return records_behind(self.store, self.log_id, found.end, found.next_offset)

    def keep(self, found):
        """Hold what this Scan of the whole store found, synced, and nothing else. Returns whether the index was wrong.

        What no later record calls synced is written once more: see Store.rewrite.
        """
        if found.end < self.store.size:
            self.store.cut(found.end)
        self.store.rewrite(found.proven)
        self.store.sync()
        return self.take(found)

    def take(self, found):
        """Make the index anew from this Scan of the whole store. Returns whether it was wrong."""
        self.next_offset = found.next_offset
        return self.index.replace(bytes(found.entries))

    def mend(self):
        """Make the index anew, if the whole store can be read; otherwise nothing is changed."""
        try:
            found = self.scan(self.next_offset)
            if found.trouble is None and found.next_offset == self.next_offset:
                self.take(found)
        except OSError as error:
            raise Damaged(self.index.path, 0, f"it is wrong, and could not be made anew: {error}") from error
        self.was_mended = True  # only now: who reads meanwhile waits for it rather than giving up
