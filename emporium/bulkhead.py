"""A bulkhead: a limit to how many may wait for one thing, so that trouble with it cannot take every thread."""

import threading


class Bulkhead:
    """`with bulkhead:` lets at most `most` in at a time, and raises `refusal()`, at once, for those beyond."""

    def __init__(self, most, refusal):
        self.most = max(1, most)
        self._refusal = refusal
        self._places = threading.BoundedSemaphore(self.most)

    def __enter__(self):
        if not self._places.acquire(blocking=False):
            raise self._refusal()

    def __exit__(self, *failure):
        self._places.release()
