"""What keeps one that hangs from holding up the others: bulkhead, turn, watch, and a guarded peer, each alone."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from harness import eventually

from emporium.bulkhead import Bulkhead
from emporium.failures import NoAnswer, NotReached
from emporium.guard import Guarded, Watch
from emporium.peers import Peer
from emporium.turn import Busy, Turn

PATIENCE_S = 1.0


class Full(Exception):
    pass


# ---- a bulkhead


def test_a_bulkhead_lets_so_many_in_and_refuses_the_next_at_once():
    bulkhead = Bulkhead(2, Full)

    with bulkhead:
        assert not bulkhead.is_full
        with bulkhead:
            assert bulkhead.is_full
            with pytest.raises(Full), bulkhead:
                pytest.fail("a third one is inside")
    assert not bulkhead.is_full


def test_a_bulkhead_has_room_again_for_whoever_comes_after_one_that_left():
    bulkhead = Bulkhead(1, Full)
    with pytest.raises(ZeroDivisionError), bulkhead:
        raise ZeroDivisionError

    with bulkhead, pytest.raises(Full), bulkhead:
        pytest.fail("a second one is inside")
    with bulkhead:
        pass


def test_a_bulkhead_always_has_room_for_one():
    with Bulkhead(0, Full):
        pass


# ---- a turn


def test_turns_are_taken_one_at_a_time():
    turn = Turn("db0", most_waiting=8, patience_s=10)
    inside, most_inside = [], []

    def work(number):
        with turn:
            inside.append(number)
            most_inside.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))

    assert (len(most_inside), set(most_inside)) == (200, {1})


def test_whoever_waits_too_long_for_a_turn_is_told_and_leaves_no_trace():
    turn = Turn("db0", most_waiting=1, patience_s=0.01)

    with turn:
        for _ in range(3):  # each has a place to wait in
            with pytest.raises(Busy, match=r"^db0 is busy: other requests took 0\.01 s and more$"), turn:
                pytest.fail("two at a time")
    with turn:
        pass


def test_beyond_so_many_that_wait_the_next_is_refused_at_once():
    """Three ask while somebody is inside: two wait, and one is refused long before its patience ends."""
    turn = Turn("db0", most_waiting=2, patience_s=3600)

    def wait():
        try:
            with turn:
                return "had its turn"
        except Busy as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        with turn:
            asked = [pool.submit(wait) for _ in range(3)]
            [refused] = eventually(lambda: [each for each in asked if each.done()], "one is refused")
        came_to = [each.result() for each in asked if each is not refused]

    assert refused.result() == "db0 is busy: 2 requests wait already"
    assert came_to == ["had its turn"] * 2


# ---- a watch


def test_a_watch_probes_until_what_it_watches_is_back_and_says_so_once(monkeypatch):
    monkeypatch.setattr("emporium.guard.PROBE_S", 0.001)
    answers = iter(["still away", "and still", None])
    returned = []
    watch = Watch("the kettle", lambda: next(answers), on_return=lambda: returned.append(watch.trouble))
    assert watch.trouble is None

    watch.failed("cold")

    eventually(lambda: returned, "it is back")
    assert returned == [None]
    assert next(answers, "asked three times") == "asked three times"


def test_a_watch_says_what_went_wrong_last(monkeypatch):
    monkeypatch.setattr("emporium.guard.PROBE_S", 0.001)
    may_return = threading.Event()
    watch = Watch("the kettle", lambda: None if may_return.is_set() else "still cold")

    watch.failed("cold")

    eventually(lambda: watch.trouble == "still cold", "the probe's words")
    may_return.set()
    eventually(lambda: watch.trouble is None, "it is back")


def test_a_watch_has_one_probe_however_many_calls_fail(monkeypatch):
    asked, may_answer = [], threading.Event()
    monkeypatch.setattr("emporium.guard.PROBE_S", 0)
    watch = Watch("the kettle", lambda: (asked.append(1), may_answer.wait(10), None)[-1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(watch.failed, ["cold"] * 50))
    may_answer.set()

    eventually(lambda: watch.trouble is None, "it is back")
    assert len(asked) == 1


# ---- a guarded peer


@contextmanager
def silent_server():
    """(port, connections that came): something that accepts, and never answers."""
    came = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def accept():
            while True:
                try:
                    came.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], came
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in came:
                connection.close()


def test_a_peer_that_timed_out_is_left_alone(monkeypatch):
    for period in ("SOON_S", "PROBE_S"):
        monkeypatch.setattr(f"emporium.guard.{period}", 3600)
    with silent_server() as (port, came):
        guarded = Guarded(Peer("db7", "127.0.0.1", port, PATIENCE_S))

        with pytest.raises(NoAnswer, match=r"^db7 at .* did not answer within 1 s$"):
            guarded.call("PUT", "/rating/assam", b"{}")
        for _ in range(20):
            with pytest.raises(NotReached, match=r"left alone until it answers again$"):
                guarded.call("PUT", "/rating/assam", b"{}")

        eventually(lambda: came, "the server has the connection")
        assert len(came) == 1


def test_who_had_less_than_its_deadline_is_not_left_alone(monkeypatch):
    """As a shard that a weak read asks last, with what was left of its time."""
    monkeypatch.setattr("emporium.guard.PROBE_S", 3600)
    with silent_server() as (port, came):
        guarded = Guarded(Peer("db7", "127.0.0.1", port, PATIENCE_S))

        for _ in range(2):
            with pytest.raises(NoAnswer):
                guarded.call("GET", "/rating/assam", deadline_s=PATIENCE_S / 4)

        eventually(lambda: len(came) == 2, "it was asked twice")


def test_a_peer_that_refuses_is_asked_again_the_next_time():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # so that the port is nobody else's, and does not listen
        guarded = Guarded(Peer("db7", "127.0.0.1", silent.getsockname()[1], PATIENCE_S))

        for _ in range(3):
            with pytest.raises(NotReached, match=r"Connection refused"):
                guarded.call("GET", "/rating/assam")


def test_a_call_may_have_a_shorter_deadline_than_its_peer():
    with silent_server() as (port, _came):
        peer = Peer("db7", "127.0.0.1", port, deadline_s=3600)

        with pytest.raises(NoAnswer, match=r"within 0\.25 s$"):
            peer.call("GET", "/rating/assam", deadline_s=PATIENCE_S / 4)
