"""What has happened in all services: what is new for the stream, and all of one write for its diagram.

The services keep their newest events, and tell them to whoever asks (GET /trace). Under load they have more of them
than anybody can look at: then only some are fetched, and the rest is skipped and counted, so that pages show what
happens now, and nobody pays for more.
"""

import flask

from emporium import web
from emporium.failures import PeerError
from emporium.requestid import is_id
from emporium.view.ring import told_by
from emporium.view.spacetime import trace_of

MOST_NEWS = 25  # of one service, at once: the service pays for each
MOST_OF_ONE = 5000  # events of one request; of what is kept, all
WRITES = ("PUT", "DELETE")
EVENTS_A_WRITE = 6  # of the load balancer: three are those of the write, and reads come between
MOST_WRITES = 500


class Traces:
    """Where each service's events have been read to, and how many requests it had not recorded by then.

    `news` is called for one service by one thread at a time.
    """

    def __init__(self):
        self._read = {}  # {service: (its life, the number of the event read last)}

    def news(self, peer):
        """(new events of this service, oldest first; how many there were besides). None at the first time."""
        life, after, unrecorded = self._read.get(peer.name, (None, 0, 0))
        told = ask(peer, f"after={after}&max={MOST_NEWS if life else 1}")
        if told is None:
            return (), 0
        now_unrecorded = told.get("unrecorded", 0)
        if told["life"] != life:
            self._read[peer.name] = told["life"], 0 if life else told["newest"], now_unrecorded
            return self.news(peer) if life else ((), 0)  # another process: what it has is all new
        behind = told["next"] if len(told["events"]) < MOST_NEWS else told["newest"]
        self._read[peer.name] = life, behind, now_unrecorded
        return told["events"], told["lost"] + behind - told["next"] + now_unrecorded - unrecorded

    def forget(self):
        """Nobody has looked for a while: what has happened meanwhile is not new."""
        self._read.clear()


def ask(peer, query):
    """What the service answers to GET /trace?<query>; None when it keeps no trace, or cannot be asked."""
    try:
        told = told_by(peer.call("GET", f"/trace?{query}"))
    except PeerError:
        return None
    return told if told and "events" in told else None


def add_routes(app, ring):
    """Add them to the view's App."""

    @app.get("/api/trace/<request>")
    def show_trace(request):
        if not is_id(request):
            raise web.Problem(400, "this is no id of a request: 1 to 64 characters out of A-Z a-z 0-9 . _ -")
        told = ring.of_all(lambda peer: ask(peer, f"request={request}&max={MOST_OF_ONE}"), ring.peers)
        events = [event for each in told if each for event in each["events"]]
        if not events:
            raise web.Problem(
                404, "nobody has events of this request: it is long gone, was one of too many, or no trace is kept"
            )
        silent = [peer.name for peer, each in zip(ring.peers, told, strict=True) if each is None]
        began = min(event["at"] for event in events)
        answered = [(peer.name, each) for peer, each in zip(ring.peers, told, strict=True) if each]
        forgetful = [name for name, each in answered if each.get("since", 0) > began]
        return web.answer({**trace_of(request, events, ring.ndb), "silent": silent, "forgetful": forgetful})

    @app.get("/api/writes")
    def list_writes():
        most = web.whole_argument("max", 50, range(1, MOST_WRITES + 1))
        wanted = flask.request.args.get("find", "")
        found = writes_in(all_that_is_kept(ring.lb) if wanted else the_newest(ring.lb, EVENTS_A_WRITE * most))
        return web.answer({"writes": [write for write in found if has_in_its_names(write, wanted)][:most]})


def the_newest(peer, most):
    """So many events of this service at most. Raises Problem 503 when it tells of none."""
    newest = told_or_unavailable(peer, "after=0&max=1")["newest"]
    return told_or_unavailable(peer, f"after={max(0, newest - most)}&max={min(MOST_OF_ONE, most)}")["events"]


def all_that_is_kept(peer):
    """All events of this service. Raises Problem 503 when it tells of none."""
    told = told_or_unavailable(peer, f"after=0&max={MOST_OF_ONE}")
    newest, events = told["newest"], told["events"]
    while told["events"] and told["next"] < newest:  # what comes meanwhile is left out: this ends
        told = told_or_unavailable(peer, f"after={told['next']}&max={MOST_OF_ONE}")
        events = events + told["events"]
    return events


def told_or_unavailable(peer, query):
    told = ask(peer, query)
    if told is None:
        raise web.unavailable(f"{peer.name} keeps no trace, or cannot be asked")
    return told


def has_in_its_names(write, wanted):
    """Whether the write's tea or request has this text in it, in whatever case. Pure."""
    return wanted.casefold() in f"{write['tea']} {write['request']}".casefold()


def writes_in(events):
    """The writes that these events of the load balancer tell of, the newest first. Pure."""
    writes = {}
    for event in events:
        request = event.get("request")
        if event["event"] == "received" and event.get("method") in WRITES:
            writes[request] = {
                "request": request,
                "tea": event.get("tea"),
                "at": event["at"],
                "method": event["method"],
                "rating": event.get("rating"),
                "clock": next(iter(event.get("clocks", ())), None),
                "status": None,
                "outcome": None,
            }
        elif event["event"] == "answered" and request in writes:
            writes[request] |= {"status": event.get("status"), "outcome": event.get("outcome")}
    return sorted(writes.values(), key=lambda write: write["at"], reverse=True)
