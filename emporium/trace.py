"""What happened in this process lately: a bounded ring of events, for GET /trace.

    {"n": 17, "at": 1763760000.123456, "service": "db0", "event": "merged", "tea": "oolong", "request": "7f3a90c2",
     "outcome": "stored", "primary": "db0", "choices": [3], "clocks": [{"c0": 5}]}

To record is to append what is at hand, a few references; it becomes JSON when somebody reads it. Values are never
changed, so that what is read later is what was. The ring forgets its oldest events when it has as many as it may, or
when their values are large: a tea can have a hundred siblings, and nobody shall fill the memory with them.

Where more requests come than anybody could look at, only some are recorded (emporium/sampling.py).

The events of each service are in docs/protocol.md.
"""

import os
import threading
import time
from collections import deque
from itertools import islice
from typing import NamedTuple

from emporium import wire
from emporium.requestid import is_id
from emporium.sampling import MOST_A_S, SAVED, UNNAMED_A_S, UNNAMED_SAVED, Pace
from emporium.siblings import Value

MOST_WEIGHT = 200_000  # entries of clocks in all values of the ring, or 32 bytes of JSON each: some 30 MB at most
REQUEST = b'"request"'  # in a record that says of which request it tells
LOOK_S = 0.05  # between two looks of a reader that waits: to wake it would cost whoever records


class Event(NamedTuple):
    """`what`: the value after it, as a Value, as the JSON text of a gossip record, or as Rated by a client; or None."""

    n: int
    at: float
    name: str
    tea: str | None
    request: str | None
    what: Value | bytes | wire.Rated | None
    members: dict
    weight: int


class Trace:
    """The newest `most` events of a service, numbered from 1. Safe between threads; recording never waits.

    life        names this process: the events of another one are counted anew
    since       from when on all that was recorded is still kept: when this began, or the newest event that is forgotten
    requests    the Pace of those that are chosen here
    unrecorded  how many requests and records were not recorded, as others came at the same time; about, since to count
                exactly would make threads wait
    """

    def __init__(self, service, most, now=time.time):
        self.service = service
        self.life = os.urandom(8).hex()
        self.requests = Pace(MOST_A_S, SAVED)
        self.unrecorded = 0
        self._unnamed = Pace(UNNAMED_A_S, UNNAMED_SAVED)
        self._most = most
        self._now = now
        self.since = now()
        self._lock = threading.Lock()
        self._ring = deque()
        self._count = 0
        self._weight = 0
        self._is_ending = threading.Event()

    def record(self, name, tea=None, request=None, what=None, **members):
        """Append one event. Members that are None are left out when it is read."""
        weight = 1 if what is None else _weight(what)
        with self._lock:
            self._count += 1
            self._ring.append(Event(self._count, self._now(), name, tea, request, what, members, weight))
            self._weight += weight
            while len(self._ring) > self._most or self._weight > MOST_WEIGHT:
                oldest = self._ring.popleft()
                self._weight -= oldest.weight
                self.since = oldest.at

    def has_room_for_unnamed(self):
        """Whether what happens now may be recorded, though nobody says of which request it is. To be asked once."""
        return self._unnamed.spend()

    def record_texts(self, name, texts, channel):
        """One event for each of these records of a channel, JSON texts, that says its request; or for all of them."""
        named = [text for text in texts if REQUEST in text]
        if len(named) < len(texts) and not self.has_room_for_unnamed():
            self.unrecorded += len(texts) - len(named)
            texts = named
        for text in texts:
            self.record(name, what=text, channel=channel)

    def read(self, after=0, most=500, tea=None, request=None, wait_s=0):
        """What docs/protocol.md has as the answer to GET /trace: the events behind number `after`, at most `most`.

        With `tea` or `request`, those of it only. When there is none it waits, at most `wait_s`, for one to come.
        A number that was never given counts as 0: it is of another life.
        """
        ends = time.monotonic() + wait_s
        lost, found, after = self._behind(after)
        chosen = self._chosen(found, most, tea, request)
        while not chosen[0] and time.monotonic() < ends and not self._is_ending.wait(LOOK_S):
            more_lost, found, after = self._behind(chosen[1] or after)
            lost += more_lost
            chosen = self._chosen(found, most, tea, request)
        events, last = chosen
        return {
            "service": self.service,
            "life": self.life,
            "next": last or after,
            "newest": self._count,
            "lost": lost,
            "since": round(self.since, 6),
            "unrecorded": self.unrecorded,
            "events": events,
        }

    def wake(self):
        """Let nobody wait any longer."""
        self._is_ending.set()

    def _behind(self, after):
        """(how many behind number `after` are gone, the Events that are still there, `after` itself or 0)."""
        with self._lock:
            if after > self._count:
                after = 0
            first = self._count - len(self._ring) + 1
            begin = max(0, after + 1 - first)
            found = list(islice(self._ring, begin, None))
        return max(0, first - 1 - after), found, after

    def _chosen(self, found, most, tea, request):
        """(at most `most` of these Events as dicts, the number of the last one that was looked at or None)."""
        chosen = []
        last = None
        for event in found:
            last = event.n
            if _is_of(event, tea, request):
                chosen.append(self._shown(event))
                if len(chosen) == most:
                    break
        return chosen, last

    def _shown(self, event):
        """An Event as it stands in JSON."""
        shown = {"n": event.n, "at": round(event.at, 6), "service": self.service, "event": event.name}
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


class Nothing:
    """The trace of a service that keeps none: whatever it is told, it does nothing."""

    def __getattr__(self, name):
        return _nothing


def _nothing(*_, **__):
    pass


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


def _weight(what):
    if isinstance(what, Value):
        return 1 + sum(len(sibling.clock.clock) for sibling in what.siblings)
    return 1 + (len(what.clock) if isinstance(what, wire.Rated) else len(what) // 32)
