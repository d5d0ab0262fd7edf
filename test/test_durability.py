"""Durability 2: a write is acknowledged when the queue's log has it, too, and outlives the whole disk of its shard."""

import json
import signal
import subprocess
import sys

import pytest
from asking import ask, assert_problem
from guardedring import GuardedRing
from harness import eventually, start, stopped
from rawclient import served

from emporium.cluster import python_service
from emporium.environment import ROOT
from emporium.ports import Ports


@pytest.fixture(scope="module")
def ring(run_folder, request):
    # A digest that is never full, and no comparison: only what durability 2 asks for leaves a shard.
    folder = run_folder / request.module.__name__
    with GuardedRing(folder, digest_length=1000, durability=2, **{"anti-entropy-s": None}) as ring:
        yield ring


def in_channel(ring, shard):
    """{tea: choices} of what is in the log of this shard's channel."""
    found = ask(ring.layout.q, "GET", f"/channel/db{shard}/peek?most=256").body["records"]
    return {each["record"]["key"]: each["record"]["choices"] for each in found}


def test_what_is_acknowledged_is_in_the_queue(ring):
    """At once, and outside the digest, which is not full."""
    tea = ring.tea_of(0)

    ring.must_put(tea, 3, c0=1)

    assert in_channel(ring, 0)[tea] == [3]


def test_a_delete_is_in_the_queue_too(ring):
    tea = ring.tea_of(0, 1)
    ring.must_put(tea, 3, c0=1)

    assert served(ring.layout.lb, "DELETE", f"/rating/{tea}").status == 200

    assert in_channel(ring, 0)[tea] == [None]


def test_losing_the_whole_disk_of_a_shard_loses_nothing(ring):
    """Also while its successor has not heard of it: then only the queue has a copy."""
    tea = ring.tea_of(0, 2)
    with stopped(ring.cluster.shards[1]):
        ring.must_put(tea, 5, c0=1)
        with ring.dead(*ring.parts_of(0)):
            ring.lose_disk(0)
        eventually(lambda: "recovering" in ring.status(0)["state"], "it recovers")
        ring.at(0, "POST", "/recover", json.dumps({"without": ["db1"]}))

        assert ring.choices(tea) == [5]
    ring.wait_until_ready()


def test_without_the_queue_a_write_is_stored_and_not_yet_safe(ring):
    tea = ring.tea_of(1, 3)
    with stopped(ring.cluster.queue):
        answer = ring.put(tea, 4, c0=1)

        assert_problem(answer, 504, "stored here, and not yet safe in the queue", "safe to repeat")
        assert ring.choices(tea) == [4]

    eventually(lambda: ring.put(tea, 4, c0=1).status == 200, "repeated, it is safe")
    assert in_channel(ring, 1)[tea] == [4]


def test_what_was_not_safe_is_told_once_the_queue_is_back(ring):
    tea = ring.tea_of(1, 4)
    with stopped(ring.cluster.queue):
        assert ring.put(tea, 2, c0=1).status == 504

    eventually(lambda: in_channel(ring, 1).get(tea) == [2], "the queue has it")


def test_what_waits_in_the_digest_is_told_at_sigterm(ring):
    """F-38. What others wrote waits for a digest that is not full."""
    tea = ring.tea_of(0, 5)
    ring.must_put(tea, 4, c0=1)
    eventually(lambda: ring.at(1, "GET", f"/rating/{tea}").body["choices"] == [4], "its successor has heard it")
    assert tea not in in_channel(ring, 1)

    ring.cluster.shards[1].signal(signal.SIGTERM)
    assert ring.cluster.shards[1].wait_for_end(10)

    assert in_channel(ring, 1)[tea] == [4]
    start(ring.cluster.shards[1])
    ring.wait_until_ready()


@pytest.fixture
def queue(tmp_path):
    """queue(**settings) runs one, and gives its port."""
    services = []

    def run(**settings):
        port = Ports.find_free(1).q
        service = python_service(
            "q", "serverQ.py", port, lambda name: tmp_path / f"{name}.log", {"port": port, **settings}
        )
        service.start()
        services.append(service)
        eventually(lambda: service._answers(service), "the queue answers")
        return port

    yield run
    for service in services:
        service.kill()


@pytest.mark.parametrize(
    ("fsync", "found"), [("never", "has fsync never"), ("interval", "has fsync interval"), (None, "in memory")]
)
def test_a_queue_that_may_lose_what_it_took_is_refused_at_the_start(fsync, found, queue, tmp_path):
    options = {"data-dir": str(tmp_path / "q"), "fsync": fsync} if fsync else {}
    settings = {"ndb": 2, "qport": queue(**options), "durability": 2, "tombstones": True}

    ended = subprocess.run(
        [sys.executable, str(ROOT / "serverDB.py"), json.dumps(settings)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert "bad settings: durability: 2 needs a queue with fsync group or always" in ended.stderr
    assert found in ended.stderr
