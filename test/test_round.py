"""Two replicas in this process, each on a real Redis of its own: one round of anti-entropy, one of recovery."""

import pytest
from harness import CALL_S, eventually, stopped
from shardparts import sibling, value_of

from emporium import redisconnection, wire
from emporium.antientropy import round_with
from emporium.failures import NotReached
from emporium.fence import Fence, Note
from emporium.recovery import PATIENCE_S, Recovery
from emporium.replica import Replica
from emporium.shard import Changes, Place
from emporium.shardtrace import ShardTrace
from emporium.store import Store, StoreUnsure
from emporium.trace import Trace
from emporium.upkeep import Upkeep
from emporium.wire import MOST_TOLD, Record
from queueservice import Queue
from serverDB import Shard


class Near:
    """A Replica as another one sees it, without HTTP."""

    name, is_recovering = "db1", False

    def __init__(self, replica):
        self._replica = replica
        self.exchanges = 0

    def compare(self, sums, first):
        return wire.Compared(*self._replica.compare(sums, first), recovering=False)

    def exchange(self, records, teas):
        self.exchanges += 1
        changed = self._replica.absorb(records)
        return wire.Exchanged(self._replica.values(teas), changed, recovering=False)


class Away:
    """A shard that does not answer."""

    name, is_recovering = "db1", False

    def compare(self, sums, first):
        raise NotReached("db1 cannot be reached")


@pytest.fixture
def deadline_s():
    """For how long Redis is waited for: it syncs to a disk that others may keep busy."""
    return CALL_S


@pytest.fixture
def two(ground, tmp_path, monkeypatch, deadline_s):
    """Two replicas that hold nothing yet."""
    monkeypatch.setattr(redisconnection, "DEADLINE_S", deadline_s)
    replicas = []
    for index in range(2):
        with ground.redis(index) as by_hand:
            by_hand.config_set("appendfsync", "always")
        replica = Replica()
        fence = Fence(Note(tmp_path / f"db{index}"))
        store = Store("localhost", ground.layout.redis(index), fence, learned=replica.learned)
        replica.bind(Shard(Place(index, 2, 1), store, Queue(ground.layout.q, deadline_s=CALL_S)))
        replica.look()
        replica.look_over()
        replicas.append(replica)
    yield replicas
    for index in range(2):
        with ground.redis(index) as by_hand:
            by_hand.config_set("appendfsync", "no")


def record(tea, rating, **clock):
    return Record("db0", tea, value_of(sibling(rating, **clock)))


def held_by(replica):
    return {each.key: each.value for each in replica.page(0, 1000)[0]}


def test_one_round_makes_both_equal(two):
    """Each gives and takes: what one alone holds, and siblings of which each holds one."""
    mine, other = two
    mine.absorb([record("assam", 3, c0=1), record("chai", 1, c0=1)])
    other.absorb([record("sencha", 4, c0=1), record("chai", 2, c1=1)])

    assert round_with(Near(other), mine) == 4

    assert held_by(mine) == held_by(other)
    assert wire.choices_of(held_by(mine)["chai"]) == [1, 2]


def test_what_anti_entropy_brings_is_in_the_trace(two):
    mine, other = two
    trace = Trace("db0", 10)
    mine.shard.trace = ShardTrace(mine.shard.place, trace)
    mine.absorb([record("chai", 1, c0=1)])
    other.absorb([record("sencha", 4, c0=1)])

    round_with(Near(other), mine)

    absorbed, brought = trace.read()["events"]
    assert (absorbed["event"], absorbed["tea"]) == ("compared", "chai")
    assert [brought[name] for name in ("event", "tea", "peer", "outcome", "choices")] == [
        "compared",
        "sencha",
        "db1",
        "changed",
        [4],
    ]


def test_two_that_have_met_have_nothing_more_to_exchange(two):
    mine, other = two
    mine.absorb([record(f"tea{i}", i, c0=1) for i in range(10)])
    near = Near(other)
    round_with(near, mine)
    near.exchanges = 0

    assert round_with(near, mine) == 0

    assert near.exchanges == 0


@pytest.mark.parametrize("deadline_s", [1])
def test_a_change_that_redis_did_not_confirm_is_compared_all_the_same(two, redis_service, monkeypatch):
    """It may have been made: that the value is still the old one is not to be counted on."""
    mine, other = two
    for each in two:
        each.absorb([record("assam", 3, c0=1), *(record(f"tea{i}", i, c0=1) for i in range(300))])
    store = mine.shard.store
    store.load(["assam"])
    with stopped(redis_service), pytest.raises(StoreUnsure):
        store.change(Changes(values={"assam": value_of(sibling(4, c0=2))}))
    eventually(lambda: store.trouble() is None, "Redis answers again")
    eventually(lambda: wire.choices_of(held_by(mine)["assam"]) == [4], "it was made")
    monkeypatch.setattr("emporium.replica.LOOKED_OVER", 1)  # or it would be read again by chance
    mine.look()
    mine.look_over()

    round_with(Near(other), mine)

    assert wire.choices_of(held_by(other)["assam"]) == [4]


def test_whoever_is_away_is_passed_over(two):
    """Two shards of which each has a dead one behind it compare with each other."""
    mine, other = two
    mine.shard.store.end_recovery()
    mine.absorb([record("assam", 3, c0=1)])
    others = [Away(), Near(other)]

    Upkeep(mine, Recovery(mine.shard, mine, others), others, period_s=1).round()

    assert held_by(other) == held_by(mine) != {}


def test_a_recovery_gives_those_that_it_need_not_hear_some_time_to_come_back(two):
    """They may know what anti-entropy brought past a successor that was away."""
    mine, other = two
    other.absorb([record("assam", 3, c0=1)])
    other.is_recovering = False
    time = [0.0]
    recovery = Recovery(mine.shard, mine, [Near(other), Away()], now=lambda: time[0])

    recovery.work()
    mine.look()
    assert (mine.shard.store.recovering is None, recovery.trouble) == (False, "db1 cannot be reached")

    time[0] = PATIENCE_S
    recovery.work()
    mine.look()
    assert mine.shard.store.recovering is None


def test_a_recovery_takes_back_what_gossip_has_only_just_told(two):
    """Its successor has heard of it a moment ago, and so leaves it to gossip, which has already told it."""
    mine, other = two
    store = other.shard.store
    store.load(["assam"])
    store.change(Changes(values={"assam": value_of(sibling(3, c0=1))}), is_news=True)
    assert mine.shard.store.recovering

    Recovery(mine.shard, mine, [Near(other)]).work()

    assert wire.choices_of(held_by(mine)["assam"]) == [3]
    mine.look()
    assert mine.shard.store.recovering is None


def test_a_tea_with_more_siblings_than_a_record_may_have_is_told_in_parts(two):
    mine, other = two
    many = [sibling(i, **{f"c{i}": 1}) for i in range(MOST_TOLD + 100)]
    for part in (many[:MOST_TOLD], many[MOST_TOLD:]):
        mine.absorb([Record("db0", "assam", value_of(*part))])

    records, _ = wire.decode_given(wire.encode_given(mine.values(["assam"]), []))
    other.absorb(records)

    assert other.shard.store.peek(["assam"]) == mine.shard.store.peek(["assam"])
    assert sum(len(each.value.siblings) for each in records) == MOST_TOLD + 100
