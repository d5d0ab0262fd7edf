"""The load balancer: the one door. It picks the shard that a request is for, and forwards it.

    PUT, DELETE, GET /rating/<tea>            to the tea's primary: shard  sha256(name) mod ndb
    GET /rating/<tea>?consistency=weak        to a shard drawn at random among all; with X-Clock, what it answers must
                                              be at or above that clock, or the primary is asked

It keeps nothing but connections, so that it can die and come back at any time. It promises that a name always
leads to the same primary, and that a failure says whether the request may have been carried out: 503 surely not,
504 perhaps. It does not turn a strong read into a weak one when the primary is away; a weak read goes on to the next
shard. A shard that does not answer costs the requests for its own teas only.

    python serverLB.py '{"port": 2500, "ndb": 4}'

Source: the assignment's "The Load Balancer Service (LB)".
"""

import hashlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

from flask import request
from msgspec import structs

from emporium import failpoints, measures, serving, traceroutes, web, wire
from emporium.balancertrace import BalancerTrace
from emporium.batch import Operation, Outcome
from emporium.bulkhead import Bulkhead, Count
from emporium.failures import BadAnswer, NoAnswer, NotReached, PeerError
from emporium.guard import RetryBudget
from emporium.requestid import here, in_this_request
from emporium.sampling import chosen
from emporium.settings import LBSettings, from_command_line, service_of
from emporium.shardpeer import ALL_S, SHARD_S, ShardPeer
from emporium.trace import Nothing, Trace
from vectorclock import VectorClock

LIST_LIMIT = 10_000
LIST_S = 10.0
MOST_LISTS = 4  # at a time: each asks every shard for all that it holds
KEPT_HEADERS = {  # of a shard's answer, and whether a value of theirs is one
    "X-Merge": ("stored", "stale", "same").__contains__,
    "Retry-After": ("1",).__contains__,
    "X-Clock": wire.is_clock,
}


def primary_of(tea, ndb):
    """The index of the tea's primary, 0 <= index < ndb: a stable hash of its UTF-8 name, in composed form (NFC)."""
    return int.from_bytes(hashlib.sha256(tea.encode()).digest()[:8], "big") % ndb


def create_app(settings, draw=random.randrange):
    """`draw(ndb)` is the index of the shard for a weak read."""
    most_waiting = max(1, settings.threads // 2)
    ring = Trace("lb", settings.trace) if settings.trace else None
    trace = BalancerTrace(ring) if ring else Nothing()
    shards = [
        ShardPeer(f"db{index}", settings.db_base_port + index, most_waiting, settings.gather, trace)
        for index in range(settings.ndb)
    ]
    retries = RetryBudget()
    operations = Count()
    lists = Bulkhead(MOST_LISTS, lambda: web.unavailable(f"the load balancer makes {MOST_LISTS} lists already"))
    ask_all = ThreadPoolExecutor(max_workers=min(settings.ndb, 16), thread_name_prefix="ask").map

    def checks():
        troubles = ask_all(in_this_request(trouble_with), shards)
        return dict(zip((shard.name for shard in shards), troubles, strict=True))

    app = web.create_app_for(
        "lb",
        settings.threads,
        checks,
        status=lambda: {
            "ndb": settings.ndb,
            "shards": [{"name": shard.name, "url": shard.url} for shard in shards],
            "operations": operations.total,
        },
    )
    app.metrics.add(lambda: measures.of_load_balancer(shards))

    traceroutes.add(app, ring)

    @app.put("/rating/<tea>")
    def put_rating(tea):
        return answer(asked("PUT", web.tea_name(tea), web.checked(wire.decode_rated, web.json_body())))

    @app.get("/rating/<tea>")
    def get_rating(tea):
        seen = clock_seen()
        if not weak_is_asked():
            return answer(asked("GET", web.tea_name(tea)))
        return answer(asked("GET", web.tea_name(tea), weak=True), partial(at_any, seen))

    @app.delete("/rating/<tea>")
    def delete_rating(tea):
        return answer(asked("DELETE", web.tea_name(tea)))

    def asked(method, tea, rated=None, weak=False):
        """The Operation that this request is."""
        return Operation(method, tea, rated, weak, chosen(ring), here.traceparent)

    def at_primary(operation):
        shard = shards[primary_of(operation.tea, settings.ndb)]
        return or_problem(shard, operation, shard.ask)

    def at_any(seen, read):
        given = read_anywhere(shards, draw(settings.ndb), read, retries)
        return given if is_at_least(given, seen) else at_primary(structs.replace(read, weak=False))

    def answer(operation, carry_out=at_primary):
        operations.add()
        trace.received(operation)
        given = carry_out(operation)
        trace.answered(operation, given)
        return given

    @app.get("/ratings")
    def list_ratings():
        with lists:
            return web.answer(collect(shards))

    if settings.view_port is not None:
        view = f"http://127.0.0.1:{settings.view_port}/"

        @app.get("/")
        def lead_to_the_view():
            return web.answer({"view": view}, {"Location": view}, status=302)

    return app


def weak_is_asked():
    """True for ?consistency=weak, False for strong or none. Raises a Problem 400 for anything else."""
    asked = request.args.getlist("consistency") or ["strong"]
    if asked not in (["weak"], ["strong"]):
        raise web.Problem(400, f"consistency must be weak or strong, not {', '.join(asked) or 'empty'}")
    return asked == ["weak"]


def clock_seen():
    """The VectorClock of the header X-Clock, which says what the client has seen; the empty one when there is none.

    Raises a Problem 400 for a header that is no clock.
    """
    text = request.headers.get("X-Clock")
    if text is None:
        return VectorClock()
    try:
        return wire.decode_clock(text)
    except ValueError as error:
        raise web.Problem(400, f'X-Clock must be a clock, such as {{"c0": 5}}: {error}') from error


def is_at_least(answer, seen):
    """Whether what a replica answered to a read is at or above this clock: the join of its siblings is."""
    if not seen.clock:
        return True
    if answer.status != 200:
        return False
    told = dict(answer.headers).get("X-Clock")
    return seen <= (wire.decode_clock(told) if told else wire.clock_of_reading(answer.body))


def read_anywhere(shards, first, read, retries):
    """The answer of shard number `first`, or else of the next one round the ring that has one, within 2 s in all.

    Those that are known to be away come last. To ask one more costs of the RetryBudget: when many shards fail under
    load, asking each of them for each read would keep them down.
    """
    ends = time.monotonic() + ALL_S
    in_turn = [*shards[first:], *shards[:first]]
    in_turn.sort(key=lambda shard: shard.is_away)
    retries.earn()
    given = or_problem(in_turn[0], read, in_turn[0].ask)
    for before, shard in pairwise(in_turn):
        if given.status < 500:
            break
        before.pass_over()
        left_s = ends - time.monotonic()
        if left_s <= 0 or not retries.spend():
            break
        given = or_problem(shard, read, partial(shard.ask_alone, deadline_s=min(SHARD_S, left_s)))
    return given


def or_problem(*what):
    """forward(*what), where a Problem is an answer like any other."""
    try:
        return forward(*what)
    except web.Problem as problem:
        return web.answer_problem(problem)


def forward(shard, operation, ask):
    """What the shard answers to `ask(operation)`, as ours.

    Raises a Problem when there is no answer: 503 surely nothing done, 504 perhaps.
    """
    try:
        given = ask(operation)
    except NotReached as error:
        raise web.unavailable(str(error)) from error
    except NoAnswer as error:
        raise (web.unavailable if operation.method == "GET" else web.unsure)(str(error)) from error
    except BadAnswer as error:
        raise web.Problem(502, f"{shard.name} at {shard.url}: {error}") from error
    failpoints.hit("balancer-answered")
    if isinstance(given, Outcome):
        return web.answer_outcome(given)
    return relay(shard, given)


def relay(shard, given):
    """What a shard answered to a call of its own, as ours; a 502 when it is none of the documented answers."""
    kept = {name: value for name, value in given.headers.items() if name in KEPT_HEADERS and KEPT_HEADERS[name](value)}
    is_problem = given.headers.get("Content-Type", "").startswith(web.PROBLEM)
    if given.status == 404 and not is_problem:  # a plain course shard says it in its own words
        raise web.Problem(404, "nothing is stored under this name")
    try:
        if is_problem != (400 <= given.status <= 599) or not (is_problem or given.is_ok):
            raise BadAnswer(f"answered {given.status}")
        given.read(wire.decode_object)
    except BadAnswer as error:
        raise web.Problem(502, f"{shard.name} at {shard.url}: {error}") from error
    return web.Reply(given.status, web.PROBLEM, given.body, kept) if is_problem else web.answer(given.body, kept)


def trouble_with(shard):
    """Why the shard is not ready, in words; None when it is. A plain course shard, which has no /readyz, is."""
    try:
        answer = shard.call("GET", "/readyz")
    except PeerError as error:
        return str(error)
    if answer.status != 503:
        return None
    try:
        troubles = answer.read(wire.decode_readiness)
    except BadAnswer as error:
        return str(error)
    return "; ".join(f"{what}: {trouble}" for what, trouble in troubles.items() if trouble != "ok")


def collect(shards):
    """All teas that any shard holds, as their primaries see them, sorted, and at most about 10,000:

    {"teas": [...], "complete": bool, "unreachable": [names of shards]}. A tea that its primary does not hold yet, or
    whose primary cannot be reached, is there as some replica sees it. What is not found within 10 s is left out.
    """
    ends = time.monotonic() + LIST_S
    teas = {}
    unreachable = []
    for index, shard in enumerate(shards):
        try:
            for row in rows_of(shard):
                if row["tea"] not in teas or primary_of(row["tea"], len(shards)) == index:
                    teas[row["tea"]] = {**row, "shard": shard.name}
                if len(teas) >= LIST_LIMIT or time.monotonic() > ends:
                    break
        except PeerError:
            unreachable.append(shard.name)
    is_complete = len(teas) < LIST_LIMIT and time.monotonic() <= ends and not unreachable
    rows = sorted(teas.values(), key=lambda row: row["tea"])
    return {"teas": rows, "complete": is_complete, "unreachable": unreachable}


def rows_of(shard):
    """All rows of the shard's GET /ratings, page by page. Raises PeerError."""
    page = 0
    while page is not None:
        answer = shard.call("GET", f"/ratings?page={page}")
        if not answer.is_ok:
            raise BadAnswer(f"{shard.name} cannot list its teas: it answered {answer.status}")
        listed = answer.read(wire.decode_object)
        yield from listed["teas"]
        page = listed["next"]


def main():
    settings = from_command_line(LBSettings)
    serving.log_to(settings.logfile, settings.log_format, service_of(settings))
    serving.serve(create_app(settings), "lb", settings.host, settings.port)


if __name__ == "__main__":
    main()
