"""Whom a shard must hear before it is whole again, and for how long it waits for the others.

One shard in this process, on a real Redis that is empty, with a clock that is set by hand; the others only answer or
do not.
"""

from types import SimpleNamespace

import pytest
from harness import CALL_S

from emporium import redisconnection
from emporium.failures import NotReached
from emporium.fence import Fence, Note
from emporium.recovery import PATIENCE_S, Recovery
from emporium.replica import Replica
from emporium.shard import Place
from emporium.store import Store
from emporium.upkeep import Upkeep
from emporium.wire import Compared
from serverDB import Shard

A_DAY_S = 86_400


class Other:
    """Another shard, which holds nothing."""

    def __init__(self, name, is_away=False, is_recovering=False):
        self.name, self.is_away, self.is_recovering = name, is_away, is_recovering

    def compare(self, sums, first):
        if self.is_away:
            raise NotReached(f"{self.name} cannot be reached")
        return Compared({}, [], None, self.is_recovering)


class Recovering:
    """A shard that has lost its memory, and looks round from time to time."""

    def __init__(self, ground, folder, others):
        self.now_s = 0.0
        replica = Replica()
        self.store = Store("localhost", ground.layout.redis(0), Fence(Note(folder)), learned=replica.learned)
        queue = SimpleNamespace(peer=None, held=lambda channel: [])
        shard = Shard(Place(0, 4, 1000, keeps_tombstones=True), self.store, queue)
        shard.queue_watch = SimpleNamespace(trouble="the queue is away")
        replica.bind(shard)
        self.recovery = Recovery(shard, replica, others, now=lambda: self.now_s)
        self._upkeep = Upkeep(replica, self.recovery, others, period_s=None)

    def is_whole_after(self, seconds):
        self.now_s += seconds
        self._upkeep.round()
        return self.recovery.is_whole


@pytest.fixture
def recovering(ground, by_hand, tmp_path, monkeypatch):
    """recovering(other, ...) is such a shard, with these others, its successor first."""
    by_hand.config_set("appendfsync", "always")
    monkeypatch.setattr(redisconnection, "DEADLINE_S", CALL_S)  # a sync waits for a disk that others keep busy
    made = []

    def make(*others):
        made.append(Recovering(ground, tmp_path, others))
        assert not made[0].is_whole_after(0) or not any(other.is_away for other in others)
        return made[0]

    yield make
    by_hand.config_set("appendfsync", "no")


def test_its_successor_is_waited_for_however_long_it_takes(recovering):
    successor = Other("db1", is_away=True)
    shard = recovering(successor, Other("db2"), Other("db3"))

    assert not shard.is_whole_after(A_DAY_S)
    assert "db1" in shard.recovery.trouble

    successor.is_away = False
    assert shard.is_whole_after(0)


def test_behind_a_successor_that_recovers_itself_the_next_one_is_waited_for(recovering):
    third = Other("db2", is_away=True)
    shard = recovering(Other("db1", is_recovering=True), third, Other("db3"))

    assert not shard.is_whole_after(A_DAY_S)
    assert "db2" in shard.recovery.trouble

    third.is_away = False
    assert shard.is_whole_after(0)


def test_behind_one_that_is_whole_the_others_have_some_time_to_come_back(recovering):
    shard = recovering(Other("db1"), Other("db2", is_away=True), Other("db3", is_away=True))

    assert not shard.is_whole_after(PATIENCE_S - 0.1)
    assert shard.is_whole_after(0.2)


def test_one_that_is_given_up_on_is_not_waited_for(recovering):
    shard = recovering(Other("db1", is_away=True), Other("db2"), Other("db3"))

    shard.recovery.give_up_on(["db1"])

    assert shard.is_whole_after(0)
