"""The JSON of the log as a service.

    a record to append      {"record": {"value": "TGV0J3MgR28gIzEK"}}
    many of them            {"records": [{"value": "TGV0J3MgR28gIzEK"}, ...]}
    what to read            {"offset": 0}, and beside it, if wanted, "max": 100 and "wait": 5
    a record that is read   {"record": {"value": "TGV0J3MgR28gIzEK", "offset": 0}}

A value is bytes, and travels as base64 in the one form that these bytes have: the standard alphabet, padded, nothing
in between (RFC 4648, section 4, with the strictness of its section 3.5).

Source: Travis Jeffery, Distributed Services with Go, chapter 1.
"""

from binascii import a2b_base64, b2a_base64
from typing import Annotated

import msgspec
from msgspec import Meta

from emporium import wire

MOST_RECORDS = 1000  # in one call, either way
MOST_BYTES = 2**20  # of values in one answer, unless one alone has more
MOST_WAIT_S = 30
OFFSETS = range(2**64)


class ValueBody(msgspec.Struct, forbid_unknown_fields=True):
    """A record to append. An `offset` is what a read has answered; the log gives its own."""

    value: str
    offset: object = None


class AppendBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /."""

    record: ValueBody


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /batch."""

    records: Annotated[list[ValueBody], Meta(min_length=1, max_length=MOST_RECORDS)]


class Read(msgspec.Struct, forbid_unknown_fields=True):
    """What a GET asks for, in its body or in its query: see docs/protocol.md. Without `max` it is one record."""

    offset: int
    max: Annotated[int, Meta(ge=1, le=MOST_RECORDS)] | None = None
    wait: Annotated[int, Meta(ge=0, le=MOST_WAIT_S)] | Annotated[float, Meta(ge=0, le=MOST_WAIT_S)] = 0


def decode_append(text):
    """The value to append, bytes. Raises BadJSON or BadShape, as all these do."""
    return _bytes_of(wire.decode(text, AppendBody).record.value, "record.value")


def decode_batch(text):
    """The values to append, at least one."""
    records = wire.decode(text, BatchBody).records
    return [_bytes_of(record.value, f"records[{i}].value") for i, record in enumerate(records)]


def decode_read(text):
    asked = wire.decode(text, Read)
    if asked.offset not in OFFSETS:
        raise wire.BadShape(f"offset: must be a whole number from {OFFSETS[0]} to {OFFSETS[-1]}")
    return asked


def encode_record(record):
    """The answer to a GET for one record."""
    return wire.encode({"record": _with_offset(record)})


def encode_records(records):
    """The answer to a GET for many."""
    return wire.encode({"records": [_with_offset(record) for record in records]})


def _with_offset(record):
    return {"value": record.value, "offset": record.offset}  # msgspec writes bytes as base64


def _bytes_of(text, field):
    """The bytes of this base64. Python's reader skips what it does not know, so what it read is written again."""
    try:
        value = a2b_base64(text)
    except ValueError:
        value = None
    if value is None or b2a_base64(value, newline=False).decode() != text:
        raise wire.BadShape(f"{field}: must be base64, of the standard alphabet and padded")
    return value
