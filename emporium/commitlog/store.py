"""A store: a file of payloads, one after the other.

    | length | payload | length | payload | ...        length: 8 bytes, big-endian, of the payload

It knows neither what a payload means nor whether it is right: see record.py. Nothing is held back in memory, so what is
written here survives a kill at once, and a power loss once `sync` has returned. One caller at a time may write; any
number may read meanwhile.

While it is written to, a store sets aside room: zeros behind its last payload, which are taken away when it is sealed.
A sync then need not note that the file has grown, which takes longer. Where the disk has no room for that, nothing more
is appended, although a payload might still fit: on a disk that is full to the last byte nobody could write the small
notes that let old files go, and it would stay full.
"""

import struct

from emporium.commitlog.files import FULL

_LENGTH = struct.Struct(">Q")
PREFIX_BYTES = _LENGTH.size


class Store:
    """Opened where it is first needed. Raises OSError throughout."""

    def __init__(self, disk, path, ahead_bytes=0, file=None):
        self._disk = disk
        self._file = file
        self._ahead_bytes = ahead_bytes
        self.path = path
        self.size = self._file_size = disk.size(self._opened())

    @classmethod
    def create(cls, disk, path, ahead_bytes=0):
        """An empty one, which sets aside so many bytes at a time."""
        return cls(disk, path, ahead_bytes, disk.create(path))

    def append(self, payload):
        """(bytes written, the position before). The payload follows what is there."""
        position = self.size
        self.append_many([payload])
        return self.size - position, position

    def append_many(self, payloads):
        """The position of each. They are written at once; when it raises, a part may be: `cut` takes it away."""
        parts, positions, position = [], [], self.size
        for payload in payloads:
            positions.append(position)
            parts += (_LENGTH.pack(len(payload)), payload)
            position += PREFIX_BYTES + len(payload)
        self.append_framed(b"".join(parts))
        return positions

    def append_framed(self, data):
        """As append_many. In these bytes each payload has its length before it already."""
        end = self.size + len(data)
        if end > self._file_size:
            self._set_aside(end)
        self._disk.write(self._opened(), data, self.size)
        self.size = end

    def _set_aside(self, end):
        if self._ahead_bytes:
            try:
                self._disk.allocate(self._opened(), end + self._ahead_bytes)
                end += self._ahead_bytes
            except OSError as error:
                if error.errno in FULL:
                    raise
                self.cut(self.size)  # there is no way; a part may have been set aside, and nobody would take it away
        self._file_size = end

    def read(self, position):
        """The payload at this position, which `append` has returned. Raises EOFError where none is whole."""
        prefix = self.read_at(PREFIX_BYTES, position)
        if len(prefix) < PREFIX_BYTES:
            raise EOFError(f"no length at position {position}")
        [length] = _LENGTH.unpack(prefix)
        if length > self.size - position - PREFIX_BYTES:  # before so much is asked for: it may be any number
            raise EOFError(f"the length at position {position} is {length}, beyond the end")
        return self.read_at(length, position + PREFIX_BYTES)

    def read_at(self, size, position):
        """At most `size` bytes from this position; fewer only at the end."""
        return self._disk.read(self._opened(), size, position)

    def rewrite(self, position):
        """Write what stands from there to the end once more, so that the next sync surely covers it.

        After a sync that failed, Linux takes pages for written that are not.
        """
        while position < self.size:
            data = self.read_at(2**20, position)
            self._disk.write(self._opened(), data, position)
            position += len(data)

    def cut(self, size):
        """Take away what stands from this position on."""
        self._disk.truncate(self._opened(), size)
        self.size = self._file_size = size

    def trim(self):
        """Take away what was set aside."""
        if self._file_size > self.size:
            self.cut(self.size)

    def is_blank(self, position):
        """Whether there is nothing but zeros from this position on."""
        while position < self.size:
            data = self.read_at(2**20, position)
            if data.count(0) < len(data):
                return False
            position += len(data)
        return True

    def sync(self):
        """Returns when all that was appended before is on the disk."""
        self._disk.sync(self._opened())

    @property
    def is_open(self):
        return self._file is not None

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
