"""What the death of a queue, or of its disk, costs those who use it: nothing that was answered.

The queue is killed at any moment among puts, gets, takes, leases, acknowledgements and clears, on files so small that
they roll all the time, and then compared with what it had answered. What it had not yet answered may have been done.
"""

import random
import threading

import pytest
from harness import CALL_S, eventually, start

from emporium.cluster import python_service
from emporium.ports import Ports
from emporium.service import StartFailed, stop_these
from queueservice import BadAnswer, NoAnswer, NotReached, Queue

ROUNDS, ROUNDS_FULL = 15, 200
CHANNELS = ["db0", "a/../b"]


@pytest.fixture
def make_queue(run_folder, tmp_path):
    """settings -> the service of a queue, not yet started, whose channels are in tmp_path."""
    made = []

    def make(**settings):
        port = Ports.find_free(1).q
        log = run_folder / f"queue-crash-{tmp_path.name}-{len(made)}.log"
        settings = {"port": port, "data-dir": str(tmp_path / "q"), **settings}
        made.append(python_service("q", settings.pop("program", "serverQ.py"), port, lambda name: log, settings))
        return made[-1]

    yield make
    stop_these(made)


@pytest.fixture
def service(make_queue):
    made = make_queue()
    start(made)
    return made


@pytest.fixture
def queue(service):
    return Queue(service.port, deadline_s=CALL_S)


def restart(service):
    stop_these([service])
    start(service)


def all_of(queue, channel):
    """All that waits, taken with a cursor."""
    records, cursor, _ = queue.take(channel, None)
    found = []
    while records:
        found += [int(record[5:-1]) for record in records]
        records, cursor, _ = queue.take(channel, cursor)
    return found


# ---- killed at any moment


class Ledger:
    """What a queue was asked, what it answered, and so what must and what may be in each channel.

    put      {number: its channel}, of those that must be there
    unsure   those that may be there, or not: their put, or the clear after it, was not answered
    gone     those that must never come again
    maybe    those that were answered by a plain get, or are below a cursor: they may come again after a kill
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.next = 0
        self.put, self.unsure = {}, {}
        self.gone, self.maybe = set(), set()
        self.cursors = dict.fromkeys(CHANNELS)

    def numbers(self, count):
        first, self.next = self.next, self.next + count
        return range(first, self.next)

    def step(self, queue):
        """One call, drawn at random. Raises NotReached or NoAnswer when the queue died over it."""
        channel = self.random.choice(CHANNELS)
        draw = self.random.choices(
            [self.put_some, self.put_many, self.get, self.take, self.lease, self.clear], [4, 4, 2, 3, 3, 0.3]
        )
        draw[0](queue, channel)

    def put_some(self, queue, channel):
        (number,) = self.numbers(1)
        self._put([number], channel, lambda: queue.put(channel, {"n": number}))

    def put_many(self, queue, channel):
        numbers = self.numbers(self.random.randint(1, 40))
        self._put(numbers, channel, lambda: queue.put_all(channel, [b'{"n":%d}' % number for number in numbers]))

    def _put(self, numbers, channel, call):
        self.unsure |= dict.fromkeys(numbers, channel)
        call()
        for number in numbers:
            self.put[number] = self.unsure.pop(number)

    def get(self, queue, channel):
        mine = {number for number, where in self.put.items() if where == channel}
        oldest = min(mine - self.maybe - self.gone, default=None)
        if oldest is not None:
            self.maybe.add(oldest)  # whether or not it is answered
        got = queue.get(channel)
        if got is not None:
            self.maybe.add(got["n"])

    def take(self, queue, channel):
        records, cursor, _ = queue.take(channel, self.cursors[channel], self.random.randint(1, 30))
        self.cursors[channel] = cursor
        self.maybe |= {int(record[5:-1]) for record in records}  # the next take is done with them

    def lease(self, queue, channel):
        leased = queue.lease(channel, self.random.randint(1, 20), lease_s=3600)
        done = leased[: self.random.randint(0, len(leased))]
        self.maybe |= {job.message["n"] for job in done}
        stale = queue.ack(channel, [job.receipt for job in done])
        assert stale == []
        self.gone |= {job.message["n"] for job in done}
        queue.release(channel, [job.receipt for job in leased[len(done) :]])

    def clear(self, queue, channel):
        before = {**self.put, **self.unsure}
        self.put, self.unsure = {}, before
        queue.clear()
        self.unsure = {}
        self.gone |= before.keys()
        self.cursors = dict.fromkeys(CHANNELS)

    def check(self, queue):
        """Compare with what is there now, and be done with all of it."""
        for channel in CHANNELS:
            found = all_of(queue, channel)
            must = {number for number, where in self.put.items() if where == channel} - self.maybe - self.gone
            may = {number for number, where in (self.put | self.unsure).items() if where == channel}
            assert found == sorted(set(found)), f"{channel}: out of order, or twice"
            assert must <= set(found), f"{channel}: lost {sorted(must - set(found))}"
            assert set(found) <= may, f"{channel}: never put there, or cleared: {sorted(set(found) - may)}"
            assert not self.gone & set(found), f"{channel}: acknowledged, and came again: {self.gone & set(found)}"
        self.put, self.unsure, self.maybe = {}, {}, set()
        queue.clear()
        self.cursors = dict.fromkeys(CHANNELS)


def test_a_queue_that_is_killed_at_any_moment_keeps_what_it_answered(make_queue, record_property, pytestconfig):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown when it fails
    service = make_queue(**{"segment-bytes": 2000})
    ledger = Ledger(seed)
    for _ in range(ROUNDS_FULL if pytestconfig.getoption("--full") else ROUNDS):
        start(service)
        queue = Queue(service.port, deadline_s=CALL_S)
        ledger.check(queue)
        killer = threading.Timer(ledger.random.uniform(0.02, 0.5), service.kill)
        killer.start()
        try:
            while True:
                ledger.step(queue)
        except (NotReached, NoAnswer):
            killer.join()


def test_an_unsure_clear_is_whole_or_void(make_queue):
    """Of a clear that a kill met, either all channels are empty or none."""
    service = make_queue()
    for round_number in range(6):
        start(service)
        queue = Queue(service.port, deadline_s=CALL_S)
        queue.clear()
        names = [f"c{number}" for number in range(20)]
        for name in names:
            queue.put(name, {"n": 1})
        killer = threading.Timer(round_number * 0.004, service.kill)
        killer.start()
        try:
            queue.clear()
            was_answered = True
        except (NotReached, NoAnswer):
            was_answered = False
        killer.join()

        start(service)
        left = [name for name in names if queue.get(name) is not None]
        service.kill()

        assert left in ([], names)
        assert not (was_answered and left)


# ---- ended in order


def test_a_queue_that_is_told_to_end_forgets_nothing(service, queue):
    queue.put_all("db0", [b'{"n":0}', b'{"n":1}', b'{"n":2}'])
    queue.get("db0")
    life = queue.info("db0")["life"]

    restart(service)

    assert queue.info("db0")["life"] == life
    assert all_of(queue, "db0") == [1, 2]


def test_what_a_shard_took_and_had_not_made_safe_comes_again(service, queue):
    queue.put_all("db0", [b'{"n":0}', b'{"n":1}', b'{"n":2}'])
    _, cursor, _ = queue.take("db0", None, most=2)

    service.kill()
    start(service)

    assert queue.take("db0", None).records == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert queue.take("db0", cursor).records == [b'{"n":2}']


@pytest.mark.parametrize("name", ["..", ".", "a%2E", "~", "x" * 255, "茶" * 85, "A", "a", "log", "name"])
def test_every_name_is_a_channel_of_its_own_and_no_path(service, queue, name, tmp_path):
    """Some file systems know no difference between A and a; those that we run on do."""
    queue.put(name, {"n": 1})
    queue.put("name", {"n": 2})

    restart(service)

    assert queue.get(name) == {"n": 1}
    assert {path.name for path in tmp_path.iterdir()} == {"q"}


def test_clear_deletes_the_files(service, queue, tmp_path):
    queue.put_all("db0", [b'{"x":"%s"}' % (b"x" * 60_000)] * 20)

    queue.clear()

    eventually(lambda: not (tmp_path / "q" / "channels-0").exists(), "the files are gone")
    assert queue.channels() == {}


# ---- who may have the folder


def test_a_second_queue_on_the_same_folder_is_refused_and_told_who_has_it(make_queue, service, queue):
    second = make_queue()

    with pytest.raises(StartFailed, match=f"in use by .* {service.process.pid}") as refused:
        start(second)

    assert "exit code 1" in str(refused.value)
    assert queue.put("db0", {"n": 1}) == 1


def test_damage_in_the_middle_stops_the_start_and_is_named(make_queue, service, queue, tmp_path):
    queue.put_all("db0", [b'{"n":%d}' % number for number in range(9)])
    queue.put("db0", {"n": 9})
    stop_these([service])
    (store,) = (tmp_path / "q" / "channels-0" / "db0" / "log").glob("*.store")
    flip(store, at=100)
    (store.parent / "clean.json").unlink()  # as if it had been killed: then all is read at the start

    with pytest.raises(StartFailed, match=r"0\.store is damaged at position"):
        start(service)


def test_an_exchange_that_cannot_take_has_put_nothing(queue, tmp_path):
    """Who was told that it failed says the same again, and would put it once more each time."""
    queue.put("db1", {"n": 0})
    flip(tmp_path / "q" / "channels-0" / "db1" / "log" / "0.store", at=60)

    for _ in range(2):
        with pytest.raises(BadAnswer, match="500"):
            queue.exchange("db0", [b'{"n":1}'], "db1", None, most=1)

    assert "db0" not in queue.channels()


@pytest.mark.parametrize("name", ["epoch", "channels-0/db0/name"])
def test_damage_to_what_names_the_channels_stops_the_start(service, queue, tmp_path, name):
    queue.put("db0", {"n": 1})
    stop_these([service])
    flip(tmp_path / "q" / name, at=9)

    with pytest.raises(StartFailed, match=f"{name} is damaged"):
        start(service)


def test_damage_to_what_readers_are_done_with_gives_it_out_again(service, queue, tmp_path):
    queue.put_all("db0", [b'{"n":0}', b'{"n":1}'])
    queue.get("db0")
    stop_these([service])
    flip(tmp_path / "q" / "channels-0" / "db0" / "progress", at=12)

    start(service)

    assert all_of(queue, "db0") == [0, 1]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


# ---- a disk that fails


@pytest.fixture
def failing_queue(make_queue, monkeypatch):
    """(what fails) -> a queue on such a disk."""

    def start_failing(what):
        monkeypatch.setenv("DISK_FAILS", what)
        made = make_queue(program="test/failing_queue.py")
        start(made)
        return made

    return start_failing


def put_until_refused(queue):
    """(The numbers that were put, the refusal of the next one)."""
    stored = []
    for number in range(100):
        try:
            queue.put("db0", {"n": number})
        except BadAnswer as refusal:  # but not Refused: it lies with the queue, and the record may be put later
            return stored, f"{type(refusal).__name__} {refusal}"
        stored.append(number)
    raise AssertionError("the disk never failed")


def test_a_full_disk_is_told_as_such_and_what_was_stored_can_be_read(failing_queue):
    service = failing_queue("write:40")
    queue = Queue(service.port, deadline_s=CALL_S)

    stored, refusal = put_until_refused(queue)

    assert refusal.startswith("BadAnswer the queue answered 507")
    assert "full" in refusal
    assert stored
    assert all_of(queue, "db0") == stored


def test_after_a_failed_sync_the_queue_ends_and_a_new_one_goes_on(failing_queue, make_queue):
    """Linux tells of a failed sync once, so nothing more may be written before a new start has read what is there."""
    service = failing_queue("sync:20")

    stored, refusal = put_until_refused(Queue(service.port, deadline_s=CALL_S))

    assert refusal.startswith("BadAnswer the queue answered 504")
    assert service.wait_for_end(20)
    assert service.process.returncode == 1
    healthy = make_queue()
    start(healthy)
    found = all_of(Queue(healthy.port, deadline_s=CALL_S), "db0")
    assert found in (stored, [*stored, len(stored)])
