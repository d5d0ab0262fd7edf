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
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, ResponseError, TimeoutError
from redis.retry import Retry

from emporium import wire
from emporium.guard import Watch
from emporium.siblings import UNRATED, Damaged, Value

DEADLINE_S = 0.5
CONNECT_S = 0.25
MOST_CONNECTIONS = 100_000  # never reached: there are as many as threads that ask at once

PREFIX = "/rating/"
DIGEST, DUE, CURSOR = "digest", "due", "cursor"
SET_ASIDE, SET_ASIDE_COUNT = "set-aside", "set-aside-count"
BOOKKEEPING = (DIGEST, DUE, CURSOR, SET_ASIDE, SET_ASIDE_COUNT)
MOST_SET_ASIDE = 20


class StoreDown(Exception):
    """Redis could not be asked; surely nothing was changed."""


class StoreUnsure(Exception):
    """Redis was given a change and did not confirm it; it may have been made."""


@dataclass
class Found:
    """What `load` brings, and a step goes on with. It is right as long as one caller at a time changes things."""

    values: dict  # {tea: Value or Damaged}, UNRATED for one that was never rated
    digest_count: int
    due_count: int
    cursor: wire.Cursor | None

    def show(self, changes):
        """What is stored once these Changes are made."""
        self.values |= dict.fromkeys(changes.removed, UNRATED)
        self.values |= changes.values
        self.digest_count += len(changes.remembered) - changes.now_due


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
            max_connections=MOST_CONNECTIONS,
        )
        self._idle = []  # connections that nobody uses now; the pool of the library takes as long as a question
        self._watch = Watch(f"Redis at {self.address}", self._no_pong)

    def load(self, teas):
        """What is stored of these teas, and where gossip stands, as Found. Raises StoreDown."""
        asked = [("LLEN", DIGEST), ("LLEN", DUE), ("GET", CURSOR)]
        values, (digest_count, due_count, cursor) = self._values(teas, asked)
        return Found(values, digest_count, due_count, _cursor(cursor) if cursor else None)

    def load_more(self, teas):
        """{tea: Value or Damaged} of these teas, later in a step. Raises StoreDown."""
        values, _ = self._values(teas, [])
        return values

    def change(self, changes, cursor=None, sent=0, most_due=0):
        """Make these Changes whole or not at all; with them note the cursor behind which they stand, and forget the
        `sent` oldest records that were due. Returns what is due then, JSON texts, the oldest `most_due`.

        Raises StoreDown (surely not made) or StoreUnsure (it may be made).
        """
        commands = []
        if sent:
            commands.append(("LTRIM", DUE, sent, -1))
        if changes.removed:
            commands.append(("DEL", *(PREFIX + tea for tea in changes.removed)))
        for tea, value in changes.values.items():
            commands.append(("HSET", PREFIX + tea, *_fields(value)))
        if changes.remembered:
            commands.append(("RPUSH", DIGEST, *map(wire.encode_record, changes.remembered)))
        commands += [("LMOVE", DIGEST, DUE, "LEFT", "RIGHT")] * changes.now_due
        if changes.set_aside:
            commands.append(("RPUSH", SET_ASIDE, *changes.set_aside))
            commands += _count_set_aside(len(changes.set_aside))
        if cursor is not None:
            commands.append(("SET", CURSOR, wire.encode(cursor)))
        if not commands:
            return []
        if most_due:
            commands.append(("LRANGE", DUE, 0, most_due - 1))
        results = self._change(commands)
        return results[-1] if most_due else []

    def due(self, most):
        """The oldest records that are due, JSON texts, at most `most`. Raises StoreDown."""
        [records] = self._ask([("LRANGE", DUE, 0, most - 1)])
        return records

    def counts(self):
        """How many teas are stored ("keys"), records in "digest" and "due", and have been "set-aside".

        Raises StoreDown.
        """
        asked = [("DBSIZE",), ("EXISTS", *BOOKKEEPING), ("LLEN", DIGEST), ("LLEN", DUE), ("GET", SET_ASIDE_COUNT)]
        everything, ours, digest, due, set_aside = self._ask(asked)
        return {"keys": everything - ours, "digest": digest, "due": due, "set-aside": _count(set_aside)}

    def list(self, page, most):
        """([(tea, rating, how many siblings), ...], next page): about `most` teas; page 0 begins, next page 0 ends.

        Damaged values are left out. Raises StoreDown.
        """
        [(next_page, keys)] = self._ask([("SCAN", page, "MATCH", PREFIX + "*", "COUNT", most)])
        keys.sort()
        rows = []
        for key, fields in zip(keys, self._answers([("HMGET", key, "rating", "choices") for key in keys]), strict=True):
            with suppress(ValueError, TypeError):  # damaged, or deleted since its name was listed
                rating, choices = wire.decode(fields[0], wire.Number), wire.decode(fields[1], wire.Choices)
                if choices:
                    rows.append((key.decode(errors="replace").removeprefix(PREFIX), rating, len(choices)))
        return rows, int(next_page)

    def trouble(self):
        """Why Redis cannot be asked, in words; None when it can."""
        try:
            self._ask([("PING",)])
        except StoreDown as error:
            return str(error)
        return None

    def _values(self, teas, asked):
        """({tea: Value or Damaged}, the answers to the commands `asked`). Raises StoreDown."""
        teas = list(teas)
        answers = self._answers([*asked, *(("HMGET", PREFIX + tea, "rating", "choices", "clocks") for tea in teas)])
        self._all_good(answers[: len(asked)])
        return dict(zip(teas, map(_value, answers[len(asked) :]), strict=True)), answers[: len(asked)]

    def _ask(self, commands):
        """The answers to these commands, which change nothing. Raises StoreDown."""
        answers = self._answers(commands)
        self._all_good(answers)
        return answers

    def _all_good(self, answers):
        for answer in answers:
            if isinstance(answer, Exception):
                raise StoreDown(self._noted(answer)) from answer

    def _answers(self, commands):
        """The answer to each of these commands, which change nothing, or the error that it came to. One round trip."""
        try:
            with self._connection() as connection:
                return _round_trip(connection, commands)
        except (ConnectionError, TimeoutError) as error:
            raise StoreDown(self._noted(error)) from error

    def _change(self, commands):
        """What these commands, in one MULTI/EXEC, came to. Raises StoreDown or StoreUnsure."""
        with (
            self._connection() as connection
        ):  # it stands before EXEC is sent: that tells definite failures from others
            try:
                *_, results = _round_trip(connection, [("MULTI",), *commands, ("EXEC",)])
            except BusyLoadingError as error:
                raise StoreDown(self._noted(error)) from error
            except (ConnectionError, TimeoutError) as error:
                raise StoreUnsure(self._noted(error)) from error
        if isinstance(results, Exception):  # refused as a whole: out of memory or disk, read only
            raise StoreDown(self._noted(results)) from results
        for result in results:  # a key that someone gave another type fails alone, and the rest is done
            if isinstance(result, Exception):
                raise StoreUnsure(self._noted(result)) from result
        return results

    @contextmanager
    def _connection(self):
        """Inside, a connection that stands. Raises StoreDown."""
        if trouble := self._watch.trouble:
            raise StoreDown(f"{trouble}; it is left alone until it answers again")
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._redis.connection_pool.make_connection()
        try:
            try:
                if not _is_fresh(connection):
                    connection.disconnect()
                    connection.connect()
            except (ConnectionError, TimeoutError, ResponseError) as error:
                raise StoreDown(self._noted(error)) from error
            yield connection
        finally:
            self._idle.append(connection)  # also one that does not stand: it is made only once

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


def _is_fresh(connection):
    """Whether Redis has neither closed it nor left an answer on it that belongs to somebody else."""
    try:
        return connection.is_connected and not connection.can_read()
    except ConnectionError:
        return False


def _round_trip(connection, commands):
    """The answer to each of these commands, or the ResponseError that it came to, in one round trip.

    A pipeline of the library does the same and takes three times the CPU, much of it to convert answers.
    """
    connection.send_packed_command(connection.pack_commands(commands))
    return [_answer(connection) for _ in commands]


def _answer(connection):
    try:
        return connection.read_response()
    except ResponseError as error:  # Redis's own word, and the next answer follows
        return error


def _count_set_aside(count):
    return [("LTRIM", SET_ASIDE, -MOST_SET_ASIDE, -1), ("INCRBY", SET_ASIDE_COUNT, count)]


def _fields(value):
    """What HSET is given."""
    fields = {"rating": value.rating, "choices": wire.choices_of(value), "clocks": wire.clocks_of(value)}
    return [word for name, field in fields.items() for word in (name, wire.encode(field))]


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


def _count(text):
    """A count as it stands there; None for one that was edited into something else."""
    return int(text or 0) if text is None or text.isdigit() else None


def _cursor(text):
    """A cursor that makes no sense counts as none: then the records come again, which is harmless."""
    try:
        return wire.decode(text, wire.Cursor)
    except ValueError:
        return None
