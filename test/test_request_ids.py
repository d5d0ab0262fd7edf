"""X-Request-ID and traceparent: in, out, in each line of the log, with every call, and in gossip where it is wanted."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest
from asking import ask
from harness import CALL_S, JSON, eventually, start
from rawclient import served
from recorder import Recorder, ours, plain
from shardparts import sibling, value_of

import serverDB
import serverLB
import serverLog
import serverQ
import serverView
from emporium import requestid, shardpeer, wire
from emporium.cluster import python_service, shard_settings
from emporium.requestid import is_traceparent
from emporium.service import stop_these
from emporium.settings import DBSettings, LBSettings, LogSettings, QSettings, ViewSettings
from emporium.shard import Digest, Place, Write, merge_gossip, merge_writes
from emporium.shardpeer import ShardPeer
from emporium.siblings import UNRATED
from emporium.wire import Record

NO_SERVER = 1  # a port on which nothing listens, ever
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASSAM = value_of(sibling(3, c0=1))

APPS = {
    "lb": lambda folder: serverLB.create_app(LBSettings(db_base_port=NO_SERVER)),
    "db": lambda folder: serverDB.create_app(DBSettings(qport=NO_SERVER)),
    "q": lambda folder: serverQ.create_app(QSettings()),
    "log": lambda folder: serverLog.create_app(LogSettings(data_dir=str(folder))),
}


@pytest.fixture(params=APPS)
def app(request, tmp_path):
    made = APPS[request.param](tmp_path)
    yield made
    made.stop()
    made.at_end()


# ---- in and out


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/healthz", {}, 200),
        ("HEAD", "/healthz", {}, 200),
        ("OPTIONS", "/status", {}, 204),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/status", {}, 405),
        ("GET", "/status", {"Accept": "text/html"}, 406),
        ("GET", "/status", {"Accept": "text/html," * 200}, 431),
    ],
)
def test_every_answer_has_the_id_of_its_request(app, method, path, headers, status):
    answer = app.test_client().open(path, method=method, headers={"X-Request-ID": "order-66.b_C", **headers})

    assert answer.status_code == status
    assert answer.headers.getlist("X-Request-ID") == ["order-66.b_C"]


def test_so_has_a_refusal_at_the_door(app):
    with ExitStack() as crowd:
        for _ in range(app._requests.most):
            crowd.enter_context(app._requests)

        answer = app.test_client().get("/status", headers={"X-Request-ID": "abc"})

    assert (answer.status_code, answer.headers["X-Request-ID"]) == (503, "abc")


def test_so_has_an_error_of_ours(app):
    @app.get("/broken")
    def broken():
        raise ZeroDivisionError

    answer = app.test_client().get("/broken", headers={"X-Request-ID": "abc"})

    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "abc")


def test_a_request_without_an_id_gets_one_of_its_own(app):
    client = app.test_client()

    ids = {client.get("/healthz").headers["X-Request-ID"] for _ in range(5)}

    assert len(ids) == 5
    assert all(len(each) == 16 and set(each) <= set("0123456789abcdef") for each in ids)


@pytest.mark.parametrize("given", ["", " ", "a b", "a\tb", "<x>", "a,b", "x" * 65, "é", "a/b", "[a]"])
def test_an_id_that_is_none_is_replaced(app, given):
    answer = app.test_client().get("/healthz", headers={"X-Request-ID": given})

    assert len(answer.headers["X-Request-ID"]) == 16
    assert answer.headers["X-Request-ID"] != given


@pytest.mark.parametrize("given", ["a", "x" * 64, "A-Z.a_z-09", "7f3a90c2d41b55e8"])
def test_an_id_that_is_one_is_kept(app, given):
    assert app.test_client().get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


# ---- in the log


@pytest.fixture
def lines(caplog):
    """What stands in brackets in front of each line that is logged."""
    caplog.handler.addFilter(requestid.add_to_record)
    caplog.set_level(logging.INFO)
    yield lambda: [record.request for record in caplog.records]
    caplog.handler.removeFilter(requestid.add_to_record)


def test_what_is_logged_for_a_request_has_its_id(app, lines):
    @app.get("/broken")
    def broken():
        raise ZeroDivisionError

    app.test_client().get("/broken", headers={"X-Request-ID": "abc"})
    logging.getLogger("emporium").info("something else")

    assert lines() == ["abc", "-"]


def test_a_process_writes_the_id_into_its_log(ground, tmp_path):
    layout = ground.layout
    service = python_service("db0", "serverDB.py", layout.db(0), tmp_path.joinpath, shard_settings(0, layout, 2, 1))
    ask(layout.q, "PUT", "/q/db1", '{"senseless": true}')
    start(service)

    def is_heard():
        ask(layout.db(0), "GET", "/rating/assam", headers={**JSON, "X-Request-ID": "abc"})
        return "a gossip record makes no sense" in (tmp_path / "db0").read_text()

    try:
        eventually(is_heard, "the record is heard")
    finally:
        stop_these([service])

    log = (tmp_path / "db0").read_text()
    assert " INFO [-] db0 listens on " in log
    assert " ERROR [abc] a gossip record makes no sense" in log


# ---- passed on


@pytest.fixture
def held(request, monkeypatch):
    """(a load balancer, the stand-in for its only shard). `app.peer` is that shard as the load balancer sees it."""

    def peer_of(*what):
        peers.append(ShardPeer(*what))
        return peers[0]

    peers = []
    for module in (shardpeer, serverLB):  # a shard that is asked a second time, since it was late, is no story of these
        monkeypatch.setattr(module, "SHARD_S", CALL_S)
        monkeypatch.setattr(module, "ALL_S", 2 * CALL_S)
    monkeypatch.setattr(serverLB, "ShardPeer", peer_of)
    with Recorder(request.param) as shard:
        app = serverLB.create_app(LBSettings(ndb=1, db_base_port=shard.port))
        [app.peer] = peers
        yield app, shard
        app.stop()


def asked(app, request_id, method="GET", traceparent=None):
    headers = {"X-Request-ID": request_id} | ({"traceparent": traceparent} if traceparent else {})
    body = {"rating": 3, "clock": {"c0": 1}} if method == "PUT" else None
    return app.test_client().open("/rating/assam", method=method, json=body, headers=headers)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("held", [ours, plain], indirect=True)
def test_a_request_that_travels_alone_has_its_id_as_a_header(held, method):
    app, shard = held

    asked(app, "abc", method, PARENT)
    asked(app, "def", method)

    assert [(each["X-Request-ID"], each["traceparent"]) for each in shard.headers] == [("abc", PARENT), ("def", None)]


@pytest.mark.parametrize("held", [ours], indirect=True)
def test_those_that_travel_together_have_each_its_own(held):
    app, shard = held
    with ThreadPoolExecutor(3) as pool, shard.holding():
        first = pool.submit(asked, app, "first")
        eventually(lambda: shard.calls, "the first is on its way")
        others = [pool.submit(asked, app, "second", "PUT", PARENT), pool.submit(asked, app, "third")]
        eventually(lambda: len(app.peer._gatherer._waiting) == 2, "the others wait")
    for each in (first, *others):
        assert each.result(CALL_S).status_code == 200

    operations = {each["request"]: each for each in shard.calls[1].operations}
    assert {name: each.get("traceparent") for name, each in operations.items()} == {"second": PARENT, "third": None}
    assert operations["second"]["method"] == "PUT"


@pytest.mark.parametrize("held", [ours], indirect=True)
def test_an_id_of_the_load_balancers_own_is_passed_on_too(held):
    app, shard = held

    answer = asked(app, "no id")

    assert shard.headers[0]["X-Request-ID"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("held", [ours], indirect=True)
def test_an_id_goes_along_where_other_threads_ask_for_a_request(held):
    app, shard = held

    app.test_client().get("/readyz", headers={"X-Request-ID": "abc", "traceparent": PARENT})
    app.test_client().get("/readyz", headers={"X-Request-ID": "def"})

    assert [(each["X-Request-ID"], each["traceparent"]) for each in shard.headers] == [("abc", PARENT), ("def", None)]


def test_the_view_asks_all_replicas_under_the_id_of_its_page():
    with Recorder(plain) as shard:
        app = serverView.create_app(ViewSettings(ndb=1, db_base_port=shard.port, lb_port=NO_SERVER))
        app.test_client().get("/api/tea/assam", headers={"X-Request-ID": "abc"})
        app.stop()

    asked = {call.path: headers["X-Request-ID"] for call, headers in zip(shard.calls, shard.headers, strict=True)}
    assert asked["/stored/assam"] == "abc"


@pytest.mark.parametrize("held", [ours], indirect=True)
def test_a_traceparent_that_is_none_is_not_passed_on(held):
    app, shard = held

    asked(app, "abc", traceparent=PARENT[:-1])

    assert shard.headers[0]["traceparent"] is None


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (PARENT, True),
        ("cc" + PARENT[2:] + "-what-comes-later", True),
        ("cc" + PARENT[2:], True),
        (PARENT + "-what-comes-later", False),  # version 00 ends there
        ("cc" + PARENT[2:] + "x", False),
        ("cc" + PARENT[2:] + "-" + "x" * 201, False),
        ("ff" + PARENT[2:], False),
        (PARENT.upper(), False),
        (PARENT[:-1], False),
        (PARENT + "\n", False),
        (PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), False),
        (PARENT.replace("00f067aa0ba902b7", "0" * 16), False),
        ("", False),
    ],
)
def test_what_counts_as_a_traceparent(text, is_one):
    """https://www.w3.org/TR/trace-context/#traceparent-header."""
    assert is_traceparent(text) is is_one


@pytest.mark.parametrize(
    "fields", ['"request":"a b"', '"request":""', '"request":7', '"traceparent":"00-1-1-00"', '"traceparent":1']
)
def test_operations_whose_ids_are_none_are_refused(fields):
    """Only our own services send them, and they do not."""
    app = serverDB.create_app(DBSettings(qport=NO_SERVER))
    body = f'{{"operations":[{{"method":"GET","tea":"assam",{fields}}}]}}'

    assert app.test_client().post("/operations", data=body, content_type="application/json").status_code == 422


# ---- in gossip


TELLING = Place(0, 3, digest_length=9, tells_requests=True)
SILENT = Place(0, 3, digest_length=9)


def remembered(place, *writes):
    _, changes = merge_writes(place, {"assam": UNRATED}, Digest(texts={}), writes)
    return changes.remembered


def forwarded(place, *records):
    return merge_gossip(place, {"assam": UNRATED}, Digest(texts={}), records).remembered


WRITES = [Write("assam", sibling(number, c0=number), f"write-{number}") for number in (1, 2)]


def test_a_record_names_the_request_that_was_the_write():
    [record] = remembered(TELLING, WRITES[0])

    assert wire.encode_record(record) == (
        b'{"primary":"db0","key":"assam","rating":1,"choices":[1],"clocks":[{"c0":1}],"request":"write-1"}'
    )


def test_as_the_course_has_it_a_record_names_none():
    [record] = remembered(SILENT, WRITES[0])

    assert wire.encode_record(record) == (
        b'{"primary":"db0","key":"assam","rating":1,"choices":[1],"clocks":[{"c0":1}]}'
    )


def test_whoever_forwards_a_record_keeps_its_request():
    told = Record("db2", "assam", ASSAM, "abc")

    assert forwarded(TELLING, told) == [told]
    assert forwarded(SILENT, told) == [Record("db2", "assam", ASSAM)]


def test_one_that_coalesces_names_the_newest_request():
    place = replace(TELLING, coalesces=True)

    assert [each.request for each in remembered(place, *WRITES)] == ["write-2"]


@pytest.mark.parametrize("request_", ['"a b"', "7", "null", '["abc"]', '""', f'"{"x" * 65}"'])
def test_a_request_that_is_none_is_dropped_and_the_record_is_heard(request_):
    text = f'{{"primary":"db2","key":"assam","choices":[3],"clocks":[{{"c0":1}}],"request":{request_}}}'

    assert wire.decode_record(text.encode()) == Record("db2", "assam", ASSAM)


def test_a_record_keeps_its_request_on_the_wire():
    record = Record("db2", "assam", ASSAM, "abc")

    assert wire.decode_record(wire.encode_record(record)) == record


def test_a_record_names_its_request_through_redis_and_queue(ground, tmp_path):
    """Sent by a shard that is started with gossip-ids, and by none else."""
    layout = ground.layout
    told = []

    def knows(shard, tea):
        return ask(layout.db(shard), "GET", f"/rating/{tea}").body.get("choices") == [3]

    for index in (0, 1):
        settings = {**shard_settings(index, layout, 2, 1), **({"gossip-ids": True} if index == 0 else {})}
        service = python_service(f"db{index}", "serverDB.py", layout.db(index), tmp_path.joinpath, settings)
        start(service)
        try:
            given = '{"rating": 3, "clock": {"c0": 1}}', {**JSON, "X-Request-ID": f"put-{index}"}
            served(layout.db(index), "PUT", f"/rating/of-db{index}", *given)
            eventually(partial(knows, index, "of-db0"), "gossip has come this far")
        finally:
            stop_these([service])
        told += ask(layout.q, "POST", f"/channel/db{index}/take", "{}").body["records"]

    assert [(each["key"], each.get("request")) for each in told] == [
        ("of-db0", "put-0"),
        ("of-db1", None),
        ("of-db0", None),
    ]
