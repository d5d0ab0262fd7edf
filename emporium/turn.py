"""Taking turns: one request at a time, and a fair word for those who wait."""

import threading

from emporium.bulkhead import Bulkhead


class Busy(Exception):
    """The turn did not come; surely nothing was done."""


class Turn:
    """`with turn:` lets one in at a time. Raises Busy at once when `most_waiting` wait already, and after `patience_s`.

    name  whose turn it is, for the message
    """

    def __init__(self, name, most_waiting, patience_s):
        self._turn = threading.Lock()
        self._waiting = Bulkhead(most_waiting, lambda: Busy(f"{name} is busy: {most_waiting} requests wait already"))
        self._name = name
        self._patience_s = patience_s

    @property
    def is_full(self):
        """Whether the next one would be refused, as it looks just now."""
        return self._waiting.is_full

    @property
    def is_wanted(self):
        """Whether anyone waits, as it looks just now."""
        return self._waiting.is_used

    @property
    def waiting(self):
        """How many wait, as it looks just now."""
        return self._waiting.used

    def __enter__(self):
        with self._waiting:
            if not self._turn.acquire(timeout=self._patience_s):
                raise Busy(f"{self._name} is busy: other requests took {self._patience_s} s and more")

    def __exit__(self, *failure):
        self._turn.release()
