"""The JSON of what the queue offers to consumers beyond the course: waiting for records, and leasing them.

What shards and queue say to each other is in emporium/wire.py.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from emporium import wire

MOST_WAIT_S = 30
MOST_LEASE_S = 3600

Most = Annotated[int, Meta(ge=1, le=wire.MOST_RECORDS)]
WaitS = Annotated[int, Meta(ge=0, le=MOST_WAIT_S)] | Annotated[float, Meta(ge=0, le=MOST_WAIT_S)]
LeaseS = Annotated[int, Meta(gt=0, le=MOST_LEASE_S)] | Annotated[float, Meta(gt=0, le=MOST_LEASE_S)]
Receipts = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=1000)]


class Get(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /channel/<name>/get: records to be done with at once, and how long to wait for the first."""

    most: Most = 1
    wait_s: WaitS = 0


class Lease(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /channel/<name>/lease."""

    most: Most = 1
    lease_s: LeaseS = 30
    wait_s: WaitS = 0


class Receipted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /channel/<name>/ack and .../release."""

    receipts: Receipts


class Numbered(msgspec.Struct):
    """A record with its place in the channel, and when it was put, in seconds since 1970."""

    offset: int
    put_at: float
    record: Raw


class LeasedRecord(msgspec.Struct):
    """A record that is ours until its lease ends, and how often it was given out, this time included."""

    offset: int
    deliveries: int
    receipt: str
    record: Raw


def decode_get(text):
    return wire.decode(text, Get)


def decode_lease(text):
    return wire.decode(text, Lease)


def decode_receipts(text):
    return wire.decode(text, Receipted).receipts


def encode_records(values):
    """The answer to a get: {"records": [...]}."""
    return wire.encode({"records": [Raw(value) for value in values]})


def encode_leased(leased):
    """The answer to a lease: {"leased": [{"offset", "deliveries", "receipt", "record"}]}."""
    records = [LeasedRecord(each.offset, each.deliveries, each.receipt, Raw(each.value)) for each in leased]
    return wire.encode({"leased": records})


def encode_peeked(records):
    """The answer to a peek: {"records": [{"offset", "put_at", "record"}]}."""
    numbered = [Numbered(each.offset, each.timestamp / 1e9, Raw(each.value)) for each in records]
    return wire.encode({"records": numbered})
