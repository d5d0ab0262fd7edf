"""One shard's Redis: the one module that says so. It owns the keys, their encoding, and what an error means.

    /rating/<tea>   hash   rating (the mean), choices, clocks (JSON arrays in the same order)
    digest          list   gossip records, as JSON, that wait until digest-length of them are there
    due             list   gossip records that wait for the queue to accept them
    cursor          string the last record taken from the predecessor's channel whose effect is here
    set-aside       list   the newest 20 records that made no sense, or that the queue refused
    set-aside-count string how many there have been

Look inside with: redis-cli -p 5555 hgetall /rating/persimmon. Nothing is cached: what is changed there by hand
shows in the next read. A change is one MULTI/EXEC, so that a crash never leaves a value that will not spread.

A Redis that did not answer in time is left alone, and asked once a second until it does: nobody waits for it twice.
"""

import time
from contextlib import suppress
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, ResponseError, TimeoutError
from redis.retry import Retry

from emporium import wire
from emporium.guard import Watch
from emporium.siblings import UNRATED, Damaged, Value

DEADLINE_S = 0.5
CONNECT_S = 0.25

PREFIX = "/rating/"
DIGEST, DUE, CURSOR = "digest", "due", "cursor"
SET_ASIDE, SET_ASIDE_COUNT = "set-aside", "set-aside-count"
BOOKKEEPING = (DIGEST, DUE, CURSOR, SET_ASIDE, SET_ASIDE_COUNT)
MOST_SET_ASIDE = 20


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
        self._watch = Watch(f"Redis at {self.address}", self._no_pong)

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
        if changes.set_aside:
            pipe.rpush(SET_ASIDE, *changes.set_aside)
            _count_set_aside(pipe, len(changes.set_aside))
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

    def set_aside_oldest_due(self):
        """Put the oldest record that was due aside, where it holds up no other. Raises StoreDown or StoreUnsure."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.lmove(DUE, SET_ASIDE, "LEFT", "RIGHT")
        _count_set_aside(pipe, 1)
        self._change(pipe)

    def counts(self):
        """How many teas are stored ("keys"), records in "digest" and "due", and have been "set-aside".

        Raises StoreDown.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.dbsize().exists(*BOOKKEEPING).llen(DIGEST).llen(DUE).get(SET_ASIDE_COUNT)
        everything, ours, digest, due, set_aside = self._ask(pipe.execute)
        return {"keys": everything - ours, "digest": digest, "due": due, "set-aside": int(set_aside or 0)}

    def list(self, page, most):
        """([(tea, rating, how many siblings), ...], next page): about `most` teas; page 0 begins, next page 0 ends.

        Damaged values are left out. Raises StoreDown.
        """
        page, keys = self._ask(lambda: self._redis.scan(page, match=PREFIX + "*", count=most))
        pipe = self._redis.pipeline(transaction=False)
        for key in sorted(keys):
            pipe.hmget(key, "rating", "choices")
        rows = []
        for key, fields in zip(sorted(keys), self._ask(lambda: pipe.execute(raise_on_error=False)), strict=True):
            with suppress(ValueError, TypeError):  # damaged, or deleted since its name was listed
                rating, choices = wire.decode(fields[0], wire.Number), wire.decode(fields[1], wire.Choices)
                if choices:
                    rows.append((key.decode(errors="replace").removeprefix(PREFIX), rating, len(choices)))
        return rows, page

    def trouble(self):
        """Why Redis cannot be asked, in words; None when it can."""
        try:
            self._ask(self._redis.ping)
        except StoreDown as error:
            return str(error)
        return None

    def _ask(self, read):
        if trouble := self._watch.trouble:
            raise StoreDown(f"{trouble}; it is left alone until it answers again")
        try:
            return read()
        except (ConnectionError, TimeoutError, ResponseError) as error:
            raise StoreDown(self._noted(error)) from error

    def _change(self, pipe):
        # A connection that stands before EXEC is sent tells the definite failures from the others.
        pool = self._redis.connection_pool
        pool.release(self._ask(pool.get_connection))
        try:
            results = pipe.execute(raise_on_error=False)
        except (BusyLoadingError, ResponseError) as error:  # refused as a whole: out of memory or disk, read only
            raise StoreDown(self._noted(error)) from error
        except (ConnectionError, TimeoutError) as error:
            raise StoreUnsure(self._noted(error)) from error
        for result in results:  # a key that someone gave another type fails alone, and the rest is done
            if isinstance(result, Exception):
                raise StoreUnsure(self._noted(result)) from result

    def _noted(self, error):
        """The error in words. After a timeout Redis is left alone for a while."""
        words = f"Redis at {self.address}: {error}"
        if isinstance(error, TimeoutError):
            self._watch.failed(words)
        return words

    def _no_pong(self):
        try:
            self._redis.ping()
        except (ConnectionError, TimeoutError, ResponseError) as error:
            return f"Redis at {self.address}: {error}"
        return None


class SlowStore(Store):
    """A store for tests of overload: at most so many teas are loaded in a second, evenly, by one caller at a time."""

    def __init__(self, host, port, teas_per_s):
        super().__init__(host, port)
        self._tea_s = 1 / teas_per_s
        self._next_at = 0.0

    def load(self, teas):
        teas = list(teas)
        now = time.monotonic()
        begins_at = max(now, self._next_at)
        self._next_at = begins_at + self._tea_s * len(teas)
        time.sleep(begins_at - now)
        return super().load(teas)


def _count_set_aside(pipe, count):
    pipe.ltrim(SET_ASIDE, -MOST_SET_ASIDE, -1).incrby(SET_ASIDE_COUNT, count)


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
