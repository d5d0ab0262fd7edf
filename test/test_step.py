"""One step of a shard, on a real Redis and a real queue; then shards as processes, which are killed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from itertools import count

import pytest
from asking import ask
from harness import CALL_S, eventually, gone, start, stopped
from shardparts import sibling, store_of, stored, value_of

from emporium import wire
from emporium.shard import MOST_SIBLINGS, Changes, Delete, Place, Read, Write, Written
from emporium.siblings import UNRATED, Damaged, Value
from emporium.store import Store, StoreDown, StoreUnsure
from emporium.wire import Record
from queueservice import DEADLINE_S, Queue
from serverDB import Shard
from serverLB import primary_of

NDB = 2


# ---- one step of a shard, in this process


def shard_of(ring, index=0, digest_length=1, kind=Store, queue_s=CALL_S):
    """A Shard on its own Redis and the ring's queue, with which it is patient where time is not the matter."""
    queue = Queue(ring.layout.q, deadline_s=queue_s)
    return Shard(Place(index, NDB, digest_length), store_of(ring, index, kind), queue)


@pytest.fixture
def shard(ground):
    return shard_of(ground)


def write(tea, rating, **entries):
    return Write(tea, sibling(rating, **entries))


def told(ring, channel):
    """(primary, tea, choices) of each record that waits on the channel, which stays as it is."""
    answer = ask(ring.layout.q, "POST", f"/channel/{channel}/take", "{}")
    return [(each["primary"], each["key"], each["choices"]) for each in answer.body["records"]]


def texts_of(*teas):
    return [wire.encode_record(Record("db0", tea, value_of(sibling(1, c0=1)))) for tea in teas]


def tell(ring, channel, *records):
    Queue(ring.layout.q, deadline_s=CALL_S).put_all(channel, [wire.encode_record(each) for each in records])


def waiting(ring, channel):
    return ask(ring.layout.q, "GET", "/status").body["channels"].get(channel, 0)


def test_operations_of_all_kinds_are_answered_in_their_order(shard):
    """What they see of each other: writes come first, then deletes, then reads."""
    shard.step([write("assam", 3, c0=1), write("bancha", 4, c0=1)])

    outcomes = shard.step(
        [
            Read("bancha"),
            write("assam", 5, c0=2),
            Delete("bancha"),
            Read("assam"),
            write("chai", 1, c0=1),
            Delete("never-rated"),
            write("assam", 9, c0=1),
            Read("never-rated"),
            write("assam", 5, c0=2),
            Read("chai"),
        ]
    )

    assam, chai = value_of(sibling(5, c0=2)), value_of(sibling(1, c0=1))
    assert outcomes == [
        UNRATED,
        Written(assam, "stored"),
        True,
        assam,
        Written(chai, "stored"),
        False,
        Written(assam, "stale"),
        UNRATED,
        Written(assam, "same"),
        chai,
    ]
    assert list(shard.store.load(["assam", "bancha", "chai"]).values.values()) == [assam, UNRATED, chai]


def test_no_operations_come_to_nothing(shard):
    assert shard.step([]) == []


def test_writes_of_one_step_to_one_tea_build_on_each_other(shard):
    outcomes = shard.step([write("assam", 2, c0=1), write("assam", 4, c1=1), Read("assam")])

    both = value_of(sibling(2, c0=1), sibling(4, c1=1))
    assert outcomes == [Written(value_of(sibling(2, c0=1)), "stored"), Written(both, "stored"), both]
    assert stored(shard.store, "assam") == both


def test_a_tea_is_written_deleted_twice_and_read_in_one_step(ground, shard):
    outcomes = shard.step([Read("assam"), Delete("assam"), write("assam", 2, c0=1), Delete("assam")])

    assert outcomes == [UNRATED, True, Written(value_of(sibling(2, c0=1)), "stored"), False]
    assert stored(shard.store, "assam") == UNRATED
    assert told(ground, "db0") == [("db0", "assam", [2])]


def test_all_that_a_step_has_written_is_told_in_order(ground, shard):
    shard.step([write("assam", 2, c0=2), write("bancha", 3, c0=1), write("assam", 1, c0=1), write("assam", 4, c1=1)])

    assert told(ground, "db0") == [
        ("db0", "assam", [2]),
        ("db0", "bancha", [3]),
        ("db0", "assam", [2]),
        ("db0", "assam", [2, 4]),
    ]


def test_more_writes_than_one_call_carries_are_told_in_order(ground, shard):
    shard.step([write(f"tea-{number}", number, c0=1) for number in range(600)])
    for _ in range(2):  # what a step cannot tell within 100 ms the next ones do
        shard.step([Read("anything")])

    assert waiting(ground, "db0") == 600
    heard = shard_of(ground, 1)
    for _ in range(10):  # a step takes gossip for 100 ms, then it is the next one's turn
        heard.step([Read("anything")])
    assert waiting(ground, "db0") == 0
    assert heard.store.counts()["keys"] == 600
    assert [tea for _, tea, _ in told(ground, "db1")] == [f"tea-{number}" for number in range(256)]
    assert waiting(ground, "db1") == 600


def test_a_read_sees_the_gossip_that_its_own_step_took(ground, shard):
    tell(ground, "db1", Record("db1", "assam", value_of(sibling(3, c0=1))))

    assert shard.step([Read("assam")]) == [value_of(sibling(3, c0=1))]


def test_a_write_and_the_gossip_of_its_step_stand_side_by_side(ground, shard):
    tell(ground, "db1", Record("db1", "assam", value_of(sibling(3, c0=1))))

    written, read = shard.step([write("assam", 4, c1=1), Read("assam")])

    assert written == Written(value_of(sibling(4, c1=1)), "stored")
    assert read == value_of(sibling(3, c0=1), sibling(4, c1=1)) == stored(shard.store, "assam")
    assert told(ground, "db0") == [("db0", "assam", [4]), ("db1", "assam", [3, 4])]
    assert waiting(ground, "db1") == 0


def test_a_delete_of_what_the_step_has_just_heard_deletes_it(ground, shard):
    tell(ground, "db1", Record("db1", "assam", value_of(sibling(3, c0=1))))

    assert shard.step([Delete("assam"), Read("assam")]) == [True, UNRATED]
    assert stored(shard.store, "assam") == UNRATED


def test_a_damaged_tea_spoils_its_own_operations_and_no_others(shard, by_hand):
    by_hand.hset("/rating/assam", mapping={"rating": "3", "clocks": '[{"c0":1}]', "choices": "garbage"})

    outcomes = shard.step([write("assam", 9, c0=1), write("bancha", 4, c0=1), Read("assam"), Read("bancha")])

    bancha = value_of(sibling(4, c0=1))
    assert [type(outcome) for outcome in outcomes] == [Damaged, Written, Damaged, Value]
    assert (outcomes[1], outcomes[3]) == (Written(bancha, "stored"), bancha)
    assert by_hand.hget("/rating/assam", "choices") == "garbage"
    assert shard.step([Delete("assam"), Read("assam")]) == [True, UNRATED]


def test_gossip_that_makes_no_sense_holds_up_nothing(ground, shard):
    good = wire.encode_record(Record("db1", "assam", value_of(sibling(3, c0=1))))
    Queue(ground.layout.q, deadline_s=CALL_S).put_all("db1", [b"{}", b'{"primary":1,"key":2}', good])

    assert shard.step([Read("assam")]) == [value_of(sibling(3, c0=1))]
    assert waiting(ground, "db1") == 0


class Dying(Queue):
    """A client whose shard dies in its second call: behind the EXEC, and before the queue hears of it."""

    calls = 0

    def exchange(self, *what):
        self.calls += 1
        if self.calls == 2:
            raise SystemExit
        return super().exchange(*what)


def test_a_shard_that_begins_anew_goes_on_behind_what_is_in_its_redis(ground, shard):
    tell(ground, "db1", *(Record("db1", f"tea-{number}", value_of(sibling(number, c0=1))) for number in range(3)))
    shard.queue = Dying(ground.layout.q, deadline_s=CALL_S)
    with pytest.raises(SystemExit):
        shard.step([])
    assert waiting(ground, "db1") == 3

    shard_of(ground).step([])

    assert waiting(ground, "db1") == 0
    assert [tea for _, tea, _ in told(ground, "db0")] == ["tea-0", "tea-1", "tea-2"]


def test_gossip_that_was_given_out_and_not_stored_is_taken_again(ground, shard):
    """As by a shard that died between its take and its EXEC."""
    tell(ground, "db1", *(Record("db1", f"tea-{number}", value_of(sibling(number, c0=1))) for number in range(3)))
    shard.queue.take("db1", None)

    shard.step([])

    assert shard.store.counts()["keys"] == 3
    assert waiting(ground, "db1") == 0


def test_a_step_that_takes_long_stops_between_portions_and_the_next_one_goes_on(ground, shard, monkeypatch):
    """With no time at all, a step takes one portion: as many records as hold 256 siblings."""
    crowd = value_of(*(sibling(number, **{f"c{number}": 1}) for number in range(100)))
    tell(ground, "db1", *(Record("db1", f"tea-{number}", crowd) for number in range(7)))
    monkeypatch.setattr("serverDB.GOSSIP_S", 0)

    keys, left = [], []
    for _ in range(3):
        shard.step([])
        keys.append(shard.store.counts()["keys"])
        left.append(waiting(ground, "db1"))

    assert keys == [3, 6, 7]
    assert left == [4, 1, 0]


def test_what_stayed_due_is_told_whole_however_long_it_takes(ground, shard, monkeypatch):
    records = [Record("db0", f"tea-{number}", UNRATED) for number in range(600)]
    shard.store.change(Changes(remembered=records, now_due=600))
    monkeypatch.setattr("serverDB.GOSSIP_S", 0)

    shard.catch_up()

    assert shard.store.counts()["due"] == 0
    assert waiting(ground, "db0") == 600


def test_a_record_that_the_queue_refuses_holds_up_no_other(ground, shard, by_hand):
    """Here one that was spoilt by hand: it is no JSON, so that the whole batch is refused at first."""
    by_hand.rpush("due", *texts_of("first"), "not json", *texts_of("second", "third"))

    shard.step([])

    assert shard.store.counts()["due"] == 0
    assert [tea for _, tea, _ in told(ground, "db0")] == ["first", "second", "third"]
    assert shard.queue_watch.trouble is None
    assert by_hand.lrange("set-aside", 0, -1) == ["not json"]
    assert shard.store.counts()["set-aside"] == 1


def test_of_what_was_set_aside_the_newest_twenty_are_kept_and_all_are_counted(ground, shard, by_hand):
    by_hand.rpush("due", *(f"spoilt {number}" for number in range(25)))
    shard.catch_up()
    for number in range(5):
        Queue(ground.layout.q, deadline_s=CALL_S).put("db1", {"senseless": number})
    shard.step([])

    kept = by_hand.lrange("set-aside", 0, -1)
    assert kept[:2] == ["spoilt 10", "spoilt 11"]
    assert kept[-5:] == [f'{{"senseless":{number}}}' for number in range(5)]
    assert len(kept) == 20
    assert shard.store.counts() == {"keys": 0, "digest": 0, "due": 0, "set-aside": 30}


def test_the_largest_legal_record_goes_its_way(ground, shard):
    """100 siblings, each with a clock of 64 entries of the longest ids and the largest counts, and the longest name."""
    tea = '"' * 255
    entries = [f"{'n' * 61}-{number:02}" for number in range(64)]
    clocks = [dict.fromkeys(entries, wire.COUNT_LIMIT - 200) for _ in range(MOST_SIBLINGS)]
    for number, clock in enumerate(clocks):  # each newer than all others in one entry, and older in another
        clock[entries[0]] += number
        clock[entries[1]] -= number
    largest = value_of(*(sibling(-123456.7890123456 - number / 3, **clock) for number, clock in enumerate(clocks)))
    assert len(largest.siblings) == MOST_SIBLINGS
    shard.queue = Queue(ground.layout.q)  # with the deadline of a real shard

    shard.store.change(Changes(remembered=[Record("db0", tea, largest)], now_due=1))
    shard.step([])
    other = shard_of(ground, index=1, queue_s=DEADLINE_S)
    [read] = other.step([Read(tea)])

    assert read == largest
    assert len(wire.encode_record(Record("db0", tea, largest))) > 500_000
    assert shard.store.counts()["set-aside"] == other.store.counts()["set-aside"] == 0
    assert shard.queue_watch.trouble is None


def test_large_records_travel_in_more_calls_and_all_arrive(ground, shard):
    """300 records of 60 siblings with 60 entries each, some 20 MB: one call would outlast its deadline for ever."""
    crowd = value_of(*(sibling(n, **{f"c{n}-{entry}": n for entry in range(60)}) for n in range(60)))
    shard.store.change(Changes(remembered=[Record("db0", f"tea-{n}", crowd) for n in range(300)], now_due=300))
    shard.queue = Queue(ground.layout.q)  # with the deadline of a real shard

    shard.catch_up()

    assert shard.queue_watch.trouble is None
    assert shard.store.counts()["due"] == 0
    assert waiting(ground, "db0") == 300


def test_a_channel_that_was_cleared_is_read_from_its_new_beginning(ground, shard):
    tell(ground, "db1", *(Record("db1", f"tea-{number}", value_of(sibling(number, c0=1))) for number in range(3)))
    shard.step([])
    shard.queue.clear()
    tell(ground, "db1", Record("db1", "assam", value_of(sibling(3, c0=1))))

    assert shard.step([Read("assam")]) == [value_of(sibling(3, c0=1))]


# ---- a step without its Redis or its queue


def test_without_redis_a_step_is_down_and_takes_no_gossip(ground, shard, redis_service):
    tell(ground, "db1", Record("db1", "assam", value_of(sibling(3, c0=1))))

    with gone(redis_service), pytest.raises(StoreDown):
        shard.step([write("bancha", 4, c0=1), Read("assam")])

    assert waiting(ground, "db1") == 1
    assert shard.step([Read("assam"), Read("bancha")]) == [value_of(sibling(3, c0=1)), UNRATED]


class Stopping(Store):
    """A store whose Redis is stopped right before the next change: between the load and the EXEC."""

    def __init__(self, *where):
        super().__init__(*where)
        self.to_stop = None  # the Redis service

    def change(self, *what):
        with ExitStack() as stack:
            if self.to_stop is not None:
                service, self.to_stop = self.to_stop, None
                stack.enter_context(stopped(service))
            return super().change(*what)


def test_a_write_whose_exec_was_not_answered_is_unsure_and_is_whole_and_repeatable(ground, by_hand, redis_service):
    shard = shard_of(ground, digest_length=1000, kind=Stopping)
    shard.store.to_stop = redis_service

    with pytest.raises(StoreUnsure):
        shard.step([write("assam", 3, c0=1)])

    eventually(lambda: shard.store.trouble() is None, "Redis is used again")
    is_there = by_hand.exists("/rating/assam")
    assert by_hand.llen("digest") == is_there
    [repeated, read] = shard.step([write("assam", 3, c0=1), Read("assam")])
    assert repeated == Written(value_of(sibling(3, c0=1)), "same" if is_there else "stored")
    assert read == value_of(sibling(3, c0=1))


def test_gossip_whose_exec_was_not_answered_fails_no_read_and_is_taken_again(ground, redis_service):
    shard = shard_of(ground, kind=Stopping)
    shard.step([write("assam", 3, c0=1)])
    tell(ground, "db1", Record("db1", "bancha", value_of(sibling(5, c0=1))))
    shard.store.to_stop = redis_service

    assert shard.step([Read("assam")]) == [value_of(sibling(3, c0=1))]
    eventually(lambda: shard.store.trouble() is None, "Redis is used again")
    assert shard.step([Read("bancha")]) == [value_of(sibling(5, c0=1))]
    assert waiting(ground, "db1") == 0


@pytest.mark.parametrize("away", [stopped, gone], ids=["stopped", "gone"])
def test_without_the_queue_all_is_stored_and_told_when_it_is_back_without_another_request(ground, away):
    shard = shard_of(ground, queue_s=DEADLINE_S)

    with away(ground.cluster.queue):
        for number in range(3):
            assert shard.step([write(f"tea-{number}", number, c0=1)])[0].outcome == "stored"
        assert shard.store.counts() == {"keys": 3, "digest": 0, "due": 3, "set-aside": 0}

    eventually(lambda: shard.store.counts()["due"] == 0, "what was due is sent")
    assert [tea for _, tea, _ in told(ground, "db0")][-3:] == ["tea-0", "tea-1", "tea-2"]
    eventually(lambda: shard.queue_watch.trouble is None, "the queue is used again")


def test_what_was_due_as_the_queue_went_away_stays_due(ground):
    """The very call that was to tell it finds nobody."""
    shard = shard_of(ground, queue_s=DEADLINE_S)
    shard.store.change(Changes(remembered=[Record("db0", "assam", value_of(sibling(3, c0=1)))], now_due=1))

    with gone(ground.cluster.queue):
        shard.step([Read("chai")])
        assert shard.store.counts()["due"] == 1

    eventually(lambda: shard.store.counts()["due"] == 0, "what was due is sent")
    assert told(ground, "db0")[-1] == ("db0", "assam", [3])


# ---- shards as processes


def test_what_was_in_the_digest_of_a_killed_shard_is_told_by_the_one_after_it(ring):
    course = ring.begin(digest_length=2)
    course.put_at(0, "assam", 3, {"c0": 1})

    with gone(ring.cluster.shards[0]):
        pass
    course.put_at(0, "bancha", 4, {"c0": 1})

    assert told(ring, "db0") == [("db0", "assam", [3]), ("db0", "bancha", [4])]
    assert course.read_at(1, "assam")["choices"] == [3]


@pytest.mark.parametrize("how_the_queue_fails", ["stopped", "gone"])
def test_what_a_shard_could_not_send_before_it_was_killed_reaches_its_successor(ring, how_the_queue_fails):
    course = ring.begin(digest_length=1)
    queue, shard = ring.cluster.queue, ring.cluster.shards[0]

    with gone(queue) if how_the_queue_fails == "gone" else stopped(queue):
        course.put_at(0, "assam", 3, {"c0": 1})
        shard.kill()
        queue.kill()  # with whatever a stopped one still had in its buffers
    if not queue.is_running:
        start(queue)
    assert told(ring, "db0") == []
    start(shard)

    course.read_at(0, "anything")

    assert course.read_at(1, "assam")["choices"] == [3]


def test_a_write_that_was_answered_outlives_a_kill_of_its_shard_and_its_redis(ring):
    course = ring.begin(digest_length=2)
    course.put_at(0, "assam", 3, {"c0": 1})

    with gone(ring.cluster.redis[0]), gone(ring.cluster.shards[0]):
        pass

    assert course.read_at(0, "assam")["choices"] == [3]
    assert course.status_of(0)["digest"] == 1


@pytest.mark.parametrize("way", ["straight", "through the load balancer"])
def test_sixteen_threads_that_write_concurrent_siblings_to_one_tea_lose_none(ring, way):
    course = ring.begin(digest_length=1)
    primary = primary_of("persimmon", NDB)
    port = ring.layout.db(primary) if way == "straight" else ring.layout.lb
    together = threading.Barrier(16)

    def write_four(thread):
        together.wait(CALL_S)
        return [put_persimmon(port, thread, f"c{thread}-{number}").status for number in range(4)]

    with ThreadPoolExecutor(16) as at_once:
        statuses = list(at_once.map(write_four, range(16)))

    assert statuses == [[200] * 4] * 16
    held = course.strong_read("persimmon")
    expected = sorted((thread, [f"c{thread}-{number}"]) for thread in range(16) for number in range(4))
    assert sorted(zip(held["choices"], map(list, held["clocks"]), strict=True)) == expected
    eventually(lambda: course.read_at(1 - primary, "persimmon") == held, "the other shard holds the same")


def test_no_write_that_was_answered_is_lost_by_a_shard_that_is_killed_again_and_again(ring):
    course = ring.begin(digest_length=1)
    is_over = threading.Event()

    def write_on(thread):
        """The node ids of the writes that were answered."""
        answered, numbers = [], count()
        while not is_over.is_set():
            node = f"c{thread}-{next(numbers)}"
            try:
                if put_persimmon(ring.layout.db(0), thread, node).status == 200:
                    answered.append(node)
            except (OSError, HTTPException):
                is_over.wait(0.02)  # before the next try: the shard is being started
        return answered

    def held():
        return {node for clock in course.read_at(0, "persimmon")["clocks"] for node in clock}

    with ThreadPoolExecutor(4) as at_once:
        writing = [at_once.submit(write_on, thread) for thread in range(4)]
        try:
            for life in range(1, 4):
                eventually(lambda life=life: len(held()) > 8 * life, "writes go on")
                with gone(ring.cluster.shards[0]):
                    pass
        finally:
            is_over.set()
        answered = {node for each in writing for node in each.result()}

    assert len(answered) > 8
    assert answered <= held()
    at_home = course.read_at(0, "persimmon")
    eventually(lambda: course.read_at(1, "persimmon") == at_home, "the other shard holds the same")


def put_persimmon(port, rating, node):
    return ask(port, "PUT", "/rating/persimmon", f'{{"rating":{rating},"clock":{{"{node}":1}}}}')
