"""A shard as the load balancer sees it, before a stand-in that writes down what it is asked."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from harness import eventually
from recorder import READING, Recorder, ours, plain

from emporium.batch import Operation
from emporium.failures import BadAnswer, NoAnswer, NotReached
from emporium.shardpeer import ShardPeer
from emporium.wire import Rated

NO_SERVER = 1  # a port on which nothing listens, ever
PATIENCE_S = 30  # of the peers here, so that no test depends on how fast the machine is


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr("emporium.shardpeer.SHARD_S", PATIENCE_S)
    monkeypatch.setattr("emporium.shardpeer.ALL_S", 2 * PATIENCE_S)


@contextmanager
def peer_of(answer, most_waiting=100):
    """(a ShardPeer, the stand-in behind it, a pool of askers)."""
    with Recorder(answer) as shard, ThreadPoolExecutor(100) as pool:
        yield ShardPeer("db0", shard.port, most_waiting), shard, pool


def write_of(rating):
    return Operation("PUT", "assam", Rated(rating, {"c0": 1}))


READ = Operation("GET", "assam")


def ask_behind_one_on_its_way(peer, shard, pool, operations):
    """Futures of one that is held at the shard, and of those that wait behind it, in this order."""
    asked = [pool.submit(peer.ask, READ)]
    eventually(lambda: shard.calls, "the first is sent")
    for number, operation in enumerate(operations):
        asked.append(pool.submit(peer.ask, operation))
        eventually(lambda number=number: len(peer._gatherer._waiting) > number, "it waits")
    return asked


def came_to(asked):
    return [(answer.status, json.loads(bytes(answer.body))) for answer in (each.result() for each in asked)]


# ---- together


def test_one_goes_as_the_course_has_it_and_those_that_wait_behind_it_in_one_call():
    with peer_of(ours) as (peer, shard, pool):
        with shard.holding():
            asked = ask_behind_one_on_its_way(peer, shard, pool, [write_of(1), READ, Operation("DELETE", "chai")])

        reading = json.loads(READING)
        assert came_to(asked) == [(200, reading), (200, {"rating": 1}), (200, reading), (200, {"rating": None})]
        assert [(call.method, call.path) for call in shard.calls] == [("GET", "/rating/assam"), ("POST", "/operations")]
        assert shard.calls[1].operations == [
            {"method": "PUT", "tea": "assam", "rated": {"rating": 1, "clock": {"c0": 1}}},
            {"method": "GET", "tea": "assam"},
            {"method": "DELETE", "tea": "chai"},
        ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"what?", BadAnswer),
        (b'{"outcomes":{}}', BadAnswer),
        (b'{"outcomes":[{"status":200}]}', BadAnswer),
        (b'{"outcomes":[]}', NoAnswer),
        (b'{"outcomes":[{"status":200,"body":{}},{"status":200,"body":{}},{"status":200,"body":{}}]}', NoAnswer),
        *(
            (b'{"outcomes":[{"status":200,"body":{}},%b]}' % odd, BadAnswer)
            for odd in (
                b'{"status":0,"body":{}}',
                b'{"status":204,"body":{}}',
                b'{"status":99999,"body":{}}',
                b'{"status":200,"body":"x"}',
                b'{"status":200,"body":{},"merge":"\\r\\nX-Evil: 1"}',
            )
        ),
    ],
)
def test_what_is_no_answer_to_these_operations_is_nobodys(text, expected):
    def answer(method, path, body):
        return (200, {}, text) if path == "/operations" else ours(method, path, body)

    with peer_of(answer) as (peer, shard, pool):
        with shard.holding():
            first, *others = ask_behind_one_on_its_way(peer, shard, pool, [READ, READ])

        assert first.result().status == 200
        assert [type(each.exception()) for each in others] == [expected] * 2


def test_a_refusal_of_the_whole_call_is_said_to_each():
    def answer(method, path, body):
        return (503, {"Retry-After": "1"}, b"{}") if path == "/operations" else ours(method, path, body)

    with peer_of(answer) as (peer, shard, pool):
        with shard.holding():
            _first, *others = ask_behind_one_on_its_way(peer, shard, pool, [READ, READ])

        assert [(each.result().status, each.result().headers["Retry-After"]) for each in others] == [(503, "1")] * 2


def test_a_peer_that_does_not_gather_sends_each_by_itself():
    with Recorder(ours) as shard, ThreadPoolExecutor(8) as pool:
        peer = ShardPeer("db0", shard.port, most_waiting=8, gathers=False)
        with shard.holding():
            asked = [pool.submit(peer.ask, write_of(number)) for number in range(8)]
            eventually(lambda: len(shard.calls) == 8, "all are there at the same time")

        assert came_to(asked) == [(200, {"rating": number}) for number in range(8)]
        assert {call[:2] for call in shard.calls} == {("PUT", "/rating/assam")}


# ---- how many may wait


def test_so_many_wait_for_a_shard_whatever_they_want_and_the_next_is_refused_at_once():
    with peer_of(ours, most_waiting=4) as (peer, shard, pool):
        with shard.holding():
            asked = ask_behind_one_on_its_way(peer, shard, pool, [READ])
            asked.append(pool.submit(peer.ask_alone, READ, PATIENCE_S))
            asked.append(pool.submit(peer.call, "GET", "/rating/chai"))
            eventually(lambda: len(shard.calls) == 3, "one waits here, and three there")

            for one_more in (
                lambda: peer.ask(READ),
                lambda: peer.ask_alone(READ, PATIENCE_S),
                lambda: peer.call("GET", "/readyz"),
            ):
                with pytest.raises(NotReached, match=r"^db0 at .* has 4 requests waiting already$"):
                    one_more()
            assert not any(each.done() for each in asked)

        assert [status for status, _ in came_to(asked)] == [200] * 4
        assert [peer.ask(READ).status for _ in range(5)] == [200] * 5


def test_whoever_was_answered_or_failed_makes_room():
    with peer_of(ours, most_waiting=1) as (peer, _shard, _pool):
        assert [peer.ask(READ).status for _ in range(3)] == [200] * 3

    nobody = ShardPeer("db0", NO_SERVER, most_waiting=1)
    for _ in range(3):
        with pytest.raises(NotReached, match=r"refused$"):
            nobody.ask(READ)


# ---- a plain course shard


def test_those_that_waited_for_a_plain_shard_are_sent_one_by_one_and_at_the_same_time():
    """Each by its own asker, with a deadline of its own: a plain shard may be slow, and 256 are many."""
    with peer_of(plain) as (peer, shard, pool):
        with shard.holding():
            asked = ask_behind_one_on_its_way(peer, shard, pool, [write_of(number) for number in range(1, 21)])
        found_out = [("GET", "/rating/assam"), ("POST", "/operations")]

        assert came_to(asked) == [(200, json.loads(READING)), *((200, {"rating": number}) for number in range(1, 21))]
        assert [call[:2] for call in shard.calls] == found_out + [("PUT", "/rating/assam")] * 20

        shard.calls.clear()
        with shard.holding():
            asked = [pool.submit(peer.ask, READ) for _ in range(20)]
            eventually(lambda: len(shard.calls) == 20, "all are there at the same time")
        assert [status for status, _ in came_to(asked)] == [200] * 20
        assert {call.path for call in shard.calls} == {"/rating/assam"}


def test_what_goes_wrong_with_one_at_a_plain_shard_is_no_one_elses():
    def answer(method, path, body):
        return (500, {}, b"odd") if b'"rating":7' in body and path != "/operations" else plain(method, path, body)

    with peer_of(answer) as (peer, shard, pool):
        with shard.holding():
            _first, *others = ask_behind_one_on_its_way(peer, shard, pool, [write_of(6), write_of(7), write_of(8)])

        assert [each.result().status for each in others] == [200, 500, 200]


def test_a_shard_of_ours_that_takes_a_plain_ones_place_is_given_many_in_one_call_again(monkeypatch):
    monkeypatch.setattr("emporium.peers.JUDGED_S", 0)
    behind = [plain]

    def answer(*call):
        status, headers, text = behind[0](*call)
        return status, {**headers, "Connection": "close"}, text

    with peer_of(answer) as (peer, shard, pool):
        with shard.holding():
            ask_behind_one_on_its_way(peer, shard, pool, [READ, READ])
        eventually(lambda: len(shard.calls) == 4, "it was found to be plain, and is given single calls")

        behind[0] = ours
        shard.calls.clear()
        with shard.holding():
            asked = ask_behind_one_on_its_way(peer, shard, pool, [READ] * 5)

        assert [status for status, _ in came_to(asked)] == [200] * 6
        assert [call.path for call in shard.calls] == ["/rating/assam", "/operations"]
