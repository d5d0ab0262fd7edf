"""Leaving alone what does not answer, so that one service that hangs costs only what needs it.

A Watch is a breaker: once something timed out it is asked no more, but for a probe soon and then one a second, until
it is back.
Guarded is a Peer behind a Watch.
A RetryBudget keeps those who ask again from being the load under which nothing answers.
"""

import logging
import threading
import time
from contextlib import contextmanager

from emporium.failures import NotReached, PeerError

log = logging.getLogger(__name__)

PROBE_S = 1.0
SOON_S = 0.1


class Watch:
    """Whether something that we need answers. Once it failed it is left alone, and probed: soon, then each second.

    name       what it is, for the log
    ask        () -> why it still does not answer, in words; None when it does. Has a deadline of its own
    on_return  called, in the probing thread, each time that it is back
    """

    def __init__(self, name, ask, on_return=lambda: None):
        self._name = name
        self._ask = ask
        self._on_return = on_return
        self._lock = threading.Lock()
        self._trouble = None
        self._back_at = -PROBE_S

    @property
    def trouble(self):
        """What went wrong, in words; None while it answers."""
        return self._trouble

    def failed(self, error):
        """Note that it did not answer. The first time starts the probing."""
        with self._lock:
            is_new = self._trouble is None
            self._trouble = str(error)
        if is_new:
            log.warning(
                "%s; left alone until it answers again", error, extra={"event": "peer-left-alone", "peer": self._name}
            )
            threading.Thread(target=self._probe, name=f"probe {self._name}", daemon=True).start()

    def _probe(self):
        # The first question comes soon: a single slow answer, of a disk say, should not cost a second. But what has
        # answered a probe just now and nothing else waits for the next one like all others.
        wait_s = SOON_S if time.monotonic() > self._back_at + PROBE_S else PROBE_S
        trouble = self._trouble
        while trouble is not None:
            self._trouble = trouble
            time.sleep(wait_s)
            wait_s = PROBE_S
            try:
                trouble = self._ask()
            except Exception as error:  # whatever it was, it is no answer, and the probing goes on
                log.exception(
                    "asking whether %s is back failed", self._name, extra={"event": "probe-failed", "peer": self._name}
                )
                trouble = f"{self._name}: {error}"
        self._back_at = time.monotonic()
        with self._lock:
            self._trouble = None
        log.warning("%s answers again", self._name, extra={"event": "peer-back", "peer": self._name})
        self._on_return()


class Guarded:
    """A Peer that is left alone after a timeout: meanwhile it refuses at once, and as NotReached. Nothing was done."""

    def __init__(self, peer, watch=Watch):
        """`watch` makes the Watch."""
        self.name = peer.name
        self.url = peer.url
        self._peer = peer
        self._watch = watch(peer.name, lambda: trouble_reaching(peer))
        self._refused_at = -PROBE_S

    @property
    def is_plain(self):
        return self._peer.is_plain

    @property
    def trouble(self):
        """Why it is left alone, in words; None while it is not."""
        return self._watch.trouble

    @property
    def is_away(self):
        """Whether it is left alone, or has refused a connection within the last second."""
        return self._watch.trouble is not None or time.monotonic() < self._refused_at + PROBE_S

    def call(self, method, path, body=None, deadline_s=None, headers=()):
        """As Peer.call: the Answer; raises NotReached or NoAnswer.

        A deadline shorter than the peer's own shows nothing about the peer, which is not left alone for that.
        """
        with self._guard(is_whole=deadline_s is None or deadline_s >= self._peer.deadline_s):
            return self._peer.call(method, path, body, deadline_s, headers=headers)

    def call_ours(self, path, body):
        """As Peer.call_ours: the Answer, or None from a plain course server; raises NotReached or NoAnswer."""
        with self._guard(is_whole=True):
            return self._peer.call_ours(path, body)

    @contextmanager
    def _guard(self, is_whole):
        if trouble := self._watch.trouble:
            raise NotReached(f"{trouble}; it is left alone until it answers again")
        try:
            yield
        except PeerError as error:
            if error.is_timeout and is_whole:
                self._watch.failed(error)
            elif isinstance(error, NotReached):
                self._refused_at = time.monotonic()
            raise


class RetryBudget:
    """A tenth of a retry for each request, and at most ten saved up. Safe to share between threads.

    Source: the chapter on overload of Google's book on site reliability: one layer retries, and 10 % at most.
    """

    PART, MOST = 0.1, 10.0

    def __init__(self):
        self._lock = threading.Lock()
        self._saved = self.MOST

    def earn(self):
        """A request has come."""
        with self._lock:
            self._saved = min(self.MOST, self._saved + self.PART)

    def spend(self):
        """Whether one more retry may go."""
        with self._lock:
            if self._saved < 1:
                return False
            self._saved -= 1
            return True


def trouble_reaching(peer):
    """Why the peer does not answer; None when it does. Any answer will do: a plain course server has no /healthz."""
    try:
        peer.call("GET", "/healthz")
    except PeerError as error:
        return str(error)
    return None
