"""What happened in this process lately: a bounded ring of events, for GET /trace.

    {"n": 17, "at": 1763760000.123456, "service": "db0", "event": "merged", "tea": "oolong", "request": "7f3a90c2",
     "outcome": "stored", "primary": "db0", "choices": [3], "clocks": [{"c0": 5}]}

To record is to append what is at hand: for all that happened at one moment, such as the records of one call, a single
Entry. It becomes events, and JSON, when somebody reads it. Values are never changed, so that what is read later is what
was. The ring forgets its oldest events when it has as many as it may, or when their values are large: a tea can have a
hundred siblings, and nobody shall fill the memory with them.

The events of each service are in docs/protocol.md.
"""

import os
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from emporium import wire
from emporium.requestid import is_id
from emporium.siblings import Value

MOST_WEIGHT = 200_000  # entries of clocks in all values of the ring: some 30 MB at most
BYTES_AN_ENTRY = 32  # of JSON
LOOK_S = 0.05  # between two looks of a reader that waits: to wake it would cost whoever records


class Event(NamedTuple):
    """`what`: the value after it, as a Value, as the JSON text of a gossip record, or as Rated by a client; or None."""

    name: str
    tea: str | None = None
    request: str | None = None
    what: Value | bytes | wire.Rated | None = None
    members: dict = {}  # those that are None are left out


class Entry(NamedTuple):
    """One event for each of the `things`: tell(thing, about) is the Event."""

    first: int  # the number of the first one
    at: float
    weight: int
    things: Sequence
    tell: Callable
    about: Any

    @property
    def last(self):
        return self.first + len(self.things) - 1


class Trace:
    """The newest `most` events of a service, numbered from 1. Safe between threads; recording never waits.

    life  names this process: the events of another one are counted anew
    """

    def __init__(self, service, most, now=time.time):
        self.service = service
        self.life = os.urandom(8).hex()
        self._most = most
        self._now = now
        self._lock = threading.Lock()
        self._ring = deque()  # of Entries
        self._count = 0
        self._kept = 0
        self._weight = 0
        self._is_ending = threading.Event()

    def record(self, tell, things, about=None, weight=0):
        """Append one event for each of these things, which have happened together: tell(thing, about) is the Event.

        things  are never changed later: they are told when somebody reads
        weight  of the values that the things bring, see weight_of; 0 where they stand in an Entry just before, too
        """
        if not things:
            return
        with self._lock:
            self._ring.append(Entry(self._count + 1, self._now(), weight, things, tell, about))
            self._count += len(things)
            self._kept += len(things)
            self._weight += weight
            while self._kept - len(self._ring[0].things) >= self._most or self._weight > MOST_WEIGHT:
                oldest = self._ring.popleft()
                self._kept -= len(oldest.things)
                self._weight -= oldest.weight

    def record_texts(self, name, texts, channel):
        """One event for each of these records of a channel, JSON texts."""
        self.record(_text_event, texts, (name, channel), sum(map(len, texts)) // BYTES_AN_ENTRY)

    def read(self, after=0, most=500, tea=None, request=None, wait_s=0):
        """What docs/protocol.md has as the answer to GET /trace: the events behind number `after`, at most `most`.

        With `tea` or `request`, those of it only. When there is none it waits, at most `wait_s`, for one to come.
        A number that was never given counts as 0: it is of another life.
        """
        ends = time.monotonic() + wait_s
        lost, found, after = self._behind(after)
        chosen = self._chosen(found, after, most, tea, request)
        while not chosen[0] and time.monotonic() < ends and not self._is_ending.wait(LOOK_S):
            more_lost, found, after = self._behind(chosen[1] or after)
            lost += more_lost
            chosen = self._chosen(found, after, most, tea, request)
        events, last = chosen
        return {
            "service": self.service,
            "life": self.life,
            "next": last or after,
            "newest": self._count,
            "lost": lost,
            "events": events,
        }

    def wake(self):
        """Let nobody wait any longer."""
        self._is_ending.set()

    def _behind(self, after):
        """(how many behind number `after` are gone, the Entries that have the rest, `after` or what must count for it)."""
        with self._lock:
            if after > self._count:
                after = 0
            entries, count, kept = list(self._ring), self._count, min(self._kept, self._most)
        lost = max(0, count - kept - after)
        after += lost
        return lost, entries[bisect_right(entries, after, key=lambda entry: entry.last) :], after

    def _chosen(self, entries, after, most, tea, request):
        """(at most `most` events behind `after` as dicts, the number of the last one that was looked at or None)."""
        chosen = []
        last = None
        for entry in entries:
            for last, thing in enumerate(entry.things, entry.first):
                if last <= after:
                    continue
                event = entry.tell(thing, entry.about)
                if _is_of(event, tea, request):
                    chosen.append({"n": last, "at": round(entry.at, 6), "service": self.service, **_shown(event)})
                    if len(chosen) == most:
                        return chosen, last
        return chosen, last


def weight_of(values):
    """Of these Values, as Trace.record takes it: how many entries their clocks have."""
    return weight_of_siblings(chain.from_iterable([value.siblings for value in values]))


def weight_of_siblings(siblings):
    return sum([len(sibling.clock.clock) for sibling in siblings])


class Nothing:
    """The trace of a service that keeps none: whatever it is told, it does nothing."""

    def __getattr__(self, name):
        return _nothing


def _nothing(*_, **__):
    pass


def _text_event(text, about):
    name, channel = about
    return Event(name, what=text, members={"channel": channel})


def _shown(event):
    """The members of an Event as it stands in JSON, beside when and where it was."""
    shown = {"event": event.name}
    if event.tea is not None:
        shown["tea"] = event.tea
    if event.request is not None:
        shown["request"] = event.request
    shown.update((name, value) for name, value in event.members.items() if value is not None)
    if isinstance(event.what, Value):
        shown["choices"], shown["clocks"] = wire.choices_of(event.what), wire.clocks_of(event.what)
    elif isinstance(event.what, wire.Rated):
        shown["rating"], shown["clocks"] = event.what.rating, [event.what.clock]
    elif event.what is not None:
        shown |= told_by(event.what)
    return shown


def told_by(text):
    """The members of an event that the JSON text of a record says; none, where it is no gossip record."""
    try:
        told = wire.decode(text, wire.GossipBody)
    except ValueError:
        return {}
    shown = {"tea": told.tea, "primary": told.primary, "choices": told.choices, "clocks": told.plain_clocks}
    return shown | ({"request": told.request} if is_id(told.request) else {})


def _is_of(event, tea, request):
    """Whether it is of this tea and of this request; None: of any."""
    if tea is None and request is None:
        return True
    is_text = isinstance(event.what, bytes)
    if is_text and request is not None and event.request is None and request.encode() not in event.what:
        return False  # without making sense of the text, since most texts are of others
    told = told_by(event.what) if is_text else {}
    return tea in (None, event.tea, told.get("tea")) and request in (None, event.request, told.get("request"))

