"""A power loss at every moment: whatever the disk kept of what was not synced, the next start finds what was promised.

Every prefix of the operations on files is replayed, and of what no sync has covered every subset is dropped, or many
drawn at random where there are too many.
"""

from itertools import product

import pytest
from memorydisk import MemoryDisk

from emporium.commitlog import Config, Log
from emporium.commitlog.errors import NotStored

MOST_UNSURE = 5  # with more, subsets are drawn at random
DRAWN = 24
DRAWN_IN_FULL = 200


class Story:
    """Calls on a log, and after which operations which states are allowed."""

    def __init__(self, folder, config):
        self._folder = str(folder)
        self._config = config
        self.disk = MemoryDisk()
        self.moments = [(0, [None])]  # (how many operations, states that a power loss from there on may leave)
        self.shown = [(0, 0, None)]  # (how many operations, the next offset and the identity that readers saw then)
        self.log = None

    def opens(self):
        self.log = Log(self._folder, self._config, disk=self.disk)
        self._now()

    def closes(self):
        before, state = len(self.disk.operations), state_of(self.log)
        self.log.close()
        self.moments.append((before, [state]))

    def does(self, call, *between):
        """`call` changes the log. `between`: states that a power loss in the middle may leave besides old and new."""
        before = len(self.disk.operations)
        old = state_of(self.log)
        call(self.log)
        new = state_of(self.log)
        self.moments.append((before, [old, *between, new]))
        self._now()

    def _now(self):
        self.moments.append((len(self.disk.operations), [state_of(self.log)]))
        self.shown.append((len(self.disk.operations), self.log.next_offset, self.log.identity))

    def allowed(self, count):
        """The states that are allowed when the power went after so many operations."""
        return [states for since, states in self.moments if since <= count][-1]


def state_of(log):
    """(lowest, next, values)."""
    return log.lowest_offset, log.next_offset, [each.value for each in log.read_many(log.lowest_offset, 10**6)]


def images(disk, chance, drawn):
    """What a power loss may leave of this disk."""
    unsure = disk.unsure
    if unsure <= MOST_UNSURE:
        for stays in product([True, False], repeat=unsure):
            yield disk.after_power_loss(iter([*stays] * 2).__next__)
        return
    yield disk.after_power_loss(lambda: True)
    yield disk.after_power_loss(lambda: False)
    for _ in range(drawn):
        share = chance.random()
        yield disk.after_power_loss(lambda share=share: chance.random() < share)


def try_every_moment(story, folder, config, chance, drawn, is_allowed=lambda state, allowed: state in allowed):
    """Returns how many power losses were tried."""
    tried, operations = 0, list(story.disk.operations)
    story.log.close()
    for count in range(len(operations) + 1):
        allowed = story.allowed(count)
        next_offset, identity = [seen for since, *seen in story.shown if since <= count][-1]
        for left in images(MemoryDisk.replayed(operations[:count]), chance, drawn):
            tried += 1
            log = Log(folder, config, disk=left)
            found = state_of(log)
            if allowed == [None]:
                assert found[2] == []
            else:
                assert is_allowed(found, allowed), f"after {count} operations: {found}, and {allowed} are allowed"
            assert found[1] >= next_offset or log.identity != identity  # or offsets that were read are given again
            assert log.append(b"after") == found[1]
            log.close()
            again = Log(folder, config, disk=left)
            assert state_of(again) == (found[0], found[1] + 1, [*found[2], b"after"])
            again.close()
    return tried


@pytest.fixture
def drawn(request):
    return DRAWN_IN_FULL if request.config.getoption("--full") else DRAWN


def value(number):
    return f"value {number}".encode() * (1 + number % 3)


@pytest.mark.parametrize("fsync", ["group", "always"])
def test_appends_and_rolls_lose_nothing_that_was_stored(quick_path, chance, drawn, fsync):
    config = Config(fsync=fsync, segment_bytes=220)
    story = Story(quick_path, config)
    story.opens()
    for number in range(7):
        story.does(lambda log, number=number: log.append(value(number)))
    story.closes()
    story.opens()
    story.does(lambda log: log.append(b"later"))

    assert try_every_moment(story, quick_path, config, chance, drawn) > 300


def test_an_append_of_many_is_whole_or_void(quick_path, chance, drawn):
    config = Config(segment_bytes=400)
    story = Story(quick_path, config)
    story.opens()
    for number in range(5):
        story.does(lambda log, number=number: log.append_many([value(number + i) for i in range(1 + number)]))

    try_every_moment(story, quick_path, config, chance, drawn)


def test_a_truncation_from_the_front_is_whole_or_void(quick_path, chance, drawn):
    config = Config(segment_bytes=130)
    story = Story(quick_path, config)
    story.opens()
    for number in range(8):
        story.does(lambda log, number=number: log.append(value(number)))
    story.does(lambda log: log.truncate(3))
    story.does(lambda log: log.append(b"on"))
    story.does(lambda log: log.truncate(100))
    story.does(lambda log: log.append(b"on"))

    try_every_moment(story, quick_path, config, chance, drawn)


def test_a_truncation_from_the_back_leaves_no_hole(quick_path, chance, drawn):
    config = Config(segment_bytes=130)
    story = Story(quick_path, config)
    story.opens()
    for number in range(8):
        story.does(lambda log, number=number: log.append(value(number)))
    values = [value(number) for number in range(8)]
    story.does(lambda log: log.truncate_back(3), *[(0, count, values[:count]) for count in range(4, 8)])
    story.does(lambda log: log.append(b"another 3"))
    story.does(lambda log: log.truncate_back(0), *[(0, n, [*values[:3], b"another 3"][:n]) for n in range(1, 4)])
    story.does(lambda log: log.append(b"another 0"))

    try_every_moment(story, quick_path, config, chance, drawn)


def test_a_truncation_inside_of_an_append_of_many_leaves_what_it_should(quick_path, chance, drawn):
    config = Config()
    story = Story(quick_path, config)
    story.opens()
    story.does(lambda log: log.append_many([b"0", b"1", b"2", b"3"]))
    story.does(lambda log: log.truncate_back(3))
    story.does(lambda log: log.append_many([b"x", b"y"]))
    story.does(lambda log: log.truncate_back(2), (0, 3, [b"0", b"1", b"2"]))
    story.does(lambda log: log.append_many([b"z", b"z"]))

    try_every_moment(story, quick_path, config, chance, drawn)


def test_a_reset_is_whole_or_void(quick_path, chance, drawn):
    config = Config(segment_bytes=130)
    story = Story(quick_path, config)
    story.opens()
    for number in range(5):
        story.does(lambda log, number=number: log.append(value(number)))
    story.does(lambda log: log.reset())
    story.does(lambda log: log.append(b"on"))
    story.does(lambda log: log.reset(50), (6, 6, []))
    story.does(lambda log: log.append(b"on"))

    try_every_moment(story, quick_path, config, chance, drawn)


@pytest.mark.parametrize("fsync", ["interval", "never"])
def test_without_a_sync_the_newest_records_may_go_and_only_they(quick_path, chance, drawn, fsync):
    config = Config(fsync=fsync, interval_s=1000, segment_bytes=280)
    story = Story(quick_path, config)
    story.opens()
    for number in range(6):
        story.does(lambda log, number=number: log.append_many([value(number), value(number)]))

    def is_a_beginning(found, allowed):
        lowest, next_offset, values = allowed[-1]
        sealed = next_offset // 4 * 4  # a segment holds two appends of two
        is_beginning = found == (lowest, found[1], values[: found[1]])
        return is_beginning and found[1] % 2 == 0 and found[1] >= sealed - 4

    try_every_moment(story, quick_path, config, chance, drawn, is_a_beginning)


def test_a_failed_append_never_comes_back(quick_path, chance, drawn):
    """Its bytes were written and cut away; a power loss right after the next append must not show them."""
    config = Config()
    story = Story(quick_path, config)
    story.opens()
    story.does(lambda log: log.append(b"first"))

    def fails_then_works(log):
        index = log._writer.active.index
        index.append_many, kept = _refuse, index.append_many
        with pytest.raises(NotStored):
            log.append_many([b"never"] * 3)
        index.append_many = kept

    story.does(fails_then_works, (0, 4, [b"first", *[b"never"] * 3]))  # as long as nobody was told of its failure
    story.does(lambda log: log.append(b"second"))

    try_every_moment(story, quick_path, config, chance, drawn)


def _refuse(_positions):
    raise OSError(28, "no space left")
