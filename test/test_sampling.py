"""Which requests are recorded where there are many: some, each of them in every service or in none."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from asking import ask
from harness import JSON, eventually
from recorder import Recorder, plain
from test_trace import NDB, recording_ring

import serverLB
import serverView
from emporium import command, requestid, running, trace, wire
from emporium.peers import Answer
from emporium.sampling import FOR_NAMED, SAVED, Pace, chosen
from emporium.settings import LBSettings, ViewSettings
from emporium.trace import Trace
from emporium.view.traces import Traces
from serverLB import primary_of


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


NO_SERVER = 1  # a port on which nothing listens, ever


# ---- the pace


def test_so_many_a_second_may_go_and_as_many_at_once_as_are_saved():
    clock = Clock()
    pace = Pace(10, 3, clock)

    at_first = [pace.spend() for _ in range(5)]
    clock.now = 0.25
    later = [pace.spend() for _ in range(5)]
    clock.now = 100
    after_a_rest = [pace.spend() for _ in range(5)]

    assert (at_first.count(True), later.count(True), after_a_rest.count(True)) == (3, 2, 3)


def test_what_is_kept_back_is_left_for_others():
    pace = Pace(1, 4, Clock())

    assert [pace.spend(kept_back=2) for _ in range(4)] == [True, True, False, False]
    assert [pace.spend() for _ in range(3)] == [True, True, False]


# ---- the choice at the door


@contextmanager
def request_with(**headers):
    requestid.begin({f"HTTP_{name}": text for name, text in headers.items()})
    try:
        yield requestid.here
    finally:
        requestid.end()


@pytest.fixture
def busy(monkeypatch):
    """A Trace of a service that has as many requests without an id as it records."""
    monkeypatch.setattr(trace, "MOST_A_S", 0)
    kept = Trace("lb", 10)
    with request_with():
        for _ in range(SAVED):
            chosen(kept)
            requestid.here.sampled = None
    return kept


@pytest.mark.parametrize("headers", [{"X_REQUEST_ID": "mine"}, {"X_B3_SAMPLED": "1"}])
def test_a_request_that_somebody_wants_to_find_goes_before_others(busy, headers):
    with request_with(**headers) as here:
        assert chosen(busy) == here.request
        assert "X-B3-Sampled: 1" in requestid.headers()


@pytest.mark.parametrize("headers", [{}, {"X_REQUEST_ID": "no id"}, {"X_B3_SAMPLED": "2"}])
def test_any_other_is_not_recorded_and_says_so_to_the_services_that_it_leads_to(busy, headers):
    with request_with(**headers):
        assert chosen(busy) is None
        assert "X-B3-Sampled: 0" in requestid.headers()


def test_those_that_somebody_wants_to_find_are_not_without_end():
    kept = Trace("lb", 10)
    with request_with(X_REQUEST_ID="mine"):
        found = []
        for _ in range(100 * SAVED):
            requestid.here.sampled = None
            found.append(chosen(kept))

    assert SAVED <= found.count("mine") < len(found)


def test_what_a_service_before_this_one_has_chosen_is_recorded_whatever_else_comes(busy):
    with request_with(X_REQUEST_ID="mine", X_B3_SAMPLED="1"):
        assert [chosen(busy) for _ in range(2 * SAVED)] == ["mine"] * 2 * SAVED


def test_who_does_not_want_to_be_recorded_is_not():
    with request_with(X_REQUEST_ID="mine", X_B3_SAMPLED="0"):
        assert chosen(Trace("lb", 10)) is None
        assert chosen(None) is None


def test_a_service_that_keeps_no_trace_leaves_the_choice_to_others():
    with request_with() as here:
        assert chosen(None) == here.request
        assert not any("B3" in line for line in requestid.headers())


# ---- in a ring


@pytest.fixture
def sampled(tmp_path):
    with recording_ring(tmp_path) as cluster:
        yield cluster


def events_in(layout):
    ports = {"lb": layout.lb, "q": layout.q, **{f"db{index}": layout.db(index) for index in range(NDB)}}
    return {name: ask(port, "GET", "/trace?max=5000").body["events"] for name, port in ports.items()}


def test_of_many_writes_some_are_recorded_each_in_every_service_or_in_none(sampled, monkeypatch):
    """The door is a load balancer that records three of all that come without an id, in this process."""
    monkeypatch.setattr(trace, "SAVED", FOR_NAMED + 3)
    monkeypatch.setattr(trace, "MOST_A_S", 0)
    door = serverLB.create_app(LBSettings(ndb=NDB, db_base_port=sampled.layout.db(0), trace=1000))

    def write(number, **headers):
        client, rated = door.test_client(), {"rating": 3, "clock": {"c0": 1}}
        return client.put(f"/rating/tea-{number}", json=rated, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:  # so that some travel together, and others alone
        assert set(pool.map(write, range(40))) == {200}
    assert write(40, **{"X-Request-ID": "found-again"}) == 200

    at_the_door = door.test_client().get("/trace?max=5000").json
    assert at_the_door["unrecorded"] == 37
    recorded = {each["request"] for each in at_the_door["events"]}
    told = events_in(sampled.layout)
    assert len(recorded) == 4
    assert "found-again" in recorded
    assert {each["request"] for name in told for each in told[name] if each["event"] == "arrived"} == recorded

    def of_gossip():
        return {each["request"] for each in events_in(sampled.layout)["q"] if "request" in each}

    eventually(lambda: of_gossip() == recorded, "their gossip is told")


def test_a_write_that_asks_not_to_be_recorded_is_gossiped_without_its_request(sampled):
    body = json.dumps({"rating": 3, "clock": {"c0": 1}})
    headers = {**JSON, "X-Request-ID": "secret", "X-B3-Sampled": "0"}

    assert ask(sampled.layout.lb, "PUT", "/rating/sencha", body, headers).status == 200

    assert not [each for events in events_in(sampled.layout).values() for each in events if "request" in each]
    channel = f"/channel/db{primary_of('sencha', NDB)}/peek"
    [waiting] = eventually(lambda: ask(sampled.layout.q, "GET", channel).body["records"], "it waits for its successor")
    assert "request" not in waiting["record"]


def test_what_is_written_on_a_page_or_by_the_command_is_recorded_whatever_else_comes(monkeypatch):
    with Recorder(plain) as balancer:
        view = serverView.create_app(ViewSettings(ndb=1, db_base_port=NO_SERVER, lb_port=balancer.port))
        page = view.test_client()
        page.post("/api/write", json={"tea": "assam", "rating": 3, "clock": {"c0": 1}})
        view.stop()
        monkeypatch.setattr(
            running, "find", lambda _: SimpleNamespace(url=lambda _: f"http://127.0.0.1:{balancer.port}")
        )
        command.main(["get", "assam"])

    asked = zip(balancer.calls, balancer.headers, strict=True)
    assert [headers["X-B3-Sampled"] for call, headers in asked if call.path == "/rating/assam"] == ["1", "1"]


def test_a_page_hears_that_more_happened_than_was_recorded():
    told = iter(
        {"life": "a", "next": 0, "newest": 0, "lost": 0, "unrecorded": count, "events": []}
        for count in (70, 70, 75, 75)
    )
    peer = SimpleNamespace(
        name="lb",
        call=lambda _method, _path: Answer(200, wire.encode(next(told)), {"Content-Type": "application/json"}),
    )
    traces = Traces()

    assert [traces.news(peer)[1] for _ in range(4)] == [0, 0, 5, 0]


def test_gossip_of_servers_that_know_no_requests_is_recorded_while_there_is_little(monkeypatch):
    monkeypatch.setattr(trace, "UNNAMED_SAVED", 2)
    monkeypatch.setattr(trace, "UNNAMED_A_S", 0)
    kept = Trace("q", 100)
    plain, named = b'{"key":"assam"}', b'{"key":"chai","request":"a"}'

    for _ in range(3):
        kept.record_texts("put", [plain, named, plain], "db1")

    told = kept.read()
    assert (len(told["events"]), told["unrecorded"]) == (3 + 3 + 1, 2)
