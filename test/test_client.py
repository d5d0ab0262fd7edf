"""The Python client on a real ring, while all is well and while parts of it are away."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from guardedring import GuardedRing
from harness import gone, stopped

from emporium.client import (
    BadRequest,
    Conflict,
    NotRated,
    TeaStore,
    TooManySiblings,
    Unavailable,
    Unsure,
    VectorClock,
)
from emporium.environment import ROOT

SLACK_S = 3  # for a machine that has other things to do


@pytest.fixture(scope="module")
def ring(run_folder, request):
    # Nothing leaves a shard, so that replicas stay behind.
    options = {"anti-entropy-s": None, "trace": 1000}
    with GuardedRing(run_folder / request.module.__name__, digest_length=1000, **options) as ring:
        yield ring


@pytest.fixture
def open_store(ring):
    """Opens the ring's TeaStore for a node of this name."""
    opened = []

    def open_for(node=None, **options):
        opened.append(TeaStore(f"http://localhost:{ring.layout.lb}", node=node, **options))
        return opened[-1]

    yield open_for
    for store in opened:
        store.close()


def clock(**entries):
    return VectorClock.fromDict(entries)


def ratings(reading):
    return [sibling.rating for sibling in reading.siblings]


# ---- what a person does


def test_who_observes_never_sees_a_clock(open_store):
    store = open_store("anna")

    store.observe("oolong", 3)
    written = store.observe("oolong", 4.5)

    assert (written.rating, written.outcome, written.clock) == (4.5, "stored", clock(anna=2))
    reading = store.get("oolong")
    assert (reading.rating, ratings(reading), reading.is_rated) == (4.5, [4.5], True)


def test_who_observes_replaces_all_that_stands_there(open_store):
    store = open_store("anna")
    store.put("sencha", 1, clock(bo=3))
    store.put("sencha", 5, clock(cy=1))
    assert ratings(store.get("sencha")) == [1, 5]

    store.observe("sencha", 2)

    assert ratings(store.get("sencha")) == [2]
    assert store.get("sencha").clock == clock(anna=1, bo=3, cy=1)


def test_a_deleted_tea_can_be_observed_again(open_store):
    store = open_store("anna")
    store.observe("matcha", 3)
    store.delete("matcha")
    assert not store.get("matcha").is_rated
    assert store.get("matcha").clock == clock(anna=1)

    assert store.observe("matcha", 4).outcome == "stored"

    assert ratings(store.get("matcha")) == [4]


def test_two_who_observe_at_once_leave_two_siblings(open_store, monkeypatch):
    anna, bo = open_store("anna"), open_store("bo")
    read = anna._read

    def read_and_then_bo_is_faster(*asked):
        seen = read(*asked)
        bo.observe("assam", 5)
        return seen

    monkeypatch.setattr(anna, "_read", read_and_then_bo_is_faster)
    anna.observe("assam", 2)
    monkeypatch.undo()

    reading = anna.get("assam")
    assert (reading.rating, ratings(reading)) == (3.5, [2, 5])
    assert bo.observe("assam", 4).rating == 4


@pytest.mark.parametrize("tea", ["Ĺapsang souchong", "a%2Fb?c#d", "...", "~_-.", "5 o'clock", "日本茶"])
def test_any_name_is_one_tea(tea, open_store):
    store = open_store("anna")

    store.observe(tea, 3)

    assert ratings(store.get(tea)) == [3]
    assert tea in [row.tea for row in store.list().teas]


@pytest.mark.parametrize("tea", ["", ".", "..", "a/b", "\udcff"])
def test_what_no_address_can_have_is_refused(tea, open_store):
    with pytest.raises(BadRequest, match="cannot name a tea"):
        open_store().get(tea)


def test_one_word_in_two_spellings_is_one_tea(open_store):
    store = open_store("anna")

    store.observe("caf\u00e9", 3)

    assert store.get("cafe\u0301").tea == "caf\u00e9"
    assert store.get("cafe\u0301").is_rated


def test_a_list_and_a_status(open_store, ring):
    store = open_store("anna")
    store.observe("listed", 3)

    listing = store.list()

    assert (listing.complete, listing.unreachable) == (True, ())
    [row] = [row for row in listing.teas if row.tea == "listed"]
    assert (row.rating, row.siblings, row.shard) == (3, 1, f"db{ring.primary_of('listed')}")
    assert store.status()["ndb"] == ring.ndb


def test_the_services_know_a_call_by_its_request_id(open_store, ring):
    store, tea = open_store("anna"), ring.tea_of(1, "traced")

    written = store.observe(tea, 3, request_id="of-anna")

    assert written.request_id == "of-anna"
    events = ring.at(1, "GET", "/trace?request=of-anna").body["events"]
    assert [event["method"] for event in events if event["event"] == "arrived"] == ["GET", "PUT"]
    assert store.get(tea).request_id != store.get(tea).request_id


# ---- what the store refuses


def test_what_the_store_does_not_take_is_a_bad_request(open_store):
    store = open_store("anna")

    with pytest.raises(BadRequest) as caught:
        store.observe("oolong", 2e6)
    assert caught.value.status == 422
    assert "rating" in caught.value.detail
    assert not caught.value.may_have_happened
    for rating in (float("nan"), "5", None):
        with pytest.raises(BadRequest):
            store.put("oolong", rating, clock(c0=1))
    with pytest.raises(BadRequest, match="clock"):
        store.put("oolong", 1, clock())


def test_what_is_not_there_cannot_be_deleted(open_store):
    with pytest.raises(NotRated, match="nothing is stored"):
        open_store().delete("nobody-has-rated-it")


def test_too_many_siblings_are_told_and_observe_settles_them(open_store):
    store = open_store("anna")
    for number in range(100):
        store.put("crowded", number, VectorClock().update(f"c{number}", 1))

    with pytest.raises(TooManySiblings) as caught:
        store.put("crowded", 1, clock(one_more=1))

    assert isinstance(caught.value, Conflict)
    assert sorted(sibling.rating for sibling in caught.value.siblings) == list(range(100))
    with pytest.raises(BadRequest, match="64"):  # a clock cannot subsume a hundred nodes
        store.observe("crowded", 3)


def test_who_observes_needs_a_name(open_store):
    with pytest.raises(ValueError, match="node"):
        open_store().observe("oolong", 3)
    for node in ("", "no spaces", "x" * 65):
        with pytest.raises(ValueError, match="node"):
            TeaStore(node=node)


# ---- many at once


def lost(written):
    """Pairs of answered writes of which the later has replaced the earlier without having seen it.

    Whoever observes has seen all that is at or below his clock without his own last step.
    """
    found = []
    for one in written:
        node, new = one
        seen = VectorClock.fromDict({**new.asDict(), node: new.asDict()[node] - 1})
        found += [(other, one) for other in written if other is not one and other[1] <= new and not other[1] <= seen]
    return found


def test_of_many_who_observe_at_once_nobody_loses_a_rating(open_store):
    """Three nodes, one of them shared by three threads: every rating stands, or was seen by whoever replaced it."""
    stores = [open_store(node) for node in ("anna", "bo", "cy", "cy")]
    stores[3] = stores[2]
    begin = threading.Barrier(len(stores))

    def observe_often(store):
        begin.wait(timeout=10)
        return [(store.node, store.observe("busy", number).clock) for number in range(8)]

    with ThreadPoolExecutor(len(stores)) as threads:
        written = [each for some in threads.map(observe_often, stores) for each in some]

    assert lost(written) == []
    reading = stores[0].get("busy")
    newest = VectorClock.coalesce(clock for _, clock in written)
    assert sorted(map(repr, newest)) == sorted(repr(sibling.clock) for sibling in reading.siblings)
    assert len(written) == 32


def test_two_programs_with_one_node_at_an_equal_clock_leave_both_ratings(open_store, monkeypatch):
    one, other = open_store("twin"), open_store("twin")
    read = one._read

    def read_and_then_the_other_is_faster(*asked):
        seen = read(*asked)
        other.observe("shared", 5)
        return seen

    monkeypatch.setattr(one, "_read", read_and_then_the_other_is_faster)
    one.observe("shared", 2)

    assert ratings(other.get("shared")) == [2, 5]


def test_a_rating_that_is_stale_since_a_program_with_the_same_node_was_faster_is_given_anew(open_store, monkeypatch):
    one, other = open_store("twin"), open_store("twin")
    read = one._read
    reads = []

    def read_and_then_the_other_is_faster(*asked):
        reads.append(read(*asked))
        if len(reads) == 1:
            other.observe("faster", 5)
            other.observe("faster", 6)
        return reads[-1]

    monkeypatch.setattr(one, "_read", read_and_then_the_other_is_faster)
    written = one.observe("faster", 2)

    assert (written.outcome, written.clock) == ("stored", clock(twin=3))
    assert ratings(other.get("faster")) == [2]


# ---- sessions


def test_a_session_reads_what_it_has_written_at_any_shard(open_store):
    store = open_store("anna")
    store.observe("own", 5)
    assert {store.get("own", weak=True).rating for _ in range(60)} == {5, 0}  # the replicas are behind indeed

    with store.session() as session:
        session.observe("own", 4)

        assert {session.get("own").rating for _ in range(24)} == {4}
        assert session.seen("own") == clock(anna=2)
        session.put("own", 3, clock(anna=2, bo=1))
        assert {session.get("own").rating for _ in range(24)} == {3}


def test_a_session_never_reads_an_older_state_than_before(open_store):
    store = open_store("anna")
    store.observe("once-seen", 5)
    session = store.session()
    assert session.get("once-seen", weak=False).rating == 5

    assert {session.get("once-seen").rating for _ in range(24)} == {5}


def test_a_session_does_not_read_what_it_has_deleted(open_store, ring):
    store = open_store("anna")
    written = store.observe("gone", 5)
    told = {"primary": "db0", "key": "gone", "choices": [5], "clocks": [written.clock.asDict()]}
    for shard in range(ring.ndb):  # all have it
        assert ring.at(shard, "POST", "/replica/exchange", json.dumps({"values": [told]})).status == 200
    session = store.session()

    session.delete("gone")

    assert {session.get("gone").is_rated for _ in range(12)} == {False}
    of_another = store.session()
    assert not of_another.get("gone", weak=False).is_rated
    assert {of_another.get("gone").is_rated for _ in range(12)} == {False}
    session.observe("gone", 2)
    assert {session.get("gone").rating for _ in range(12)} == {2}


# ---- parts of the store are away


def took_s(begun):
    return time.monotonic() - begun


def test_a_stopped_shard_costs_the_deadline_at_most_and_its_teas_only(open_store, ring):
    store = open_store("anna", deadline_s=2.5)
    tea, elsewhere = ring.tea_of(0, "stopped"), ring.tea_of(1, "stopped")
    store.observe(tea, 3)
    seen = store.get(tea).clock

    with stopped(ring.cluster.shards[0]):
        begun = time.monotonic()
        with pytest.raises(Unsure) as unsure:
            store.put(tea, 4, seen.update("anna", 2))
        assert took_s(begun) < 2.5 + SLACK_S
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            store.get(tea)
        assert took_s(begun) < 2.5 + SLACK_S
        assert store.observe(elsewhere, 3).outcome == "stored"
        assert not store.get(tea, weak=True).is_rated  # a replica, which has not heard of it
    ring.wait_until_ready()

    # It may have been done; to do it again at the same clock is safe.
    assert unsure.value.clock == clock(anna=2)
    assert store.put(tea, 4, unsure.value.clock).outcome in ("stored", "same")
    assert ratings(store.get(tea)) == [4]


def test_an_observe_that_nobody_knows_the_outcome_of_may_simply_be_called_again(open_store, ring):
    store = open_store("anna", deadline_s=1.5)
    tea = ring.tea_of(0, "again")

    def read_then_stop(*asked):
        seen = read(*asked)
        stop.__enter__()
        return seen

    stop, read = stopped(ring.cluster.shards[0]), store._read
    store._read = read_then_stop
    try:
        with pytest.raises(Unsure):
            store.observe(tea, 5)
    finally:
        stop.__exit__(None, None, None)
    store._read = read
    ring.wait_until_ready()

    written = store.observe(tea, 2)

    assert written.clock == clock(anna=2)  # past the one that may come late
    assert ratings(store.get(tea)) == [2]


def test_without_a_load_balancer_surely_nothing_is_done(open_store, ring):
    store = open_store("anna", deadline_s=10)
    store.observe("door", 3)

    with gone(ring.cluster.load_balancer):
        begun = time.monotonic()
        for call in (lambda: store.observe("door", 4), lambda: store.get("door"), lambda: store.delete("door")):
            with pytest.raises(Unavailable, match="cannot be reached") as caught:
                call()
            assert (caught.value.status, caught.value.tries) == (None, 3)
        assert took_s(begun) < 3 * 10

    assert store.observe("door", 5).clock == clock(anna=2)


def test_a_load_balancer_that_hangs_leaves_a_write_unsure_and_a_read_unavailable(open_store, ring):
    store = open_store("anna", deadline_s=0.5)

    with stopped(ring.cluster.load_balancer):
        for kind, call in (
            (Unavailable, lambda: store.get("hangs")),
            (Unsure, lambda: store.put("hangs", 3, clock(anna=1))),
            (Unsure, lambda: store.delete("hangs")),
        ):
            begun = time.monotonic()
            with pytest.raises(kind, match="did not answer in time"):
                call()
            assert took_s(begun) < 0.5 + SLACK_S

    ring.wait_until_ready()
    assert open_store().get("oolong").tea == "oolong"


# ---- as a library


def test_it_brings_nothing_of_the_servers_along():
    program = "import sys, emporium.client; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    brought = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not {"flask", "redis", "msgspec", "pycurl", "granian", "serverLB"} & set(brought.stdout.split())


def test_its_types_hold():
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "var/mypy", "-p", "emporium.client"]

    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert checked.returncode == 0, checked.stdout
    assert (ROOT / "emporium" / "py.typed").exists()
