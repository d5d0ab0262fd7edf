"""One shard's Redis: the one module that says so. It owns the keys, their encoding, and what an error means.

    /rating/<tea>   hash   rating (the mean), choices, clocks (JSON arrays in the same order)
    digest          list   gossip records, as JSON, that wait until digest-length of them are there
    due             list   gossip records that wait for the queue to accept them
    cursor          string the last record taken from the predecessor's channel whose effect is here

Look inside with: redis-cli -p 5555 hgetall /rating/persimmon. Nothing is cached: what is changed there by hand
shows in the next read. A change is one MULTI/EXEC, so that a crash never leaves a value that will not spread.
"""

from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, ResponseError, TimeoutError
from redis.retry import Retry

from emporium import wire
from emporium.siblings import UNRATED, Damaged, Value

DEADLINE_S = 0.5
CONNECT_S = 0.25

PREFIX = "/rating/"
DIGEST, DUE, CURSOR = "digest", "due", "cursor"


class StoreDown(Exception):
    """Redis could not be asked; surely nothing was changed."""


class StoreUnsure(Exception):
    """Redis was given a change and did not confirm it; it may have been made."""


class Found(NamedTuple):
    """What `load` brings. It is of one moment as long as one caller at a time changes things."""

    values: dict  # {tea: Value or Damaged}, UNRATED for one that was never rated
    digest_count: int
    due_count: int
    cursor: wire.Cursor | None


class Store:
    """Safe to share between threads, but read-merge-write is only safe when one caller at a time does it."""

    def __init__(self, host, port):
        self.address = f"{host}:{port}"
        self._redis = redis.Redis(
            host=host,
            port=port,
            socket_timeout=DEADLINE_S,
            socket_connect_timeout=CONNECT_S,
            # Whether to try again is for the client to decide: only it knows its deadline.
            retry=Retry(NoBackoff(), 0),
        )

    def load(self, teas):
        """What is stored of these teas, and where gossip stands, as Found. Raises StoreDown."""
        teas = list(teas)
        pipe = self._redis.pipeline(transaction=False)
        pipe.llen(DIGEST).llen(DUE).get(CURSOR)
        for tea in teas:
            pipe.hmget(PREFIX + tea, "rating", "choices", "clocks")
        digest_count, due_count, cursor, *hashes = self._ask(lambda: pipe.execute(raise_on_error=False))
        for answer in (digest_count, due_count, cursor):
            if isinstance(answer, Exception):
                raise StoreDown(f"Redis at {self.address}: {answer}")
        return Found(
            {tea: _value(fields) for tea, fields in zip(teas, hashes, strict=True)},
            digest_count,
            due_count,
            _cursor(cursor) if cursor else None,
        )

    def change(self, changes, cursor=None):
        """Make these Changes whole or not at all, and with them note the cursor behind which they stand.

        Raises StoreDown (surely not made) or StoreUnsure (it may be made).
        """
        pipe = self._redis.pipeline(transaction=True)
        for tea in changes.removed:
            pipe.delete(PREFIX + tea)
        for tea, value in changes.values.items():
            pipe.hset(PREFIX + tea, mapping=_fields(value))
        if changes.remembered:
            pipe.rpush(DIGEST, *map(wire.encode_record, changes.remembered))
        for _ in range(changes.now_due):
            pipe.lmove(DIGEST, DUE, "LEFT", "RIGHT")
        if cursor is not None:
            pipe.set(CURSOR, wire.encode(cursor))
        if len(pipe):
            self._change(pipe)

    def due(self, most):
        """The oldest records that are due, JSON texts, at most `most`. Raises StoreDown."""
        return self._ask(lambda: self._redis.lrange(DUE, 0, most - 1))

    def sent(self, count):
        """Forget the `count` oldest records that were due. Raises StoreDown or StoreUnsure."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.ltrim(DUE, count, -1)
        self._change(pipe)

    def counts(self):
        """{"keys", "digest", "due"}: how many teas are stored, and records in digest and due. Raises StoreDown."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.dbsize().exists(DIGEST, DUE, CURSOR).llen(DIGEST).llen(DUE)
        everything, ours, digest, due = self._ask(pipe.execute)
        return {"keys": everything - ours, "digest": digest, "due": due}

    def list(self, page, most):
        """([(tea, Value or Damaged), ...], next page): about `most` teas; page 0 begins, next page 0 ends."""
        page, keys = self._ask(lambda: self._redis.scan(page, match=PREFIX + "*", count=most))
        teas = sorted(key.decode(errors="replace").removeprefix(PREFIX) for key in keys)
        return list(self.load(teas).values.items()), page

    def _ask(self, read):
        try:
            return read()
        except (ConnectionError, TimeoutError, ResponseError) as error:
            raise StoreDown(f"Redis at {self.address}: {error}") from error

    def _change(self, pipe):
        # A connection that stands before EXEC is sent tells the definite failures from the others.
        pool = self._redis.connection_pool
        pool.release(self._ask(pool.get_connection))
        try:
            results = pipe.execute(raise_on_error=False)
        except (BusyLoadingError, ResponseError) as error:  # refused as a whole: out of memory or disk, read only
            raise StoreDown(f"Redis at {self.address}: {error}") from error
        except (ConnectionError, TimeoutError) as error:
            raise StoreUnsure(f"Redis at {self.address}: {error}") from error
        for result in results:  # a key that someone gave another type fails alone, and the rest is done
            if isinstance(result, Exception):
                raise StoreUnsure(f"Redis at {self.address}: {result}") from result


def _fields(value):
    return {
        "rating": wire.encode(value.rating),
        "choices": wire.encode(wire.choices_of(value)),
        "clocks": wire.encode(wire.clocks_of(value)),
    }


def _value(fields):
    """The Value that a hash holds, its fields as they stand there; Damaged when they make no sense."""
    if isinstance(fields, Exception):
        return Damaged(f"not a hash: {fields}")
    if fields == [None, None, None]:
        return UNRATED
    if None in fields:
        return Damaged("one of the fields rating, choices, clocks is missing")
    rating, choices, clocks = fields
    try:
        siblings = wire.siblings_of(wire.decode(choices, wire.Choices), wire.decode(clocks, wire.Clocks))
        return Value(wire.decode(rating, wire.Number), tuple(siblings))
    except ValueError as error:
        return Damaged(str(error))


def _cursor(text):
    """A cursor that makes no sense counts as none: then the records come again, which is harmless."""
    try:
        return wire.decode(text, wire.Cursor)
    except ValueError:
        return None
