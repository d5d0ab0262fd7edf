"""The JSON that travels: what a client writes, what a read answers, and what shards tell each other.

    a rating     {"rating": 3, "clock": {"c0": 5}}                                   PUT /rating/<tea>
    a reading    {"rating": 2.5, "choices": [2, 3], "clocks": [{"c0": 1}, {"c1": 3}]}    the answer to a GET
    a record     {"primary": "db0", "key": "white-tea", "rating": 2.5, "choices": [2, 3],
                  "clocks": [{"c0": 1}, {"c1": 3}]}                                  gossip on a channel
                  and beyond the course "request": "7f3a90c2", whose write it tells of

Everything that comes from outside is checked here, once; what leaves this module is finite, typed and in
canonical form. A message names the field at fault and what was expected.
"""

import math
import unicodedata
from contextlib import suppress
from itertools import islice
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw

from emporium.requestid import is_id
from emporium.siblings import UNRATED, Sibling, Value, as_stored, merge
from vectorclock import VectorClock

RATING_LIMIT = 10**6
NAME_LIMIT_BYTES = 255  # of a tea or a channel
MOST_ENTRIES = 64  # of a clock
COUNT_LIMIT = 2**53 - 1  # the largest whole number that every JSON reader keeps exactly

Number = (
    Annotated[int, Meta(ge=-RATING_LIMIT, le=RATING_LIMIT)] | Annotated[float, Meta(ge=-RATING_LIMIT, le=RATING_LIMIT)]
)
Count = Annotated[int, Meta(ge=0, le=COUNT_LIMIT)]
Text = Annotated[str, Meta(min_length=1)]
Choices = list[Number | None]  # null: a tombstone
Mean = Number | None  # null: of tombstones alone
Clock = dict[Text, Count]
Clocks = list[Clock]
NodeId = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")]

MOST_TOLD = 512  # siblings in one gossip record: far more than users can make, and merged within a fifth of a second
MOST_NESTED = 32
MOST_RECORDS = 256  # that one call between shard and queue carries
MOST_BYTES = 256 * 1024  # of records in one call, unless one alone has more: what both sides handle well within 0.2 s

# The course's queue client writes a list of clocks as {"CLOCK_LIST_XXX": [...]}.
CLOCK_LIST_TAG = "CLOCK_LIST_XXX"


class BadJSON(ValueError):
    """The text is no JSON at all."""


class BadShape(ValueError):
    """The JSON is well formed, and not what was asked for. The message names the field."""


class Rated(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /rating/<tea>: one rating, and the clock at which it is given."""

    rating: Number
    clock: Annotated[dict[NodeId, Count], Meta(min_length=1, max_length=MOST_ENTRIES)]


class Reading(msgspec.Struct):
    """The answer to a GET, as far as a clock can be told from it."""

    clocks: Clocks


class TaggedClocks(msgspec.Struct, forbid_unknown_fields=True):
    """A list of clocks as the course's queue client wraps it."""

    clocks: Clocks = msgspec.field(name=CLOCK_LIST_TAG)


class QueueStatus(msgspec.Struct):
    """The answer to GET /status of a queue, as far as a shard needs it: null, or missing, of channels in memory."""

    fsync: str | None = None


class Readiness(msgspec.Struct):
    """The answer to GET /readyz."""

    ready: bool
    checks: dict[str, str]


class GossipBody(msgspec.Struct):
    """A gossip record as it comes: from our shards, from the course's, or from a person with curl.

    Its `rating` may be anything, even missing: a mean is derived from the choices, never taken over. So may its
    `request`, which counts where it is the id of one.
    """

    primary: Text
    key: Text
    choices: Annotated[Choices, Meta(max_length=MOST_TOLD)]
    clocks: Clocks | TaggedClocks
    request: object = None

    def __post_init__(self):
        if len(self.key.encode()) > NAME_LIMIT_BYTES or "/" in self.key:
            raise ValueError(f"key must name a tea: at most {NAME_LIMIT_BYTES} bytes, and no slash")
        if max(map(len, self.plain_clocks), default=0) > MOST_ENTRIES:
            raise ValueError(f"one of the clocks has more than {MOST_ENTRIES} entries")

    @property
    def tea(self):
        return unicodedata.normalize("NFC", self.key)

    @property
    def plain_clocks(self):
        return self.clocks.clocks if isinstance(self.clocks, TaggedClocks) else self.clocks


class Home(msgspec.Struct):
    """Of a gossip record, what tells it from others: the shard that took the write, and the tea."""

    primary: str
    key: str


class Record(NamedTuple):
    """Gossip about one tea: its value as it stands at the sender, and the shard that took the write.

    request  the id of the request that was that write, of several the newest; None where nobody says
    """

    primary: str
    key: str
    value: Value
    request: str | None = None


_decoders = {}  # {id of a shape: its decoder, which keeps the shape and so the id}


def decode(text, shape=object):
    """The JSON text (bytes or str) as `shape`. Raises BadJSON or BadShape, whose message is fit to be answered."""
    decoder = _decoders.get(id(shape))
    if decoder is None:  # made once for each shape: to take a type apart costs more than to decode a clock
        decoder = _decoders.setdefault(id(shape), msgspec.json.Decoder(shape))
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        # It stopped at the first thing amiss. What comes after that may be no JSON at all; or the same field once
        # more, and of a field given twice the last counts.
        if shape is not object:
            with suppress(BadShape, msgspec.ValidationError):
                return msgspec.convert(decode(text), type=shape)
        raise BadShape(_in_words(error)) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadJSON(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BadJSON("the body is nested too deeply") from error


def with_plain_numbers(text):
    """The same JSON (bytes), in which every whole number is written as one: to JSON, 2.0 and 2 are equal.

    The text as it was, where that cannot be done: what is amiss with it is for `decode` to say.
    """
    try:
        return encode(_plain_numbers.decode(text))
    except (msgspec.MsgspecError, UnicodeError, OverflowError, RecursionError):
        return text


def _plain_number(text):
    number = float(text)
    if math.isinf(number):
        raise ValueError("number out of range")
    return int(number) if number.is_integer() and abs(number) <= COUNT_LIMIT else number


_plain_numbers = msgspec.json.Decoder(float_hook=_plain_number)


def encode(value):
    """Compact JSON, as bytes."""
    return msgspec.json.encode(value)


def decode_object(text):
    """Any JSON object (bytes), as a dict.

    It must not be nested more than 32 deep: how deep a reader can go depends on where it stands itself, so that
    without a limit one that was let in here could be too deep for the shard that takes it.
    """
    found = decode(text, dict)
    if text.count(b"{") + text.count(b"[") <= MOST_NESTED:
        return found
    level = [found]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return found
    raise BadJSON(f"the body is nested too deeply: more than {MOST_NESTED} objects and lists in one another")


def decode_queue_status(text):
    """The QueueStatus."""
    return decode(text, QueueStatus)


def decode_readiness(text):
    """{what: "ok" or the trouble in words}, of an answer to GET /readyz."""
    return decode(text, Readiness).checks


# ---- ratings


def decode_rated(body):
    """What a client asks to write, checked."""
    return decode(body, Rated)


def sibling_of(rated):
    """It, as the sibling that it is to become."""
    return Sibling(as_stored(rated.rating), VectorClock.fromDict(rated.clock))


def decode_rating(body):
    """The sibling that a client asks to write."""
    return sibling_of(decode_rated(body))


def reading(value):
    """What a read answers: `choices` and `clocks` of the living, in the same, canonical order."""
    value = value if not value.is_buried else Value(value.rating, value.living)
    rating = UNRATED.rating if value.rating is None else value.rating
    return {"rating": rating, "choices": choices_of(value), "clocks": clocks_of(value)}


def decode_clock(text):
    """The VectorClock of a header X-Clock. Raises BadJSON or BadShape."""
    return VectorClock.fromDict(decode(text, Clock))


def is_clock(text):
    """Whether this is one."""
    try:
        decode_clock(text)
    except ValueError:
        return False
    return True


def clock_of_reading(body):
    """The VectorClock that subsumes those that this answer to a GET shows. Raises BadJSON or BadShape."""
    return VectorClock.converge(map(VectorClock.fromDict, decode(body, Reading).clocks))


def encode_reading(value):
    return encode(reading(value))


def choices_of(value):
    return [sibling.rating for sibling in value.siblings]


def clocks_of(value):
    return [sibling.clock.asDict() for sibling in value.siblings]


def siblings_of(choices, clocks):
    """Choices and clocks, in the same order, as siblings. Raises BadShape when their numbers differ."""
    if len(choices) != len(clocks):
        counts = f"{len(choices)} and {len(clocks)}"
        raise BadShape(f"choices, clocks: {counts}, and there must be one clock for each choice")
    return [
        Sibling(None if rating is None else as_stored(rating), VectorClock.fromDict(clock))
        for rating, clock in zip(choices, clocks, strict=True)
    ]


# ---- gossip


def record_of(record):
    """The Record as a dict, as it stands in JSON: the course's, and `request` only where there is one."""
    told = {
        "primary": record.primary,
        "key": record.key,
        "rating": record.value.rating,
        "choices": choices_of(record.value),
        "clocks": clocks_of(record.value),
    }
    if record.request is not None:
        told["request"] = record.request
    return told


def encode_record(record):
    return encode(record_of(record))


def decode_record(text):
    """A gossip record, its value in canonical form. Raises BadJSON or BadShape."""
    body = decode(text, GossipBody)
    value = merge(UNRATED, siblings_of(body.choices, body.plain_clocks))
    return Record(body.primary, body.tea, value, body.request if is_id(body.request) else None)


# ---- between shard and queue: many records a call


class Cursor(msgspec.Struct, frozen=True):
    """The last record whose effect is safe with its reader: the life of a channel, and an offset in it."""

    life: Annotated[str, Meta(max_length=64)]
    offset: Annotated[int, Meta(ge=0)]

    def back_by(self, records):
        """The cursor that stands so many records before this one."""
        return msgspec.structs.replace(self, offset=self.offset - records)


class Take(msgspec.Struct):
    """The body of POST /channel/<name>/take."""

    cursor: Cursor | None = None
    most: Annotated[int, Meta(ge=1, le=MOST_RECORDS)] = MOST_RECORDS


class Taken(msgspec.Struct):
    """The answer to it: what waits behind the cursor, and the cursor that stands for having dealt with it."""

    records: list[Raw]
    cursor: Cursor | None = None
    left: int = 0  # how many wait behind those


class Peeked(msgspec.Struct):
    """One record as a peek shows it."""

    offset: int
    record: Raw


class PeekedRecords(msgspec.Struct):
    """The answer to GET /channel/<name>/peek."""

    records: list[Peeked]


class Put(msgspec.Struct):
    """The body of POST /channel/<name>/put."""

    records: list[Raw]


class Exchange(msgspec.Struct):
    """The body of POST /exchange: records for one channel, and a take from another."""

    to: Text
    records: list[Raw]
    source: Text = msgspec.field(name="from")
    cursor: Cursor | None = None
    most: Annotated[int, Meta(ge=0, le=MOST_RECORDS)] = MOST_RECORDS


def one_call(records):
    """How many of these JSON texts, from the first on, travel in one call: at least one, where there is one."""
    size = 0
    for count, record in enumerate(islice(records, MOST_RECORDS)):
        size += len(record)
        if size > MOST_BYTES and count > 0:
            return count
    return min(len(records), MOST_RECORDS)


def encode_take(cursor, most):
    return encode(Take(cursor, most))


def decode_take(text):
    return decode(text, Take)


def encode_taken(records, cursor, left):
    return encode(Taken([Raw(record) for record in records], cursor, left))


def decode_taken(text):
    """(records as JSON texts, cursor, how many are left)."""
    taken = decode(text, Taken)
    return [bytes(record) for record in taken.records], taken.cursor, taken.left


def decode_peeked(text):
    """[(offset, JSON text), ...]."""
    return [(each.offset, bytes(each.record)) for each in decode(text, PeekedRecords).records]


def encode_records(records):
    return encode(Put([Raw(record) for record in records]))


def decode_records(text):
    """The records as JSON texts, each known to be an object."""
    return _objects(decode(text, Put).records)


def encode_exchange(to, records, source, cursor, most):
    return encode(Exchange(to, [Raw(record) for record in records], source, cursor, most))


def decode_exchange(text):
    """(The Exchange, its records as JSON texts, each known to be an object)."""
    exchange = decode(text, Exchange)
    return exchange, _objects(exchange.records)


def _objects(raw_records):
    records = [bytes(record) for record in raw_records]
    for record in records:
        decode_object(record)
    return records


def _in_words(error):
    """msgspec says 'Expected `int`, got `str` - at `$.clock[...]`'; we say which field of the body it means."""
    what, _, where = str(error).partition(" - at ")
    field = where.rpartition("$")[2].rstrip("`").lstrip(".").replace("[...]", "")
    if where.startswith("`key"):
        field += ", a node id"
    return f"{field}: {what}" if field else f"the body: {what}"


# ---- between shards: what one holds, and the other does not


class Sums(msgspec.Struct):
    """The body of POST /replica/compare: what one shard holds, as sums of fingerprints, base64.

    ndb     for how many shards the sender was started
    first   the buckets from this one on are to be compared
    """

    sums: bytes
    ndb: int
    first: Annotated[int, Meta(ge=0)] = 0


class Compared(msgspec.Struct):
    """The answer: {tea: fingerprint} of all teas in buckets that differ.

    buckets     those, by their numbers
    news        teas among them that gossip is just telling
    next        from which bucket on to ask again; None: that was all
    recovering  whether the shard that answers has lost its memory itself
    """

    buckets: dict[Annotated[int, Meta(ge=0, lt=1024)], dict[str, int]]
    news: list[str]
    next: int | None
    recovering: bool


class Given(msgspec.Struct):
    """The body of POST /replica/exchange: values to merge, as gossip records, and the names of teas that are wanted."""

    values: Annotated[list[Raw], Meta(max_length=MOST_RECORDS)] = []
    want: Annotated[list[Text], Meta(max_length=MOST_RECORDS)] = []


class GivenUp(msgspec.Struct):
    """The body of POST /recover: the shards, and "q" for the queue, that need not be heard."""

    without: Annotated[list[Text], Meta(min_length=1)]


class RawExchanged(msgspec.Struct):
    """The answer, as it travels: the wanted values, as far as the shard has them."""

    values: list[Raw]
    changed: int
    recovering: bool


class Exchanged(NamedTuple):
    """Records of the wanted teas; how many of the given ones changed something; whether the shard recovers itself."""

    records: list
    changed: int
    recovering: bool


def decode_given(text):
    """(Records, teas). Raises BadJSON or BadShape, also when one of the values makes no sense."""
    given = decode(text, Given)
    return [decode_record(bytes(value)) for value in given.values], given.want


def encode_given(records, teas):
    return encode(Given([Raw(encode_record(record)) for record in records], teas))


def encode_exchanged(records, changed, recovering):
    return encode(RawExchanged([Raw(encode_record(record)) for record in records], changed, recovering))


def decode_exchanged(text):
    """The Exchanged."""
    found = decode(text, RawExchanged)
    return Exchanged([decode_record(bytes(value)) for value in found.values], found.changed, found.recovering)
