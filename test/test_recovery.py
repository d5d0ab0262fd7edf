"""Shards that lose their memory, in part or whole: what they had acknowledged comes back before they serve."""

import json
import signal

import pytest
from asking import ask, assert_problem
from guardedring import GuardedRing
from harness import JSON, eventually, stopped

WEAK = {**JSON, "X-Consistency": "weak"}
TEAS = [f"tea{i}" for i in range(24)]


@pytest.fixture(scope="module")
def made(run_folder, request):
    with GuardedRing(run_folder / request.module.__name__) as ring:
        yield ring


@pytest.fixture
def ring(made):
    """Whole, and with something to lose: {TEAS[i]: rating i}."""
    made.wait_until_ready()
    for i, tea in enumerate(TEAS):
        made.must_put(tea, i, c0=1)
    made.wait_until_equal()
    return made


def assert_nothing_is_lost(ring):
    for i, tea in enumerate(TEAS):
        assert ring.choices(tea) == [i]


# ---- a whole memory


@pytest.mark.parametrize("shard", range(3))
def test_a_shard_whose_disk_is_gone_takes_its_values_back_before_it_serves(shard, ring):
    """F-20: a strong read answers 503 until then, and never an older value."""
    with ring.dead(*ring.parts_of(shard)):
        ring.lose_disk(shard)

    assert_nothing_is_lost(ring)
    ring.wait_until_ready()
    assert ring.are_equal()


def test_a_redis_that_is_flushed_under_load_is_filled_again_before_the_shard_answers(ring):
    tea = ring.tea_of(1)
    ring.must_put(tea, 5, c0=1)
    ring.wait_until_equal()

    with ring.redis(1) as by_hand:
        by_hand.flushall()
    answers = []
    eventually(lambda: answers.append(ring.read(tea)) or answers[-1].status == 200, f"{tea} is read")

    assert answers[-1].body["choices"] == [5]
    for refused in answers[:-1]:
        assert_problem(refused, 503, "taken back from the other shards: its Redis holds nothing of this shard")
        assert refused.headers["Retry-After"] == "1"


def test_all_memories_are_lost_but_one(ring):
    """Each hears the others round the ring up to the one that is whole; nobody waits for anybody for ever."""
    with ring.dead(*(part for shard in (0, 1) for part in ring.parts_of(shard))):
        ring.lose_disk(0)
        ring.lose_disk(1)

    ring.wait_until_ready()
    assert_nothing_is_lost(ring)


def test_after_a_kill_of_everything_all_serve_again(ring):
    services = ring.cluster.services
    for service in services:
        service.signal(signal.SIGKILL)
    for service in services:
        service.wait_for_end(5)
    ring.cluster.start_these(services)

    ring.wait_until_ready()
    assert_nothing_is_lost(ring)
    assert [ring.status(shard)["state"] for shard in range(ring.ndb)] == ["serving"] * 3


def test_all_disks_are_gone_and_an_empty_store_serves(ring):
    with ring.dead(*(part for shard in range(3) for part in ring.parts_of(shard))):
        for shard in range(3):
            ring.lose_disk(shard)
        ask(ring.layout.q, "DELETE", "/clear")

    ring.wait_until_ready()
    assert ring.choices("tea1") == []


# ---- while it recovers


@pytest.fixture
def recovering(ring):
    """Shard 1 has lost its memory, and its successor does not answer."""
    with stopped(ring.cluster.shards[2]):
        with ring.dead(*ring.parts_of(1)):
            ring.lose_disk(1)
        eventually(lambda: "recovering" in ring.status(1)["state"], "it recovers")
        yield ring
    ring.wait_until_ready()


def test_it_refuses_strong_operations_and_answers_weak_reads(recovering):
    body = json.dumps({"rating": 1, "clock": {"c0": 9}})
    tea = recovering.tea_of(1)

    for method, given in (("GET", None), ("PUT", body), ("DELETE", None)):
        assert_problem(recovering.at(1, method, f"/rating/{tea}", given), 503, "taken back")
    assert recovering.at(1, "GET", f"/rating/{tea}", headers=WEAK).status == 200


def test_it_says_whom_it_waits_for(recovering):
    eventually(lambda: "db2" in recovering.status(1)["state"], "it names its successor")
    assert "recovering" in recovering.at(1, "GET", "/readyz").body["checks"]["memory"]


def test_a_successor_that_has_lost_its_memory_too_is_not_enough(ring):
    """What the one has lost the other may have lost as well: both wait for the next one that is whole."""
    with stopped(ring.cluster.shards[0]):
        with ring.dead(*(part for shard in (1, 2) for part in ring.parts_of(shard))):
            ring.lose_disk(1)
            ring.lose_disk(2)
        for shard in (1, 2):
            eventually(lambda shard=shard: "db0" in ring.status(shard)["state"], f"db{shard} waits for db0")

    ring.wait_until_ready()
    assert_nothing_is_lost(ring)


def test_others_give_and_take_meanwhile(recovering):
    """It answers its peers: what one of them was told lately is compared with it."""
    tea = recovering.tea_of(0)
    recovering.must_put(tea, 3, c7=1)

    found = lambda: recovering.at(1, "GET", f"/rating/{tea}", headers=WEAK).body.get("choices")  # noqa: E731
    eventually(lambda: found() == [3], "the recovering shard has it")


def test_an_operator_can_give_up_on_the_one_that_does_not_answer(recovering):
    asked = json.dumps({"without": ["db2"]})

    answer = recovering.at(1, "POST", "/recover", asked)

    assert answer.status == 200
    assert "of which only db2 has a copy" in answer.body["may-lose"]
    eventually(lambda: recovering.status(1)["state"] == "serving", "it serves")
    assert_problem(recovering.at(1, "POST", "/recover", asked), 409, "not recovering")


# ---- a part of a memory


def spoil(ring, shard, tea):
    with ring.redis(shard) as by_hand:
        by_hand.hset(f"/rating/{tea}", "choices", "[4711]")


@pytest.mark.parametrize("shard", range(3))
def test_a_damaged_value_is_never_answered_and_is_repaired_from_the_replicas(shard, ring):
    """F-13."""
    before = ring.status(shard)["repaired"]
    spoil(ring, shard, "tea3")

    seen = []
    read = lambda: seen.append(ring.at(shard, "GET", "/rating/tea3")) or seen[-1].status == 200  # noqa: E731
    eventually(read, "it is repaired")

    assert seen[-1].body["choices"] == [3]
    for refused in seen[:-1]:
        assert_problem(refused, 503, "the stored value is damaged")
    assert ring.status(shard)["repaired"] == before + 1


def test_a_value_that_is_damaged_everywhere_is_answered_nowhere(ring):
    ring.must_put("ruined", 1, c0=1)
    ring.wait_until_equal()
    for shard in range(3):
        spoil(ring, shard, "ruined")

    for shard in range(3):
        answer = ring.at(shard, "GET", "/rating/ruined")
        assert answer.status == 503 or answer.body["choices"] == [1]  # a copy may still wait in a channel
    ring.delete("ruined")


def test_damage_is_found_though_nobody_asks(ring):
    """All that is stored is looked over, a page at a time."""
    before = ring.status(0)["repaired"]
    spoil(ring, 0, "tea5")

    eventually(lambda: ring.stored(0)["/rating/tea5"][0] == "[5]", "it is found and repaired")
    eventually(lambda: ring.status(0)["repaired"] > before, "and counted")


def test_a_write_upon_a_damaged_value_does_not_forget_what_the_replicas_know(ring):
    ring.must_put("twice", 1, c1=1)
    ring.wait_until_equal()
    spoil(ring, ring.primary_of("twice"), "twice")

    ring.must_put("twice", 2, c2=1)

    assert ring.choices("twice") == [1, 2] or ring.choices("twice") == [2, 1]


def test_without_the_queue_a_damaged_value_waits_for_it_or_for_an_operator(ring):
    """The newest of it may be in the log of the shard's own channel, and nowhere else."""
    primary = ring.primary_of("tea7")
    with ring.dead(ring.cluster.queue):
        spoil(ring, primary, "tea7")
        assert_problem(ring.read("tea7"), 503, "the stored value is damaged")

        assert ring.at(primary, "POST", "/recover", json.dumps({"without": ["q"]})).status == 200

        assert ring.choices("tea7") == [7]
