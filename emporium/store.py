"""One shard's Redis: what is asked of it, and what an error means. The one module that says so.

    /rating/<tea>   hash   rating (the mean), choices, clocks (JSON arrays in the same order)
    digest          list   gossip records, as JSON, that wait until digest-length of them are there
    due             list   gossip records that wait for the queue to accept them
    cursor          string the last record taken from the predecessor's channel whose effect is here
    set-aside       list   the newest 20 records that made no sense, or that the queue refused
    set-aside-count string how many there have been
    dropped-count   string how many records that were due have been dropped, since too many were
    repaired-count  string how many damaged values were repaired from the replicas
    shard           hash   who may write here, and how often it did (emporium/fence.py); only where a shard is guarded

A guarded shard also keeps a field `check` with each tea, a checksum over its name and the other three, and one behind
each record in `digest` and `due` (emporium/recordcheck.py).

Look inside with: redis-cli -p 5555 hgetall /rating/persimmon. Nothing is cached: what is changed there by hand
shows in the next read. A change is one MULTI/EXEC, so that a crash never leaves a value that will not spread.

A Redis that did not answer in time is left alone, and asked once a second until it does: nobody waits for it twice.
"""

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from redis.exceptions import BusyLoadingError, ConnectionError, ResponseError, TimeoutError

from emporium import failpoints, fence, wire
from emporium.guard import Watch
from emporium.recordcheck import with_check, without_check
from emporium.redisconnection import connections_to, is_fresh, round_trip
from emporium.shard import Digest
from emporium.siblings import UNRATED
from emporium.stored import (
    FIELDS,
    check_of,
    count_of,
    cursor_of,
    digest_of,
    fields_of,
    home_of,
    value_of,
    verified_check,
)

PREFIX = "/rating/"
DIGEST, DUE, CURSOR = "digest", "due", "cursor"
SET_ASIDE, SET_ASIDE_COUNT = "set-aside", "set-aside-count"
DROPPED_COUNT, REPAIRED_COUNT = "dropped-count", "repaired-count"
BOOKKEEPING = (DIGEST, DUE, CURSOR, SET_ASIDE, SET_ASIDE_COUNT, DROPPED_COUNT, REPAIRED_COUNT, fence.KEY)
MOST_SET_ASIDE = 20
STANDING = ("HMGET", fence.KEY, *fence.FIELDS)
WATCHING = (("UNWATCH",), ("WATCH", fence.KEY))
# A Redis with other values loses what was acknowledged, when it or the machine dies.
ASKED_OF_REDIS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class StoreDown(Exception):
    """Redis could not be asked; surely nothing was changed."""


class StoreUnsure(Exception):
    """Redis was given a change and did not confirm it; it may have been made."""


@dataclass
class Found:
    """What `load` brings, and a step goes on with. It is right as long as one caller at a time changes things."""

    values: dict  # {tea: Value or Damaged}, UNRATED for one that was never rated
    digest: Digest
    due_count: int
    cursor: wire.Cursor | None
    told_count: int = 0  # how many records the queue has taken since
    must_tell: float = 0  # how many it must have taken so that the writes of this step are safe there

    def __post_init__(self):
        self.ever_due = self.due_count  # how many records have been due, the told ones included

    def show(self, changes, sent=0):
        """What is stored once these Changes are made, and so many of what was due are forgotten."""
        self.values |= dict.fromkeys(changes.removed, UNRATED)
        self.values |= changes.values
        self.digest.show(changes)
        self.ever_due += changes.now_due + len(changes.due_at_once)
        self.due_count += changes.now_due + len(changes.due_at_once) - sent


class Store:
    """Safe to share between threads, but read-merge-write is only safe when one caller at a time does it: all of load,
    load_more, change and end_recovery are for that one.

    guard        the Fence of a guarded shard; None: as the course has it
    coalesces    whether `load` brings what waits in the digest
    learned      learned(tea, check of its value or None, whether gossip will tell it), after each change of a guarded
                 shard
    connections  () -> a connection as the library's, which need not stand yet
    watch        makes the Watch
    """

    def __init__(
        self,
        host,
        port,
        guard=None,
        coalesces=False,
        learned=lambda tea, check, is_news: None,
        connections=None,
        watch=Watch,
    ):
        self.address = f"{host}:{port}"
        self.recovering = None  # why what is stored is not whole, in words, as `load` found it; of a guarded shard
        self.not_mine = None  # why this process may not write here, in words, as it found
        self._fence = guard
        self._coalesces = coalesces
        self._learned = learned
        self._new_connection = connections or connections_to(host, port)
        self._idle = []  # connections that nobody uses now; the pool of the library takes as long as a question
        self._own = None  # the one on which a guarded shard watches, from load to change
        self._is_watching = False
        self._watch = watch(f"Redis at {self.address}", self._no_pong)

    def load(self, teas):
        """What is stored of these teas, and where gossip stands, as Found. Raises StoreDown."""
        asked = [("LRANGE", DIGEST, 0, -1) if self._coalesces else ("LLEN", DIGEST), ("LLEN", DUE), ("GET", CURSOR)]
        if self._fence is None:
            values, (digest, due_count, cursor) = self._values(teas, asked)
        else:
            values, (digest, due_count, cursor) = self._load_guarded(list(teas), asked)
        digest = digest if isinstance(digest, int) else self._texts(digest)
        return Found(values, digest_of(digest), due_count, cursor_of(cursor) if cursor else None)

    def load_more(self, teas):
        """{tea: Value or Damaged} of these teas, later in a step. Raises StoreDown."""
        values, _ = self._values(teas, [], is_own=self._fence is not None)
        return values

    def peek(self, teas):
        """{tea: Value or Damaged} of these teas, for anyone at any time. Raises StoreDown."""
        values, _ = self._values(teas, [])
        return values

    def change(self, changes, cursor=None, sent=0, most_due=0, is_news=True):
        """Make these Changes whole or not at all; with them note the cursor behind which they stand, and forget the
        `sent` oldest records that were due. Returns what is due then, JSON texts, the oldest `most_due`.

        Raises StoreDown (surely not made) or StoreUnsure (it may be made).
        """
        commands = []
        if sent:
            commands.append(("LTRIM", DUE, sent, -1))
        if changes.removed:
            commands.append(("DEL", *(PREFIX + tea for tea in changes.removed)))
        checks = dict.fromkeys(changes.removed)
        for tea, value in changes.values.items():
            fields = fields_of(value)
            words = [word for field in zip(FIELDS, fields, strict=True) for word in field]
            if self._fence:
                checks[tea] = check_of(tea, fields)
                words += ("check", checks[tea])
            commands.append(("HSET", PREFIX + tea, *words))
        commands += [("LREM", DIGEST, 1, self._as_stored(text)) for text in changes.replaced]
        if changes.remembered:
            commands.append(("RPUSH", DIGEST, *map(self._as_stored, map(wire.encode_record, changes.remembered))))
        commands += [("LMOVE", DIGEST, DUE, "LEFT", "RIGHT")] * changes.now_due
        if changes.due_at_once:
            commands.append(("RPUSH", DUE, *map(self._as_stored, map(wire.encode_record, changes.due_at_once))))
        if changes.set_aside:
            commands.append(("RPUSH", SET_ASIDE, *changes.set_aside))
            commands += _count_set_aside(len(changes.set_aside))
        if changes.repaired:
            commands.append(("INCRBY", REPAIRED_COUNT, changes.repaired))
        if cursor is not None:
            commands.append(("SET", CURSOR, wire.encode(cursor)))
        if not commands:
            return []
        if most_due:
            commands.append(("LRANGE", DUE, 0, most_due - 1))
        try:
            results = self._change(commands)
        except StoreUnsure:
            for tea in checks:  # whichever it is now: a fingerprint of nothing is compared with what others hold
                self._learned(tea, None, False)
            raise
        for tea, check in checks.items():
            self._learned(tea, check, is_news)
        return self._texts(results[-1]) if most_due else []

    def end_recovery(self):
        """What is stored is whole again. Raises StoreDown or StoreUnsure."""
        self._change([("HDEL", fence.KEY, "recovering")])

    def keep_newest_due(self, most):
        """Keep of what is due the newest record of each home and tea, and of those the newest `most`; the others are
        dropped, and counted. Raises StoreDown or StoreUnsure.
        """
        [texts] = self._ask([("LRANGE", DUE, 0, -1)])
        newest = {}
        for text in texts:
            key = home_of(*self._texts([text]))
            newest.pop(key, None)
            newest[key] = text
        kept = list(newest.values())[-most:]
        dropped = len(newest) - len(kept)
        pushes = [("RPUSH", DUE, *kept[i : i + 1000]) for i in range(0, len(kept), 1000)]
        self._change([("DEL", DUE), *pushes, ("INCRBY", DROPPED_COUNT, dropped)])
        return dropped

    def waiting(self):
        """All gossip that has not been told yet, as Records. Raises StoreDown."""
        records = []
        due, digest = self._ask([("LRANGE", DUE, 0, -1), ("LRANGE", DIGEST, 0, -1)])
        for text in self._texts(due + digest):
            with suppress(ValueError):
                records.append(wire.decode_record(text))
        return records

    def page(self, page, most):
        """([(tea, Value or Damaged), ...], next page): about `most` teas; page 0 begins, next page 0 ends.

        Raises StoreDown.
        """
        teas, next_page = self._teas(page, most)
        found = self._answers([("HMGET", PREFIX + tea, *FIELDS, "check") for tea in teas])
        return [(tea, value_of(tea, fields)) for tea, fields in zip(teas, found, strict=True)], next_page

    def page_of_checks(self, page, most, more=()):
        """([(tea, check), ...], next page), as `page`, and these teas besides. The check is None of what is not there,
        and a Damaged of what is damaged. Raises StoreDown.
        """
        teas, next_page = self._teas(page, most)
        teas += more
        found = self._answers([("HMGET", PREFIX + tea, *FIELDS, "check") for tea in teas])
        return [(tea, verified_check(tea, fields)) for tea, fields in zip(teas, found, strict=True)], next_page

    def _teas(self, page, most):
        [(next_page, keys)] = self._ask([("SCAN", page, "MATCH", PREFIX + "*", "COUNT", most)])
        return [key.decode(errors="replace").removeprefix(PREFIX) for key in keys], int(next_page)

    def due(self, most):
        """The oldest records that are due, JSON texts, at most `most`. Raises StoreDown."""
        [records] = self._ask([("LRANGE", DUE, 0, most - 1)])
        return self._texts(records)

    def counts(self):
        """How many teas are stored ("keys"), records in "digest" and "due", and have been "set-aside"; of a guarded
        shard also "dropped" and "repaired". Raises StoreDown.
        """
        asked = [("DBSIZE",), ("EXISTS", *BOOKKEEPING), ("LLEN", DIGEST), ("LLEN", DUE)]
        asked += [("GET", name) for name in (SET_ASIDE_COUNT, DROPPED_COUNT, REPAIRED_COUNT)]
        everything, ours, digest, due, *counts = self._ask(asked)
        counted = dict(zip(("set-aside", "dropped", "repaired"), map(count_of, counts), strict=True))
        if self._fence is None:
            counted = {"set-aside": counted["set-aside"]}
        return {"keys": everything - ours, "digest": digest, "due": due, **counted}

    @property
    def is_guarded(self):
        return self._fence is not None

    @property
    def standing(self):
        """The Standing of this process, of a guarded shard; None before it has one."""
        return self._fence and self._fence.mine

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
                choices = [choice for choice in choices if choice is not None]
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

    def _values(self, teas, asked, is_own=False, watches=False):
        """({tea: Value or Damaged}, the answers to the commands `asked`). Raises StoreDown."""
        teas = list(teas)
        fields = FIELDS if self._fence is None else (*FIELDS, "check")
        answers = self._answers([*(("HMGET", PREFIX + tea, *fields) for tea in teas), *asked], is_own, watches)
        found, answers = answers[: len(teas)], answers[len(teas) :]
        self._all_good(answers)
        return {tea: value_of(tea, each) for tea, each in zip(teas, found, strict=True)}, answers

    def _as_stored(self, text):
        """What the digest and what is due hold of this record, a JSON text."""
        return with_check(text) if self._fence else text

    def _texts(self, records):
        """The JSON texts of records as stored."""
        return list(map(without_check, records)) if self._fence else records

    # ---- of a guarded shard

    def _load_guarded(self, teas, asked):
        """As _values, from a Redis that is mine to write to, and watched from now on. Raises StoreDown."""
        for _ in range(2):
            # What was watched by the step before still is: whoever else writes there makes the next EXEC fail.
            # The standing is read last: were all emptied while the rest is read, that would show in it.
            values, (*answers, fields) = self._values(teas, [*asked, STANDING], is_own=True, watches=True)
            if self._is_mine(fields):
                return values, answers
            self._claim()
        raise StoreDown("Redis changes while this shard takes it over")

    def _is_mine(self, fields):
        """Whether I may write to this Redis, by what STANDING has answered. Raises StoreDown when I am fenced."""
        found = fence.standing_of(fields)
        try:
            is_mine = self._fence.is_mine(found)
        except fence.Fenced as error:
            self._is_watching = False
            self.not_mine = str(error)
            raise StoreDown(str(error)) from error
        if is_mine:
            try:
                self._fence.see(found)
            except OSError as error:
                raise StoreDown(f"the note beside Redis cannot be written: {error}") from error
            self.recovering = found.recovering
        return is_mine

    def _claim(self):
        """Take this Redis over: no process that did so before can store anything from now on. Raises StoreDown."""
        self._is_watching = False
        asked = [STANDING, *(("CONFIG", "GET", name) for name in ASKED_OF_REDIS)]
        answers = self._answers(asked, is_own=True, watches=True)
        self._all_good(answers)
        self._is_watching = False
        fields, *configs = answers
        for (name, value), config in zip(ASKED_OF_REDIS.items(), configs, strict=True):
            [found] = config.values()  # a map: the library speaks RESP3
            if found.decode() != value:
                asked = f"redis-cli -p {self.address.rpartition(':')[2]} config set {name} {value}"
                self.not_mine = f"Redis at {self.address} may lose what it stores: {name} is {found.decode()}: {asked}"
                raise StoreDown(self.not_mine)
        standing = self._fence.claim(fence.standing_of(fields))
        words = ("life", standing.life, "epoch", standing.epoch, "step", standing.step)
        if standing.recovering:
            words += ("recovering", standing.recovering)
        failpoints.hit("claim-unsent")
        with self._connection(is_own=True) as connection:
            try:
                *_, results = round_trip(connection, [("MULTI",), ("HSET", fence.KEY, *words), ("EXEC",)])
            except (ConnectionError, TimeoutError) as error:
                raise StoreDown(self._noted(error)) from error
        if results is None or isinstance(results, Exception):
            raise StoreDown(f"Redis at {self.address} could not be taken over: {results or 'another process did'}")
        self.not_mine = None
        failpoints.hit("claim-stored")
        try:
            self._fence.claimed(standing)
        except OSError as error:
            raise StoreDown(f"the note beside Redis cannot be written: {error}") from error
        failpoints.hit("claim-noted")

    def _step(self, connection, commands):
        """The answers to these commands in one MULTI/EXEC that counts as a step, and only happens while I may write."""
        if not self._is_watching:
            raise StoreDown(f"the connection to Redis at {self.address} was lost since the step began")
        mine = self._fence.mine
        step = ("HSET", fence.KEY, "step", mine.step + 1)
        self._is_watching = False  # until it is seen that all went well
        failpoints.hit("exec-unsent")
        *_, results, _, fields = round_trip(
            connection, [("MULTI",), *commands, step, ("EXEC",), ("WATCH", fence.KEY), STANDING]
        )
        if results is None:
            raise StoreDown("another process writes to this Redis, or someone by hand")
        if not isinstance(results, Exception):
            results = results[:-1]
            failpoints.hit("exec-answered")
            try:
                self._fence.stepped(mine._replace(step=mine.step + 1))
            except OSError as error:
                raise StoreUnsure(f"the note beside Redis cannot be written: {error}") from error
            failpoints.hit("exec-noted")
            found = fence.standing_of(fields)
            self._is_watching = (found.life, found.epoch, found.step) == self._fence.mine[:3]
            self.recovering = found.recovering
        return results

    def _ask(self, commands):
        """The answers to these commands, which change nothing. Raises StoreDown."""
        answers = self._answers(commands)
        self._all_good(answers)
        return answers

    def _all_good(self, answers):
        for answer in answers:
            if isinstance(answer, Exception):
                raise StoreDown(self._noted(answer)) from answer

    def _answers(self, commands, is_own=False, watches=False):
        """The answer to each of these commands, which change nothing, or the error that it came to. One round trip.

        watches  whether what comes is read while it is watched: on the own connection
        """
        try:
            with self._connection(is_own) as connection:
                if not watches or self._is_watching:
                    return round_trip(connection, commands)
                answers = round_trip(connection, [*WATCHING, *commands])
                self._is_watching = True
                return answers[len(WATCHING) :]
        except (ConnectionError, TimeoutError) as error:
            raise StoreDown(self._noted(error)) from error

    def _change(self, commands):
        """What these commands, in one MULTI/EXEC, came to. Raises StoreDown or StoreUnsure."""
        # The connection stands before EXEC is sent: that tells definite failures from others.
        with self._connection(is_own=self._fence is not None) as connection:
            try:
                if self._fence is None:
                    *_, results = round_trip(connection, [("MULTI",), *commands, ("EXEC",)])
                else:
                    results = self._step(connection, commands)
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
    def _connection(self, is_own=False):
        """Inside, a connection that stands; the own one is for one caller at a time. Raises StoreDown."""
        if trouble := self._watch.trouble:
            raise StoreDown(f"{trouble}; it is left alone until it answers again")
        connection = (is_own and self._own) or self._kept_connection()
        try:
            try:
                if not is_fresh(connection):
                    if is_own:
                        self._is_watching = False
                    connection.disconnect()
                    connection.connect()
            except (ConnectionError, TimeoutError, ResponseError) as error:
                raise StoreDown(self._noted(error)) from error
            yield connection
        finally:  # also one that does not stand is kept: it is made only once
            if is_own:
                self._own = connection
            else:
                self._idle.append(connection)

    def _kept_connection(self):
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_connection()

    def _noted(self, error):
        """The error in words. After a timeout Redis is left alone for a while."""
        words = f"Redis at {self.address}: {error}"
        if isinstance(error, TimeoutError):
            self._watch.failed(words)
        return words

    def _no_pong(self):
        connection = self._kept_connection()
        try:
            connection.disconnect()
            connection.connect()
            connection.send_packed_command(connection.pack_commands([("PING",)]))
            connection.read_response()
        except (ConnectionError, TimeoutError, ResponseError) as error:
            return f"Redis at {self.address}: {error}"
        finally:
            self._idle.append(connection)
        return None


class SlowStore(Store):
    """A store for tests of overload: at most so many teas are loaded in a second, evenly, by one caller at a time."""

    def __init__(self, host, port, teas_per_s, **options):
        super().__init__(host, port, **options)
        self._tea_s = 1 / teas_per_s
        self._next_at = 0.0

    def load(self, teas):
        teas = list(teas)
        now = time.monotonic()
        begins_at = max(now, self._next_at)
        self._next_at = begins_at + self._tea_s * len(teas)
        time.sleep(begins_at - now)
        return super().load(teas)


def _count_set_aside(count):
    return [("LTRIM", SET_ASIDE, -MOST_SET_ASIDE, -1), ("INCRBY", SET_ASIDE_COUNT, count)]
