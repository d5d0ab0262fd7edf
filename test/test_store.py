"""What a shard keeps in its Redis, on a real Redis: whole or not at all, and not lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import pytest
from harness import CALL_S, eventually, gone, stopped
from shardparts import sibling, store_of, stored, value_of

from emporium import wire
from emporium.redisconnection import DEADLINE_S
from emporium.shard import Changes, Digest
from emporium.siblings import UNRATED, Damaged, Value
from emporium.store import Found, StoreDown, StoreUnsure
from emporium.wire import Cursor, Record

NDB = 2


@pytest.fixture
def store(ground):
    return store_of(ground)


def put(store, tea, *siblings):
    store.change(Changes(values={tea: value_of(*siblings)}))


# ---- load and change


def test_what_was_never_stored_is_unrated(store):
    found = store.load(["assam", "bancha"])

    assert found.values == {"assam": UNRATED, "bancha": UNRATED}
    assert (found.digest.count, found.due_count, found.cursor) == (0, 0, None)


def test_no_teas_can_be_loaded_too(store):
    assert store.load([]).values == {}


@pytest.mark.parametrize("tea", ["assam", "thé vert", "茶 ☕", "a b\"c'd\\", "%s{}", "*", "/rating/"])
def test_a_value_comes_back_as_it_was_stored(store, tea):
    value = value_of(sibling(3, c0=1), sibling(2.25, c1=2**53 - 1, c2=0), sibling(-1_000_000, c3=1))

    store.change(Changes(values={tea: value}))

    assert stored(store, tea) == value


def test_values_are_readable_in_redis_cli(store, by_hand):
    put(store, "persimmon", sibling(3, c0=5), sibling(4, c1=1, a=2))

    assert by_hand.hgetall("/rating/persimmon") == {
        "rating": "3.5",
        "choices": "[4,3]",
        "clocks": '[{"a":2,"c1":1},{"c0":5}]',
    }
    assert by_hand.keys() == ["/rating/persimmon"]


def test_a_new_value_takes_the_whole_place_of_the_old_one(store):
    put(store, "assam", sibling(3, c0=1), sibling(4, c1=1))
    put(store, "bancha", sibling(1, c0=1))

    put(store, "assam", sibling(5, c0=2, c1=2))

    assert stored(store, "assam") == value_of(sibling(5, c0=2, c1=2))
    assert stored(store, "bancha") == value_of(sibling(1, c0=1))


def test_what_is_removed_is_forgotten_before_anything_is_stored(store, by_hand):
    put(store, "assam", sibling(3, c0=1))
    by_hand.rpush("/rating/bancha", "a list, by mistake")

    store.change(Changes(removed=["assam", "bancha"], values={"bancha": value_of(sibling(4, c0=1))}))

    assert store.load(["assam", "bancha"]).values == {"assam": UNRATED, "bancha": value_of(sibling(4, c0=1))}


def test_no_changes_change_nothing(store, by_hand):
    store.change(Changes())

    assert by_hand.keys() == []


# ---- digest, due and cursor


def record(number):
    return Record("db0", f"tea-{number}", value_of(sibling(number, c0=1)))


def texts(*numbers):
    return [wire.encode_record(record(number)) for number in numbers]


def remember(store, *numbers, now_due=0):
    store.change(Changes(remembered=[record(number) for number in numbers], now_due=now_due))


def test_the_digest_is_counted_and_becomes_due_oldest_first(store):
    remember(store, 1, 2)
    remember(store, 3, now_due=2)

    found = store.load([])

    assert (found.digest.count, found.due_count) == (1, 2)
    assert store.due(most=10) == texts(1, 2)


def test_what_becomes_due_stands_behind_what_is_due(store):
    remember(store, 1, 2, now_due=2)
    remember(store, 3, 4, now_due=2)

    assert store.due(most=10) == texts(1, 2, 3, 4)
    assert store.due(most=3) == texts(1, 2, 3)


def test_what_was_sent_is_forgotten_and_nothing_else(store):
    remember(store, 1, 2, 3, 4, now_due=3)

    store.change(Changes(), sent=2)

    assert store.due(most=10) == texts(3)
    assert store.counts() == {"keys": 0, "digest": 1, "due": 1, "set-aside": 0}


def test_records_are_readable_in_redis_cli(store, by_hand):
    remember(store, 1, 2, now_due=1)

    assert by_hand.lrange("due", 0, -1) == [
        '{"primary":"db0","key":"tea-1","rating":1,"choices":[1],"clocks":[{"c0":1}]}'
    ]
    assert by_hand.llen("digest") == 1


def test_the_cursor_is_noted_with_the_change_that_it_stands_for(store):
    store.change(Changes(values={"assam": value_of(sibling(3, c0=1))}), Cursor("a-life", 41))
    store.change(Changes(values={"assam": value_of(sibling(4, c0=2))}))

    assert store.load([]).cursor == Cursor("a-life", 41)


@pytest.mark.parametrize("text", ["", "garbage", "[]", '{"life": "x"}', '{"life": "x", "offset": -1}'])
def test_a_cursor_that_makes_no_sense_counts_as_none(store, by_hand, text):
    by_hand.set("cursor", text)

    assert store.load([]).cursor is None


def test_what_a_shard_remembers_besides_counts_as_no_tea(store):
    remember(store, 1, 2, now_due=1)
    store.change(Changes(values={f"tea-{number}": value_of(sibling(1, c0=1)) for number in range(3)}), Cursor("x", 1))

    assert store.counts() == {"keys": 3, "digest": 1, "due": 1, "set-aside": 0}


# ---- listing


def test_all_teas_are_listed_once_page_by_page(store, by_hand):
    names = {f"tea-{number}" for number in range(1200)}
    with by_hand.pipeline() as pipe:
        for name in names:
            pipe.hset(f"/rating/{name}", mapping={"rating": "3", "choices": "[3]", "clocks": '[{"c0":1}]'})
        pipe.execute()
    remember(store, 1)

    listed, page = store.list(0, most=100)
    pages = [listed]
    while page != 0:
        listed, page = store.list(page, most=100)
        pages.append(listed)

    found = [row for listed in pages for row in listed]
    assert len(pages) > 5
    assert sorted(found) == sorted((name, 3, 1) for name in names)


def test_a_damaged_tea_is_not_listed(store, by_hand):
    put(store, "assam", sibling(3, c0=1), sibling(4, c1=1))
    by_hand.hset("/rating/bancha", "rating", "3")
    by_hand.hset("/rating/chai", mapping={"rating": "3", "choices": "three", "clocks": "[]"})
    by_hand.set("/rating/dooars", "3")

    assert store.list(0, most=100) == ([("assam", 3.5, 2)], 0)


# ---- nothing is cached


def test_what_is_changed_by_hand_is_in_the_next_load(store, by_hand):
    put(store, "assam", sibling(3, c0=1))
    stored(store, "assam")

    by_hand.hset("/rating/assam", mapping={"rating": "8", "choices": "[7,9]", "clocks": '[{"c0":4},{"c1":1}]'})

    assert stored(store, "assam") == Value(8, (sibling(7, c0=4), sibling(9, c1=1)))


def test_a_flush_takes_everything(store, by_hand):
    store.change(Changes(values={"assam": value_of(sibling(3, c0=1))}, remembered=[record(1)]), Cursor("x", 1))
    store.load(["assam"])

    by_hand.flushall()

    assert store.load(["assam"]) == Found({"assam": UNRATED}, Digest(), 0, None)
    assert store.counts() == {"keys": 0, "digest": 0, "due": 0, "set-aside": 0}


def test_two_stores_on_one_redis_see_the_same(ground, store):
    other = store_of(ground)
    put(store, "assam", sibling(3, c0=1))
    stored(other, "assam")

    put(store, "assam", sibling(4, c0=2))

    assert stored(other, "assam") == value_of(sibling(4, c0=2))


# ---- what is damaged


GOOD = {"rating": "3", "choices": "[3]", "clocks": '[{"c0":1}]'}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"rating": ""}, "JSON"),
        ({"rating": "three"}, "JSON"),
        ({"rating": "NaN"}, "JSON"),
        ({"rating": "null"}, "null"),
        ({"rating": '"3"'}, "str"),
        ({"choices": "3"}, "int"),
        ({"choices": "[3"}, "JSON"),
        ({"choices": '["3"]'}, "str"),
        ({"choices": "[1e400]"}, ""),
        ({"choices": b"\xff"}, ""),
        ({"choices": "[3,4]"}, "choices, clocks: 2 and 1"),
        ({"choices": "[]"}, "choices, clocks: 0 and 1"),
        ({"clocks": "{}"}, "object"),
        ({"clocks": "[3]"}, "int"),
        ({"clocks": '[{"c0":-1}]'}, ">= 0"),
        ({"clocks": '[{"c0":1.5}]'}, "float"),
        ({"clocks": "[" * 20_000}, ""),
        ({"rating": None}, "missing"),
        ({"choices": None}, "missing"),
        ({"clocks": None}, "missing"),
    ],
)
def test_a_field_that_makes_no_sense_damages_its_tea_and_no_other(store, by_hand, damage, reason):
    put(store, "assam", sibling(5, c0=1))
    fields = {name: text for name, text in {**GOOD, **damage}.items() if text is not None}
    by_hand.hset("/rating/bancha", mapping=fields)

    values = store.load(["assam", "bancha", "chai"]).values

    assert isinstance(values["bancha"], Damaged)
    assert reason in values["bancha"].reason
    assert (values["assam"], values["chai"]) == (value_of(sibling(5, c0=1)), UNRATED)


@pytest.mark.parametrize(
    "make",
    [
        lambda by_hand, key: by_hand.set(key, "3"),
        lambda by_hand, key: by_hand.rpush(key, "3"),
        lambda by_hand, key: by_hand.sadd(key, "3"),
        lambda by_hand, key: by_hand.zadd(key, {"3": 1}),
    ],
    ids=["string", "list", "set", "sorted set"],
)
def test_a_key_of_another_type_damages_its_tea_and_no_other(store, by_hand, make):
    put(store, "assam", sibling(5, c0=1))
    make(by_hand, "/rating/bancha")

    values = store.load(["assam", "bancha"]).values

    assert isinstance(values["bancha"], Damaged)
    assert "not a hash" in values["bancha"].reason
    assert values["assam"] == value_of(sibling(5, c0=1))


def test_more_fields_than_ours_do_no_damage(store, by_hand):
    by_hand.hset("/rating/assam", mapping={**GOOD, "note": "bought in Uji"})

    assert stored(store, "assam") == value_of(sibling(3, c0=1))


# ---- whole or not at all


MANY = 200  # teas in one change, so that Redis reads it in several pieces and could do other things in between


def step_number(number):
    """A change of everything at once, whose parts tell by which change they were made."""
    value = value_of(sibling(number, c0=number))
    teas = [f"tea-{each}" for each in range(MANY)]
    return Changes(values=dict.fromkeys(teas, value), remembered=[Record("db0", "tea-0", value)]), Cursor("x", number)


def parts(client):
    """The parts of the last such change, all of one moment."""
    with client.pipeline(transaction=True) as pipe:
        for tea in (0, MANY - 1):
            pipe.hget(f"/rating/tea-{tea}", "rating")
        first, last, digest, cursor = pipe.llen("digest").get("cursor").execute()
    return int(first or 0), int(last or 0), digest, wire.decode(cursor, Cursor).offset if cursor else 0


def test_a_change_shows_all_at_once(store, by_hand):
    is_over = threading.Event()
    seen = set()

    def change_on():
        numbers = count(1)
        while not is_over.is_set():
            store.change(*step_number(next(numbers)))

    def look():
        seen.add(parts(by_hand))
        return len(seen) > 20

    with ThreadPoolExecutor(1) as meanwhile:
        changing = meanwhile.submit(change_on)
        try:
            eventually(look, "many changes are seen")
        finally:
            is_over.set()
        changing.result()

    assert [each for each in seen if len(set(each)) > 1] == []


def test_a_change_that_a_kill_of_redis_met_is_there_whole_or_not_at_all(ground, store, redis_service):
    made = []

    def change_until_it_fails():
        for number in count(1):
            store.change(*step_number(number))
            made.append(number)

    with ThreadPoolExecutor(1) as meanwhile:
        changing = meanwhile.submit(change_until_it_fails)
        eventually(lambda: len(made) > 50, "some changes are made")
        with gone(redis_service):
            assert isinstance(changing.exception(), StoreDown | StoreUnsure)

    with ground.redis(0) as by_hand:
        found = parts(by_hand)
    assert found in [(number,) * 4 for number in (made[-1], made[-1] + 1)]


def test_a_change_that_redis_refuses_as_a_whole_is_surely_not_made(store, by_hand):
    """A full Redis answers EXEC with an error. That is an answer: nothing is unsure about it."""
    store.change(*step_number(1))
    by_hand.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreDown):
            store.change(*step_number(2))
    finally:
        by_hand.config_set("maxmemory", 0)

    assert parts(by_hand) == (1, 1, 1, 1)


# ---- a Redis that does not answer


CALLS = {
    "load": lambda store: store.load(["assam"]),
    "change": lambda store: put(store, "assam", sibling(9, c9=9)),
    "due": lambda store: store.due(10),
    "sent": lambda store: store.change(Changes(), sent=1),
    "counts": lambda store: store.counts(),
    "list": lambda store: store.list(0, 10),
}
CHANGES = ["change", "sent"]


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


def test_without_redis_every_call_is_down_and_the_next_one_after_its_return_works(ground, redis_service):
    store = store_of(ground)
    store.counts()

    with gone(redis_service):
        for call in CALLS.values():
            with pytest.raises(StoreDown, match=str(redis_service.port)):
                call(store)

    for call in CALLS.values():
        call(store)


def test_however_often_redis_was_away_it_is_used_again(store, redis_service):
    with gone(redis_service):
        for _ in range(150):  # more than the library's pool makes connections
            with pytest.raises(StoreDown):
                store.load(["assam"])

    assert stored(store, "assam") == UNRATED


def test_a_count_that_was_edited_into_nonsense_spoils_no_other(store, by_hand):
    by_hand.set("set-aside-count", "many")

    assert store.counts() == {"keys": 0, "digest": 0, "due": 0, "set-aside": None}


def test_one_that_was_never_reached_is_down_for_a_change_too(ground, redis_service):
    with gone(redis_service):
        for call in CALLS.values():
            with pytest.raises(StoreDown):
                call(store_of(ground))


def test_of_a_redis_that_hangs_a_reader_is_told_that_it_is_down(store, redis_service):
    reads = [call for name, call in CALLS.items() if name not in CHANGES]
    with ThreadPoolExecutor(len(reads)) as at_once:
        list(at_once.map(lambda call: call(store), reads))

        with stopped(redis_service):
            told = [at_once.submit(call, store).exception for call in reads]
            failures = [exception(timeout=CALL_S) for exception in told]

    assert [type(failure) for failure in failures] == [StoreDown] * len(reads)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_redis_was_given_and_did_not_confirm_is_unsure(store, by_hand, redis_service, name):
    """It stops between the load and the EXEC. What came of the change shows when it goes on: here, it is made."""
    remember(store, 1, now_due=1)
    store.load(["assam"])

    with stopped(redis_service), pytest.raises(StoreUnsure):
        CALLS[name](store)

    if name == "change":
        eventually(lambda: by_hand.exists("/rating/assam"), "what was given is carried out")
    else:
        eventually(lambda: by_hand.llen("due") == 0, "what was given is carried out")


def test_a_change_for_which_redis_could_not_even_be_reached_is_surely_not_made(ground, by_hand, redis_service):
    """No connection stands, so nothing of it was sent: whoever hangs gets no chance to carry it out later."""
    with stopped(redis_service), pytest.raises(StoreDown):
        put(store_of(ground), "assam", sibling(9, c9=9))

    by_hand.ping()
    assert not by_hand.exists("/rating/assam")


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(store, redis_service):
    put(store, "assam", sibling(3, c0=1))
    put(store, "bancha", sibling(4, c0=1))

    with stopped(redis_service):
        for call in (partial(stored, store, "assam"), store.counts):
            with pytest.raises(StoreDown):
                call()

    eventually(lambda: store.trouble() is None, "Redis is used again")
    assert stored(store, "bancha") == value_of(sibling(4, c0=1))
    assert store.counts()["digest"] == 0
    assert stored(store, "assam") == value_of(sibling(3, c0=1))


def test_a_redis_that_timed_out_is_waited_for_once_and_used_again_when_it_is_back(store, redis_service):
    put(store, "assam", sibling(3, c0=1))

    with stopped(redis_service):
        with pytest.raises(StoreDown, match="Timeout"):
            stored(store, "assam")
        began = time.monotonic()
        for call in (
            partial(stored, store, "assam"),
            store.counts,
            partial(put, store, "bancha", sibling(4, c0=1)),
        ) * 10:
            with pytest.raises(StoreDown, match="left alone"):
                call()
        took_s = time.monotonic() - began
        assert "left alone" in store.trouble()

    assert took_s < DEADLINE_S * 15  # for all 30
    eventually(lambda: store.trouble() is None, "Redis is used again")
    assert stored(store, "assam") == value_of(sibling(3, c0=1))
    assert stored(store, "bancha") == UNRATED


def test_a_redis_that_refuses_is_asked_again_the_next_time(store, redis_service):
    with gone(redis_service):
        for _ in range(3):
            with pytest.raises(StoreDown, match="refused"):
                stored(store, "assam")

    assert stored(store, "assam") == UNRATED


def test_a_connection_that_a_restart_has_broken_is_replaced_without_an_error(store, redis_service, call):
    put(store, "assam", sibling(3, c0=1))

    with gone(redis_service):
        pass

    call(store)


def test_one_store_serves_many_threads(store):
    def work(number):
        put(store, f"tea-{number}", sibling(number, c0=1))
        return stored(store, f"tea-{number}")

    with ThreadPoolExecutor(8) as at_once:
        values = list(at_once.map(work, range(200)))

    assert values == [value_of(sibling(number, c0=1)) for number in range(200)]
