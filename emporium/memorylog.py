"""A log in memory: what a channel asks of a commit log, for a queue that need not outlive its process."""

import secrets
import threading
import time

from emporium.commitlog import Record
from emporium.commitlog.errors import Closed


class MemoryLog:
    """As emporium.commitlog.Log in what it has of it. Safe between threads."""

    failure = None  # there is no disk that could fail

    def __init__(self):
        self.identity = secrets.token_hex(8)
        self.lowest_offset = 0
        self._lock = threading.Lock()
        self._entries = []  # (Record, how many bytes were put before it), the first at lowest_offset
        self._bytes = 0  # of all that was ever put
        self._is_closed = False

    @property
    def next_offset(self):
        return self.lowest_offset + len(self._entries)

    def append_many(self, values):
        with self._lock:
            if self._is_closed:
                raise Closed
            first, now_ns = self.next_offset, time.time_ns()
            for offset, value in enumerate(values, first):
                self._entries.append((Record(offset, value, now_ns), self._bytes))
                self._bytes += len(value)
            return first

    def read_many(self, offset, most, most_bytes):
        with self._lock:
            begin = offset - self.lowest_offset
            found, size = [], 0
            for record, _ in self._entries[begin : begin + most]:
                size += len(record.value)
                if found and size > most_bytes:
                    break
                found.append(record)
            return found

    def size_from(self, offset):
        with self._lock:
            return self._bytes - self._entries[offset - self.lowest_offset][1] if offset < self.next_offset else 0

    @property
    def size(self):
        return self.size_from(self.lowest_offset)

    def truncate(self, lowest):
        with self._lock:
            del self._entries[: lowest + 1 - self.lowest_offset]
            self.lowest_offset = lowest + 1

    def close(self):
        with self._lock:
            self._is_closed = True
