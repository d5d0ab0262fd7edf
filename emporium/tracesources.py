"""The trace events of all services of a running cluster, asked for with GET /trace: what is kept, then what comes.

    sources = Sources(note, tea="oolong")
    events = sources.recent()                       all that is kept, in the order of time
    for events in sources.follow(settle_s=0.3): ...  those that come, [] now and then so that the caller may end it

The services stamp their events with the one clock of their machine, so their order is that of time. A service that is
away is asked again until it is back; its events of another life are all news.
"""

import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from urllib.parse import quote

from emporium.failures import PeerError
from emporium.peers import Peer
from emporium.tracewords import is_event

ASK_S = 3.0
WAIT_S = 20  # for news, in one call
MOST_EVENTS = 2000  # in one answer
AGAIN_S = 0.5  # a service that is away
TICK_S = 0.1


class Sources:
    """Every service of this cluster that speaks HTTP. `tea` and `request`: only what is of them."""

    def __init__(self, note, tea=None, request=None):
        names = ("lb", "q", *(f"db{index}" for index in range(note.ndb)))
        wanted = [f"&{name}={quote(value, safe='')}" for name, value in (("tea", tea), ("request", request)) if value]
        self._sources = [
            Source(Peer(service.name, "127.0.0.1", service.port, ASK_S), "".join(wanted))
            for service in note.services
            if service.name in names
        ]
        self._is_ended = Event()

    @property
    def troubles(self):
        """{service: why it tells nothing}, of those that did not answer when last asked."""
        return {source.peer.name: source.trouble for source in self._sources if source.trouble}

    @property
    def are_away(self):
        """Whether nobody told anything."""
        return all(source.trouble for source in self._sources)

    @property
    def lost(self):
        """How many events had been forgotten before they were asked for, as far as is known."""
        return sum(source.lost for source in self._sources)

    @property
    def since(self):
        """{service: since when all that it recorded is still kept}, of those that say it."""
        return {source.peer.name: source.since for source in self._sources if source.since is not None}

    @property
    def forgetful(self):
        """The services that have forgotten events; another one has kept all since its process began."""
        return {source.peer.name for source in self._sources if source.lost}

    @property
    def unrecorded(self):
        """How many requests and records were never recorded, since others came at the same time."""
        return sum(source.unrecorded for source in self._sources)

    def recent(self):
        """Everything that is kept and was not given yet, sorted by time."""
        threads = [Thread(target=source.catch_up, daemon=True) for source in self._sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted((event for source in self._sources for event in source.given()), key=_at)

    def follow(self, settle_s):
        """Lists of what comes, sorted; nothing younger than `settle_s`, so that all services have told theirs.

        Yields an empty list when nothing came for a tenth of a second. Never ends by itself.
        """
        came = SimpleQueue()
        for source in self._sources:
            Thread(target=source.follow, args=(came.put, self._is_ended), daemon=True).start()
        waiting = []
        while True:
            with suppress(Empty):
                waiting += came.get(timeout=TICK_S)
            settled = time.time() - settle_s
            ready = sorted((event for event in waiting if event["at"] <= settled), key=_at)
            waiting = [event for event in waiting if event["at"] > settled]
            yield ready

    def close(self):
        self._is_ended.set()


class Source:
    """One service. `trouble` says why it told nothing when it was last asked, or is None.

    `wanted` is what else is asked, as in "&tea=oolong".
    """

    def __init__(self, peer, wanted=""):
        self.peer = peer
        self.trouble = None
        self.lost = 0
        self.since = None
        self.unrecorded = 0
        self._wanted = wanted
        self._life = None
        self._after = 0
        self._given = []

    def catch_up(self):
        """Ask until all that is kept was told."""
        while events := self.ask(0):
            self._given += events

    def given(self):
        """What catch_up has found."""
        given, self._given = self._given, []
        return given

    def follow(self, give, is_ended):
        while not is_ended.is_set():
            events = self.ask(WAIT_S)
            if events:
                give(events)
            elif self.trouble:
                is_ended.wait(AGAIN_S)

    def ask(self, wait_s):
        """The next events, dicts; none when nothing came within `wait_s`, or in trouble."""
        path = f"/trace?after={self._after}&max={MOST_EVENTS}&wait={wait_s}{self._wanted}"
        try:
            answer = self.peer.call("GET", path, deadline_s=wait_s + ASK_S)
            told = answer.read() if answer.is_ok else None
        except PeerError as error:
            self.trouble = str(error)
            return []
        if not (isinstance(told, dict) and isinstance(told.get("events"), list) and isinstance(told.get("next"), int)):
            self.trouble = _trouble(answer)
            return []
        self.trouble, life, after, events = None, told.get("life"), told["next"], told["events"]
        if self._life is not None and life != self._life:  # another process: what it has is all news
            is_whole = self._after == 0
            self._life, self._after = life, 0
            if not is_whole:
                return self.ask(0)
        self._life, self._after = life, after
        self.lost += told.get("lost") or 0
        self.since = told["since"] if isinstance(told.get("since"), int | float) else None
        self.unrecorded = told.get("unrecorded") or 0
        return [event for event in events if is_event(event)]


def _trouble(answer):
    """What is wrong with an Answer that has no events."""
    if answer.is_ok:
        return "it answers with something that is no trace"
    if answer.status == 404:
        return "it keeps no trace (its setting trace is 0, or it is a plain course server)"
    return f"it answered {answer.status}"


def _at(event):
    return event["at"]
