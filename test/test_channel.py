"""A channel of the queue: what waits, what is leased, what is done with, and what is remembered of that.

The same tests run on a log in memory and on one on disk; time stands still until a test moves it.
"""

import itertools
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emporium.channel import Channel, Limits, Progress, TooManyLeased
from emporium.commitlog import Log, tools
from emporium.commitlog.errors import Closed, Damaged, NotStored, TooLarge
from emporium.shelf import MemoryShelf, Shelves
from emporium.wire import Cursor

DEADLINE_S = 20


class Clock:
    """Monotonic seconds that pass when we say so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "disk"])
def shelf(request, tmp_path):
    if request.param == "memory":
        yield MemoryShelf()
    else:
        shelves = Shelves(tmp_path, "never")
        made = shelves.make("jobs")
        yield made
        made.log.close()
        shelves.close()


@pytest.fixture
def channel(shelf, clock):
    return Channel(shelf, now=clock)


def numbered(*numbers):
    return [b'{"n":%d}' % number for number in numbers]


def offsets(leased):
    return [each.offset for each in leased]


def receipts(leased):
    return [each.receipt for each in leased]


# ---- leases


def test_what_is_leased_is_given_to_nobody_else_until_the_lease_ends(channel, clock):
    channel.put(numbered(0, 1, 2))

    first = channel.lease(2, lease_s=30)
    second = channel.lease(2, lease_s=30)
    clock.now += 29.9

    assert offsets(first) == [0, 1]
    assert offsets(second) == [2]
    assert channel.lease(1, 30) == channel.get(1) == []
    assert channel.waiting == 0


def test_what_is_not_acknowledged_in_time_waits_again_in_its_place(channel, clock):
    channel.put(numbered(0, 1, 2))
    channel.lease(2, lease_s=30)
    clock.now += 30

    again = channel.lease(3, lease_s=30)

    assert offsets(again) == [0, 1, 2]
    assert [each.deliveries for each in again] == [2, 2, 1]


def test_what_is_acknowledged_never_comes_again(channel, clock):
    channel.put(numbered(0, 1, 2))
    leased = channel.lease(3, lease_s=30)

    assert channel.acknowledge(receipts(leased)[:2]) == []
    clock.now += 30

    assert channel.get(9) == numbered(2)


def test_an_acknowledgement_that_comes_too_late_is_stale_and_changes_nothing(channel, clock):
    channel.put(numbered(0, 1))
    late = channel.lease(1, lease_s=30)
    clock.now += 30
    now = channel.lease(1, lease_s=30)

    assert channel.acknowledge(receipts(late)) == receipts(late)
    assert channel.info()["leased"] == 1
    assert channel.acknowledge(receipts(now)) == []


def test_to_acknowledge_twice_is_stale_and_harmless(channel):
    channel.put(numbered(0, 1))
    leased = channel.lease(1, lease_s=30)

    assert channel.acknowledge(receipts(leased) * 2) == []
    assert channel.acknowledge(receipts(leased)) == receipts(leased)
    assert channel.get(9) == numbered(1)


@pytest.mark.parametrize("receipt", ["", ".", "0", "0.", "0.x", "x.y", "-1.x", "9" * 30 + ".x", "٣.x", "0.\N{SNOWMAN}"])
def test_a_receipt_that_never_was_one_is_stale(channel, receipt):
    channel.put(numbered(0))
    channel.lease(1, lease_s=30)

    assert channel.acknowledge([receipt]) == channel.release([receipt]) == [receipt]
    assert channel.info()["leased"] == 1


def test_what_is_released_waits_again_at_once_before_what_came_later(channel):
    channel.put(numbered(0, 1, 2))
    leased = channel.lease(2, lease_s=30)

    assert channel.release(receipts(leased)[1:]) == []

    assert channel.get(9) == numbered(1, 2)
    assert channel.release(receipts(leased)[1:]) == receipts(leased)[1:]


def test_only_so_many_may_be_leased(shelf, clock):
    channel = Channel(shelf, Limits(most_leased=2), clock)
    channel.put(numbered(0, 1, 2))

    assert len(channel.lease(3, lease_s=30)) == 2
    with pytest.raises(TooManyLeased, match="2 records"):
        channel.lease(1, lease_s=30)

    assert channel.get(1) == numbered(2)  # others are not concerned
    clock.now += 30
    assert len(channel.lease(3, lease_s=30)) == 2


# ---- several ways at once


def test_no_cursor_passes_what_is_leased_to_another(channel, clock):
    channel.put(numbered(0, 1, 2, 3))
    channel.get(1)
    held = channel.lease(1, lease_s=30)
    other = channel.lease(1, lease_s=30)
    channel.release(receipts(other))

    assert channel.take(None, 9) == ([], None, 2)
    channel.acknowledge(receipts(held))
    records, cursor, left = channel.take(None, 9)

    assert (records, left) == (numbered(2, 3), 0)
    assert channel.take(cursor, 9) == ([], cursor, 0)
    assert channel.info()["floor"] == 4


def test_a_take_leaves_out_what_others_are_done_with(channel):
    channel.put(numbered(0, 1, 2, 3))
    leased = channel.lease(3, lease_s=30)
    channel.acknowledge([leased[1].receipt])
    channel.release([leased[0].receipt, leased[2].receipt])

    records, cursor, left = channel.take(None, 9)

    assert (records, left) == (numbered(0, 2, 3), 0)
    assert cursor.offset == 3


def test_a_cursor_ends_leases_below_it(channel, clock):
    """The reader has dealt with them, whoever else is at work on them."""
    channel.put(numbered(0, 1, 2))
    _, cursor, _ = channel.take(None, 2)
    leased = channel.lease(3, lease_s=30)

    assert channel.take(cursor, 9) == ([], cursor, 0)  # 2 is leased
    assert channel.acknowledge(receipts(leased)) == receipts(leased)[:2]
    assert channel.waiting == 0


def test_what_is_done_with_twice_is_counted_once(channel):
    channel.put(numbered(0, 1, 2, 3))
    _, cursor, _ = channel.take(None, 3)
    leased = channel.lease(2, lease_s=30)
    channel.acknowledge([leased[1].receipt])

    assert channel.take(cursor, 9)[::2] == (numbered(3), 0)
    assert (channel.waiting, channel.info()["floor"]) == (1, 3)


def test_a_cursor_ahead_of_all_that_was_put_counts_as_none(channel):
    channel.put(numbered(0, 1))

    records, _, _ = channel.take(Cursor(channel.life, 2), 9)

    assert records == numbered(0, 1)


# ---- limits


@pytest.mark.parametrize("what", ["most_records", "most_bytes"])
def test_beyond_its_limit_a_channel_drops_its_oldest_records_and_counts_them(channel, what):
    channel.put(numbered(0))
    channel.limits = Limits(**{what: 3 * {"most_records": 1, "most_bytes": channel.info()["bytes"]}[what]})

    waiting = [channel.put(numbered(number))[1] for number in range(1, 5)]

    assert waiting == [2, 3, 3, 3]
    assert channel.info()["dropped"] == 2
    assert channel.get(9) == numbered(2, 3, 4)


def test_what_was_done_with_is_not_counted_as_dropped(shelf, clock):
    channel = Channel(shelf, Limits(most_records=3), clock)
    channel.put(numbered(0, 1, 2))
    leased = channel.lease(2, lease_s=30)
    channel.acknowledge([leased[1].receipt])

    channel.put(numbered(3, 4, 5))

    assert channel.info()["dropped"] == 2  # 0, which was leased, and 2
    assert channel.acknowledge([leased[0].receipt]) == [leased[0].receipt]
    assert channel.get(9) == numbered(3, 4, 5)


@pytest.mark.parametrize("limits", [Limits(most_records=2), Limits(most_bytes=20)])
def test_what_could_not_even_wait_alone_is_refused(shelf, clock, limits):
    channel = Channel(shelf, limits, clock)
    channel.put(numbered(0))

    with pytest.raises(TooLarge):
        channel.put(numbered(1, 2, 3))

    assert (channel.waiting, channel.info()["dropped"]) == (1, 0)


def test_leases_that_were_acknowledged_are_forgotten(channel):
    for number in range(2000):
        channel.put(numbered(number))
        channel.acknowledge(receipts(channel.lease(1, lease_s=3600)))

    assert len(channel._claims._ends) < 500


# ---- to look at


def test_info_tells_where_the_channel_stands(channel):
    channel.put(numbered(0, 1, 2, 3))
    channel.get(1)
    leased = channel.lease(2, lease_s=30)
    channel.acknowledge([leased[1].receipt])

    info = channel.info()

    assert info.pop("life") == channel.life
    assert 0 <= info.pop("oldest_age_s") < DEADLINE_S
    assert info.pop("bytes") > 0
    assert info.pop("lowest") <= 1
    assert info == {"waiting": 1, "leased": 1, "floor": 1, "next": 4, "dropped": 0, "trouble": None}


def test_an_empty_channel_has_no_oldest_record(channel):
    channel.put(numbered(0))
    channel.get(1)

    info = channel.info()

    assert (info["oldest_age_s"], info["bytes"], info["waiting"]) == (None, 0, 0)


def test_a_peek_takes_nothing(channel):
    channel.put(numbered(0, 1, 2))
    channel.lease(1, lease_s=30)

    assert [record.value for record in channel.peek(0, 2)] == numbered(0, 1)
    assert [record.offset for record in channel.peek(1, 9)] == [1, 2]
    assert channel.peek(3, 9) == channel.peek(10**18, 9) == []
    assert channel.waiting == 2


# ---- waiting


def run(target):
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_who_waits_is_woken_by_the_next_record(shelf):
    channel = Channel(shelf)
    got = []
    waited = run(lambda: got.extend(channel.get(9, DEADLINE_S)))

    channel.put(numbered(0))

    waited.join(DEADLINE_S / 2)
    assert got == numbered(0)


def test_who_waits_is_woken_when_a_lease_ends_and_when_one_is_released(shelf):
    channel = Channel(shelf)
    channel.put(numbered(0))
    channel.lease(1, lease_s=0.1)
    began = time.monotonic()

    leased = channel.lease(1, lease_s=10 * DEADLINE_S, wait_s=DEADLINE_S)
    got = []
    waited = run(lambda: got.extend(channel.get(1, DEADLINE_S)))
    channel.release(receipts(leased))
    waited.join(DEADLINE_S)

    assert got == numbered(0)
    assert time.monotonic() - began < DEADLINE_S / 2


def test_of_many_who_wait_each_gets_a_record_or_waits_on(shelf):
    """All are woken by each record, and one gets it: the others must not be told that there is nothing."""
    channel = Channel(shelf)
    got = []
    many = [run(lambda: got.append(channel.get(1, DEADLINE_S))) for _ in range(16)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(16):
            channel.put(numbered(number))
        for waited in many:
            waited.join(DEADLINE_S)
    finally:
        sys.setswitchinterval(interval)

    assert sorted(got) == sorted([value] for value in numbered(*range(16)))


def test_nobody_waits_longer_than_asked_or_when_the_queue_ends(shelf):
    channel = Channel(shelf)
    began = time.monotonic()

    assert channel.get(1, wait_s=0.05) == []
    waited = run(lambda: channel.get(1, DEADLINE_S))
    channel.wake()

    waited.join(DEADLINE_S / 2)
    assert not waited.is_alive()
    assert time.monotonic() - began < DEADLINE_S / 2


# ---- the end of a channel


def test_a_channel_that_has_ended_says_how_many_waited_and_takes_nothing_more(channel):
    channel.put(numbered(0, 1, 2))
    channel.get(1)
    channel.lease(1, lease_s=30)

    assert channel.end() == 1
    assert (channel.get(1), channel.lease(1, 30), channel.take(None, 9)) == ([], [], ([], None, 0))
    with pytest.raises(Closed):
        channel.put(numbered(3))


# ---- what outlives the process


def test_what_was_put_as_the_channel_ended_is_stored_once_also_beyond_the_limit(tmp_path, clock):
    """Or it would be put again on the channel that follows, although the clear has counted it."""

    class EndingLog(Log):
        def append_many(self, values):
            first = super().append_many(values)
            self.close()
            return first

    log = EndingLog(tmp_path / "log")
    channel = Channel(SimpleNamespace(log=log, load=Progress), Limits(most_bytes=20), now=clock)

    assert channel.put(numbered(0, 1)) == (0, 2)


@pytest.fixture
def reopen(tmp_path):
    """() -> the Channel as a new process finds it; `is_killed`: what the last one had not saved is forgotten."""
    opened = []

    def open_again(is_killed=False):
        if opened:
            if is_killed:
                opened[-1].log.close()
            else:
                opened[-1].close()
            shelves.pop().close()
        shelves.append(Shelves(tmp_path, "never"))
        stored = dict(shelves[-1].stored())
        opened.append(Channel(stored["jobs"] if stored else shelves[-1].make("jobs")))
        return opened[-1]

    shelves = []
    yield open_again
    opened[-1].close()
    shelves.pop().close()


def test_a_channel_goes_on_where_it_was_under_the_same_life(reopen):
    before = reopen()
    before.put(numbered(*range(6)))
    before.get(1)
    leased = before.lease(3, lease_s=3600)
    before.acknowledge([leased[1].receipt])

    after = reopen()

    assert after.life == before.life
    assert after.get(9) == numbered(1, 3, 4, 5)  # what was leased waits again
    assert after.put(numbered(6)) == (6, 1)


def test_what_was_acknowledged_is_remembered_by_one_that_is_killed(reopen):
    before = reopen()
    before.put(numbered(0, 1, 2))
    leased = before.lease(2, lease_s=3600)
    before.acknowledge([leased[1].receipt])
    before.get(1)

    after = reopen(is_killed=True)

    assert after.get(9) == numbered(0, 2)  # 2 was given out, and comes again, since nobody had written that down


def test_how_many_were_dropped_is_remembered(reopen):
    before = reopen()
    before.limits = Limits(most_records=1)
    for number in range(3):
        before.put(numbered(number))

    assert reopen().info()["dropped"] == 2


@pytest.mark.parametrize("progress", [Progress(7, ((9, 9),)), Progress(0, ((2, 5),)), Progress(4)])
def test_progress_beyond_the_log_is_corrected_before_anything_is_put(shelf, progress):
    """A log that has lost its end gives those offsets to others, which nobody is done with."""
    shelf.log.append_many(numbered(0, 1, 2))
    saved = [progress]
    asked = SimpleNamespace(log=shelf.log, load=lambda: saved[-1], save=saved.append)

    channel = Channel(asked)
    first, _ = channel.put(numbered(3))
    again = Channel(asked)  # as after a kill: what was not saved is forgotten

    assert first == 3
    assert again.get(9)[-1:] == numbered(3)


def test_while_the_correction_cannot_be_saved_nothing_is_put(shelf):
    refusals = [NotStored("full", is_full=True)]

    def save(progress):
        if refusals:
            raise refusals.pop()

    channel = Channel(SimpleNamespace(log=shelf.log, load=lambda: Progress(7), save=save))

    with pytest.raises(NotStored):
        channel.put(numbered(0))
    assert channel.put(numbered(1)) == (0, 1)


def test_what_could_not_be_remembered_is_tried_again(shelf, clock):
    """A full disk, say: what was done with would come again, until there is room."""
    saved, refusals = [], [NotStored("full", is_full=True)]

    def save(progress):
        if refusals:
            raise refusals.pop()
        saved.append(progress)

    channel = Channel(SimpleNamespace(log=shelf.log, load=Progress, save=save), now=clock)
    channel.put(numbered(0, 1))
    leased = channel.lease(1, lease_s=30)

    with pytest.raises(NotStored):
        channel.acknowledge(receipts(leased))
    channel.tend()

    assert saved == [Progress(floor=1)]


def test_nothing_is_written_down_while_nobody_is_done_with_anything(shelf):
    """Shards take all the time, mostly for nothing: that must not cost the disk a sync."""
    saved = []
    channel = Channel(SimpleNamespace(log=shelf.log, load=Progress, save=saved.append))
    channel.put(numbered(0))
    _, cursor, _ = channel.take(None, 9)
    channel.take(cursor, 9)
    channel.tend()

    channel.get(1)
    channel.take(cursor, 9)
    channel.acknowledge([])
    channel.tend()

    assert saved == [Progress(floor=1)]


@pytest.mark.parametrize("how", ["get", "lease", "take"])
def test_what_a_repair_found_lost_holds_nobody_up(tmp_path, clock, how):
    """The log keeps the offsets of records that could not be read, and leaves them out."""
    with Log(tmp_path / "log") as log:
        for value in numbered(0, 1, 2, 3, 4):
            log.append(value)
    for lost in numbered(1, 3):
        flip(tmp_path / "log" / "0.store", lost)
    assert tools.repair(tmp_path / "log", say=lambda line: None) == tools.FINE
    with Log(tmp_path / "log") as log:
        channel = Channel(SimpleNamespace(log=log, load=Progress, save=lambda progress: None), now=clock)

        if how == "get":
            assert channel.get(9) + channel.get(9) == numbered(0, 2, 4)
        elif how == "lease":
            channel.acknowledge(receipts(channel.lease(9, 30)))
        else:
            records, cursor, _ = channel.take(None, 9)
            assert (records, channel.take(cursor, 9)[0]) == (numbered(0, 2, 4), [])

        assert channel.waiting == 0
        channel.put(numbered(5))
        assert channel.get(9) == numbered(5)


def test_a_damaged_record_is_told_by_those_who_look_and_refused_to_those_who_want_it(tmp_path, clock):
    with Log(tmp_path / "log") as log:
        log.append_many(numbered(0, 1))
        flip(tmp_path / "log" / "0.store", numbered(0)[0])
        channel = Channel(SimpleNamespace(log=log, load=Progress, save=lambda progress: None), now=clock)

        assert "0.store is damaged" in channel.info()["trouble"]
        with pytest.raises(Damaged):
            channel.get(1)
        assert channel.put(numbered(2)) == (2, 3)


def test_a_put_beyond_the_limit_is_stored_and_answered_although_what_waits_is_damaged(tmp_path, clock):
    """Who would be told of an error would put it again."""
    values = numbered(*range(4))
    with Log(tmp_path / "log") as log:
        log.append_many(values)
        for value in values:
            flip(tmp_path / "log" / "0.store", value)
        channel = Channel(SimpleNamespace(log=log, load=Progress), Limits(most_bytes=100), now=clock)

        assert channel.put(numbered(4)) == (4, 5)
        assert [record.value for record in channel.peek(4, 9)] == numbered(4)


def flip(path, value):
    """Damage this value."""
    data = path.read_bytes()
    assert value in data
    path.write_bytes(data.replace(value, value[:-1] + b"!"))


# ---- all of it, in any order


class AnyOrder(RuleBasedStateMachine):
    """A channel beside the plainest model: a dict of what is there, and another one of what is leased."""

    @initialize(is_durable=st.booleans())
    def begin(self, is_durable):
        self.folder = self.tmp_path_factory.mktemp("channel") if is_durable else None
        self.clock = Clock()
        self.shelves = Shelves(self.folder, "never") if is_durable else None
        shelf = self.shelves.make("c") if is_durable else MemoryShelf()
        self.channel = Channel(shelf, Limits(most_leased=4), self.clock)
        self.numbers = itertools.count()
        self.there = {}  # {offset: value}
        self.leases = {}  # {offset: (receipt, ends)}
        self.cursors = [None]
        self.old_receipts = []

    def free(self):
        return [offset for offset in sorted(self.there) if offset not in self.leases]

    @rule(count=st.integers(1, 5))
    def put(self, count):
        values = numbered(*itertools.islice(self.numbers, count))
        first, waiting = self.channel.put(values)
        self.there |= {first + i: value for i, value in enumerate(values)}
        assert waiting == len(self.free())

    @rule(most=st.integers(1, 4))
    def get(self, most):
        got = self.channel.get(most)
        expected = self.free()[:most]
        assert got == [self.there[offset] for offset in expected][: len(got)]
        assert bool(got) == bool(expected)
        for offset in expected[: len(got)]:
            del self.there[offset]

    @rule(most=st.integers(1, 5), data=st.data())
    def take(self, most, data):
        cursor = data.draw(st.sampled_from(self.cursors))
        records, after, left = self.channel.take(cursor, most)
        if cursor is not None:
            for offset in [offset for offset in self.there if offset <= cursor.offset]:
                del self.there[offset]
                self.leases.pop(offset, None)
        first_leased = min(self.leases, default=float("inf"))
        expected = [self.there[offset] for offset in self.free() if offset < first_leased]
        assert records == expected[: len(records)]
        assert left == len(self.free()) - len(records)
        if records:
            self.cursors.append(after)
        else:
            assert after == cursor

    @rule(most=st.integers(1, 4), lease_s=st.integers(1, 9))
    def lease(self, most, lease_s):
        if len(self.leases) >= 4:
            with pytest.raises(TooManyLeased):
                self.channel.lease(most, lease_s)
            return
        leased = self.channel.lease(most, lease_s)
        expected = self.free()[: min(most, 4 - len(self.leases))]
        assert offsets(leased) == expected[: len(leased)]
        assert bool(leased) == bool(expected)
        for each in leased:
            assert each.value == self.there[each.offset]
            self.leases[each.offset] = (each.receipt, self.clock.now + lease_s)
            self.old_receipts.append(each.receipt)

    @precondition(lambda self: self.old_receipts)
    @rule(data=st.data(), is_done=st.booleans())
    def settle(self, data, is_done):
        chosen = data.draw(st.lists(st.sampled_from(self.old_receipts), unique=True))
        good = {receipt: offset for offset, (receipt, _) in self.leases.items()}
        stale = (self.channel.acknowledge if is_done else self.channel.release)(chosen)
        assert stale == [receipt for receipt in chosen if receipt not in good]
        for receipt in set(chosen) & set(good):
            del self.leases[good[receipt]]
            if is_done:
                del self.there[good[receipt]]

    @rule(seconds=st.integers(1, 10))
    def time_passes(self, seconds):
        self.clock.now += seconds
        self.leases = {offset: lease for offset, lease in self.leases.items() if lease[1] > self.clock.now}

    @rule()
    def tend(self):
        self.channel.tend()

    @precondition(lambda self: self.folder)
    @rule()
    def begin_again(self):
        self.channel.close()
        self.shelves.close()
        self.shelves = Shelves(self.folder, "never")
        ((_, shelf),) = self.shelves.stored()
        self.channel = Channel(shelf, Limits(most_leased=4), self.clock)
        self.leases = {}

    @invariant()
    def counts_are_right(self):
        if hasattr(self, "channel"):
            assert self.channel.waiting == len(self.free())
            assert self.channel.info()["leased"] == len(self.leases)

    def teardown(self):
        if hasattr(self, "channel"):
            self.channel.close()
            if self.shelves:
                self.shelves.close()


@pytest.fixture
def any_order(tmp_path_factory):
    AnyOrder.tmp_path_factory = tmp_path_factory
    return AnyOrder.TestCase


def test_any_order_of_calls_keeps_the_books(any_order):
    any_order().runTest()
