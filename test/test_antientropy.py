"""Replicas that differ meet again by themselves: the comparison, and rings in which gossip told nothing."""

import base64
import json

import pytest
from asking import ask, assert_problem
from guardedring import PROMISED_S, GuardedRing
from harness import eventually, start
from hypothesis import given, settings
from hypothesis import strategies as st
from rawclient import served

from emporium import wire
from emporium.fingerprints import BUCKETS, NEWS_S, Fingerprints, bucket_of
from emporium.replica import differences
from emporium.service import stop_these

held = st.dictionaries(st.sampled_from([f"tea{i}" for i in range(6)]), st.integers(1, 3), max_size=6)


def fingerprints_of(teas, now=lambda: 0):
    made = Fingerprints(now)
    for tea, fingerprint in teas.items():
        made.put(tea, fingerprint)
    return made


# ---- the comparison


@settings(max_examples=500)
@given(held, held)
def test_what_differs_is_found_and_nothing_else(mine, theirs):
    ours, others = fingerprints_of(mine), fingerprints_of(theirs)

    buckets = {bucket: others.of(bucket) for bucket in others.differing(ours.sums())}
    give, want = differences(ours, buckets)

    assert sorted(give) == sorted(tea for tea in mine if theirs.get(tea) != mine[tea])
    assert sorted(want) == sorted(tea for tea in theirs if mine.get(tea) != theirs[tea])


@settings(max_examples=500)
@given(st.lists(st.tuples(st.sampled_from(["assam", "chai"]), st.none() | st.integers(1, 3)), max_size=12))
def test_the_sums_depend_on_what_is_held_and_not_on_how_it_came_to_be(history):
    lived = Fingerprints()
    for tea, fingerprint in history:
        lived.put(tea, fingerprint)

    last = {tea: fingerprint for tea, fingerprint in dict(history).items() if fingerprint is not None}
    assert lived.sums() == fingerprints_of(last).sums()
    assert len(lived) == len(last)


def test_cleared_it_holds_nothing():
    fingerprints = fingerprints_of({"assam": 1})
    fingerprints.clear()

    assert fingerprints.sums() == Fingerprints().sums()


def test_what_gossip_is_telling_is_news_for_half_a_second():
    time = [0.0]
    fingerprints = Fingerprints(lambda: time[0])
    fingerprints.put("assam", 1, is_news=True)
    time[0] = NEWS_S / 2
    fingerprints.put("chai", 1, is_news=True)
    fingerprints.put("sencha", 1)

    assert fingerprints.news() == {"assam", "chai"}
    time[0] = NEWS_S
    assert fingerprints.news() == {"chai"}
    time[0] = 2 * NEWS_S
    assert fingerprints.news() == set()


# ---- a ring


@pytest.fixture(scope="module")
def ring(run_folder, request):
    with GuardedRing(run_folder / request.module.__name__, digest_length=1000) as ring:  # gossip tells nothing
        yield ring


def test_an_idle_ring_meets_though_gossip_told_nothing(ring):
    """Without it, a value stays where it was written until more is written."""
    for i in range(30):
        ring.must_put(f"idle{i}", i, c0=1)

    ring.wait_until_equal()

    assert len(ring.stored(0)) >= 30


def test_siblings_meet_in_both_directions(ring):
    """Two shards that each know one of two concurrent ratings, as after other primaries of a plain load balancer."""
    for shard, node in enumerate(("c0", "c1", "c2")):
        body = json.dumps({"rating": shard, "clock": {node: 1}})
        assert served(ring.layout.db(shard), "PUT", "/rating/everywhere", body).status == 200

    ring.wait_until_equal()

    assert ring.stored(1)["/rating/everywhere"][0] == "[0,1,2]"


def test_a_shard_that_was_away_learns_what_it_missed_though_the_queue_lost_it(ring):
    """F-29, F-30."""
    with ring.dead(ring.cluster.shards[2]):
        for i in range(10):
            ring.must_put(ring.tea_of(0, f"away-{i}"), i, c0=1)
        ask(ring.layout.q, "DELETE", "/clear")

    ring.wait_until_equal(PROMISED_S)


def test_the_others_meet_while_one_is_dead(ring):
    tea = ring.tea_of(0, "beside")
    with ring.dead(ring.cluster.shards[1]):
        ring.must_put(tea, 4, c0=1)

        held_by_2 = lambda: ring.stored(2).get(f"/rating/{tea}")  # noqa: E731
        eventually(held_by_2, "the shard behind the dead one has it")


def test_a_tombstone_meets_too(ring):
    tea = ring.tea_of(0, "deleted")
    ring.must_put(tea, 4, c0=1)
    ring.wait_until_equal()

    assert served(ring.layout.lb, "DELETE", f"/rating/{tea}").status == 200

    eventually(lambda: ring.stored(1)[f"/rating/{tea}"][0] == "[null]", "the delete is everywhere")
    ring.wait_until_equal()


def test_a_value_that_someone_removed_by_hand_comes_back(ring):
    """All that is stored is looked over again and again, also for what is not there any more."""
    ring.must_put("removed", 3, c0=1)
    ring.wait_until_equal()

    with ring.redis(2) as by_hand:
        by_hand.delete("/rating/removed")

    eventually(lambda: "/rating/removed" in ring.stored(2), "it is back", within_s=20)


def test_at_sigterm_what_waits_in_the_digest_is_told(ring):
    """F-38. The digest would never be full."""
    service = ring.cluster.shards[0]
    tea = ring.tea_of(0, "told-last")
    ring.must_put(tea, 3, c0=1)

    stop_these([service])
    found = ask(ring.layout.q, "GET", "/channel/db0/peek?most=256").body["records"]
    start(service)
    ring.wait_until_ready()

    assert tea in [each["record"]["key"] for each in found]
    assert service.process.poll() is None


# ---- over HTTP


def sums_of(**changed):
    body = {"sums": base64.b64encode(bytes(8 * BUCKETS)).decode(), "ndb": 3, "first": 0, **changed}
    return json.dumps(body)


def test_a_comparison_answers_the_buckets_that_differ(ring):
    ring.must_put("compared", 1, c0=1)
    ring.wait_until_equal()

    answer = ring.at(0, "POST", "/replica/compare", sums_of(first=bucket_of("compared"))).body

    assert "compared" in answer["buckets"][str(bucket_of("compared"))]
    assert answer["recovering"] is False


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"ndb": 4}, 409, "this ring has 3 shards, and whoever asks was started for 4"),
        ({"sums": ""}, 422, "sums: 0 bytes, and there must be 8192"),
        ({"sums": "?"}, 422, "sums"),
        ({"first": -1}, 422, "first"),
    ],
    ids=repr,
)
def test_a_comparison_that_makes_no_sense_is_refused(changed, status, words, ring):
    """F-32: two that disagree on the number of shards must not mix their teas."""
    assert_problem(ring.at(0, "POST", "/replica/compare", sums_of(**changed)), status, words)


@pytest.mark.parametrize("value", [{}, {"key": "x"}, 3, {"primary": "db0", "key": "a/b", "choices": [], "clocks": []}])
def test_values_that_make_no_sense_change_nothing(value, ring):
    good = {"primary": "db0", "key": "kept-out", "rating": 3, "choices": [3], "clocks": [{"c0": 1}]}

    answer = ring.at(0, "POST", "/replica/exchange", json.dumps({"values": [good, value], "want": []}))

    assert_problem(answer, 422)
    assert "/rating/kept-out" not in ring.stored(0)


# ---- many


def test_ten_thousand_values_that_one_shard_lacks_are_there_within_the_time(ring):
    """They are given to one shard as a restore gives them; the others have five seconds from the last one on."""
    values = [
        {"primary": "db0", "key": f"many{i}", "rating": 3, "choices": [3], "clocks": [{"c0": 1}]} for i in range(10_000)
    ]
    for i in range(0, len(values), wire.MOST_RECORDS):
        given = json.dumps({"values": values[i : i + wire.MOST_RECORDS], "want": []})
        eventually(lambda given=given: ring.at(0, "POST", "/replica/exchange", given).status == 200, "it is taken")

    eventually(lambda: len(ring.stored(2)) >= 10_000 and ring.are_equal(), "all have them", within_s=30)
