"""A Redis in memory, as far as a store asks: what the commands answer, and MULTI, EXEC and WATCH as they are.

Values are never changed in place, so a copy of the dict of keys is a snapshot.
"""

from collections import deque
from fnmatch import fnmatchcase

from redis.exceptions import ResponseError

# Those that change nothing, and may be read together in any order.
READS = frozenset(
    (b"HMGET", b"HGET", b"HGETALL", b"LLEN", b"GET", b"LRANGE", b"EXISTS", b"DBSIZE", b"PING", b"MGET", b"SCAN")
)
HISTORY = 12  # changes that a roll back can reach
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


class MemoryRedis:
    """The data of one server, and what its sessions share."""

    def __init__(self, life="life0"):
        self.keys = {}  # {name: bytes, or a dict of fields, or a list}
        self.life = life  # its run_id: another one after each start
        self.config = {b"appendonly": b"yes", b"appendfsync": b"always", b"maxmemory-policy": b"noeviction"}
        self.touched = {}  # {name: number of the change that touched it last}
        self.changes = 0
        self.history = deque(maxlen=HISTORY)  # the keys before each of the last changes
        self.on_change = lambda names: None  # called with the names that one command or EXEC touched

    def restart(self, life, back_by=0, is_empty=False):
        """Come up again, with all that was stored, as it was some changes ago, or with nothing.

        Returns whether anything was lost.
        """
        before = self.keys
        if is_empty:
            self.keys = {}
        elif back_by and self.history:
            self.keys = self.history[-min(back_by, len(self.history))]
        self.life = life
        self.touched.clear()
        self.history.clear()
        return self.keys != before

    def flush(self):
        """Forget all, as if someone with redis-cli had said so. Returns whether anything was lost."""
        had_any = bool(self.keys)
        self.changes += 1
        self.touched |= dict.fromkeys(self.keys, self.changes)
        self.keys = {}
        return had_any

    def apply(self, commands):
        """The answers to these commands, which are carried out together."""
        before = dict(self.keys)
        dirty = set()
        answers = [self.one(command, dirty) for command in commands]
        if dirty:
            self.changes += 1
            self.history.append(before)
            self.touched |= dict.fromkeys(dirty, self.changes)
            self.on_change(dirty)
        return answers

    def one(self, command, dirty):
        """The answer to this command; the names of the keys that it changes go into the set `dirty`."""
        name, *words = command
        method = COMMANDS.get(name.upper())
        if method is None:
            raise NotImplementedError(f"{name!r} is a command of Redis that is not here yet")
        try:
            return method(self, dirty, *words)
        except (ResponseError, TypeError) as error:
            return error if isinstance(error, ResponseError) else ResponseError(f"{name!r}: {error}")

    def typed(self, name, kind):
        value = self.keys.get(name)
        if value is not None and type(value) is not kind:
            raise ResponseError(WRONG_TYPE)
        return value

    def put(self, dirty, name, value):
        """Store it; an empty hash or list is no key at all."""
        dirty.add(name)
        if value or type(value) is bytes:
            self.keys[name] = value
        else:
            self.keys.pop(name, None)


class Session:
    """One connection's state: what it watches, and what it has queued."""

    def __init__(self, server):
        self._server = server
        self._watched = {}
        self._queued = None

    def execute(self, commands):
        """The answer to each of these commands; a ResponseError is an answer."""
        return [self._execute(command) for command in commands]

    def _execute(self, command):
        name = command[0].upper()
        if name == b"EXEC":
            return self._exec()
        if name == b"DISCARD":
            if self._queued is None:
                return ResponseError("DISCARD without MULTI")
            self._end()
            return b"OK"
        if self._queued is not None:
            if name in (b"MULTI", b"WATCH"):
                return ResponseError(f"{name.decode()} inside MULTI is not allowed")
            if name not in COMMANDS:
                raise NotImplementedError(f"{name!r} is a command of Redis that is not here yet")
            self._queued.append(command)
            return b"QUEUED"
        if name == b"MULTI":
            self._queued = []
            return b"OK"
        if name == b"WATCH":
            for key in command[1:]:
                self._watched.setdefault(key, self._server.touched.get(key))
            return b"OK"
        if name == b"UNWATCH":
            self._watched = {}
            return b"OK"
        if name in READS:
            return self._server.one(command, None)
        if name in READS:
            return self._server.one(command, None)
        return self._server.apply([command])[0]

    def _exec(self):
        if self._queued is None:
            return ResponseError("EXEC without MULTI")
        queued, watched = self._queued, self._watched
        self._end()
        if any(self._server.touched.get(key) != when for key, when in watched.items()):
            return None
        return self._server.apply(queued)

    def _end(self):
        self._watched, self._queued = {}, None


def _number(word):
    try:
        return int(word)
    except ValueError as error:
        raise ResponseError("value is not an integer or out of range") from error


def _pairs(words):
    if not words or len(words) % 2:
        raise ResponseError("wrong number of arguments")
    return dict(zip(words[::2], words[1::2], strict=True))


# ---- strings and keys


def _get(server, _dirty, name):
    return server.typed(name, bytes)


def _set(server, dirty, name, value):
    server.put(dirty, name, value)
    return b"OK"


def _setnx(server, dirty, name, value):
    if name in server.keys:
        return 0
    server.put(dirty, name, value)
    return 1


def _mget(server, _dirty, *names):
    return [value if type(value := server.keys.get(name)) is bytes else None for name in names]


def _incrby(server, dirty, name, count):
    total = _number(server.typed(name, bytes) or b"0") + _number(count)
    server.put(dirty, name, b"%d" % total)
    return total


def _del(server, dirty, *names):
    there = [name for name in dict.fromkeys(names) if name in server.keys]
    for name in there:
        del server.keys[name]
    dirty.update(there)
    return len(there)


def _exists(server, _dirty, *names):
    return sum(name in server.keys for name in names)


def _flushall(server, dirty, *_how):
    dirty.update(server.keys)
    server.keys = {}
    return b"OK"


def _scan(server, _dirty, cursor, *options):
    options = {name.upper(): value for name, value in _pairs(options).items()} if options else {}
    pattern, most = options.get(b"MATCH", b"*").decode(), _number(options.get(b"COUNT", b"10"))
    names = sorted(server.keys)
    begin = _number(cursor)
    end = begin + most
    found = [name for name in names[begin:end] if fnmatchcase(name.decode(), pattern)]
    return [b"%d" % (end if end < len(names) else 0), found]


# ---- hashes


def _hset(server, dirty, name, *words):
    new, old = _pairs(words), server.typed(name, dict) or {}
    server.put(dirty, name, {**old, **new})
    return len(new.keys() - old.keys())


def _hget(server, _dirty, name, field):
    return (server.typed(name, dict) or {}).get(field)


def _hmget(server, _dirty, name, *fields):
    found = server.typed(name, dict) or {}
    return [found.get(field) for field in fields]


def _hgetall(server, _dirty, name):
    return dict(server.typed(name, dict) or {})


def _hvals(server, _dirty, name):
    return list((server.typed(name, dict) or {}).values())


def _hkeys(server, _dirty, name):
    return list(server.typed(name, dict) or {})


def _hlen(server, _dirty, name):
    return len(server.typed(name, dict) or {})


def _hexists(server, _dirty, name, field):
    return int(field in (server.typed(name, dict) or {}))


def _hdel(server, dirty, name, *fields):
    old = server.typed(name, dict) or {}
    left = {field: value for field, value in old.items() if field not in fields}
    if len(left) != len(old):
        server.put(dirty, name, left)
    return len(old) - len(left)


def _hincrby(server, dirty, name, field, count):
    old = server.typed(name, dict) or {}
    total = _number(old.get(field, b"0")) + _number(count)
    server.put(dirty, name, {**old, field: b"%d" % total})
    return total


# ---- lists


def _push(server, dirty, name, whole):
    server.put(dirty, name, whole)
    return len(whole)


def _rpush(server, dirty, name, *values):
    return _push(server, dirty, name, [*(server.typed(name, list) or []), *values])


def _lpush(server, dirty, name, *values):
    return _push(server, dirty, name, [*reversed(values), *(server.typed(name, list) or [])])


def _llen(server, _dirty, name):
    return len(server.typed(name, list) or [])


def _span(values, first, last):
    first, last = _number(first), _number(last)
    first = max(0, first + len(values)) if first < 0 else first
    last = last + len(values) if last < 0 else last
    return values[first : last + 1] if last >= first else []


def _lrange(server, _dirty, name, first, last):
    return _span(server.typed(name, list) or [], first, last)


def _ltrim(server, dirty, name, first, last):
    old = server.typed(name, list)
    if old is not None:
        server.put(dirty, name, _span(old, first, last))
    return b"OK"


def _lrem(server, dirty, name, count, value):
    values, left = server.typed(name, list) or [], _number(count)
    if left <= 0:
        raise NotImplementedError("LREM removes from the head only, here")
    kept = []
    for each in values:
        if each == value and left:
            left -= 1
        else:
            kept.append(each)
    if len(kept) != len(values):
        server.put(dirty, name, kept)
    return len(values) - len(kept)


def _lmove(server, dirty, source, target, taken, put):
    values = server.typed(source, list)
    if values is None:
        return None
    server.typed(target, list)
    moved, left = (values[0], values[1:]) if taken.upper() == b"LEFT" else (values[-1], values[:-1])
    server.put(dirty, source, left)
    (_lpush if put.upper() == b"LEFT" else _rpush)(server, dirty, target, moved)
    return moved


# ---- the server


def _config(server, _dirty, what, *names):
    if what.upper() != b"GET":
        raise ResponseError("only CONFIG GET is here")
    asked = [name.decode() for name in names]
    return {
        key: value for key, value in server.config.items() if any(fnmatchcase(key.decode(), each) for each in asked)
    }


def _info(server, _dirty, *_sections):
    return f"# Server\r\nredis_version:7.0.15\r\nrun_id:{server.life}\r\nprocess_id:1\r\nloading:0\r\n".encode()


COMMANDS = {
    b"UNWATCH": lambda _server, _dirty: b"OK",  # in a transaction, where nothing is watched any more
    b"PING": lambda _server, _dirty: b"PONG",
    b"DBSIZE": lambda server, _dirty: len(server.keys),
    b"CONFIG": _config,
    b"INFO": _info,
    b"FLUSHALL": _flushall,
    b"SCAN": _scan,
    b"GET": _get,
    b"SET": _set,
    b"SETNX": _setnx,
    b"MGET": _mget,
    b"INCRBY": _incrby,
    b"INCR": lambda server, dirty, name: _incrby(server, dirty, name, b"1"),
    b"DEL": _del,
    b"EXISTS": _exists,
    b"HSET": _hset,
    b"HGET": _hget,
    b"HMGET": _hmget,
    b"HGETALL": _hgetall,
    b"HVALS": _hvals,
    b"HKEYS": _hkeys,
    b"HLEN": _hlen,
    b"HEXISTS": _hexists,
    b"HDEL": _hdel,
    b"HINCRBY": _hincrby,
    b"RPUSH": _rpush,
    b"LPUSH": _lpush,
    b"LLEN": _llen,
    b"LRANGE": _lrange,
    b"LTRIM": _ltrim,
    b"LREM": _lrem,
    b"LMOVE": _lmove,
}
