"""Which requests are recorded, where more come than anybody could look at.

The first service that a request meets chooses, and its choice goes with the request: of one that is chosen every
service records what happens to it, all round the ring, and another has no event and its id is in no gossip. So under
load, too, a write can be followed from its beginning to its end, the newest events reach back for many seconds, and
recording costs little.

    X-Request-ID: my-write-1     somebody wants to find it: it goes before those that come without an id
    X-B3-Sampled: 1              it is recorded: a service before this one has chosen it, or its client has
    X-B3-Sampled: 0              it is not recorded

Source: Sigelman and others, "Dapper, a Large-Scale Distributed Systems Tracing Infrastructure", 2010, section 4. The
header is that of https://github.com/openzipkin/b3-propagation.
"""

import threading
import time

from emporium.requestid import NO, YES, here

MOST_A_S, SAVED = 50, 200  # requests of one service
FOR_NAMED = 100  # of those saved: for requests that somebody wants to find
UNNAMED_A_S, UNNAMED_SAVED = 5, 50  # times that a service records gossip of which nobody says whose request it was


class Pace:
    """So many a second, and at most `saved` at once. Safe between threads."""

    def __init__(self, per_s, saved, now=time.monotonic):
        self._per_s, self._most, self._now = per_s, saved, now
        self._lock = threading.Lock()
        self._saved, self._at = saved, now()

    def spend(self, kept_back=0):
        """Whether one more may go, where so many of the saved ones are kept back for others."""
        with self._lock:
            now = self._now()
            self._saved = min(self._most, self._saved + (now - self._at) * self._per_s)
            self._at = now
            if self._saved < 1 + kept_back:
                return False
            self._saved -= 1
            return True


def chosen(trace):
    """The id under which the request of this thread is recorded, here and wherever it leads; None: it is not.

    trace  the Trace of this service; None: it keeps none, and leaves the choice to others
    """
    if here.sampled is None and trace is not None:
        here.sampled = YES if trace.requests.spend(0 if here.is_named else FOR_NAMED) else NO
        trace.unrecorded += here.sampled == NO
    return None if here.sampled == NO else here.request
