"""Whether what the queue has taken is on its disk: durability 2 counts on it."""

import sys
import time

from emporium import wire
from emporium.failures import PeerError

SYNCS_FIRST = ("group", "always")
PATIENCE_S = 2.0


class SafeQueue:
    """`peer` is the queue's, asked once for each connection that was opened: another one may lead to another queue.

    For one caller at a time.
    """

    def __init__(self, peer):
        self._peer = peer
        self._asked_at = None  # how many connections had been opened by then
        self.is_wrong = False  # whether it answered, and is one that cannot be counted on

    def trouble(self):
        """Why it is not to be counted on, in words; None when it is."""
        if self._asked_at == self._peer.connections_opened:
            return None
        self.is_wrong = False
        try:
            told = self._peer.call("GET", "/status").read(wire.decode_queue_status)
        except PeerError as error:
            return str(error)
        if told.fsync not in SYNCS_FIRST:
            self.is_wrong = True
            found = f"has fsync {told.fsync}" if told.fsync else "keeps its channels in memory"
            return f"2 needs a queue with fsync group or always, and {self._peer.url} {found}"
        self._asked_at = self._peer.connections_opened
        return None


def refuse(peer):
    """End this process with one line when the queue cannot be counted on. One that does not come within 2 s may yet."""
    queue, ends = SafeQueue(peer), time.monotonic() + PATIENCE_S
    while (trouble := queue.trouble()) and not queue.is_wrong and time.monotonic() < ends:
        time.sleep(0.05)
    if queue.is_wrong:
        print(f"{sys.argv[0]}: bad settings: durability: {trouble}", file=sys.stderr, flush=True)
        sys.exit(2)
