"""What the commit log is compared with, and the log itself: each keeps records in a folder, in its own way.

    with a system: it is open
    with system.connected() as connection: one thread has a connection, with these methods
        append(value)         returns when the record is stored, as durable as the system says
        append_many(values)   the same, all of them at once
        read(key)             the value of one of system.keys()

A value is bytes.
"""

import os
import sqlite3
import threading
from contextlib import contextmanager

import redis

from bench.clusters import PATIENCE_S, started
from emporium.cluster import redis_service
from emporium.commitlog import Config, Log

WRITTEN_BYTES = 16 * 2**20  # of the file that a Disk writes to before it is measured
STREAM = "records"


class OurLog:
    """Our own. `fsync`: its policy."""

    def __init__(self, folder, fsync="group"):
        self._folder, self._config = folder / f"log-{fsync}", Config(fsync=fsync)

    def __enter__(self):
        self._log = Log(self._folder, self._config)
        return self

    def __exit__(self, *failure):
        self._log.close()

    @contextmanager
    def connected(self):
        """The log itself: threads share it."""
        yield self._log

    def keys(self):
        return range(self._log.lowest_offset, self._log.next_offset)


class Sqlite:
    """SQLite with a write-ahead log that is synced at each commit. `is_shared`: all threads use one connection.

    Where each thread has its own, SQLite lets those that find the database locked try again after a while.
    """

    def __init__(self, folder, is_shared):
        self._path = folder / f"sqlite-{'shared' if is_shared else 'own'}"
        self._is_shared = is_shared

    def __enter__(self):
        self._connection = self._connect()
        self._connection.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, value BLOB)")
        self._lock = threading.Lock()
        return self

    def __exit__(self, *failure):
        self._connection.close()

    def _connect(self):
        made = sqlite3.connect(self._path, PATIENCE_S, isolation_level=None, check_same_thread=False)
        [[mode]] = made.execute("PRAGMA journal_mode = WAL")
        assert mode == "wal"
        made.execute("PRAGMA synchronous = FULL")
        return made

    @contextmanager
    def connected(self):
        if self._is_shared:
            yield SqliteConnection(self._connection, self._lock)
            return
        connection = self._connect()
        try:
            yield SqliteConnection(connection, threading.Lock())
        finally:
            connection.close()

    def keys(self):
        return [number for (number,) in self._connection.execute("SELECT number FROM records")]


class SqliteConnection:
    def __init__(self, connection, lock):
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self._lock = lock

    def append(self, value):
        with self._lock:
            self._execute("INSERT INTO records (value) VALUES (?)", (value,))

    def append_many(self, values):
        with self._lock:
            self._execute("BEGIN IMMEDIATE")
            self._execute_many("INSERT INTO records (value) VALUES (?)", [(value,) for value in values])
            self._execute("COMMIT")

    def read(self, number):
        with self._lock:
            [[value]] = self._execute("SELECT value FROM records WHERE number = ?", (number,))
        return value


@contextmanager
def redis_stream(programs):
    """Inside, a RedisStream of a Redis of its own, which syncs its file before it answers."""

    def make(layout, folder, log_of):
        return redis_service(0, layout, folder, log_of, programs, True)

    with started(make) as service:
        yield RedisStream(service.port)


class RedisStream:
    """Each thread has a connection to the Redis at this port."""

    def __init__(self, port):
        self._port = port

    @contextmanager
    def connected(self):
        with redis.Redis(port=self._port, socket_timeout=PATIENCE_S) as pool, pool.client() as client:
            yield RedisConnection(client)

    def keys(self):
        with redis.Redis(port=self._port, socket_timeout=PATIENCE_S) as client:
            return [key for key, _fields in client.xrange(STREAM)]


class RedisConnection:
    def __init__(self, client):
        self._client = client

    def append(self, value):
        self._client.xadd(STREAM, {"value": value})

    def append_many(self, values):
        pipe = self._client.pipeline(transaction=True)
        for value in values:
            pipe.xadd(STREAM, {"value": value})
        pipe.execute()

    def read(self, key):
        [[_key, fields]] = self._client.xrange(STREAM, key, key)
        return fields[b"value"]


class Disk:
    """Nothing but the disk: a write and an fdatasync for each record, for one thread.

    `is_written_before`: into bytes that the file has already, which spares the disk what it notes of a file that grows.
    """

    def __init__(self, folder, is_written_before):
        self._path = folder / f"disk-{'written' if is_written_before else 'new'}"
        self._is_written_before = is_written_before

    def __enter__(self):
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._position = 0
        if self._is_written_before:
            os.write(self._file, bytes(WRITTEN_BYTES))
            os.fsync(self._file)
        return self

    def __exit__(self, *failure):
        os.close(self._file)

    @contextmanager
    def connected(self):
        yield self

    def append(self, value):
        os.pwrite(self._file, value, self._position)
        os.fdatasync(self._file)
        self._position += len(value)
        if self._is_written_before and self._position > WRITTEN_BYTES - len(value):
            self._position = 0
