"""Any sequence of calls, against a list: closed and opened again, killed, and after power losses."""

import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from memorydisk import MemoryDisk

from emporium.commitlog import Config, Log
from emporium.commitlog.errors import OffsetOutOfRange
from emporium.commitlog.record import HEAD_BYTES

EXAMPLES, EXAMPLES_IN_FULL = 250, 5000
VALUES = st.binary(max_size=40)


class AgainstAList(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.disk = MemoryDisk()
        self.config = Config(segment_bytes=220, index_bytes=60)
        self.log = None
        self.lowest, self.values = 0, []
        self.open()

    def open(self):
        self.log = Log(self.folder.name, self.config, disk=self.disk)

    def teardown(self):
        self.log.close()
        self.folder.cleanup()

    @property
    def next_offset(self):
        return self.lowest + len(self.values)

    @rule(value=VALUES)
    def append(self, value):
        assert self.log.append(value) == self.next_offset
        self.values.append(value)

    @rule(values=st.lists(VALUES, min_size=1, max_size=5))
    def append_many(self, values):
        assert self.log.append_many(values) == self.next_offset
        self.values += values

    @rule(share=st.floats(-0.2, 1.2))
    def truncate(self, share):
        """The lowest offset may be any up to the next, since segments are whole: but not what is above."""
        lowest = self.lowest + int(share * len(self.values))
        self.log.truncate(lowest)
        found = self.log.lowest_offset
        assert self.lowest <= found <= max(self.lowest, lowest + 1)
        assert found > lowest - 5 or found == self.next_offset  # a segment holds at most five
        self.values = self.values[found - self.lowest :]
        self.lowest = found

    @rule(share=st.floats(0, 1))
    def truncate_back(self, share):
        next_offset = self.lowest + int(share * len(self.values))
        self.log.truncate_back(next_offset)
        self.values = self.values[: next_offset - self.lowest]

    @rule(ahead=st.sampled_from([None, 0, 1, 10]))
    def reset(self, ahead):
        self.lowest, self.values = self.next_offset + (ahead or 0), []
        self.log.reset(None if ahead is None else self.lowest)

    @rule()
    def close_and_open(self):
        self.log.close()
        self.open()
        assert self.log.notes == ()

    @rule()
    def kill(self):
        self.log._lock.release()
        self.open()

    @rule(chance=st.randoms(use_true_random=False))
    def lose_power(self, chance):
        left = self.disk.after_power_loss(lambda: chance.random() < 0.5)
        self.log._lock.release()
        self.disk = left
        self.open()

    @rule(at=st.integers(-3, 40), most=st.integers(1, 10), most_bytes=st.none() | st.integers(0, 100))
    def read_many(self, at, most, most_bytes):
        offset = self.lowest + at
        if not self.lowest <= offset <= self.next_offset:
            with pytest.raises(OffsetOutOfRange):
                self.log.read_many(offset, most, most_bytes)
            return
        expected, size = [], 0
        for value in self.values[at : at + most]:
            size += len(value)
            if expected and most_bytes is not None and size > most_bytes:
                break
            expected.append(value)
        found = self.log.read_many(offset, most, most_bytes)
        assert [record.value for record in found] == expected
        assert [record.offset for record in found] == list(range(offset, offset + len(expected)))

    @precondition(lambda self: self.values)
    @rule(share=st.floats(0, 0.99))
    def read(self, share):
        at = int(share * len(self.values))
        assert self.log.read(self.lowest + at).value == self.values[at]

    @invariant()
    def it_is_the_list(self):
        log = self.log
        assert (log.lowest_offset, log.next_offset, log.count) == (self.lowest, self.next_offset, len(self.values))
        assert log.highest_offset == (self.next_offset - 1 if self.values else None)
        assert log.size == sum(map(len, self.values)) + HEAD_BYTES * len(self.values)
        assert len(log.reader().read()) == log.size
        assert (log.oldest_ns is None) == (not self.values)


def test_any_sequence_of_calls_does_what_a_list_does(request):
    examples = EXAMPLES_IN_FULL if request.config.getoption("--full") else EXAMPLES
    run_state_machine_as_test(
        AgainstAList, settings=settings(max_examples=examples, stateful_step_count=30, database=None)
    )
