"""The parts of the view by themselves: streams to many pages, comparisons, merges before they are sent, the door."""

import json
import shlex
import socket
import subprocess
import sys
import threading
from itertools import count
from types import SimpleNamespace

import pytest
import requests
from harness import CALL_S, eventually
from hypothesis import given
from hypothesis import strategies as st

import serverLB
import serverView
from emporium import web, wire
from emporium.environment import ROOT
from emporium.failures import NoAnswer
from emporium.peers import Answer
from emporium.ports import Ports
from emporium.settings import LBSettings, ViewSettings, read
from emporium.shard import Digest, Place, Write, merge_writes
from emporium.siblings import UNRATED, Sibling, merge
from emporium.trace import Trace
from emporium.view import curl, hub
from emporium.view import traces as view_traces
from emporium.view.asked import Asked
from emporium.view.compare import Replica, entries, relation, tea_page
from emporium.view.hub import Hub
from emporium.view.merging import preview
from emporium.view.poller import Poller
from emporium.view.snapshot import Places
from emporium.view.teas import Lists
from emporium.view.traces import add_routes as add_trace_routes
from emporium.web import Problem
from vectorclock import VectorClock

STATE = b'{"n":1}'


def clock(**entries):
    return VectorClock.fromDict(entries)


def value(*siblings):
    return merge(UNRATED, [Sibling(rating, clock(**of)) for rating, of in siblings])


def replica(shard, *siblings):
    held = value(*siblings)
    return Replica(shard, held, held.clock)


def said(page):
    """What the page has got, up to the first heartbeat: [(id, event, data)]."""
    got = []
    for text in page:
        if text.startswith(b":"):
            return got
        for message in text.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in message.splitlines())
            if "data" in fields:
                got.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return got


# ---- the stream


@pytest.fixture
def messages():
    made = Hub(heartbeat_s=0.01)
    yield made
    made.close()


def test_a_page_begins_with_a_fresh_state_and_gets_what_comes(messages):
    page = messages.open(None, lambda: STATE)
    messages.publish(("trace", b'{"events":[]}'))

    got = said(page)

    assert [(event, data) for _, event, data in got] == [("state", {"n": 1}), ("trace", {"events": []})]
    assert got[1][0] == got[0][0] + 1


def test_a_page_that_comes_back_gets_what_it_has_missed_and_nothing_twice(messages):
    page = messages.open(None, lambda: STATE)
    messages.publish(("state", b'{"n":2}'))
    seen = said(page)[-1][0]
    page.close()
    for number in (3, 4):
        messages.publish(("state", b'{"n":%d}' % number))

    got = said(messages.open(seen, lambda: pytest.fail("nothing is fresh: it is all kept")))

    assert [data["n"] for _, _, data in got] == [3, 4]
    assert [number for number, _, _ in got] == [seen + 1, seen + 2]


@pytest.mark.parametrize("seen", [0, 10**18], ids=["of an earlier life", "of no life"])
def test_a_page_whose_messages_are_gone_gets_a_fresh_state(messages, seen):
    messages.publish(("state", b'{"n":2}'))

    assert [data["n"] for _, _, data in said(messages.open(seen, lambda: STATE))] == [1]


def test_a_page_that_falls_behind_is_cut_and_others_are_not(messages):
    slow, quick = messages.open(None, lambda: STATE), messages.open(None, lambda: STATE)
    assert said(slow)

    for number in range(hub.MOST_MESSAGES + 1):
        messages.publish(("state", b'{"n":%d}' % number))
        assert said(quick)

    assert next(slow, "cut") == "cut"


def test_large_messages_are_not_kept_beyond_their_limit(messages, monkeypatch):
    monkeypatch.setattr(hub, "MOST_BYTES", 1000)
    page = messages.open(None, lambda: STATE)
    seen = said(page)[-1][0]
    for _ in range(3):
        messages.publish(("state", json.dumps("x" * 900).encode()))

    assert next(page, "cut") == "cut"
    assert [data for _, _, data in said(messages.open(seen, lambda: STATE))] == [{"n": 1}]


def test_all_pages_end_when_the_view_does(messages):
    pages = [messages.open(None, lambda: STATE) for _ in range(3)]
    threads = [threading.Thread(target=lambda page=page: [*page]) for page in pages]
    for thread in threads:
        thread.start()

    messages.close()

    for thread in threads:
        thread.join(2 * CALL_S)
        assert not thread.is_alive()


# ---- who asks the ring, and when


class QuietRing:
    """A ring of one shard in which nothing answers, and that counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def ask_all(self, with_events=False):
        self.asked += 1
        return dict.fromkeys(("lb", "q", "db0", "r0"), Asked("down", "refused"))

    def forget_events(self):
        pass


def test_the_ring_is_asked_while_a_page_is_open_and_never_else(messages, monkeypatch):
    monkeypatch.setattr("emporium.view.poller.PERIOD_S", 0.01)
    ring = QuietRing()
    poller = Poller(ring, Places(dict.fromkeys(("lb", "q", "db0"), "http://"), 1, False), messages)
    poller.start()
    assert ring.asked == 0

    page = messages.open(None, lambda: wire.encode(poller.state()))
    eventually(lambda: ring.asked > 3, "it is asked")
    page.close()

    eventually(lambda: settles(lambda: ring.asked), "it is asked no more")


def settles(count):
    """Whether it stays the same over ten periods."""
    before = count()
    threading.Event().wait(0.1)
    return count() == before


def test_many_first_pages_share_one_answer(messages):
    ring = QuietRing()
    poller = Poller(ring, Places(dict.fromkeys(("lb", "q", "db0"), "http://"), 1, False), messages)

    states = [poller.state() for _ in range(20)]

    assert ring.asked == 1
    assert states[0]["shards"][0]["state"] == "down"


class Hangs:
    """A load balancer that is asked, and does not answer in time."""

    def __init__(self):
        self.asked = 0

    def call(self, method, path, deadline_s):
        self.asked += 1
        raise NoAnswer("lb did not answer", is_timeout=True)


def test_nobody_waits_for_a_list_behind_somebody_who_got_none():
    lb = Hangs()
    lists = Lists(lb)

    for _ in range(3):
        with pytest.raises(Problem, match="lb did not answer"):
            lists.newest()

    assert lb.asked == 1


# ---- clocks and siblings


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"c0": 1}, {"c0": 1}, "equal"),
        ({"c0": 1}, {"c0": 2}, "before"),
        ({"c0": 2}, {"c0": 1}, "after"),
        ({"c0": 1}, {"c1": 1}, "concurrent"),
        ({}, {"c0": 0}, "before"),
    ],
)
def test_two_clocks_stand_in_one_of_four_ways(one, other, expected):
    assert relation(clock(**one), clock(**other)) == expected


def test_an_entry_that_is_there_is_larger_than_none():
    assert entries(clock(c0=0, c2=2), clock(c1=5, c2=1)) == [
        {"id": "c0", "a": 0, "b": None, "larger": "a"},
        {"id": "c1", "a": None, "b": 5, "larger": "b"},
        {"id": "c2", "a": 2, "b": 1, "larger": "a"},
    ]


def test_a_page_of_a_tea_shows_who_is_behind_and_how_siblings_stand():
    page = tea_page(
        "oolong",
        "db1",
        [
            replica("db0", (2, {"c0": 1})),
            replica("db1", (3, {"c0": 2}), (4, {"c1": 1})),
            replica("db2", (3, {"c0": 2}), (4, {"c1": 1})),
            replica("db3"),
            Replica("db4", trouble="it is away"),
        ],
    )

    assert [(each["relation"], each["behind"]) for each in page["replicas"]] == [
        ("before", True),
        ("equal", False),
        ("equal", False),
        ("before", True),
        (None, None),
    ]
    assert page["replicas"][4]["trouble"] == "it is away"
    assert page["replicas"][1]["rating"] == 3.5
    values = page["siblings"]["values"]
    assert [(each["rating"], each["shards"]) for each in values] == [
        (2, ["db0"]),
        (3, ["db1", "db2"]),
        (4, ["db1", "db2"]),
    ]
    assert [(each["a"], each["b"], each["relation"]) for each in page["siblings"]["pairs"]] == [
        (0, 1, "before"),
        (0, 2, "concurrent"),
        (1, 2, "concurrent"),
    ]


def test_a_second_rating_at_an_equal_clock_leaves_a_replica_behind():
    page = tea_page("oolong", "db0", [replica("db0", (2, {"c0": 1}), (3, {"c0": 1})), replica("db1", (2, {"c0": 1}))])

    assert [(each["relation"], each["behind"]) for each in page["replicas"]] == [("equal", False), ("equal", True)]


def test_nothing_is_known_of_who_is_behind_when_the_primary_is_away():
    page = tea_page("oolong", "db0", [Replica("db0", trouble="down"), replica("db1", (2, {"c0": 1}))])

    assert [(each["relation"], each["behind"]) for each in page["replicas"]] == [(None, None), (None, None)]


# ---- a merge before it is sent


def test_each_step_of_a_merge_is_shown():
    stored = replica("db0", (1, {"c0": 1}), (2, {"c1": 5}))

    shown = preview("oolong", stored, Sibling(9, clock(c0=2)))

    assert [(step["rating"], step["relation"], step["outcome"]) for step in shown["steps"]] == [
        (1, "after", "dropped"),
        (2, "concurrent", "kept"),
    ]
    assert shown["steps"][0]["entries"] == [{"id": "c0", "a": 2, "b": 1, "larger": "a"}]
    assert shown["outcome"] == "stored"
    assert shown["after"] == {"rating": 5.5, "choices": [9, 2], "clocks": [{"c0": 2}, {"c1": 5}]}


def test_a_deletion_that_reads_do_not_show_is_a_step_too():
    deleted = Replica("db0", UNRATED, clock(c0=3))

    shown = preview("oolong", deleted, Sibling(9, clock(c0=3)))

    assert [(step["rating"], step["outcome"]) for step in shown["steps"]] == [(None, "incoming is dropped")]
    assert shown["outcome"] == "stale"
    assert preview("oolong", deleted, Sibling(9, clock(c0=4)))["outcome"] == "stored"


CLOCKS = st.dictionaries(st.sampled_from(["c0", "c1", "c2"]), st.integers(0, 2), min_size=1).map(VectorClock.fromDict)
SIBLINGS = st.builds(Sibling, st.integers(0, 3), CLOCKS)


@given(st.lists(SIBLINGS, max_size=4), SIBLINGS)
def test_a_preview_comes_to_what_the_shard_comes_to(stored, incoming):
    before = merge(UNRATED, stored)
    place = Place(0, 1, 1)

    [written], _ = merge_writes(place, {"t": before}, Digest(), [Write("t", incoming)])
    shown = preview("t", Replica("db0", before, before.clock), incoming)

    assert shown["outcome"] == written.outcome
    assert shown["after"] == wire.reading(written.value)
    kept = [step for step in shown["steps"] if step["outcome"] != "dropped"]
    assert len(kept) + (written.outcome == "stored") == len(written.value.siblings)


# ---- curl


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_a_curl_line_is_read_by_a_shell_as_it_was_meant(name):
    url = f"http://127.0.0.1:2500{curl.path_of(name)}?consistency=weak"
    body = json.dumps({"rating": 1, "clock": {name: 1}})

    words = shlex.split(curl.line(url, "PUT", body))

    assert words == ["curl", "-XPUT", "-H", "Content-Type: application/json", "-d", body, url]
    assert url.isascii()
    assert not set(url.partition("/rating/")[2].partition("?")[0]) & set(" '\"\\{}[]#?&/")


# ---- the door, and the files, of a view to which nothing answers


@pytest.fixture(scope="module")
def lonely():
    """A client of a view of a ring where nothing runs."""
    ports = Ports.find_free(2)
    app = serverView.create_app(
        ViewSettings(ndb=2, lb_port=ports.lb, db_base_port=ports.db(0), qport=ports.q, redis_base_port=ports.redis(0))
    )
    yield app.test_client()
    app.at_stop()


def test_the_first_page_says_what_is_down_when_nothing_else_runs(lonely):
    page = lonely.get("/").get_data(as_text=True)

    state = json.loads(page.partition('id="first-state">')[2].partition("</script>")[0])
    services = [state["lb"], state["queue"], *state["shards"], *state["redis"]]
    assert [each["name"] for each in services] == ["lb", "q", "db0", "db1", "r0", "r1"]
    assert {each["state"] for each in services} == {"down"}
    assert all(each["note"] for each in services)


PAGES = ["/", "/docs", "/static/index.html", "/static/nothing.js", "/api/state", "/healthz", "/api/nothing"]


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_allows_nothing_from_elsewhere(lonely, path):
    headers = lonely.get(path).headers

    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_state_cannot_end_the_script_that_it_is_in(lonely, monkeypatch):
    evil = {"note": "</script><script>alert(1)</script><!--"}
    monkeypatch.setattr(Poller, "state", lambda self: evil)

    page = lonely.get("/").get_data(as_text=True)

    data = page.partition('id="first-state">')[2].partition("</script>")[0]
    assert json.loads(data) == evil


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "192.168.1.5"])
def test_a_name_that_only_resolves_to_us_is_refused(lonely, host):
    assert lonely.get("/api/state", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_this_machine_by_any_of_its_names_is_answered(lonely, host):
    assert lonely.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost"},
        {"Origin": "http://localhost:8001"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_somebody_else_changes_nothing(lonely, headers):
    given = lonely.post("/api/delete", json={"tea": "oolong"}, headers={"Host": "localhost", **headers})

    assert given.status_code == 403


def test_a_form_of_somebody_else_is_no_json(lonely):
    given = lonely.post("/api/delete", data='{"tea": "oolong"}', content_type="text/plain")

    assert given.status_code == 415


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("write", b'{"tea": "x", "rating": "\xff"}', 400),
        ("write", b'{"tea": "x", "rating"', 400),
        ("write", b'{"tea": 5}', 422),
        ("read", b'{"tea": "x", "consistency": "some"}', 422),
        ("merge", b'{"tea": "x", "rating": 1e999, "clock": {"c0": 1}}', 422),
        ("merge", b'{"tea": "..", "rating": 1, "clock": {"c0": 1}}', 400),
        ("delete", b'{"tea": "x", "more": 1}', 422),
        ("write", b'{"tea": "x", "rating": 1, "clock": {"c0": 1}}', 503),
    ],
)
def test_whatever_is_asked_has_a_documented_answer(lonely, path, body, status):
    given = lonely.post(f"/api/{path}", data=body, content_type="application/json")

    assert (given.status_code, given.headers["Content-Type"]) == (status, "application/problem+json")


def test_without_a_lab_nothing_can_be_broken(lonely):
    given = lonely.post("/api/lab", json={"do": "kill", "service": "db0"})

    assert given.status_code == 403
    assert "--lab" in given.get_json()["detail"]


def test_a_view_that_strangers_can_reach_has_no_lab():
    with pytest.raises(ValueError, match="lab-socket"):
        read(ViewSettings, '{"host": "0.0.0.0", "lab-socket": "/tmp/lab"}', environ={})


def test_files_have_their_types_and_are_asked_for_anew(lonely):
    first = lonely.get("/static/index.html", headers={"Accept": "text/html"})
    again = lonely.get("/static/index.html", headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Content-Type"] == "text/html; charset=utf-8"
    assert first.headers["Cache-Control"] == "no-cache"
    assert (again.status_code, again.get_data()) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../serverView.py",
        "/static/..%2Fhub.py",
        "/static//etc/passwd",
        "/static/.hidden",
        "/static/%00",
        "/static/",
    ],
)
def test_nothing_but_the_pages_is_given_out(lonely, path):
    assert lonely.get(f"/static/{path}").status_code == 404


def test_no_more_pages_are_open_than_leave_room_for_others(lonely):
    opened = [lonely.get("/api/stream", buffered=False) for _ in range(serverView.MOST_PAGES)]
    assert {each.status_code for each in opened} == {200}

    assert lonely.get("/api/stream").status_code == 503
    assert lonely.get("/api/state").status_code == 200

    opened.pop().close()
    opened.append(lonely.get("/api/stream", buffered=False))
    assert opened[-1].status_code == 200
    for each in opened:
        each.close()


# ---- the way of a write of which something is forgotten


def way_over(traces, request):
    """What the view tells of this request, in a ring of services that keep these Traces."""
    return told_over(traces, f"/api/trace/{request}")


def told_over(traces, path):
    """What the view answers, in a ring of services that keep these Traces, the load balancer's first."""

    def peer_of(kept):
        def call(_method, path):
            asked = dict(part.split("=") for part in path.partition("?")[2].split("&"))
            told = kept.read(int(asked.get("after", 0)), int(asked["max"]), request=asked.get("request"))
            return Answer(200, wire.encode(told), {"Content-Type": "application/json"})

        return SimpleNamespace(name=kept.service, call=call)

    peers = [peer_of(each) for each in traces]
    ring = SimpleNamespace(ndb=2, lb=peers[0], peers=peers, of_all=lambda ask, asked: [*map(ask, asked)])
    app = web.create_app_for("view", 20, checks=dict, status=dict)
    add_trace_routes(app, ring)
    return app.test_client().get(path).json


def test_who_was_started_after_a_write_is_named_beside_what_is_left_of_it():
    ticks = count(1)
    lb, db0 = (Trace(name, 9, ticks.__next__) for name in ("lb", "db0"))
    lb.record("received", "assam", "mine")
    lb.record("sent", "assam", "mine", peer="db1")
    db1 = Trace("db1", 9, ticks.__next__)  # instead of the one that it was sent to
    lb.record("received", "assam", "another")

    assert way_over([lb, db0, db1], "mine")["forgetful"] == ["db1"]
    assert way_over([lb, db0, db1], "another")["forgetful"] == []


def test_who_keeps_nothing_so_old_is_named_beside_what_is_left_of_a_write():
    ticks = count(1)
    lb, db0, db1 = (Trace(name, most, ticks.__next__) for name, most in (("lb", 9), ("db0", 2), ("db1", 2)))
    db0.record("compared", "assam")
    db0.record("compared", "assam")
    lb.record("received", "assam", "mine")
    lb.record("received", "chai", "another")
    for _ in range(3):
        db1.record("merged", "chai", "another")
    db0.record("merged", "assam", "mine")

    mine, another = (way_over([lb, db0, db1], request) for request in ("mine", "another"))

    assert [(each["service"], each["event"]) for each in mine["events"]] == [("lb", "received"), ("db0", "merged")]
    assert mine["forgetful"] == ["db1"]  # db0 has forgotten something, too, but nothing of this time
    assert another["forgetful"] == ["db1"]


@pytest.mark.parametrize("most_at_once", [7, 5000])
def test_a_write_is_found_among_all_that_is_kept(monkeypatch, most_at_once):
    monkeypatch.setattr(view_traces, "MOST_OF_ONE", most_at_once)
    lb = Trace("lb", 1000, count(1).__next__)
    lb.record("received", "Earl Grey", "early", method="PUT")
    lb.record("answered", "Earl Grey", "early", status=200)
    for index in range(60):
        lb.record("received", "chai", f"late-{index}", method="PUT")
        lb.record("received", "earl grey", f"read-{index}", method="GET")

    def found(text):
        return [write["request"] for write in told_over([lb], f"/api/writes?max=50&find={text}")["writes"]]

    assert found("rl gr") == found("EARLY") == ["early"]
    assert found("chai") == [f"late-{index}" for index in range(59, 9, -1)]
    assert found("assam") == []


# ---- the load balancer's way to it


def test_the_balancer_leads_to_the_view_where_there_is_one():
    given = serverLB.create_app(LBSettings(view_port=8000)).test_client().get("/", headers={"Accept": "text/html,*/*"})

    assert (given.status_code, given.headers["Location"]) == (302, "http://127.0.0.1:8000/")


def test_without_one_there_is_nothing_at_its_root():
    assert serverLB.create_app(LBSettings()).test_client().get("/").status_code == 404


# ---- a page that takes nothing

STALLING = """
import sys, threading, time
from emporium import serving, web
from emporium.view.hub import Hub, Stream

hub = Hub()
app = web.create_app_for("view", 20, checks=dict, status=lambda: {"pages": hub.pages})
app.add_url_rule("/api/stream", "stream", lambda: Stream(hub.open(None, lambda: b"{}")))
app.at_stop = hub.close

def publish():
    while True:
        hub.publish(("state", b'"%s"' % (b"x" * 100_000)))
        time.sleep(0.01)

threading.Thread(target=publish, daemon=True).start()
serving.serve(app, "view", "127.0.0.1", int(sys.argv[1]), stalled_s=1)
"""


def test_a_page_that_takes_nothing_is_cut_and_holds_no_thread_for_ever():
    port = Ports.find_free(1).view
    server = subprocess.Popen([sys.executable, "-c", STALLING, str(port)], cwd=ROOT)
    try:
        eventually(lambda: pages_of(port) == 0, "it serves", within_s=20)
        with socket.create_connection(("127.0.0.1", port), 2 * CALL_S) as page:
            page.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert page.recv(12) == b"HTTP/1.1 200"  # so it is open
            eventually(lambda: pages_of(port) == 0, "it is cut", within_s=20)
    finally:
        server.kill()
        server.wait()


def pages_of(port):
    try:
        return requests.get(f"http://127.0.0.1:{port}/status", timeout=CALL_S).json()["pages"]
    except requests.ConnectionError:
        return None
