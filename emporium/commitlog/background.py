"""Work that is done now and then, by a thread that costs nothing in between."""

import logging
import threading

from emporium.commitlog.errors import LogError

log = logging.getLogger(__name__)


class Background:
    """Does `work` every `period_s` seconds, and at once after someone has called `want`.

    With `only_when_wanted` it does it a period after that call, and not otherwise.
    """

    def __init__(self, name, work, period_s, only_when_wanted=False):
        self._work = work
        self._period_s = period_s
        self._only_when_wanted = only_when_wanted
        self._wanted = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def want(self):
        if not self._wanted.is_set():
            self._wanted.set()

    def stop(self):
        """Returns when the thread has ended."""
        self._is_over.set()
        self._wanted.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self):
        while True:
            if self._only_when_wanted:
                self._wanted.wait()
                self._is_over.wait(self._period_s)
            else:
                self._wanted.wait(self._period_s)
            if self._is_over.is_set():
                return
            self._wanted.clear()
            try:
                self._work()
            except (LogError, OSError) as error:
                log.warning("%s: %s", self._thread.name, error, extra={"event": "log-tending-failed"})
