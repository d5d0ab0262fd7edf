"""The trace: what each process did lately, and that a write can be followed by it all round the ring."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import redis
import requests
from asking import ask, assert_problem
from harness import CALL_S, JSON, REDIS_OPTIONS, eventually, start
from harness import UNRATED as UNRATED_READING
from shardparts import sibling, value_of

import serverDB
import serverLB
import serverQ
from emporium import redisbinary, trace, wire
from emporium.balancertrace import BalancerTrace
from emporium.batch import Operation
from emporium.cluster import Cluster, python_service
from emporium.ports import Ports
from emporium.service import stop_these
from emporium.settings import DBSettings, LBSettings, QSettings, RedisAddress
from emporium.shard import Digest, Place, Write, merge_writes
from emporium.shardtrace import ShardTrace
from emporium.siblings import UNRATED
from emporium.trace import Trace
from emporium.wire import Rated, Record
from serverLB import primary_of

NDB = 3
NO_SERVER = 1  # a port on which nothing listens, ever
ASSAM = value_of(sibling(3, c0=1))


def numbers(answer):
    return [event["n"] for event in answer["events"]]


def ring_of_events(count, most=100, name="read"):
    made = Trace("db0", most)
    for _ in range(count):
        made.record(name)
    return made


# ---- the ring


def test_the_newest_events_are_kept_and_those_that_are_gone_are_counted():
    kept = ring_of_events(7, most=3)

    answer = kept.read(after=2)

    assert numbers(answer) == [5, 6, 7]
    assert (answer["lost"], answer["next"]) == (2, 7)


def test_it_tells_since_when_all_is_kept():
    """When the process began, and later when the newest of those events was that are gone."""
    times = iter(range(100, 200))
    kept = Trace("db0", 3, now=lambda: next(times))
    began = kept.read()["since"]
    for _ in range(3):
        kept.record("read")
    assert (began, kept.read()["since"]) == (100, 100)

    kept.record("read")
    kept.record("read")

    assert kept.read()["since"] == 102
    assert kept.read(after=4)["since"] == 102
    assert kept.read()["events"][0]["at"] == 103


def test_a_reader_who_goes_on_from_next_sees_each_event_once():
    kept = ring_of_events(7)
    seen, after = [], 0
    while found := numbers(answer := kept.read(after, most=3)):
        seen += found
        after = answer["next"]

    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert (answer["next"], answer["lost"]) == (7, 0)


def test_a_number_from_another_life_counts_as_none():
    """The reader's process died, and the new one counts anew."""
    assert numbers(ring_of_events(2).read(after=900)) == [1, 2]


def test_large_values_push_older_ones_out(monkeypatch):
    """Nobody fills the memory with teas of a hundred siblings."""
    monkeypatch.setattr(trace, "MOST_WEIGHT", 100)
    crowd = value_of(*(sibling(1, **{f"c{i}": 1}) for i in range(40)))
    kept = Trace("db0", 1000)
    for _ in range(5):
        kept.record("merged", "assam", None, crowd)

    answer = kept.read()

    assert numbers(answer) == [4, 5]
    assert answer["lost"] == 3


def test_large_records_push_older_ones_out(monkeypatch):
    monkeypatch.setattr(trace, "MOST_WEIGHT", 100)
    kept = Trace("q", 1000)
    kept.record_texts("put", [b"{}".ljust(32 * 40)] * 5, "db0")

    assert numbers(kept.read()) == [4, 5]


def test_an_event_shows_the_value_as_it_was():
    kept = Trace("db0", 10, now=lambda: 12.3456789)
    kept.record("merged", "assam", "abc", ASSAM, primary="db0", outcome=None)

    assert json.loads(wire.encode(kept.read()["events"])) == [
        {
            "n": 1,
            "at": 12.345679,
            "service": "db0",
            "event": "merged",
            "tea": "assam",
            "request": "abc",
            "primary": "db0",
            "choices": [3],
            "clocks": [{"c0": 1}],
        }
    ]


@pytest.mark.parametrize(
    ("text", "members"),
    [
        (
            wire.encode_record(Record("db1", "assam", ASSAM, "abc")),
            {"tea": "assam", "request": "abc", "primary": "db1", "choices": [3], "clocks": [{"c0": 1}]},
        ),
        (
            b'{"primary":"db1","key":"cafe\\u0301","choices":[3],"clocks":{"CLOCK_LIST_XXX":[{"c0":1}]},"request":" "}',
            {"tea": "caf\u00e9", "primary": "db1", "choices": [3], "clocks": [{"c0": 1}]},
        ),
        (b'{"key":"assam","choices":"many"}', {}),
        (b"[]", {}),
    ],
)
def test_a_record_on_a_channel_is_shown_as_far_as_it_is_gossip(text, members):
    kept = Trace("q", 10)
    kept.record_texts("put", [text], "db1")

    [event] = kept.read()["events"]

    assert {name: event[name] for name in event.keys() - {"n", "at", "service", "event"}} == {
        "channel": "db1",
        **members,
    }


def test_the_events_of_one_tea_or_one_request_can_be_asked_for():
    kept = Trace("q", 10)
    kept.record("read", "assam", "a")
    kept.record("read", "chai", "b")
    kept.record("put", what=wire.encode_record(Record("db1", "assam", ASSAM, "b")))
    kept.record("read", "chai", "c")

    assert numbers(kept.read(tea="assam")) == [1, 3]
    assert numbers(kept.read(request="b")) == [2, 3]
    assert numbers(kept.read(tea="chai", request="b")) == [2]
    assert kept.read(tea="sencha")["next"] == 4


def test_many_threads_record_without_a_gap_and_a_reader_misses_none():
    kept = Trace("db0", 10_000, now=lambda: time.sleep(0) or 0.0)  # others come in between
    seen, after = [], 0
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(lambda: [kept.record("read") for _ in range(1000)]) for _ in range(4)]
        while len(seen) < 4000:
            is_over = all(each.done() for each in writing)
            answer = kept.read(after)
            seen += numbers(answer)
            after = answer["next"]
            assert not is_over or answer["events"], "all is recorded, and some events were never seen"

    assert seen == list(range(1, 4001))


def test_a_reader_waits_for_the_first_event_of_its_request():
    kept = ring_of_events(3)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(kept.read, request="abc", wait_s=CALL_S * 10)
        kept.record("read", "assam", "other")
        kept.record("read", "assam", "abc")

        answer = asked.result(CALL_S)

    assert (numbers(answer), answer["next"]) == ([5], 5)


def test_nobody_waits_beyond_the_end_of_the_process():
    kept = ring_of_events(0)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(kept.read, wait_s=CALL_S * 10)
        kept.wake()

        assert asked.result(CALL_S)["events"] == []


# ---- what services record


def test_a_digest_that_fills_up_is_due_with_all_that_waits_in_it():
    place = Place(0, 3, digest_length=2, tells_requests=True)
    kept = Trace("db0", 100)
    shard_trace = ShardTrace(place, kept)
    digest = Digest()
    for tea in ("assam", "bancha"):
        _, changes = merge_writes(place, {tea: UNRATED}, digest, [Write(tea, sibling(3, c0=1), f"of-{tea}")])
        shard_trace.stored(changes, digest)
        digest.show(changes)

    events = [(each["event"], each["tea"], each["request"], each.get("digest")) for each in kept.read()["events"]]

    assert events == [
        ("stored", "assam", "of-assam", None),
        ("remembered", "assam", "of-assam", "1 of 2"),
        ("stored", "bancha", "of-bancha", None),
        ("remembered", "bancha", "of-bancha", "2 of 2"),
        ("due", "assam", "of-assam", None),
        ("due", "bancha", "of-bancha", None),
    ]


def test_what_a_newer_record_of_its_tea_takes_the_place_of_is_told():
    """One waits in the digest, the other came in the same step."""
    place = Place(0, 3, digest_length=3, coalesces=True, tells_requests=True)
    kept = Trace("db0", 100)
    shard_trace = ShardTrace(place, kept)
    digest, stands = Digest(texts={}), UNRATED
    for counts in ((1,), (2, 3)):
        writes = [Write("assam", sibling(3, c0=count), f"number-{count}") for count in counts]
        _, changes = merge_writes(place, {"assam": stands}, digest, writes)
        shard_trace.stored(changes, digest)
        digest.show(changes)
        stands = changes.values["assam"]

    told = [(each["event"], each["request"]) for each in kept.read()["events"] if each["event"] != "stored"]

    assert sorted(told) == [
        ("remembered", "number-1"),
        ("remembered", "number-3"),
        ("replaced", "number-1"),
        ("replaced", "number-2"),
    ]


def test_a_shard_without_neighbours_tells_nothing_and_so_replaces_nothing():
    place = Place(0, 1, digest_length=3, coalesces=True, tells_requests=True)
    kept = Trace("db0", 100)
    _, changes = merge_writes(place, {"assam": UNRATED}, Digest(texts={}), [Write("assam", sibling(3, c0=1), "a")])
    ShardTrace(place, kept).stored(changes, Digest(texts={}))

    assert [each["event"] for each in kept.read()["events"]] == ["stored"]


def test_the_load_balancer_says_how_many_travelled_together():
    kept = Trace("lb", 100)
    write = Operation("PUT", "assam", Rated(3, {"c0": 1}), request="a")
    BalancerTrace(kept).received(write)
    BalancerTrace(kept).sent([write, Operation("GET", "chai", request="b")], "db1")

    received, *sent = kept.read()["events"]

    assert (received["rating"], received["clocks"]) == (3, [{"c0": 1}])
    assert [(each["request"], each["peer"], each["together"]) for each in sent] == [("a", "db1", 2), ("b", "db1", 2)]


# ---- GET /trace


@contextmanager
def client_of(app):
    """A client of this application, without a server."""
    try:
        yield app.test_client()
    finally:
        app.stop()
        app.at_end()


APPS = {
    "lb": lambda **options: serverLB.create_app(LBSettings(db_base_port=NO_SERVER, **options)),
    "db0": lambda **options: serverDB.create_app(DBSettings(qport=NO_SERVER, **options)),
    "q": lambda **options: serverQ.create_app(QSettings(**options)),
}


@pytest.mark.parametrize("service", APPS)
def test_a_service_that_keeps_no_trace_says_so(service):
    with client_of(APPS[service]()) as client:
        answer = client.get("/trace")

    assert answer.status_code == 404
    assert "setting trace" in answer.json["detail"]


@pytest.mark.parametrize("service", APPS)
def test_a_trace_has_the_name_of_its_service(service):
    with client_of(APPS[service](trace=10)) as client:
        answer = client.get("/trace?after=0&max=5000&wait=0")

    told = answer.json
    counts = {"next": 0, "newest": 0, "lost": 0, "unrecorded": 0}
    assert told == {"service": service, "life": told["life"], **counts, "since": told["since"], "events": []}
    assert len(told["life"]) == 16


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "max=0", "max=5001", "wait=26", "wait=x", "tea=a/b", "tea=", "request=a%20b", "request="],
)
def test_a_question_that_makes_no_sense_is_refused(query):
    with client_of(APPS["q"](trace=10)) as client:
        answer = client.get(f"/trace?{query}")

    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json["detail"]


def test_only_a_small_part_of_the_threads_waits_for_events():
    app = APPS["q"](trace=10, threads=16)
    with client_of(app) as client, ThreadPoolExecutor(2) as pool:
        refused, waiting = one_refused(lambda: pool.submit(app.test_client().get, "/trace?wait=25"))
        client.put("/q/db0", json={})

        assert (refused.result().status_code, refused.result().headers["Retry-After"]) == (503, "1")
        assert waiting.result(CALL_S).json["events"][0]["event"] == "put"


def one_refused(ask):
    """Two ask where one may wait. (The one that is answered at once, the one that waits)."""
    asked = [ask(), ask()]
    eventually(lambda: any(each.done() for each in asked), "one is refused")
    return sorted(asked, key=lambda each: not each.done())


def test_a_service_that_is_told_to_end_answers_who_waits(tmp_path):
    layout = Ports.find_free(1)
    settings = {"port": layout.q, "trace": 9, "threads": 16}
    queue = python_service("q", "serverQ.py", layout.q, lambda name: tmp_path / name, settings)
    start(queue)
    try:
        with ThreadPoolExecutor(2) as pool:
            refused, waiting = one_refused(lambda: pool.submit(ask_patiently, layout.q, "/trace?wait=25"))
            queue.signal(signal.SIGTERM)

            assert [(each.result().status_code, "events" in each.result().json()) for each in (refused, waiting)] == [
                (503, False),
                (200, True),
            ]
    finally:
        stop_these([queue])
    assert queue.process.returncode == 0


def ask_patiently(port, path):
    return requests.get(f"http://127.0.0.1:{port}{path}", timeout=60)


# ---- through a whole cluster


@pytest.fixture(scope="module")
def traced(run_folder):
    folder = run_folder / "traced"
    folder.mkdir()
    with recording_ring(folder) as cluster:
        yield cluster


@contextmanager
def recording_ring(folder, kept=1000):
    """Inside, a ring of three that records what happens, and whose gossip says whose write it tells of."""
    cluster = Cluster(
        Ports.find_free(NDB),
        NDB,
        1,
        folder,
        lambda name: folder / f"{name}.log",
        redisbinary.find_or_install(),
        redis_options=REDIS_OPTIONS,
        queue_options={"trace": kept},
        shard_options=lambda index: {"trace": kept, "gossip-ids": True, "tombstones": True},
        balancer_options={"trace": kept},
    )
    with cluster:
        yield cluster


def events_of(port, request):
    return ask(port, "GET", f"/trace?request={request}").body["events"]


def put(cluster, tea, rating, request, **clock):
    body = json.dumps({"rating": rating, "clock": clock})
    return ask(cluster.layout.lb, "PUT", f"/rating/{tea}", body, {**JSON, "X-Request-ID": request})


def read_at(cluster, shard, tea):
    return ask(cluster.layout.db(shard), "GET", f"/rating/{tea}")


def test_a_write_can_be_followed_all_round_the_ring(traced):
    layout = traced.layout
    home = primary_of("oolong", NDB)
    first, second = (home + 1) % NDB, (home + 2) % NDB

    put(traced, "oolong", 3, "round-1", c0=1)
    for shard in (first, second, home):
        read_at(traced, shard, "oolong")

    told = [(each["event"], each.get("outcome")) for each in events_of(layout.lb, "round-1")]
    assert told == [("received", None), ("sent", None), ("answered", "stored")]
    at_home = [each for each in events_of(layout.db(home), "round-1") if each["event"] != "told"]
    assert [(each["event"], each.get("outcome")) for each in at_home] == [
        ("arrived", None),
        ("merged", "stored"),
        ("stored", None),
        ("remembered", None),
        ("due", None),
        ("answered", "stored"),
        ("heard", None),
        ("merged", "home"),
    ]
    for shard in (first, second):
        assert [(each["event"], each.get("outcome")) for each in events_of(layout.db(shard), "round-1")] == [
            ("heard", None),
            ("merged", "changed"),
            ("stored", None),
            ("remembered", None),
            ("due", None),
            ("told", None),
        ]
    carried = [f"db{shard}" for shard in (home, home, first, first, second, second)]
    assert [each["channel"] for each in events_of(layout.q, "round-1")] == carried
    assert [each["event"] for each in events_of(layout.q, "round-1")] == ["put", "taken"] * 3
    everywhere = [events_of(port, "round-1") for port in (layout.lb, *map(layout.db, range(NDB)), layout.q)]
    assert all(each["clocks"] == [{"c0": 1}] for events in everywhere for each in events), "a hop without its clock"


def test_an_event_of_gossip_tells_the_value_and_where_it_is(traced):
    home = primary_of("sencha", NDB)
    put(traced, "sencha", 3, "value-1", c0=1)

    events = {each["event"]: each for each in events_of(traced.layout.db(home), "value-1")}

    assert events["arrived"]["method"] == "PUT"
    assert events["stored"]["peer"] == f"r{home}"
    assert events["remembered"]["digest"] == "1 of 1"
    for name in ("merged", "stored", "remembered", "due", "told"):
        told = events[name]
        assert (told["tea"], told["primary"], told["choices"], told["clocks"]) == (
            "sencha",
            f"db{home}",
            [3],
            [{"c0": 1}],
        )
    assert events["told"]["channel"] == f"db{home}"
    assert events["answered"]["status"] == 200


def test_a_stale_write_is_told_on_and_not_stored(traced):
    home = primary_of("chai", NDB)
    put(traced, "chai", 3, "stale-1", c0=2)
    put(traced, "chai", 5, "stale-2", c0=1)

    events = events_of(traced.layout.db(home), "stale-2")

    assert ("merged", "stale") in [(each["event"], each.get("outcome")) for each in events]
    assert "stored" not in [each["event"] for each in events]
    assert [each["choices"] for each in events if each["event"] == "remembered"] == [[3]]


def test_a_read_is_answered_from_the_value_in_its_trace(traced):
    home = primary_of("matcha", NDB)
    put(traced, "matcha", 4, "before-read", c0=1)
    ask(traced.layout.lb, "GET", "/rating/matcha", headers={**JSON, "X-Request-ID": "read-1"})

    arrived, read, answered = events_of(traced.layout.db(home), "read-1")

    assert (arrived["method"], read["choices"], answered["status"]) == ("GET", [4], 200)
    assert answered["clocks"] == read["clocks"] == [{"c0": 1}]


# ---- GET /stored/<tea>


def test_what_is_stored_can_be_seen_without_a_step(traced):
    """No gossip is taken for it: the replica stays behind until somebody really reads."""
    layout, home = traced.layout, primary_of("bancha", NDB)
    after = (home + 1) % NDB
    put(traced, "bancha", 4, "stored-1", c0=1, c1=2)

    at_home, behind = (ask(layout.db(shard), "GET", "/stored/bancha") for shard in (home, after))
    read_at(traced, after, "bancha")
    caught_up = ask(layout.db(after), "GET", "/stored/bancha")

    value = {"rating": 4, "choices": [4], "clocks": [{"c0": 1, "c1": 2}]}
    assert (at_home.body, at_home.headers["X-Clock"]) == (value, '{"c0":1,"c1":2}')
    assert (behind.body, behind.headers["X-Clock"]) == (UNRATED_READING, None)
    assert caught_up.body == value


def test_a_tombstone_shows_in_the_clock_of_what_is_stored(traced):
    home = primary_of("jasmin", NDB)
    put(traced, "jasmin", 4, "buried-1", c0=3)
    ask(traced.layout.lb, "DELETE", "/rating/jasmin")

    answer = ask(traced.layout.db(home), "GET", "/stored/jasmin")

    assert (answer.body, answer.headers["X-Clock"]) == (UNRATED_READING, '{"c0":3}')


def test_what_is_stored_and_cannot_be_read_is_a_problem(traced):
    layout = traced.layout
    with redis.Redis(port=layout.redis(0), socket_timeout=CALL_S) as by_hand:
        by_hand.hset("/rating/puerh", mapping={"rating": "3", "choices": "[3]"})

    assert_problem(ask(layout.db(0), "GET", "/stored/puerh"), 500, "missing")


def test_what_is_stored_in_a_redis_that_is_away_cannot_be_told():
    app = serverDB.create_app(DBSettings(servers=[RedisAddress(port=NO_SERVER)], qport=NO_SERVER))
    with client_of(app) as client:
        answer = client.get("/stored/assam")

    assert answer.status_code == 503


def test_a_name_that_is_none_is_refused_there_too():
    with client_of(APPS["db0"]()) as client:
        assert client.get("/stored/%01").status_code == 400
