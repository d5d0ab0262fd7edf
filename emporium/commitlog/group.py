"""Group commit: appends that wait together are stored together, and nobody waits for a timer.

The first append to find the log idle leads: its own thread stores it at once. Those that come meanwhile wait, and one
of them leads next, with all that wait by then. So one that is alone never changes threads, and sixty-four share a sync.
"""

import threading


class Append:
    """The values of one call, [bytes], and its outcome: the offset of the first, or an error."""

    __slots__ = ("error", "first", "values", "woken")

    def __init__(self, values):
        self.values = values
        self.first = None
        self.error = None
        self.woken = None

    @property
    def is_done(self):
        return self.first is not None or self.error is not None


class Group:
    """`store` gets a list of Appends, from one thread at a time, and gives each its outcome, whatever it raises."""

    def __init__(self, store):
        self._store = store
        self._lock = threading.Lock()
        self._waiting = []
        self._is_led = False

    def join(self, mine):
        """Returns when this Append has its outcome."""
        with self._lock:
            if is_waiting := self._is_led:
                mine.woken = threading.Lock()
                mine.woken.acquire()
                self._waiting.append(mine)
            self._is_led = True
        taken = [mine]
        if is_waiting:
            mine.woken.acquire()  # until a leader has stored it, or has made it the next one
            if mine.is_done:
                return
            with self._lock:
                taken, self._waiting = self._waiting, []
        try:
            self._store(taken)
        finally:
            self._hand_over(taken, mine)

    def _hand_over(self, taken, mine):
        """Wake those that were stored, and the next leader, if anyone waits."""
        for each in taken:
            if each is not mine:
                each.woken.release()
        with self._lock:
            if self._waiting:
                self._waiting[0].woken.release()
            else:
                self._is_led = False
