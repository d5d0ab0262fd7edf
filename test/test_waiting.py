"""What waits is bounded: newer gossip takes the place of older, what is due has a limit, retries have a budget."""

import pytest
from shardparts import sibling, store_of, value_of

from emporium import wire
from emporium.guard import RetryBudget
from emporium.ports import Ports
from emporium.shard import Changes, Digest, Place, Write, merge_gossip, merge_writes
from emporium.siblings import UNRATED
from emporium.store import Store
from emporium.wire import Record
from queueservice import Queue
from serverDB import Shard


def place(digest_length=3, shard_id=0, coalesces=True):
    return Place(shard_id, 3, digest_length, coalesces=coalesces)


def record(tea, rating, primary="db0", **clock):
    return Record(primary, tea, value_of(sibling(rating, **clock)))


@pytest.fixture
def store(ground):
    return Store("localhost", ground.layout.redis(0), coalesces=True)


def write_all(store, writes, where):
    """Each of these writes in a step of its own."""
    for write in writes:
        found = store.load([write.tea])
        _, changes = merge_writes(where, found.values, found.digest, [write])
        store.change(changes)


def in_list(by_hand, name):
    """[(primary, tea, choices)] of the records in this list."""
    found = map(wire.decode_record, by_hand.lrange(name, 0, -1))
    return [(each.primary, each.key, wire.choices_of(each.value)) for each in found]


# ---- the digest


def test_a_newer_record_takes_the_place_of_an_older_one_of_its_tea(store, by_hand):
    writes = [Write("assam", sibling(1, c0=1)), Write("chai", sibling(2, c0=1)), Write("assam", sibling(3, c0=2))]

    write_all(store, writes, place())

    assert in_list(by_hand, "digest") == [("db0", "chai", [2]), ("db0", "assam", [3])]
    assert by_hand.llen("due") == 0


def test_the_digest_is_full_of_different_teas(store, by_hand):
    write_all(store, [Write("assam", sibling(i, c0=i)) for i in range(1, 9)], place())
    assert by_hand.llen("due") == 0

    write_all(store, [Write("chai", sibling(1, c0=1)), Write("sencha", sibling(1, c0=1))], place())

    assert in_list(by_hand, "due") == [("db0", "assam", [8]), ("db0", "chai", [1]), ("db0", "sencha", [1])]
    assert by_hand.llen("digest") == 0


def test_writes_that_come_together_coalesce_as_well(store, by_hand):
    found = store.load(["assam", "chai"])
    writes = [Write("assam", sibling(1, c0=1)), Write("assam", sibling(2, c0=2)), Write("chai", sibling(5, c0=1))]

    _, changes = merge_writes(place(), found.values, found.digest, writes)
    store.change(changes)

    assert in_list(by_hand, "digest") == [("db0", "assam", [2]), ("db0", "chai", [5])]


def test_what_fills_the_digest_and_what_comes_after_are_kept_apart(store, by_hand):
    """assam is due when it is written again: that is a new record, which waits for the next digest."""
    found = store.load(["assam", "chai"])
    writes = [Write("assam", sibling(1, c0=1)), Write("chai", sibling(1, c0=1)), Write("assam", sibling(2, c0=2))]

    _, changes = merge_writes(place(2), found.values, found.digest, writes)
    store.change(changes)

    assert in_list(by_hand, "due") == [("db0", "assam", [1]), ("db0", "chai", [1])]
    assert in_list(by_hand, "digest") == [("db0", "assam", [2])]


def test_the_same_tea_from_another_home_is_another_record(store, by_hand):
    """It stops elsewhere: to drop one would keep a shard from hearing of it."""
    found = store.load(["assam"])

    told = [record("assam", 1, "db1", c1=1), record("assam", 2, "db2", c2=1)]
    store.change(merge_gossip(place(), found.values, found.digest, told))

    assert [primary for primary, _, _ in in_list(by_hand, "digest")] == ["db1", "db2"]


def test_what_a_step_shows_is_what_is_stored(store):
    """Later changes of a step go on from there."""
    found = store.load(["assam", "chai"])
    for write in (Write("assam", sibling(1, c0=1)), Write("chai", sibling(1, c0=1)), Write("assam", sibling(2, c0=2))):
        _, changes = merge_writes(place(), found.values, found.digest, [write])
        store.change(changes)
        found.show(changes)

        assert store.load([]).digest == found.digest


def test_as_the_course_has_it_each_record_is_told():
    _, changes = merge_writes(
        place(9, coalesces=False), {"assam": UNRATED}, Digest(), [Write("assam", sibling(i, c0=i)) for i in (1, 2)]
    )

    assert len(changes.remembered) == 2


# ---- what is due


def due(store, *records):
    store.change(Changes(remembered=list(records), now_due=len(records)))


def test_of_what_is_due_the_newest_of_each_tea_is_kept_in_order(store, by_hand):
    due(store, record("assam", 1, c0=1), record("chai", 1, c0=1), record("assam", 2, c0=2), record("sencha", 1, c0=1))

    assert store.keep_newest_due(9) == 0

    assert in_list(by_hand, "due") == [("db0", "chai", [1]), ("db0", "assam", [2]), ("db0", "sencha", [1])]


def test_beyond_the_limit_the_oldest_are_dropped_and_counted(store, by_hand):
    due(store, *(record(f"tea{i}", i, c0=1) for i in range(6)))

    assert store.keep_newest_due(4) == 2

    assert [tea for _, tea, _ in in_list(by_hand, "due")] == ["tea2", "tea3", "tea4", "tea5"]
    assert by_hand.get("dropped-count") == "2"


def test_a_record_that_someone_has_spoiled_is_kept_as_it_is(store, by_hand):
    due(store, record("assam", 1, c0=1))
    by_hand.rpush("due", "nonsense")

    store.keep_newest_due(9)

    assert by_hand.lrange("due", 0, -1)[1] == "nonsense"


def test_a_shard_whose_queue_is_away_drops_what_is_due_beyond_the_limit(store, ground, monkeypatch):
    monkeypatch.setattr("serverDB.MOST_DUE", 10)
    shard = Shard(place(digest_length=1), store, Queue(Ports.find_free(1).q))

    for i in range(25):
        shard.step([Write(f"tea{i}", sibling(i, c0=1))])
        assert store.counts()["due"] <= 10

    assert len(store.waiting()) >= 5
    assert store.waiting()[-1].key == "tea24"


def test_the_course_has_no_limit(ground):
    assert store_of(ground).load([]).digest.texts is None


# ---- retries


def test_a_tenth_of_the_requests_may_be_asked_again_and_ten_saved_up():
    budget = RetryBudget()
    assert [budget.spend() for _ in range(12)] == [True] * 10 + [False] * 2

    for _ in range(101):
        budget.earn()
    spent = sum(budget.spend() for _ in range(30))
    assert spent == 10

    for _ in range(31):
        budget.earn()
    assert sum(budget.spend() for _ in range(30)) == 3
