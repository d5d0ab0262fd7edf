"""An index: where in the store each record of a segment begins.

    | relative offset | position | relative offset | position | ...        4 and 8 bytes, big-endian: 12 an entry

Entry i is that of the record with the offset base + i, so its relative offset is i. An index is a cache: all that it
says can be read from the store, and it is made anew from there when it is missing or wrong. So it is not synced with
each record. It is a plain file, never grown beyond its entries: a full disk is an error here, not a signal that kills.
"""

import itertools
import struct

ENTRY = struct.Struct(">IQ")
ENTRY_BYTES = ENTRY.size
_TWO = struct.Struct(">IQIQ")


class Full(Exception):
    """There is no room for so many entries."""


class Index:
    """`most_bytes`: how large it may grow. Only whole entries count, whatever that number is. Raises OSError."""

    def __init__(self, disk, path, most_bytes, file=None):
        self._disk = disk
        self._file = file
        self.path = path
        self.most = min(most_bytes // ENTRY_BYTES, 2**32)
        self.size = disk.size(self._opened())

    @classmethod
    def create(cls, disk, path, most_bytes):
        """An empty one."""
        return cls(disk, path, most_bytes, disk.create(path))

    @property
    def count(self):
        """How many entries it has."""
        return self.size // ENTRY_BYTES

    def append(self, position):
        """Note where the next record begins. Raises Full."""
        self.append_many([position])

    def append_many(self, positions):
        """Note where the next records begin. Raises Full, and then notes none."""
        first = self.size // ENTRY_BYTES
        if first + len(positions) > self.most:
            raise Full(f"{self.path} has room for {self.most} entries")
        entries = b"".join(map(ENTRY.pack, itertools.count(first), positions))
        self._disk.write(self._opened(), entries, self.size)
        self.size += len(entries)

    def read(self, i):
        """(relative offset, position) of entry i; -1 is the last one. Raises EOFError where there is none."""
        i = i + self.count if i < 0 else i
        if not 0 <= i < self.count:
            raise EOFError(f"{self.path} has {self.count} entries, not entry {i}")
        return ENTRY.unpack(self.read_at(ENTRY_BYTES, i * ENTRY_BYTES))

    def span(self, i):
        """(where record i begins, where the next one does or None). Raises EOFError when an entry is not right."""
        data = self.read_at(_TWO.size, i * ENTRY_BYTES)
        if len(data) == _TWO.size:
            relative, position, following, end = _TWO.unpack(data)
            if (relative, following) == (i, i + 1) and position < end:
                return position, end
        elif len(data) >= ENTRY_BYTES:
            relative, position = ENTRY.unpack_from(data)
            if relative == i:
                return position, None
        raise EOFError(f"entry {i} of {self.path} is missing or wrong")

    def positions(self, i, most):
        """Where the records i, i + 1, ... begin: at most `most` of them. Raises EOFError when an entry is wrong."""
        data = self.read_at(most * ENTRY_BYTES, i * ENTRY_BYTES)
        positions = []
        for relative, position in ENTRY.iter_unpack(data[: len(data) // ENTRY_BYTES * ENTRY_BYTES]):
            if relative != i + len(positions):
                raise EOFError(f"entry {i + len(positions)} of {self.path} is that of {relative}")
            positions.append(position)
        return positions

    def read_at(self, size, position):
        return self._disk.read(self._opened(), size, position)

    def replace(self, entries):
        """Hold these entries, bytes, and no others. Returns whether others were there.

        Entries that were right can be read all the while. When it raises, those that were there are.
        """
        held = self.read_at(self.size, 0)
        if held == entries:
            return False
        if held.startswith(entries):
            self.cut(len(entries) // ENTRY_BYTES)
            self.sync()
        elif entries.startswith(held):
            self._disk.write(self._opened(), entries[len(held) :], len(held))
            self.size = len(entries)
            self.sync()
        else:
            self._disk.write_whole(self.path, entries)
            self._disk.put_in_place(self.path)
            self._file, self.size = None, len(entries)
        return True

    def cut(self, count):
        """Keep the first `count` entries."""
        self._disk.truncate(self._opened(), count * ENTRY_BYTES)
        self.size = count * ENTRY_BYTES

    def sync(self):
        self._disk.sync(self._opened())

    def let_go(self):
        """Close the file, once nobody reads from it; the next use opens it anew."""
        self._file = None

    def remove(self):
        """Unlink it."""
        self.let_go()
        self._disk.unlink(self.path)

    def _opened(self):
        file = self._file
        if file is None:
            file = self._file = self._disk.open(self.path, is_writable=True)
        return file
