"""Reading a store from its beginning to its end, where the index cannot be trusted or does not matter."""

from contextlib import suppress
from dataclasses import dataclass, field

from emporium.commitlog.index import ENTRY
from emporium.commitlog.record import (
    ENVELOPE_BYTES,
    HEAD_BYTES,
    MAGIC,
    PREFIX_BYTES,
    NoRecord,
    OfAnotherLog,
    check,
    head_of,
)

CHUNK_BYTES = 2**20
MOST_RELATIVE = 2**32


@dataclass
class Scan:
    """What a store holds.

    entries      what its index should hold, for the whole appends
    next_offset  that of the last whole append, plus 1
    end          the position behind it
    proven       the position up to which a later record says that everything was synced
    blank        how many bytes behind that are zeros that were set aside, and nothing else
    trouble      None, or why what stands at `end` is no whole append; then nothing behind `end` was looked at
    is_foreign   whether the trouble is a whole record of another log
    newest       the timestamp of the last record, None when there is none
    lost         the offsets whose values were lost, see record.py
    """

    entries: bytearray = field(default_factory=bytearray)
    next_offset: int = 0
    end: int = 0
    proven: int = 0
    blank: int = 0
    trouble: str | None = None
    is_foreign: bool = False
    newest: int | None = None
    lost: list = field(default_factory=list)


class Window:
    """Checks records that follow each other, with few and large reads. Takes CHUNK_BYTES, or the largest record.

    log_id  of the log that they must belong to; None: any
    """

    def __init__(self, store, log_id):
        self._store = store
        self._log_id = log_id
        self.data = b""
        self.start = 0  # the position in the store of data[0]

    def check(self, position, offset):
        """The Head of the record with this offset that stands at this position. Raises NoRecord."""
        try:
            return check(self.data, self._log_id, offset, position - self.start)
        except NoRecord:
            self._read(CHUNK_BYTES, position)  # it may only be that the window ends here
        frame_bytes = head_of(self.data).frame_bytes
        if frame_bytes > self._store.size - position:
            raise NoRecord(f"a length of {frame_bytes} bytes, and {self._store.size - position} are left")
        if frame_bytes > len(self.data):
            self._read(frame_bytes, position)
        return check(self.data, self._log_id, offset)

    def frame(self, position, size):
        """The bytes of the record there that was checked last."""
        return bytes(self.data[position - self.start : position - self.start + size])

    def _read(self, size, position):
        self.data = memoryview(self._store.read_at(min(size, self._store.size - position), position))
        self.start = position


def scan(store, log_id, base, whole_at=None):
    """The Scan of this store of the log with this id, whose first record has the offset `base`.

    whole_at  an append of several records that ends before this offset is whole, whatever its records say: it was
              truncated there, or another segment follows
    """
    found = Scan(next_offset=base)
    window = Window(store, log_id)
    entries, position, offset, proven = bytearray(), 0, base, base
    while position < store.size:
        try:
            head = window.check(position, offset)
        except NoRecord as error:
            found.trouble, found.is_foreign = str(error), isinstance(error, OfAnotherLog)
            break
        entries += ENTRY.pack(offset - base, position)
        position += head.frame_bytes
        offset += 1
        proven = max(proven, head.durable)
        if head.is_lost:
            found.lost.append(offset - 1)
        if not head.has_more or offset == whole_at:
            found.end, found.next_offset, found.newest = position, offset, head.timestamp
    if found.next_offset < offset:
        found.trouble = (
            f"an append of several records begins here and is not whole: {found.trouble or 'the store ends'}"
        )
    elif found.trouble and store.is_blank(position):
        found.blank, found.trouble = store.size - position, None
    found.entries = entries[: (found.next_offset - base) * ENTRY.size]
    found.proven = _position_of(proven - base, found)
    return found


def _position_of(relative, found):
    if (relative + 1) * ENTRY.size > len(found.entries):
        return found.end
    return ENTRY.unpack_from(found.entries, relative * ENTRY.size)[1]


def log_id_in(bases, store_of):
    """The id of the log whose records stand in the stores with these base offsets; None when there is no good record.

    store_of  a base offset -> the Store
    One at the beginning of a store counts most: another may stand inside of a value.
    """
    for base in bases:
        with suppress(NoRecord):
            return Window(store_of(base), None).check(0, base).log_id
    for base in bases:
        for _position, head in records_behind(store_of(base), None, 0, base - 1):
            return head.log_id
    return None


def records_behind(store, log_id, position, offset):
    """(position, Head) of each good record that begins behind this position, with an offset above this one.

    log_id  of the log that it belongs to; None: any
    Only what can be one is read whole: the checksum of each record that is found has been right.
    """
    at = position + 1
    while at < store.size:
        chunk = store.read_at(CHUNK_BYTES, at)
        hit = chunk.find(MAGIC)
        while hit >= 0:
            begins_at = at + hit - PREFIX_BYTES
            head = _good_record(store, log_id, begins_at, offset) if begins_at > position else None
            if head is not None:
                yield begins_at, head
            hit = chunk.find(MAGIC, hit + 1)
        if len(chunk) < CHUNK_BYTES:
            return
        at += len(chunk) - len(MAGIC) + 1  # one may begin at the chunk's very end


def _good_record(store, log_id, position, offset):
    """Its Head; None when there is none, or one that cannot stand behind this offset."""
    try:
        head = head_of(store.read_at(HEAD_BYTES, position))
        if not (ENVELOPE_BYTES <= head.length <= store.size - position - PREFIX_BYTES):
            return None
        if log_id not in (None, head.log_id):
            return None
        if not (offset < head.offset < offset + MOST_RELATIVE and head.durable <= head.offset):
            return None
        return check(store.read_at(head.frame_bytes, position), log_id, head.offset)
    except NoRecord:
        return None
