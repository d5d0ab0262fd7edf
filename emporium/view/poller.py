"""Who asks the ring how it is, and when: twice a second while a page is open, and never else. Once a second while more
happens than a page is told: then the store has other things to do.

A first page finds a fresh state in its HTML: then, and only then, it is asked on behalf of one request. Many that come
at once share one answer.
"""

import logging
import threading
import time

from emporium import wire
from emporium.view.snapshot import looks_the_same, state_of

log = logging.getLogger(__name__)

PERIOD_S, BUSY_S = 0.5, 1.0
FRESH_S = 1.0  # a state younger than this is fresh
AT_LEAST_S = 10.0  # an unchanged state is told so often all the same
MOST_EVENTS = 100  # in one message: more than anybody can look at, and fifty pages get each of them


class Poller:
    """`start` it once. `state` may be called from any thread."""

    def __init__(self, ring, places, hub):
        self._ring, self._places, self._hub = ring, places, hub
        self._lock = threading.Lock()  # held while the ring is asked: whoever comes meanwhile has the same answer
        self._number = int(time.time() * 1000)  # beyond those of an earlier life of this process
        self._state, self._asked_at = None, float("-inf")
        self._counts = {}  # {service: (operations by then, when)}
        self._told, self._told_at = None, float("-inf")

    def start(self):
        threading.Thread(target=self._run, name="poll", daemon=True).start()

    def state(self):
        """STATE, no older than a second. Blocks for less than a second, when the ring has to be asked."""
        with self._lock:
            if time.monotonic() - self._asked_at > FRESH_S:
                self._ask(with_events=False)
            return self._state

    def _run(self):
        while not self._hub.is_closed:
            if self._hub.wait_for_pages():
                self._ring.forget_events()
            began_s, period_s = time.monotonic(), PERIOD_S
            try:
                period_s = BUSY_S if self._poll() else PERIOD_S
            except Exception:  # one of a bug: the pages say that they are stale, and the next round may be better
                log.exception("the ring could not be asked", extra={"event": "ring-not-asked"})
            self._hub.wait(max(0.05, began_s + period_s - time.monotonic()))

    def _poll(self):
        """Tell the pages what is new. How many events they are not told."""
        with self._lock:
            asked = self._ask(with_events=True)
            state = self._state
        messages, now = [], time.monotonic()
        if not looks_the_same(self._told, state) or now - self._told_at > AT_LEAST_S - PERIOD_S:
            self._told, self._told_at = state, now
            messages.append(("state", wire.encode(state)))
        events = sorted((event for each in asked.values() for event in each.events), key=lambda event: event["at"])
        dropped = sum(each.dropped for each in asked.values()) + max(0, len(events) - MOST_EVENTS)
        if events or dropped:
            messages.append(("trace", wire.encode({"events": events[-MOST_EVENTS:], "dropped": dropped})))
        self._hub.publish(*messages)
        return dropped

    def _ask(self, with_events):
        """{name: Asked} of all services, and the state that comes of it kept. With the lock held."""
        asked = self._ring.ask_all(with_events)
        self._asked_at = time.monotonic()
        self._number += 1
        self._state = state_of(self._number, time.time(), self._places, asked, self._rates(asked))
        return asked

    def _rates(self, asked):
        """{service: operations a second since it was last asked}, of those that count them."""
        rates, now = {}, self._asked_at
        for name, each in asked.items():
            count = each.told.get("operations")
            if not isinstance(count, int):
                self._counts.pop(name, None)
                continue
            before, at = self._counts.get(name, (count, now))
            if count >= before and now > at:
                rates[name] = round((count - before) / (now - at), 1)
            self._counts[name] = count, now
        return rates
