"""A record, and how it stands in a store.

    8   length       of all that follows, in bytes; what the store writes before every payload
    ------------------ the payload: an envelope, and the value
    4   magic        "TEA" and the version of this format, 1
    4   checksum     CRC-32 of the length, and of all that follows the checksum
    4   flags        1: the next record belongs to the same append; 2: lost, see below
    8   log id       drawn at random when the log was made, and kept in log.json
    8   offset       of this record
    8   timestamp    when it was appended, nanoseconds since 1970
    8   term         0; kept for a log that is replicated
    8   durable      all records below this offset were synced when this one was written
    ..  value

All numbers are unsigned and big-endian.

The checksum covers length and offset, and a record is never 0 bytes long: a tail of zeros is no record, and a record at
another one's place is none either, nor is one of another log: a value may hold any bytes, also those of an exported
log, and files of two logs may be swapped. The flag `more` makes an append of many records whole or void after a crash.
`durable` tells a torn tail, which nobody was told is stored, from damage to what is: a bad record in front of a good
one that calls it durable has been damaged.

The flag `lost` stands only where `./tea log repair` found nothing to read: the offset is kept, the value is gone.
"""

import struct
from typing import NamedTuple
from zlib import crc32

MAGIC = b"TEA\x01"
MORE, LOST = 1, 2

_HEAD = struct.Struct(">Q4sIIQQQQQ")
_COVERED = struct.Struct(">QIQQQQQ")  # the head as the checksum sees it: without magic and checksum

PREFIX_BYTES = 8
ENVELOPE_BYTES = _HEAD.size - PREFIX_BYTES
HEAD_BYTES = _HEAD.size


class Record(NamedTuple):
    """offset; value, bytes; timestamp, when it was appended in nanoseconds since 1970; term, see above."""

    offset: int
    value: bytes
    timestamp: int
    term: int = 0


class Head(NamedTuple):
    """What stands before the value. `length` counts the bytes behind itself, the value's included."""

    length: int
    magic: bytes
    checksum: int
    flags: int
    log_id: int
    offset: int
    timestamp: int
    term: int
    durable: int

    @property
    def has_more(self):
        """Whether the next record belongs to the same append."""
        return bool(self.flags & MORE)

    @property
    def is_lost(self):
        return bool(self.flags & LOST)

    @property
    def frame_bytes(self):
        """How long the whole record is in a store."""
        return PREFIX_BYTES + self.length


class NoRecord(ValueError):
    """These bytes are no record. The message says why."""


class OfAnotherLog(NoRecord):
    """They are a whole record, but not of this log."""


def head_for(value, log_id, offset, timestamp, durable, flags=0, term=0):
    """What stands before this value in a store, bytes, the length included."""
    length = ENVELOPE_BYTES + len(value)
    checksum = crc32(value, crc32(_COVERED.pack(length, flags, log_id, offset, timestamp, term, durable)))
    return _HEAD.pack(length, MAGIC, checksum, flags, log_id, offset, timestamp, term, durable)


def encode(value, log_id, offset, timestamp, durable, flags=0, term=0):
    """The payload, bytes: the whole record but for the length, which the store writes."""
    return head_for(value, log_id, offset, timestamp, durable, flags, term)[PREFIX_BYTES:] + value


def head_of(data, at=0):
    """The Head of the record that begins at `at` in these bytes. Checks nothing but that it can be one.

    Raises NoRecord.
    """
    if len(data) - at < HEAD_BYTES:
        raise NoRecord(f"{max(0, len(data) - at)} bytes are too few for a record")
    head = Head._make(_HEAD.unpack_from(data, at))
    if head.magic != MAGIC:
        if head.magic[:3] == MAGIC[:3]:
            raise NoRecord(f"a record of format {head.magic[3]}, and this version reads format {MAGIC[3]}")
        raise NoRecord("no record begins here")
    if head.length < ENVELOPE_BYTES:
        raise NoRecord(f"the length says {head.length}, and a record has at least {ENVELOPE_BYTES} bytes")
    return head


def check(data, log_id, offset, at=0):
    """The Head of the record with this offset, which begins at `at` in these bytes and is right to the last bit.

    data    bytes or a memoryview; it may go on behind the record
    log_id  of the log that it must belong to; None: any
    Raises NoRecord, and OfAnotherLog.
    """
    return _checked(data, log_id, offset, at)[0]


def decode(data, log_id, offset, at=0):
    """(Record with this offset, its Head), as `check` does. One that was lost has an empty value. Raises NoRecord."""
    head, value = _checked(data, log_id, offset, at)
    return Record(offset, bytes(value), head.timestamp, head.term), head


def _checked(data, log_id, offset, at):
    """(Head, value), see check."""
    head = head_of(data, at)
    length, _magic, checksum, flags, found_id, found, timestamp, term, durable = head
    end = at + PREFIX_BYTES + length
    if end > len(data):
        raise NoRecord(f"the length says {length}, and {len(data) - at - PREFIX_BYTES} bytes follow")
    value = data[at + HEAD_BYTES : end]
    if crc32(value, crc32(_COVERED.pack(length, flags, found_id, found, timestamp, term, durable))) != checksum:
        raise NoRecord("the checksum does not match")
    if found_id != log_id and log_id is not None:
        raise OfAnotherLog(f"the record of offset {found} that stands here belongs to another log")
    if found != offset:
        raise NoRecord(f"the record of offset {found} stands where that of {offset} should")
    return head, value
