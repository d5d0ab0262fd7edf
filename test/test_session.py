"""Reads that carry X-Clock, what their client has seen: no replica answers them that is behind it."""

import json

import pytest
from asking import assert_problem
from guardedring import GuardedRing
from harness import JSON, eventually, stopped


@pytest.fixture(scope="module")
def ring(run_folder, request):
    # Nothing leaves a shard, so that replicas stay behind.
    folder = run_folder / request.module.__name__
    with GuardedRing(folder, digest_length=1000, **{"anti-entropy-s": None}) as ring:
        yield ring


def seen(text):
    return {**JSON, "X-Clock": text}


def weak_choices(ring, tea, headers=JSON, times=80):
    """What so many weak reads answer: by default so many that none of three shards is missed in 10**13 runs."""
    answers = [ring.read(tea, "?consistency=weak", headers) for _ in range(times)]
    assert {answer.status for answer in answers} == {200}
    return {tuple(answer.body["choices"]) for answer in answers}


def test_a_client_reads_its_own_write_at_any_replica(ring):
    ring.must_put("own", 5, c0=5)

    assert weak_choices(ring, "own", seen('{"c0": 5}')) == {(5,)}
    assert weak_choices(ring, "own") == {(5,), ()}  # the replicas are behind indeed


def test_a_replica_that_is_far_enough_answers_though_the_primary_is_away(ring):
    tea = ring.tea_of(0, "far")
    for shard in range(3):  # all know it
        value = {"primary": "db0", "key": tea, "choices": [3], "clocks": [{"c0": 1}]}
        assert ring.at(shard, "POST", "/replica/exchange", json.dumps({"values": [value]})).status == 200

    with stopped(ring.cluster.shards[0]):
        eventually(lambda: ring.read(tea, "?consistency=weak", seen('{"c0": 1}')).status == 200, "a replica answers")
        assert ring.read(tea, "?consistency=weak", seen('{"c0": 2}')).status == 503  # only the primary could know
    ring.wait_until_ready()


def test_the_primary_answers_what_it_has(ring):
    """A clock that nobody has written yet is no reason to refuse."""
    ring.must_put("ahead", 5, c0=5)

    assert weak_choices(ring, "ahead", seen('{"c0": 6}'), times=6) == {(5,)}


def test_a_deleted_tea_shows_the_clock_of_its_tombstone_so_that_one_can_write_past_it(ring):
    ring.must_put("past", 5, c0=5)
    ring.delete("past")

    answer = ring.read("past")
    assert answer.body == {"rating": 0.0, "choices": [], "clocks": []}
    assert answer.headers["X-Clock"] == '{"c0":5}'

    stale = ring.put("past", 1, c0=4)
    assert (stale.body, stale.headers["X-Merge"]) == ({"rating": None}, "stale")
    assert (ring.put("past", 1, c0=5).body, ring.read("past").body["choices"]) == ({"rating": None}, [])
    assert ring.put("past", 2, c0=6).body == {"rating": 2}
    assert "X-Clock" not in ring.read("past").headers


def test_a_tea_is_deleted_once(ring):
    ring.must_put("once", 5, c0=5)

    assert ring.delete("once").body == {"rating": None}
    assert_problem(ring.delete("once"), 404, "nothing is stored")


def test_only_living_ratings_are_answered(ring):
    ring.must_put("beside", 5, c0=5)
    ring.delete("beside")
    ring.must_put("beside", 2, c1=1)

    answer = ring.read("beside")

    assert answer.body == {"rating": 2, "choices": [2], "clocks": [{"c1": 1}]}
    assert answer.headers["X-Clock"] == '{"c0":5,"c1":1}'


def test_the_clock_of_a_tombstone_counts_as_seen(ring):
    ring.must_put("buried", 5, c0=5)
    ring.delete("buried")

    assert weak_choices(ring, "buried", seen('{"c0": 5}')) == {()}


@pytest.mark.parametrize("text", ["", "c0", "[]", '{"c0": -1}', '{"c0": 1.5}', '{"c0": "1"}'])
def test_a_header_that_is_no_clock_is_refused(text, ring):
    assert_problem(ring.read("own", "?consistency=weak", seen(text)), 400, "X-Clock must be a clock")
