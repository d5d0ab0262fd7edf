"""Who may write to a shard's Redis, and whether that Redis is what it was: on a real one, with real notes.

A *process* is here a store with a fence of its own; two of them on one Redis are an old process and a new one.
"""

import pytest
from harness import CALL_S, eventually
from shardparts import sibling, value_of

from emporium import redisconnection
from emporium.fence import Fence, Fenced, Note, Standing
from emporium.shard import Changes
from emporium.siblings import UNRATED
from emporium.store import Store, StoreDown
from emporium.wire import Record, decode_record, encode_record

ASSAM = value_of(sibling(3, c0=1))
NEWER = value_of(sibling(4, c0=2))


@pytest.fixture
def by_hand(by_hand):
    """As always, on a Redis that syncs before it answers."""
    by_hand.config_set("appendfsync", "always")
    yield by_hand
    by_hand.config_set("appendfsync", "no")


@pytest.fixture
def process(ground, by_hand, tmp_path, monkeypatch):
    """process() starts one more on the same Redis, with the same note."""
    # Of a disk that others keep busy, a sync may take longer than a shard waits for it. That is no story of these.
    monkeypatch.setattr(redisconnection, "DEADLINE_S", CALL_S)
    return lambda: Store("localhost", ground.layout.redis(0), Fence(Note(tmp_path)))


def split_at_first_answer(packed):
    """The commands up to the first HMGET, that one included; and the rest."""
    text = b"".join(packed)
    end = text.index(b"*", text.index(b"HMGET"))
    return [text[:end]], [text[end:]]


def put(store, value=ASSAM):
    """A read-merge-write, as a step does it."""
    store.load(["assam"])
    store.change(Changes(values={"assam": value}))


def settled(process):
    """A process on a Redis that is whole."""
    store = process()
    store.load([])
    store.end_recovery()
    return store


# ---- a second process


def test_an_old_process_can_store_nothing_beside_a_new_one(process):
    """F-32: it was stopped for a while, was taken for dead, and wakes up."""
    old = settled(process)
    put(old)
    new = process()
    put(new, NEWER)

    with pytest.raises(StoreDown, match="another process has taken over this shard: its epoch is 2, and mine 1"):
        old.load(["assam"])
    with pytest.raises(StoreDown):
        old.change(Changes(values={"assam": ASSAM}))

    assert new.load(["assam"]).values == {"assam": NEWER}


def test_a_process_that_was_stopped_in_the_middle_of_a_step_stores_nothing(process):
    """Its EXEC comes after the new one has taken over: Redis itself refuses it, since the epoch is watched."""
    old = settled(process)
    old.load(["assam"])
    new = process()
    new.load(["assam"])

    with pytest.raises(StoreDown, match="another process"):
        old.change(Changes(values={"assam": ASSAM}))

    assert new.load(["assam"]).values == {"assam": UNRATED}


def test_the_first_change_on_a_connection_is_watched_as_the_later_ones(process):
    old = process()
    old.load(["assam"])
    new = process()
    new.load(["assam"])

    with pytest.raises(StoreDown, match="another process"):
        old.change(Changes(values={"assam": ASSAM}))

    assert new.load(["assam"]).values == {"assam": UNRATED}


def test_the_second_change_of_a_step_is_watched_as_the_first(process):
    old = settled(process)
    put(old)
    new = process()
    put(new, NEWER)

    with pytest.raises(StoreDown):
        old.change(Changes(values={"assam": ASSAM}))

    assert new.load(["assam"]).values == {"assam": NEWER}


def test_a_connection_that_ended_since_the_load_changes_nothing(process, by_hand):
    """What was watched on the old connection is not on a new one."""
    store = settled(process)
    store.load(["assam"])
    by_hand.client_kill_filter(_type="normal", skipme=True)

    with pytest.raises(StoreDown, match="lost since the step began"):
        store.change(Changes(values={"assam": ASSAM}))

    assert by_hand.exists("/rating/assam") == 0
    put(store)
    assert by_hand.exists("/rating/assam") == 1


def test_each_process_has_the_next_epoch_and_goes_on_with_the_step(process, by_hand):
    for _ in range(3):
        put(settled(process))

    assert by_hand.hget("shard", "epoch") == "3"
    assert by_hand.hget("shard", "step") == "6"  # of each: the end of its recovery, and the put


def test_a_claim_that_was_made_and_not_answered_does_not_fence_off_its_own_process(tmp_path):
    """Redis was emptied, and the answer to the claim of its new memory is lost."""
    fence = Fence(Note(tmp_path))
    fence.claimed(fence.claim(Standing(None)))

    unanswered = fence.claim(Standing(None))

    assert not fence.is_mine(unanswered)  # it is claimed once more, and nothing is raised
    with pytest.raises(Fenced):
        fence.is_mine(unanswered._replace(epoch=unanswered.epoch + 1))


def test_what_an_old_process_notes_too_late_does_not_hide_what_the_new_one_has_stored(process, by_hand):
    """It was stopped after its EXEC and before its note; then Redis goes back, and the new process dies."""
    old = settled(process)
    put(old)
    new = process()
    put(new)
    before = int(by_hand.hget("shard", "step"))
    put(new, NEWER)

    old._fence.stepped(old.standing)
    by_hand.hset("shard", "step", before)

    assert lost(process()) == f"its Redis has gone back to step {before}, and step {before + 1} was stored"


# ---- memory that is lost


def lost(store):
    """Why this process takes its Redis for one that has lost something; None when it does not."""
    store.load([])
    return store.recovering


def test_a_redis_that_holds_nothing_is_not_whole(process):
    assert lost(process()) == "its Redis holds nothing of this shard"


def test_one_that_was_whole_is_whole_after_a_restart(process):
    put(settled(process))

    assert lost(process()) is None


def test_it_stays_lost_over_restarts_until_it_is_whole(process):
    process().load([])
    process().load([])

    store = process()
    assert lost(store) is not None
    store.end_recovery()
    assert lost(store) is None
    assert lost(process()) is None


def test_a_redis_that_is_emptied_under_a_process_is_noticed(process, by_hand):
    store = settled(process)
    put(store)

    by_hand.flushall()

    assert lost(store) == "its Redis holds nothing of this shard"


def test_a_redis_that_is_emptied_within_a_step_takes_nothing(process, by_hand):
    store = settled(process)
    store.load(["assam"])
    by_hand.flushall()

    with pytest.raises(StoreDown):
        store.change(Changes(values={"assam": ASSAM}))

    assert by_hand.exists("/rating/assam") == 0


@pytest.mark.parametrize("is_running", [True, False])
def test_a_redis_that_went_back_to_an_older_file_is_noticed(is_running, process, by_hand):
    """F-12, F-20: a torn tail leaves a Redis that starts, and says nothing."""
    store = settled(process)
    put(store)
    step = int(by_hand.hget("shard", "step"))
    put(store, NEWER)

    by_hand.hset("shard", "step", step)

    assert lost(store if is_running else process()) == (
        f"its Redis has gone back to step {step}, and step {step + 1} was stored"
    )


def test_another_redis_is_noticed(process, by_hand):
    put(settled(process))

    by_hand.hset("shard", "life", "of-another-one")

    assert lost(process()) == "its Redis is another one than it was"


def test_without_a_note_nothing_shows_that_the_last_step_is_there(process, tmp_path):
    put(settled(process))
    (tmp_path / "note").unlink()

    assert lost(process()) == "there is no note of what its Redis must hold"


@pytest.mark.parametrize("torn", [b"", b"\0" * 128, b"[", b'["x",1'], ids=repr)
def test_a_note_that_makes_no_sense_counts_as_none(torn, process, tmp_path):
    put(settled(process))
    (tmp_path / "note").write_bytes(torn)

    assert lost(process()) == "there is no note of what its Redis must hold"


def test_a_redis_that_is_ahead_of_the_note_is_whole(process, tmp_path):
    """The process died between the two, or the machine lost its power before the note was on the disk."""
    store = settled(process)
    note = (tmp_path / "note").read_bytes()
    put(store)
    (tmp_path / "note").write_bytes(note)

    assert lost(process()) is None


def test_a_change_that_was_not_answered_and_was_read_may_not_vanish_either(process, by_hand):
    """Its EXEC came late; a read shows it; then Redis loses just that."""
    store = settled(process)
    put(store)
    step = int(by_hand.hget("shard", "step"))
    by_hand.hset("shard", "step", step + 1)
    assert lost(store) is None

    by_hand.hset("shard", "step", step)

    assert lost(process()) == f"its Redis has gone back to step {step}, and step {step + 1} was stored"


def test_a_redis_that_is_emptied_while_it_is_read_does_not_answer_that_nothing_was_rated(process, by_hand):
    """A long question comes in parts, and others have their turn in between."""
    store = settled(process)
    put(store)
    make = store._new_connection

    def interrupted():
        connection = make()
        send = connection.send_packed_command
        asked = lambda: by_hand.info("commandstats")["cmdstat_hmget"]["calls"]  # noqa: E731

        def send_in_parts(packed, **options):
            if b"/rating/assam" not in b"".join(packed):
                return send(packed, **options)
            connection.send_packed_command = send
            first, second = split_at_first_answer(packed)
            before = asked()
            send(first)
            eventually(lambda: asked() > before, "Redis has the first part")
            by_hand.flushall()
            return send(second)

        connection.send_packed_command = send_in_parts
        return connection

    store._own, store._new_connection = None, interrupted

    store.load(["assam"])
    assert store.recovering == "its Redis holds nothing of this shard"


def test_where_the_whole_disk_was_lost_an_old_process_is_still_fenced_off(tmp_path):
    """Neither Redis nor the note tells its epoch: the clock does."""
    old = Fence(Note(tmp_path / "old"), first_epoch=lambda: 1000)
    old.claimed(old.claim(Standing(None)))
    new = Fence(Note(tmp_path / "new"), first_epoch=lambda: 1060)

    claimed = new.claim(Standing(None))

    with pytest.raises(Fenced):
        old.is_mine(claimed)


def test_an_epoch_is_never_used_twice_though_redis_went_back(process, by_hand):
    settled(process)
    settled(process)
    by_hand.hset("shard", "epoch", 1)

    process().load([])

    assert by_hand.hget("shard", "epoch") == "3"


# ---- what Redis must be like


def test_the_epoch_of_one_that_stored_nothing_is_not_used_again(process, by_hand):
    process().load([])
    by_hand.flushall()

    after = process()
    after.load([])

    assert after.standing.epoch == 2


@pytest.mark.parametrize(
    ("name", "value"), [("appendfsync", "everysec"), ("appendonly", "no"), ("maxmemory-policy", "allkeys-lru")]
)
def test_a_redis_that_may_lose_what_it_stores_is_refused_and_the_cure_is_named(name, value, process, by_hand):
    """F-10."""
    store = process()
    [before] = by_hand.config_get(name).values()
    by_hand.config_set(name, value)
    try:
        with pytest.raises(StoreDown, match=f"may lose what it stores: {name} is {value}: redis-cli .* config set"):
            store.load(["assam"])
    finally:
        by_hand.config_set(name, before)

    assert store.load(["assam"]).values == {"assam": UNRATED}


# ---- as the course has it


def test_with_the_courses_settings_alone_nothing_is_looked_at_and_nothing_is_added(ground, by_hand):
    by_hand.config_set("appendfsync", "no")
    store = Store("localhost", ground.layout.redis(0))

    put(store)

    assert by_hand.keys() == ["/rating/assam"]
    assert set(by_hand.hgetall("/rating/assam")) == {"rating", "choices", "clocks"}


# ---- checksums


def test_a_value_that_was_altered_on_the_disk_is_damaged(process, by_hand):
    """F-13: Redis loads a file with a flipped bit, and says nothing."""
    store = settled(process)
    put(store)

    by_hand.hset("/rating/assam", "choices", "[2]")

    assert store.load(["assam"]).values["assam"].reason == "the checksum does not match"


def test_a_value_under_another_teas_name_is_damaged(process, by_hand):
    store = settled(process)
    put(store)

    by_hand.rename("/rating/assam", "/rating/chai")

    assert store.load(["chai"]).values["chai"].reason == "the checksum does not match"


def test_a_value_that_was_made_by_hand_has_no_checksum_and_is_read(process, by_hand):
    store = settled(process)
    by_hand.hset("/rating/assam", mapping={"rating": "3", "choices": "[3]", "clocks": '[{"c0":1}]'})

    assert store.load(["assam"]).values == {"assam": ASSAM}


def remembered(store):
    """A write of ASSAM whose record waits in the digest."""
    store.load(["assam"])
    store.change(Changes(values={"assam": ASSAM}, remembered=[Record("db0", "assam", ASSAM)]))


def told(store):
    """What is due once all of the digest is."""
    store.change(Changes(now_due=store.load([]).digest.count))
    return store.due(9)


def test_a_record_that_waits_is_told_as_the_course_has_it(process):
    store = settled(process)
    remembered(store)

    assert told(store) == [encode_record(Record("db0", "assam", ASSAM))]


def test_a_record_that_was_altered_on_the_disk_is_not_told_as_a_rating(process, by_hand):
    """F-13: it would stand beside the true one, in all replicas. The queue refuses what is no JSON: it is set aside."""
    store = settled(process)
    remembered(store)
    [text] = by_hand.lrange("digest", 0, -1)
    by_hand.lset("digest", 0, text.replace("[3]", "[7]"))

    [record] = told(store)

    assert b"[7]" in record
    with pytest.raises(ValueError, match="not valid JSON"):
        decode_record(record)
    assert list(store.waiting()) == []
