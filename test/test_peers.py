"""Calls to other services, at servers that do on a connection exactly what a test tells them."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from harness import CALL_S

from emporium.failures import NoAnswer, NotReached
from emporium.peers import Answer, Peer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\nX-Merge: stored\r\n\r\n{}"
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
SAID = {"answer": ANSWER, "refuse": REFUSAL}
METHODS = [("GET", None), ("PUT", b"{}"), ("POST", b"{}"), ("DELETE", None)]


@contextmanager
def server(*connections):
    """Inside, (a Peer of a server, the requests that it read). Each of its connections in turn does as it is told:

    "answer" a request, "refuse" it, or "hang up" behind one. At the end of its words it closes.
    """
    requests, left = [], threading.Event()

    def serve(connection, words):
        with connection:
            connection.settimeout(CALL_S)
            for word in words:
                if request := connection.recv(9999):
                    requests.append(request.split()[0].decode())
                if word in SAID:
                    connection.sendall(SAID[word])
        left.set()

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:
        listener.settimeout(CALL_S)
        peer = Peer("db7", "127.0.0.1", listener.getsockname()[1], CALL_S, connections=4)
        peer.left = left  # set when a connection is closed
        serving = threads.submit(lambda: [threads.submit(serve, listener.accept()[0], words) for words in connections])
        yield peer, requests
        for each in serving.result():
            each.result()


def test_an_answer_has_status_body_and_headers():
    with server(["answer"]) as (peer, _):
        assert peer.call("GET", "/rating/assam") == Answer(
            200, b"{}", {"Content-Length": "2", "Content-Type": "application/json", "X-Merge": "stored"}
        )


def test_an_answer_that_comes_before_all_of_the_body_is_sent_is_heard():
    """The other side refuses a body for its size and closes the connection: what is sent behind that finds it cut."""
    large = b" " * 70_000
    with server(*[["refuse"]] * 200) as (peer, _):
        answers = [peer.call("PUT", "/x", large) for _ in range(200)]

    assert {answer.status for answer in answers} == {413}


def test_calls_one_after_the_other_share_a_connection():
    with server(["answer"] * len(METHODS[:3])) as (peer, requests):
        for method, body in METHODS[:3]:
            peer.call(method, "/x", body)

        assert requests == ["GET", "PUT", "POST"]


@pytest.mark.parametrize(("method", "body"), METHODS)
def test_a_connection_that_the_other_side_has_closed_is_opened_anew_without_an_error(method, body):
    """As that of a service which was restarted."""
    with server(["answer"], ["answer"]) as (peer, requests):
        peer.call("PUT", "/x", b"{}")
        assert peer.left.wait(CALL_S)

        assert peer.call(method, "/x", body).is_ok
        assert requests == ["PUT", method]


@pytest.mark.parametrize(("method", "body"), METHODS[1:3])
def test_what_may_have_been_carried_out_is_not_sent_again(method, body):
    """The second request was read, and then the connection ended: on a kept one libcurl would try once more."""
    with server(["answer", "hang up"]) as (peer, requests):
        peer.call("PUT", "/x", b"{}")

        with pytest.raises(NoAnswer, match=r"^db7 at .* did not answer: the connection ended$"):
            peer.call(method, "/x", body)

    assert requests == ["PUT", method]


def test_a_delete_which_may_have_been_carried_out_is_not_sent_again():
    """It has no body that could be given only once, so it never goes over a kept connection."""
    with server(["answer", "hang up"], ["hang up"]) as (peer, requests):
        peer.call("PUT", "/x", b"{}")

        with pytest.raises(NoAnswer, match=r"^db7 at .* did not answer: "):
            peer.call("DELETE", "/x")

    assert requests == ["PUT", "DELETE"]


def test_a_get_that_takes_something_away_is_not_sent_again():
    with server(["answer", "hang up"], ["hang up"]) as (peer, requests):
        peer.call("PUT", "/x", b"{}")

        with pytest.raises(NoAnswer, match=r"^db7 at .* did not answer: "):
            peer.call("GET", "/q/db0", may_repeat=False)

    assert requests == ["PUT", "GET"]


def test_an_answer_without_end_is_cut(monkeypatch):
    monkeypatch.setattr("emporium.peers.MOST_BYTES", 1)
    with server(["answer"]) as (peer, _), pytest.raises(NoAnswer, match=r"Maximum file size exceeded"):
        peer.call("GET", "/x")


def test_where_nobody_listens_nothing_was_done():
    refusal = r"^db7 at http://127.0.0.1:\d+ cannot be reached: Connection refused$"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody else can listen there meanwhile

        with pytest.raises(NotReached, match=refusal):
            Peer("db7", "127.0.0.1", taken.getsockname()[1], CALL_S).call("PUT", "/x", b"{}")


def test_one_that_takes_no_connection_was_not_reached():
    """Its backlog is full, so that not even a first packet is answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with socket.create_connection(listener.getsockname()), socket.socket() as another:
            another.setblocking(False)
            another.connect_ex(listener.getsockname())

            with pytest.raises(NotReached, match=r"^db7 at .* takes no connection$") as refused:
                Peer("db7", "127.0.0.1", listener.getsockname()[1], CALL_S).call("PUT", "/x", b"{}")

    assert refused.value.is_timeout


def test_one_that_hangs_up_on_the_first_request_gave_no_answer():
    with server(["hang up"]) as (peer, _), pytest.raises(NoAnswer, match=r"^db7 at .* did not answer: ") as failed:
        peer.call("GET", "/x")

    assert not failed.value.is_timeout


def test_no_proxy_comes_between(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with server(["answer"]) as (peer, _):
        assert peer.call("GET", "/x").is_ok
