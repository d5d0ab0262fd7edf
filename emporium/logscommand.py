"""`./tea logs`: what the services have logged, merged by time, and with --key what the traces tell of one tea, too.

    12:01:03.120  db0 | INFO db0 listens on http://127.0.0.1:3000
    12:01:03.131  db2 | > merged: stored; 3 at c0=5                   a trace event

The files are those of `./tea up` (emporium/up.py), and can be read when no cluster runs any more.
"""

import json
import re
import sys
import time
from collections import deque
from datetime import date, datetime
from pathlib import Path

from emporium import loglines, progress, running, screen
from emporium.columns import Layout, Voices
from emporium.environment import ROOT
from emporium.loglines import Line
from emporium.tracesources import Sources
from emporium.tracewords import words_of

MOST_LINES = 200  # unless something is looked for
LOOK_S = 0.2
SETTLE_S = 0.4
TIME_WIDTH = 12
EVENT = ">"  # in front of a trace event
ORDER = re.compile(r"(lb|db|r|q|view|up)(\d*)")


class Unknown(Exception):
    """A service that has no log here. The message names those that have."""


def logs(asked):
    """Print them. Returns the exit code: 0, 3 when there is none. Raises NotRunning and Unknown."""
    note = _cluster(asked.port_base)
    folder = Path(asked.data or (note.data if note else ROOT / "var")) / "log"
    services = _chosen(folder, asked.service)
    wanted = Wanted(asked.key, asked.request)
    sources = _sources(note, wanted, asked.data)
    tails = [loglines.Tail(folder, service) for service in services] if asked.follow else []
    try:
        events = _of_interest(sources.recent(), services, asked.since) if sources else []
        wanted.know(events)
        found = [*_from_files(folder, services, asked, wanted), *map(_as_line, events)]
        lines = sorted(found, key=lambda line: line.at)[-(asked.lines or len(found)) :]
        shown = Shown(*_voices(services, lines, asked))
        shown.tell(lines)
        if not lines and not asked.follow:
            print(f"tea: {running.relative(folder)} has no such line", file=sys.stderr)
        if asked.follow:
            _follow(tails, sources, wanted, services, shown)
    except KeyboardInterrupt:
        if not asked.follow:  # there it is how it ends
            raise
    finally:
        for tail in tails:
            tail.close()
        if sources:
            sources.close()
    return 0 if lines or asked.follow else 3


class Wanted:
    """Which lines are of a tea, or of a request: all, where neither is named."""

    def __init__(self, tea, request):
        self.tea, self.request = tea, request
        self._is_named = tea is not None or request is not None
        self._requests = set() if request is None else {request}
        self._words = [] if tea is None else [_as_word(tea)]

    @property
    def is_all(self):
        return not self._is_named

    def know(self, events):
        """Lines of these events' requests are of the tea, too."""
        if self.tea is not None:
            self._requests |= {event["request"] for event in events if event.get("request")}

    def has(self, line):
        if not self._is_named or any(word.search(line.raw) for word in self._words):
            return True
        return any(request in line.raw for request in self._requests)


class Shown:
    """Prints lines of these services, and the day where it is another than that of the line before."""

    def __init__(self, voices, services):
        self._voices = voices
        self._services = services
        self._day = date.today()

    def tell(self, lines):
        for line in lines:
            if line.service not in self._services:
                continue
            when = datetime.fromtimestamp(line.at)
            if when.date() != self._day:
                self._day = when.date()
                self._voices.note(f"--- {self._day} ---")
            at = when.strftime("%H:%M:%S.%f")[:-3]
            for text in line.text.rstrip().split("\n"):
                self._voices.say(at, line.service, screen.printable(text))
        self._voices.flush()


def _from_files(folder, services, asked, wanted):
    """As many as are asked for; all, where only some of them are wanted."""
    most = asked.lines if wanted.is_all and asked.since is None else None
    with progress.shown("reading the logs"):
        return [*filter(wanted.has, loglines.last_lines(folder, services, asked.since, most))]


def _follow(tails, sources, wanted, services, shown):
    """Tell what comes, a moment late so that all of it comes in the order of time. Never ends by itself."""
    waiting = deque()
    for came in sources.follow(0) if sources else _no_events():
        kept = _of_interest(came, services, None)
        wanted.know(kept)
        waiting += map(_as_line, kept)
        waiting += (line for tail in tails for line in tail.news() if wanted.has(line))
        settled = time.time() - SETTLE_S
        shown.tell(sorted((line for line in waiting if line.at <= settled), key=lambda line: line.at))
        waiting = deque(line for line in waiting if line.at > settled)


def _no_events():
    while True:
        time.sleep(LOOK_S)
        yield []


def _cluster(port_base):
    """The Note of the cluster that runs; None when none does, unless it was named."""
    try:
        return running.find(port_base)
    except running.NotRunning:
        if port_base is not None:
            raise
        return None


def _sources(note, wanted, data):
    """The traces of the cluster that runs, where something is looked for in them; else None."""
    if wanted.is_all:
        return None
    if note is None or data is not None:
        print("tea: without trace events, which only a running cluster has", file=sys.stderr)
        return None
    return Sources(note, wanted.tea, wanted.request)


def _chosen(folder, named):
    """The services whose logs are wanted, in the order of a trace. Raises Unknown."""
    there = sorted(loglines.services_in(folder), key=_order)
    if not there:
        raise Unknown(f"there are no logs in {running.relative(folder)}")
    if named is None:
        return there
    for name in named:
        if name not in there:
            raise Unknown(f"{name} has no log here; these have: {', '.join(there)}")
    return sorted(set(named), key=_order)


def _order(service):
    """lb, db0, r0, db1, r1, ..., q, and then the others."""
    kind, number = (ORDER.fullmatch(service) or re.fullmatch(r"(.*)()", service)).groups()
    rank = {"lb": 0, "db": 1, "r": 1, "q": 2}.get(kind, 3)
    return rank, int(number or 0), kind, service


def _voices(services, lines, asked):
    """(the Voices, which services they are): all that are wanted, in columns as many as fit."""
    if not asked.columns:
        return Voices(services, sys.stdout, TIME_WIDTH, wants_columns=False), services
    speaking = {line.service for line in lines} if not asked.follow else set(services)
    ours = [name for name in services if name.startswith(("lb", "db", "q"))]
    choices = [services, [name for name in services if name in speaking]]
    if asked.service is None:
        choices += [ours, [name for name in ours if name in speaking]]
    choices = [names for names in choices if names]
    width = screen.width_of(sys.stdout)
    for names in choices:
        if Layout(names, width, TIME_WIDTH).fits:
            if left_out := [name for name in services if name in speaking and name not in names]:
                print(f"tea: without {', '.join(left_out)}, for want of width", file=sys.stderr)
            return Voices(names, sys.stdout, TIME_WIDTH, wants_columns=True), names
    fewest = min(map(len, choices))
    print(
        f"tea: {width} characters are too narrow for {fewest} columns; name some with --service",
        file=sys.stderr,
    )
    return Voices(services, sys.stdout, TIME_WIDTH, wants_columns=False), services


def _of_interest(events, services, since):
    return [event for event in events if event["service"] in services and (since is None or event["at"] >= since)]


def _as_line(event):
    return Line(event["at"], event["service"], f"{EVENT} {words_of(event)}", "")


def _as_word(tea):
    """Finds the name where it is not a part of a longer one, also as it stands in a path, and in JSON."""
    from urllib.parse import quote

    names = "|".join(re.escape(name) for name in {tea, quote(tea, safe=""), json.dumps(tea)[1:-1]})
    return re.compile(rf"(?<![\w-])(?:{names})(?![\w-])")
