"""What a guarded shard does by itself, in one thread, outside its steps: recovery, repair, anti-entropy.

A look each round notices that Redis has lost something even when nobody asks for anything.
"""

import logging
import threading

from emporium.antientropy import round_with
from emporium.failures import BadAnswer, PeerError
from emporium.replica import NotYet
from emporium.store import StoreDown, StoreUnsure
from emporium.turn import Busy

log = logging.getLogger(__name__)

SOON_S = 0.1  # until the next round while the shard recovers, or cannot look


class Upkeep:
    """`period_s`: from one comparison to the next, while nothing differs; None: nothing is compared."""

    def __init__(self, replica, recovery, others, period_s):
        self._replica, self._recovery, self._others = replica, recovery, others
        self._period_s = period_s
        self._wanted = threading.Event()
        self.is_held = False  # in a lab: nothing is compared
        self._said = None  # the last answer that was none, as it was logged

    def start(self):
        threading.Thread(target=self._run, name="upkeep", daemon=True).start()

    def want(self):
        """The next round is to begin at once: something has come, or is to be repaired."""
        self._wanted.set()

    def _run(self):
        while True:
            wait_s = self.round()
            self._wanted.wait(wait_s)
            self._wanted.clear()

    def round(self):
        """One look, and what there is need for. Returns after how many seconds the next one is due."""
        try:
            self._replica.look()
            self._replica.look_over()
            self._recovery.work()
            changed = self._compare() if self._period_s and not self.is_held else 0
        except (Busy, StoreDown, StoreUnsure, NotYet) as error:
            log.debug("upkeep waits: %s", error, extra={"event": "upkeep-waits"})
            return SOON_S
        except Exception:
            log.exception("upkeep failed, and goes on", extra={"event": "upkeep-failed"})
            return self._period_s or 1.0
        if changed:
            return 0
        return SOON_S if self._recovery.trouble else self._period_s or 1.0

    def _compare(self):
        """How many teas changed, here and at the next shard that answers."""
        for other in self._others:
            try:
                return round_with(other, self._replica)
            except BadAnswer as error:
                if str(error) != self._said:  # once, and not each second
                    log.warning("not compared: %s", error, extra={"event": "not-compared"})
                self._said = str(error)
            except PeerError as error:
                log.debug("not compared: %s", error, extra={"event": "not-compared"})
        return 0
