"""What the queue offers to consumers that keep no cursor, through a real one and the Python client.

What a lease is worth in every order of calls is tested on the channel itself, in test_channel.py.
"""

import json
import threading
import time
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from asking import ask, assert_answers, assert_problem
from harness import CALL_S, start

from emporium.cluster import python_service
from emporium.ports import Ports
from emporium.service import stop_these
from queueservice import BadAnswer, Queue
from vectorclock import VectorClock

WAIT_S = 20


@pytest.fixture(scope="module")
def start_queue(run_folder):
    """settings -> a running queue with these."""
    started = []

    def start_with(**settings):
        port = Ports.find_free(1).q
        log = run_folder / f"consumers-{len(started)}.log"
        made = python_service("q", "serverQ.py", port, lambda name: log, {"port": port, **settings})
        started.append(made)
        start(made)
        return made

    yield start_with
    stop_these(started)


@pytest.fixture(scope="module")
def service(start_queue, tmp_path_factory):
    return start_queue(**{"data-dir": str(tmp_path_factory.mktemp("consumers"))})


@pytest.fixture(scope="module")
def queue(service):
    return Queue(service.port, deadline_s=CALL_S)


fresh_number = count()


@pytest.fixture
def channel():
    """A name that no other test uses."""
    return f"jobs {next(fresh_number)}"


@pytest.fixture
def post(service, channel):
    """(what, body) -> the answer to that on the channel."""
    path = channel.replace(" ", "%20")
    return lambda what, body: ask(service.port, "POST", f"/channel/{path}/{what}", json.dumps(body))


# ---- get, lease, ack, release


def test_many_are_got_in_one_call_and_are_gone(queue, post, channel):
    for number in range(3):
        queue.put(channel, {"n": number})

    assert_answers(post("get", {"most": 2}), {"records": [{"n": 0}, {"n": 1}]})
    assert_answers(post("get", {}), {"records": [{"n": 2}]})
    assert_answers(post("get", {}), {"records": []})


def test_a_job_is_leased_worked_on_and_acknowledged(queue, channel):
    queue.put(channel, {"clocks": [VectorClock.fromDict({"c0": 1})]})

    (job,) = queue.lease(channel, most=5)

    assert (job.message, job.offset, job.deliveries) == ({"clocks": [VectorClock.fromDict({"c0": 1})]}, 0, 1)
    assert queue.lease(channel) == []
    assert queue.ack(channel, [job.receipt]) == []
    assert queue.ack(channel, [job.receipt]) == [job.receipt]
    assert queue.info(channel)["floor"] == 1


def test_a_job_whose_lease_ends_is_given_to_the_next_who_waits(queue, channel):
    queue.put(channel, {"n": 0})
    (lost,) = queue.lease(channel, lease_s=0.2)

    (job,) = queue.lease(channel, wait_s=WAIT_S)

    assert (job.message, job.deliveries) == ({"n": 0}, 2)
    assert queue.ack(channel, [lost.receipt]) == [lost.receipt]


def test_a_job_that_is_released_waits_again_at_once(queue, channel):
    queue.put(channel, {"n": 0})
    (job,) = queue.lease(channel, lease_s=3600)

    assert queue.release(channel, [job.receipt]) == []

    assert queue.get(channel) == {"n": 0}


def test_leases_can_be_used_beside_gets_and_a_cursor(queue, channel):
    for number in range(4):
        queue.put(channel, {"n": number})
    (job,) = queue.lease(channel)

    assert queue.get(channel) == {"n": 1}
    assert queue.take(channel, None) == ([], None, 2)  # the job is not done with
    queue.ack(channel, [job.receipt])
    assert queue.take(channel, None).records == [b'{"n":2}', b'{"n":3}']


def test_too_many_leases_are_refused_until_some_are_acknowledged(queue, post, channel):
    queue.put_all(channel, [b'{"n":%d}' % number for number in range(1001)])
    leased = [job for _ in range(4) for job in queue.lease(channel, most=256)]

    refused = post("lease", {})

    assert len(leased) == 1000
    assert_problem(refused, 429, "1000")
    queue.ack(channel, [leased[0].receipt])
    assert queue.lease(channel)[0].message == {"n": 1000}


def test_unknown_channels_have_nothing_and_know_no_receipt(queue, channel):
    assert queue.lease(channel) == []
    assert queue.ack(channel, ["0.x"]) == queue.release(channel, ["0.x"]) == ["0.x"]
    assert channel not in queue.channels()


def test_many_are_put_in_one_call_or_none(queue, channel):
    queue.put_many(channel, [{"n": 0}, {"clocks": [VectorClock.fromDict({"c0": 1})]}])

    with pytest.raises(TypeError):
        queue.put_many(channel, [{"n": 1}, "text"])
    with pytest.raises(BadAnswer, match="400"):
        queue.put_all(channel, [b'{"n":1}', b"{"])

    assert queue.info(channel)["waiting"] == 2
    assert queue.get(channel) == {"n": 0}
    assert queue.get(channel) == {"clocks": [VectorClock.fromDict({"c0": 1})]}


# ---- waiting


def test_a_get_that_waits_is_answered_when_something_is_put(queue, channel):
    got = []
    waiting = threading.Thread(target=lambda: got.append(queue.get(channel, wait_s=WAIT_S)))
    waiting.start()

    queue.put(channel, {"n": 1})

    waiting.join(WAIT_S / 2)
    assert got == [{"n": 1}]


def test_a_get_that_waits_is_answered_with_nothing_when_its_time_is_over(queue, channel):
    began = time.monotonic()

    assert queue.get(channel, wait_s=0.2) is None

    assert time.monotonic() - began >= 0.2


def test_those_who_wait_leave_room_for_others_and_end_with_the_queue(start_queue):
    """Each of them holds a thread of the queue, so only a quarter of the threads may be held."""
    service = start_queue(threads=16)
    queue = Queue(service.port, deadline_s=CALL_S)

    with ThreadPoolExecutor(5) as at_once:
        waiting = [at_once.submit(queue.lease, "jobs", wait_s=WAIT_S) for _ in range(5)]
        first, held = futures.wait(waiting, WAIT_S / 2, futures.FIRST_COMPLETED)
        queue.put("other", {"n": 1})
        stop_these([service])

    assert "as many as may be wait" in str(first.pop().exception())
    assert [each.result() for each in held] == [[]] * 4


# ---- to look at


def test_info_and_peek_show_a_channel_and_change_nothing(queue, channel):
    queue.put_all(channel, [b'{"n":0}', b'{"n":1}', b'{"n":2}'])
    queue.get(channel)
    queue.lease(channel)

    shown = [(each["offset"], each["record"]) for each in queue.peek(channel, most=2)]
    info = queue.info(channel)

    assert shown == [(0, {"n": 0}), (1, {"n": 1})]
    assert abs(queue.peek(channel)[0]["put_at"] - time.time()) < 60
    assert (info["waiting"], info["leased"], info["floor"], info["next"]) == (1, 1, 1, 3)
    assert queue.channels()[channel].keys() == info.keys()
    assert queue.get(channel) == {"n": 2}


def test_of_a_channel_that_is_not_there_nothing_can_be_shown(queue, channel):
    for look in (queue.peek, queue.info):
        with pytest.raises(BadAnswer, match="404"):
            look(channel)


# ---- limits


def test_a_full_channel_drops_its_oldest_and_says_so(start_queue):
    service = start_queue(**{"most-records": 3})
    queue = Queue(service.port, deadline_s=CALL_S)

    lengths = [queue.put("db0", {"n": number}) for number in range(5)]

    assert lengths == [1, 2, 3, 3, 3]
    assert queue.info("db0")["dropped"] == 2
    assert queue.get("db0") == {"n": 2}


def test_beyond_a_thousand_channels_there_is_no_room(start_queue):
    queue = Queue(start_queue().port, deadline_s=CALL_S)
    for number in range(1000):
        queue.put(f"c{number}", {})

    with pytest.raises(BadAnswer, match="507"):
        queue.put("one more", {})
    assert queue.get("one more", wait_s=0.01) is None
    assert queue.lease("yet another", wait_s=0.01) == []

    assert queue.put("c0", {}) == 2
    queue.clear()
    assert queue.put("one more", {}) == 1


# ---- bad input


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("get", {"most": 0}),
        ("get", {"most": 257}),
        ("get", {"most": True}),
        ("get", {"wait_s": -1}),
        ("get", {"wait_s": 31}),
        ("get", {"wait": 1}),
        ("lease", {"lease_s": 0}),
        ("lease", {"lease_s": 3601}),
        ("lease", {"lease_s": "30"}),
        ("lease", []),
        ("ack", {}),
        ("ack", {"receipts": "0.x"}),
        ("ack", {"receipts": [1]}),
        ("ack", {"receipts": ["x" * 65]}),
        ("ack", {"receipts": [], "up_to": 3}),
        ("release", {"receipts": [""] * 1001}),
    ],
    ids=str,
)
def test_a_call_that_makes_no_sense_changes_nothing(queue, post, channel, what, body):
    queue.put(channel, {"n": 0})

    assert_problem(post(what, body), 422)

    assert queue.info(channel)["waiting"] == 1


@pytest.mark.parametrize(
    "query", ["offset=-1", "offset=x", "offset=", "most=0", "most=257", f"offset={2**64}", "most=1.0"]
)
def test_a_peek_that_makes_no_sense_is_refused(service, queue, query):
    queue.put("peeked", {"n": 0})

    name = query.split("=")[0]
    assert_problem(ask(service.port, "GET", f"/channel/peeked/peek?{query}"), 400, name)
