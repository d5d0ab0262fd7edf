"""A bulkhead: a limit to how many may wait for one thing, so that trouble with it cannot take every thread."""

import threading


class Bulkhead:
    """`with bulkhead:` lets at most `most` in at a time, and raises `refusal()`, at once, for those beyond."""

    def __init__(self, most, refusal):
        self.most = max(1, most)
        self._refusal = refusal
        self._free = self.most
        self._lock = threading.Lock()

    @property
    def is_full(self):
        """Whether the next one would be refused, as it looks just now."""
        return self._free == 0

    @property
    def is_used(self):
        """Whether anyone is inside, as it looks just now."""
        return self._free < self.most

    @property
    def used(self):
        """How many are inside, as it looks just now."""
        return self.most - self._free

    def __enter__(self):
        with self._lock:
            if self._free == 0:
                raise self._refusal()
            self._free -= 1

    def __exit__(self, *failure):
        with self._lock:
            self._free += 1


class Count:
    """How often something happened. Safe between threads."""

    def __init__(self):
        self.total = 0
        self._lock = threading.Lock()

    def add(self):
        with self._lock:
            self.total += 1
