"""`./tea trace TEA`: the writes of one tea on their way through the store, event after event.

    write 7f3a90c2d41b55e8 of oolong, 21:03:12.123
        +0.000 ms  lb | received PUT 3 at c0=5
        +3.120 ms db2 | merged: stored; 3 at c0=5
        +4.718 ms db2 | stored in r2

On a terminal that is wide enough there is a column for each process. Elsewhere what is told at once is told write after
write. Times are since the write arrived.
"""

import sys
import time
from datetime import datetime
from pathlib import Path

import msgspec

from emporium import running, screen, wire
from emporium.columns import Voices
from emporium.tracesources import Sources
from emporium.tracewords import (
    BEGINNINGS,
    MOST_WRITES,
    Writes,
    by_write,
    forget_oldest,
    is_event,
    missing_from,
    words_of,
)
from emporium.view import spacetime

SETTLE_S = 0.4  # events are told this late, so that those of all services come in the order of time
TIME_WIDTH = 13


class Recorded(msgspec.Struct):
    """What is read of a TRACE; the arrows are for the view."""

    events: list[dict]
    lanes: list[str] = []


class Unreadable(Exception):
    """A recorded run that is none. The message says why."""


class Unwritable(Exception):
    """What was shown cannot be saved. The message says why."""


def trace(asked):
    """Print what is kept, and then what comes until we are told to end. Returns the exit code.

    Raises NotRunning and Unwritable.
    """
    note = running.find(asked.port_base)
    if asked.save and not Path(asked.save).absolute().parent.is_dir():  # better now than after a long look
        raise Unwritable(f"{asked.save} cannot be written: there is no such folder")
    sources = Sources(note, asked.tea, asked.request)
    writes = Writes()
    shown = _without_reads(sources.recent(), writes)
    _tell_troubles(sources)
    if sources.are_away:
        return 4
    if asked.last:
        shown = _of_request(shown, writes.newest) if writes.newest else []
    _tell_gaps(sources, shown)
    if not shown:
        waits = "" if asked.last else "; what comes is told"
        print(f"tea: no write of {asked.tea or asked.request} is kept in the traces{waits}", file=sys.stderr)
        if asked.last:
            return 3
    try:
        teller = Teller(services_of(note), sys.stdout)
        teller.tell(shown)
        if not asked.last:
            _follow(sources, asked.seconds, writes, teller, shown if asked.save else [])
    finally:
        sources.close()
        if asked.save:
            save(asked.save, asked.tea, shown, note.ndb)
    return 0 if teller.has_told or asked.seconds is None else 3


def _follow(sources, seconds, writes, teller, shown):
    """Tell what comes, and add it to `shown`, for so many seconds or until Ctrl-C."""
    ends = time.monotonic() + seconds if seconds is not None else float("inf")
    try:
        for events in sources.follow(SETTLE_S):
            came = _without_reads(events, writes)
            teller.tell(came)
            shown += came
            if time.monotonic() >= ends:
                return
    except KeyboardInterrupt:
        return  # that is how it ends


def _without_reads(events, writes):
    writes.add(events)
    return [event for event in events if not writes.is_read(event)]


def _of_request(events, request):
    return [event for event in events if event.get("request") == request]


def open_recorded(path):
    """Print a recorded run. Returns the exit code. Raises Unreadable."""
    try:
        told = msgspec.json.decode(Path(path).read_bytes(), type=Recorded)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} is no recorded run: {error}") from error
    if not told.events or not all(map(is_event, told.events)):
        raise Unreadable(f"{path} is no recorded run: it has no events, or others than those of a trace")
    events = sorted(told.events, key=lambda event: event["at"])
    services = [lane for lane in told.lanes if not lane.startswith("r")] or sorted({each["service"] for each in events})
    Teller(services, sys.stdout).tell(events)
    return 0


def save(path, tea, events, ndb):
    """Write the newest write as a TRACE (docs/protocol.md), which the view and `./tea trace --open` show.

    `tea`: its name, None where the events tell. Raises Unwritable.
    """
    writes = Writes()
    writes.add(events)
    newest = _of_request(events, writes.newest) if writes.newest else events
    told = spacetime.trace_of(writes.newest, newest, ndb)
    try:
        Path(path).write_bytes(wire.encode({**told, "tea": tea or told["tea"]}))
    except OSError as error:
        raise Unwritable(f"{path} cannot be written: {error}") from error


class Teller:
    """Prints events as they come. `has_told`: whether there were any."""

    def __init__(self, services, stream):
        self._writes = Writes()
        self._ways = Ways()
        self._voices = Voices(services, stream, TIME_WIDTH, wants_columns=screen.is_terminal(stream))
        self._request = None  # of the write that was told of last
        self._outside = None  # when the first event happened of those told last, where they name no write
        self.has_told = False

    def tell(self, events):
        self._writes.add(events)
        self._ways.add(events)
        for event in events if self._voices.has_columns else by_write(events):
            self._head(event)
            began = self._writes.began(event) if self._outside is None else self._outside
            at = f"{(event['at'] - began) * 1e3:+.3f} ms" if began is not None else "? ms"
            self._voices.say(
                at.rjust(TIME_WIDTH), screen.printable(event["service"]), words_of(event) + self._ways.to(event)
            )
            self.has_told = True
        self._voices.flush()

    def _head(self, event):
        """The line above the first event of another write than the last one, or of those that name none."""
        request = event.get("request")
        if self.has_told and request == self._request:
            return
        self._request = request
        self._outside = event["at"] if request is None else None
        began = self._writes.began(event) or event["at"]
        when = datetime.fromtimestamp(began).strftime("%H:%M:%S.%f")[:-3]
        what = "outside of recorded writes," if request is None else f"write {request}"
        self._voices.note(screen.printable(f"{what} of {event.get('tea', '?')}, {when}"))


class Ways:
    """From where each event came, as the arrows of a space-time diagram tell it, of the newest writes."""

    def __init__(self):
        self._of = {}  # {request: (its events, {which event: the one that led to it})}

    def add(self, events):
        for event in events:
            if event.get("request") is not None:
                self._of.setdefault(event["request"], ([], {}))[0].append(event)
        for request in {event.get("request") for event in events} - {None}:
            known, led_to = self._of[request]
            known.sort(key=lambda event: event["at"])
            for arrow in spacetime.arrows_of(known):
                led_to[_which(known[arrow["to"]])] = known[arrow["from"]]
        forget_oldest(self._of, MOST_WRITES)

    def to(self, event):
        """'  <- lb, 0.7 ms before', where another process led to it; else ''."""
        _known, led_to = self._of.get(event.get("request"), ([], {}))
        begin = led_to.get(_which(event))
        if begin is None or begin["service"] == event["service"] or begin["at"] > event["at"]:
            return ""
        return screen.printable(f"  <- {begin['service']}, {(event['at'] - begin['at']) * 1e3:.1f} ms before")


def _which(event):
    return event["service"], event["at"], event.get("n")


def services_of(note):
    """The names of its services that speak HTTP, in the order of a trace: lb, db0, db1, ..., q."""
    return ["lb", *(f"db{index}" for index in range(note.ndb)), "q"]


def _tell_troubles(sources):
    for name, trouble in sources.troubles.items():
        print(f"tea: without {name}: {trouble}", file=sys.stderr)


def _tell_gaps(sources, shown):
    """Why something may be missing from what is shown."""
    if missing := missing_from(shown, sources.since):
        each = [
            f"{name} {'kept nothing so old' if name in sources.forgetful else 'is a process that began later'}"
            for name in missing
        ]
        print(f"tea: perhaps not whole: {', '.join(each)}", file=sys.stderr)
    if shown and shown[0]["event"] in BEGINNINGS:
        return
    if sources.lost and not missing:
        print(f"tea: {sources.lost} older events are forgotten already", file=sys.stderr)
    if sources.unrecorded:
        print(
            "tea: too many requests came to record each; one with the header X-B3-Sampled: 1 always is",
            file=sys.stderr,
        )
