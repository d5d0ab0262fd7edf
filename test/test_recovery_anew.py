"""A memory that is lost once more while its shard recovers: one shard in this process, on a real Redis."""

from types import SimpleNamespace

import pytest
from harness import CALL_S
from shardparts import sibling, value_of

from emporium import redisconnection
from emporium.fence import Fence, Note
from emporium.recovery import Recovery
from emporium.replica import Replica
from emporium.shard import Place, Read, Recovering
from emporium.store import Store
from emporium.upkeep import Upkeep
from emporium.wire import Compared, Exchanged, Record
from serverDB import Shard

TEAS = {"assam": value_of(sibling(3, c0=1)), "chai": value_of(sibling(4, c0=2))}


class Successor:
    """Another shard, whole, which holds these teas. `after[name]` is called once, before that call is answered."""

    name, is_recovering = "db1", False

    def __init__(self, teas=TEAS, **after):
        self._after = after
        self.held = Replica()
        for number, tea in enumerate(teas, 1):
            self.held.learned(tea, f"{number:x}", False)

    def compare(self, sums, first):
        fingerprints = self.held.fingerprints
        buckets = {bucket: fingerprints.of(bucket) for bucket in fingerprints.differing(sums, first)}
        return self._answer("compare", Compared(buckets, [], None, False))

    def exchange(self, records, teas):
        return self._answer("exchange", Exchanged([Record(self.name, tea, TEAS[tea]) for tea in teas], 0, False))

    def _answer(self, name, answer):
        self._after.pop(name, lambda: None)()
        return answer


@pytest.fixture
def recovered(ground, by_hand, tmp_path, monkeypatch):
    """recovered(successor) is a shard that has lost its memory, after one round of its upkeep; and the Upkeep."""
    by_hand.config_set("appendfsync", "always")
    monkeypatch.setattr(redisconnection, "DEADLINE_S", CALL_S)  # a sync waits for a disk that others keep busy

    def make(successor):
        replica = Replica()
        store = Store("localhost", ground.layout.redis(0), Fence(Note(tmp_path)), learned=replica.learned)
        queue = SimpleNamespace(peer=None, held=lambda channel: [])
        shard = Shard(Place(0, 2, 1000, keeps_tombstones=True), store, queue)
        shard.queue_watch = SimpleNamespace(trouble="the queue is away")
        replica.bind(shard)
        upkeep = Upkeep(replica, Recovery(shard, replica, [successor]), [successor], period_s=None)
        upkeep.round()
        return shard, upkeep

    yield make
    by_hand.config_set("appendfsync", "no")


def read_all(shard):
    return shard.step([Read(tea) for tea in TEAS])


@pytest.mark.parametrize("moment", ["compare", "exchange"])
def test_a_memory_that_is_lost_again_while_it_is_brought_back_is_not_taken_for_whole(moment, recovered, by_hand):
    """F-20: else strong reads would answer that nothing was ever rated."""
    shard, upkeep = recovered(Successor(**{moment: by_hand.flushall}))

    assert all(isinstance(outcome, Recovering) for outcome in read_all(shard))

    upkeep.round()
    upkeep.round()
    assert read_all(shard) == list(TEAS.values())


def test_what_was_known_of_the_memory_before_is_not_taken_for_held(recovered, by_hand):
    """It is emptied after its look, and before it asks: by its fingerprints nothing would be missing."""
    shard, upkeep = recovered(Successor())
    assert read_all(shard) == list(TEAS.values())
    look_over = upkeep._replica.look_over

    def look_over_and_lose():
        look_over()
        by_hand.flushall()
        shard.step([Read("assam")])  # which notices it

    upkeep._replica.look_over = look_over_and_lose
    upkeep.round()
    del upkeep._replica.look_over

    assert all(isinstance(outcome, Recovering) for outcome in read_all(shard))
    upkeep.round()
    assert read_all(shard) == list(TEAS.values())


def test_a_damaged_tea_that_nobody_else_holds_is_logged_once(recovered, by_hand, caplog):
    """It is come across again in each page that is looked over, and in each read."""
    shard, upkeep = recovered(Successor())
    by_hand.hset("/rating/assam", "choices", "[7]")
    shard.on_damage = upkeep._recovery.note_damage
    upkeep._recovery._others[0].exchange = lambda records, teas: Exchanged([], 0, False)

    for _ in range(3):
        upkeep.round()

    assert caplog.text.count("nobody else holds these damaged teas: ['assam']") == 1


@pytest.mark.parametrize(
    ("teas", "told"),
    [
        (TEAS, "WARNING recovered 2 teas: its Redis holds nothing of this shard"),
        ([], "INFO its Redis holds nothing of this shard, nor do the others: it begins with no teas"),
    ],
    ids=["some", "none"],
)
def test_what_was_taken_back_is_told_and_nothing_is_amiss_where_there_was_nothing(teas, told, recovered, caplog):
    caplog.set_level("INFO")

    recovered(Successor(teas))

    assert told in [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
