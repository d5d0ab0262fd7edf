"""The Python client in front of servers that misbehave as told: tries are counted, no answer is believed blindly."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import eventually
from scriptedserver import STALL, ScriptedServer, Slowly, answer

from emporium.client import (
    BadAnswer,
    BadRequest,
    Conflict,
    NotRated,
    TeaError,
    TeaStore,
    Unavailable,
    Unsure,
    VectorClock,
)
from emporium.client.calls import FIRST_WAIT_S, Calls

SLACK_S = 5  # for a machine that has other things to do: less than three tries would take
READ = {"rating": 3, "choices": [3], "clocks": [{"c0": 1}]}
OK_READ = answer(200, READ)
OK_WRITE = answer(200, {"rating": 3}, X_Merge="stored")
BUSY = answer(503, Retry_After="0")
PERHAPS = answer(504)


def clock(**entries):
    return VectorClock.fromDict(entries)


def took_s(begun):
    return time.monotonic() - begun


def test_a_clock_too_large_for_a_header_is_read_strongly():
    large = {f"{'n' * 60}-{number}": 1 for number in range(64)}
    wide = answer(200, {"rating": 3, "choices": [3], "clocks": [large]})
    with ScriptedServer(wide) as server, TeaStore(server.url) as store:
        session = store.session()
        session.get("wide")
        session.get("wide")

        assert [asked.path for asked in server.asked] == ["/rating/wide?consistency=weak", "/rating/wide"]


# ---- connections


def test_threads_share_a_store_and_its_connections():
    def told(asked):
        time.sleep(0.005)  # a server that takes its time, so that calls overlap
        return answer(
            200, {**READ, "rating": int(asked.path.rpartition("-")[2])}, X_Request_ID=asked.headers["x-request-id"]
        )

    with ScriptedServer(told) as server, TeaStore(server.url, connections=8) as store:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda i: store.get(f"tea-{i}", request_id=f"of-{i}"), range(200)))

        assert [(reading.rating, reading.request_id) for reading in found] == [(i, f"of-{i}") for i in range(200)]
        assert len({asked.connection for asked in server.asked}) <= 8


def test_who_waits_for_other_threads_that_observe_the_tea_waits_no_longer_than_its_deadline():
    may_answer = threading.Event()

    def told(asked):
        may_answer.wait(20)
        return OK_READ if asked.method == "GET" else OK_WRITE

    with ScriptedServer(told) as server, TeaStore(server.url, node="anna") as store, ThreadPoolExecutor() as threads:
        first = threads.submit(store.observe, "x", 3, deadline_s=20)
        eventually(lambda: server.asked, "the first thread has asked")

        with pytest.raises(Unavailable, match=r"other threads observe x.*request of-bo"):
            store.observe("x", 4, deadline_s=0.2, request_id="of-bo")

        assert not first.done()
        may_answer.set()
        assert first.result(timeout=20).outcome == "stored"


def test_a_process_that_was_forked_off_has_connections_of_its_own():
    def told(asked):
        return answer(200, READ, X_Request_ID=asked.headers["x-request-id"])

    with ScriptedServer(told) as server, TeaStore(server.url) as store:
        store.get("x")

        child = os.fork()
        if child == 0:
            try:
                os._exit(store.get("x", request_id="of-the-child").request_id != "of-the-child")
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert store.get("x", request_id="of-the-parent").request_id == "of-the-parent"

        assert [asked.connection for asked in server.asked] == [1, 2, 1]


# ---- tries, counted


@pytest.fixture
def calls():
    """Makes Calls whose waits are noted in `.slept` and take no time; chance says always 1."""

    def make(server):
        made = Calls(server.url, 4, draw=lambda: 1.0, sleep=slept.append)
        made.slept = slept
        return made

    slept = []
    return make


def ask(made, method, deadline_s=60):
    body = b"{}" if method == "PUT" else None
    return made.call(method, "/rating/x", time.monotonic() + deadline_s, "some-id", body)


@pytest.mark.parametrize(
    ("method", "script", "requests", "comes_to"),
    [
        ("GET", [BUSY, BUSY, OK_READ], 3, None),
        ("GET", [PERHAPS, None, OK_READ], 3, None),
        ("GET", [BUSY], 3, Unavailable),
        ("GET", [PERHAPS], 3, Unavailable),
        ("GET", [answer(400)], 1, BadRequest),
        ("GET", [answer(404)], 1, BadAnswer),
        ("GET", [answer(500)], 1, BadAnswer),
        ("GET", [answer(502)], 1, Unavailable),
        ("PUT", [BUSY, OK_WRITE], 2, None),
        ("PUT", [PERHAPS, OK_WRITE], 2, None),
        ("PUT", [None, OK_WRITE], 2, None),
        ("PUT", [answer(502)], 1, Unsure),
        ("PUT", [answer(500)], 1, BadAnswer),
        ("PUT", [answer(409)], 1, Conflict),
        ("PUT", [answer(422)], 1, BadRequest),
        ("DELETE", [BUSY, answer(200, {"rating": None})], 2, None),
        ("DELETE", [PERHAPS, answer(404)], 1, Unsure),
        ("DELETE", [None, answer(404)], 1, Unsure),
        ("DELETE", [answer(404)], 1, NotRated),
        # Where one try may have been carried out, no later one makes it sure that nothing was done.
        ("PUT", [PERHAPS, BUSY, BUSY], 3, Unsure),
        ("PUT", [PERHAPS, answer(409)], 2, Unsure),
        ("DELETE", [BUSY, PERHAPS], 2, Unsure),
    ],
)
def test_only_what_may_be_repeated_is_repeated(method, script, requests, comes_to, calls):
    with ScriptedServer(*script) as server:
        made = calls(server)

        if comes_to is None:
            assert ask(made, method).tries == requests
        else:
            with pytest.raises(TeaError) as caught:
                ask(made, method)
            assert (type(caught.value), caught.value.tries) == (comes_to, requests)
            assert caught.value.request_id == "some-id"

        assert len(server.asked) == requests
        assert len(made.slept) == requests - 1
        assert {asked.headers["x-request-id"] for asked in server.asked} == {"some-id"}


def test_waits_grow_and_are_as_long_as_was_asked_for(calls):
    with ScriptedServer(answer(503), answer(503, Retry_After="2"), OK_READ) as server:
        made = calls(server)
        ask(made, "GET")

        assert made.slept == [FIRST_WAIT_S, 2 + 2 * FIRST_WAIT_S]


def test_no_try_begins_that_would_not_have_the_time_to_end(calls):
    with ScriptedServer(answer(503, Retry_After="1")) as server:
        made = calls(server)
        with pytest.raises(Unavailable):
            ask(made, "GET", deadline_s=2)

        assert (len(server.asked), made.slept) == (1, [])


def test_an_error_says_what_was_answered_and_under_which_request():
    with ScriptedServer(answer(422, X_Request_ID="of-the-server")) as server, TeaStore(server.url) as store:
        with pytest.raises(BadRequest) as caught:
            store.put("x", 1, clock(c0=1), request_id="mine")

        assert str(caught.value) == "422 Unprocessable Entity: told to say 422 (request of-the-server)"
        assert server.asked[0].headers["x-request-id"] == "mine"
        with pytest.raises(ValueError, match="request id"):
            store.get("x", request_id="a\r\nb")


def test_connections_are_kept_and_the_session_of_requests_keeps_nothing_else():
    cookie = answer(200, READ, Set_Cookie="a=b; Path=/")
    with ScriptedServer(cookie) as server, TeaStore(server.url) as store:
        for _ in range(5):
            store.get("x")

        assert {asked.connection for asked in server.asked} == {1}
        assert not any("cookie" in asked.headers for asked in server.asked)


# ---- answers that are none


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
MISSHAPEN = {
    "html": HEAD + b"13\r\n\r\n<html></html>",
    "no object": answer(200, [1]),
    "another shape": answer(200, {"hello": 1}),
    "a rating that is none": answer(200, {"rating": "3", "choices": ["3"], "clocks": [{"c0": 1}]}),
    "a clock that is none": answer(200, {"rating": 3, "choices": [3], "clocks": [{"c0": -1}]}),
    "more choices than clocks": answer(200, {"rating": 3, "choices": [3, 4], "clocks": [{"c0": 1}]}),
    "no number": HEAD + b'45\r\n\r\n{"rating": NaN, "choices": [], "clocks": [] }',
    "no finite number": HEAD + b'54\r\n\r\n{"rating":1e999,"choices":[1e999],"clocks":[{"c0":1}]}',
    "nested": HEAD + b"200000\r\n\r\n" + b"[" * 200_000,
    "an outcome that is none": answer(200, {"rating": "x"}, X_Merge="perhaps"),
    "a clock in a header that is none": answer(200, {**READ, "rating": None}, X_Clock="[]"),
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "a redirect to no address": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "a redirect in no language": b"HTTP/1.1 307 Found\r\nLocation: /\xff\r\nContent-Length: 0\r\n\r\n",
    "a teapot": answer(418),
}


@pytest.mark.parametrize("said", MISSHAPEN.values(), ids=MISSHAPEN)
def test_what_is_no_tea_store_is_a_bad_answer(said):
    with ScriptedServer(said) as server, TeaStore(server.url, node="anna", deadline_s=3) as store:
        with pytest.raises(BadAnswer):
            store.get("x")
        with pytest.raises(BadAnswer):
            store.list()

        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\xff\n\n",
        b"SSH-2.0-OpenSSH\r\n",
        HEAD + b'100\r\n\r\n{"rating"',
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200,
    ],
    ids=["bytes", "another protocol", "cut short", "many headers"],
)
def test_what_is_no_http_leaves_a_write_unsure(said):
    with ScriptedServer(lambda asked: said) as server, TeaStore(server.url, deadline_s=0.5) as store:
        with pytest.raises(Unsure) as caught:
            store.put("x", 3, clock(c0=1))
        assert caught.value.may_have_happened
        with pytest.raises(Unavailable):
            store.get("x")


@pytest.mark.parametrize(
    "said",
    [STALL, Slowly(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 99, 0.05), Slowly(HEAD + b"999\r\n\r\n" + b" " * 999, 0.02)],
    ids=["nothing", "headers byte by byte", "the body byte by byte"],
)
def test_the_deadline_is_that_of_the_whole_call(said):
    with ScriptedServer(said) as server, TeaStore(server.url, deadline_s=0.5) as store:
        begun = time.monotonic()
        with pytest.raises(Unsure, match="did not answer in time"):
            store.put("x", 3, clock(c0=1))
        assert took_s(begun) < 0.5 + SLACK_S


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (HEAD, "more than 1000 bytes"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: ", "302 Found"),
    ],
    ids=["an answer", "a redirect"],
)
def test_an_endless_answer_is_given_up(head, words, monkeypatch):
    monkeypatch.setattr("emporium.client.calls.MOST_BYTES", 1000)
    with ScriptedServer(head + b"99999999\r\n\r\n" + b" " * 200_000) as server, TeaStore(server.url) as store:
        with pytest.raises(BadAnswer, match=words):
            store.get("x")
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda store: store.get(None), TypeError, "a tea's name is a str, not None"),
        (lambda store: store.delete(5), TypeError, "a tea's name is a str, not 5"),
        (lambda store: store.put("x", 3, {"c0": 1}), TypeError, "a clock is a VectorClock, as VectorClock.fromDict"),
        (lambda store: store.get("x", deadline_s=float("nan")), ValueError, "not NaN"),
        (lambda store: store.list(deadline_s=float("nan")), ValueError, "not NaN"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words_before_anything_is_sent(call, error, words):
    with ScriptedServer(OK_READ) as server, TeaStore(server.url) as store:
        with pytest.raises(error, match=words):
            call(store)

        assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:2500",
        "ftp://localhost",
        "http://",
        "http://x:99999",
        "http://[::",
        "http://x/?a=b",
        "http://*",
        "http://x?",
        "http://x/#",
    ],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="no address"):
        TeaStore(url)


@pytest.mark.parametrize(
    "call", [lambda store: store.get("x"), lambda store: store.put("x", 3, clock(c0=1))], ids=["GET", "PUT"]
)
def test_a_password_in_the_address_is_sent_and_stands_in_no_error(call):
    with ScriptedServer(STALL) as server, TeaStore(server.url.replace("//", "//anna:secret@"), deadline_s=1) as store:
        with pytest.raises(TeaError, match="did not answer in time") as caught:
            call(store)

        assert server.url in str(caught.value)
        assert "secret" not in str(caught.value)
        assert server.asked[0].headers["authorization"].startswith("Basic ")
