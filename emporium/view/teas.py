"""What a page asks about teas: which there are, one on every replica, a merge before it is sent, and the store itself.

    GET  /api/teas, /api/tea/<tea>
    POST /api/merge                       nothing is sent
    POST /api/write, /api/read, /api/delete    through the load balancer, with the curl line that does the same

Whatever the load balancer answers to those last three is an answer here too: the page is to show it.
"""

import threading
import time

import msgspec
from msgspec import Raw

from emporium import web, wire
from emporium.failures import BadAnswer, NotReached, PeerError
from emporium.requestid import YES, here
from emporium.siblings import UNRATED, merge
from emporium.view import curl
from emporium.view.compare import Replica, tea_page
from emporium.view.merging import preview
from emporium.view.ring import LIST_S, STORE_S, ms_since
from serverLB import primary_of
from vectorclock import VectorClock

MOST_LISTED = 10_000
LIST_AGE_S = 1.0  # for so long a list is good for all pages
SHOWN = ("X-Merge", "X-Request-Id", "X-Clock", "Retry-After", "Traceparent")
NAMES = {"X-Request-Id": "X-Request-ID", "Traceparent": "traceparent"}  # as they are written elsewhere


class Stored(msgspec.Struct):
    """The answer to GET /stored/<tea>."""

    choices: wire.Choices
    clocks: wire.Clocks


class ToMerge(wire.Rated):
    """The body of POST /api/merge."""

    tea: str


class ToWrite(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/write. Its rating and clock may be anything: the load balancer is to judge them."""

    tea: str
    rating: Raw = Raw()
    clock: Raw = Raw()


class ToRead(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/read."""

    tea: str
    consistency: str = "strong"


class ToDelete(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/delete."""

    tea: str


def add_routes(app, ring):
    """Add them to the view's App."""
    lists = Lists(ring.lb)

    @app.get("/api/teas")
    def list_teas():
        most = web.whole_argument("max", 100, range(1, MOST_LISTED + 1))
        told = lists.newest()
        rows = told["teas"]
        return web.answer({"teas": rows[:most], "complete": told["complete"] and len(rows) <= most})

    @app.get("/api/tea/<any_text:tea>")
    def show_tea(tea):
        name = web.tea_name(tea)
        replicas = ring.of_all(lambda shard: replica_at(shard, name), ring.shards)
        return web.answer(tea_page(name, f"db{primary_of(name, ring.ndb)}", replicas))

    @app.post("/api/merge")
    def preview_merge():
        asked = body_of(ToMerge)
        name = web.tea_name(asked.tea)
        replica = replica_at(ring.shards[primary_of(name, ring.ndb)], name)
        if replica.value is None:
            raise web.unavailable(f"what is stored at {replica.shard} is not known: {replica.trouble}")
        return web.answer(preview(name, replica, wire.sibling_of(asked)))

    @app.post("/api/write")
    def write():
        asked = body_of(ToWrite)
        given = [(name, bytes(raw)) for name, raw in (("rating", asked.rating), ("clock", asked.clock)) if bytes(raw)]
        try:
            members = ", ".join(f'"{name}": {text.decode()}' for name, text in given)
        except UnicodeDecodeError as error:
            raise web.Problem(400, f"the body is not valid JSON: {error}") from error
        return through_the_door("PUT", curl.path_of(asked.tea), f"{{{members}}}")

    @app.post("/api/read")
    def read():
        asked = body_of(ToRead)
        query = "" if asked.consistency == "strong" else "?consistency=weak"
        if asked.consistency not in ("strong", "weak"):
            raise web.Problem(422, f"consistency: it is strong or weak, not {asked.consistency[:100]!r}")
        return through_the_door("GET", curl.path_of(asked.tea) + query)

    @app.post("/api/delete")
    def delete():
        return through_the_door("DELETE", curl.path_of(body_of(ToDelete).tea))

    def through_the_door(method, path, body=None):
        line = curl.line(ring.lb.url + path, method, body)
        here.sampled = here.sampled or YES  # who makes a write by hand wants to see its trace, whatever else comes
        began_s = time.monotonic()
        try:
            answer = ring.lb.call(method, path, None if body is None else body.encode(), STORE_S)
        except NotReached as error:
            raise web.unavailable(str(error)) from error
        except PeerError as error:
            raise (web.unavailable if method == "GET" else web.unsure)(str(error)) from error
        told = {
            "status": answer.status,
            "headers": {NAMES.get(name, name): value for name in SHOWN if (value := answer.headers.get(name))},
            "body": json_or_text(answer),
            "curl": line,
            "took_ms": ms_since(began_s),
        }
        return web.answer(told)


def body_of(shape):
    """The body of this request in this shape. Raises a Problem."""
    return web.checked(lambda text: wire.decode(text, shape), web.json_body())


def json_or_text(answer):
    """What an Answer says: JSON, or else its text; None for none."""
    try:
        return answer.read()
    except BadAnswer:
        return answer.body.decode(errors="replace") or None


def replica_at(shard, tea):
    """The Replica of this tea at this shard, as it is stored now; nothing is taken or changed for that."""
    try:
        answer = shard.call("GET", curl.path_of(tea).replace("/rating/", "/stored/", 1))
        if not answer.is_ok:
            return Replica(shard.name, trouble=trouble_in(answer))
        told = answer.read(lambda text: wire.decode(text, Stored))
        value = merge(UNRATED, wire.siblings_of(told.choices, told.clocks))
        seen = answer.headers.get("X-Clock")
        clock = wire.decode_clock(seen) if seen else VectorClock.converge(each.clock for each in value.siblings)
    except PeerError as error:
        return Replica(shard.name, trouble=str(error))
    except ValueError as error:
        return Replica(shard.name, trouble=f"it answers what makes no sense: {error}")
    return Replica(shard.name, value, clock)


def trouble_in(answer):
    """Why an Answer brought nothing, in words."""
    told = json_or_text(answer)
    if isinstance(told, dict) and answer.headers.get("Content-Type", "").startswith(web.PROBLEM):
        return f"{answer.status}: {told.get('detail')}"
    if answer.status == 404:
        return "it does not tell what it stores, as a plain course server does not"
    return f"it answered {answer.status}"


class Lists:
    """What teas there are, asked at most once a second, however many pages want to know; also where nobody tells: else
    those that wait behind one another would wait for a load balancer that hangs as often as there are pages."""

    def __init__(self, lb):
        self._lb = lb
        self._lock = threading.Lock()
        self._told, self._trouble, self._at = None, None, float("-inf")

    def newest(self):
        """The list. Raises a Problem."""
        with self._lock:
            if time.monotonic() - self._at > LIST_AGE_S:
                self._told, self._trouble = self._ask()
                self._at = time.monotonic()
            if self._trouble:
                raise web.unavailable(self._trouble)
            return self._told

    def _ask(self):
        """(the list, None), or (None, why there is none)."""
        try:
            answer = self._lb.call("GET", "/ratings", deadline_s=LIST_S)
            if not answer.is_ok:
                return None, f"the load balancer cannot list its teas: {trouble_in(answer)}"
            return answer.read(wire.decode_object), None
        except PeerError as error:
            return None, str(error)
