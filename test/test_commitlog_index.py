"""A wrong index costs a reader time, never an answer: the read that meets it has the index made anew from the store."""

import errno
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from emporium.commitlog import Config, Log
from emporium.commitlog.errors import Damaged
from emporium.commitlog.files import Disk
from emporium.commitlog.index import ENTRY_BYTES, Index

VALUES = [b"value %d" % number * (1 + number % 2) for number in range(4)]


@pytest.fixture
def folder(quick_path):
    """A closed log: four records in one segment, then two in the active one."""
    with Log(quick_path / "log", Config(segment_bytes=250)) as log:
        for value in [*VALUES, b"4", b"5"]:
            log.append(value)
        assert log.segments == 2
    return quick_path / "log"


ASKED = {
    "read": lambda log: [log.read(offset).value for offset in range(log.next_offset)],
    "read_many": lambda log: [record.value for record in log.read_many(0, 10)],
    "read_many from each": lambda log: [[each.value for each in log.read_many(at, 2)] for at in range(log.next_offset)],
    "reader": lambda log: log.reader().read(),
    "oldest_ns": lambda log: log.oldest_ns,
    "size_from": lambda log: [log.size_from(offset) for offset in range(log.next_offset + 1)],
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("base", [0, 4])
def test_every_flipped_bit_of_an_index_is_mended_or_does_not_matter(folder, asked, base):
    """A position may then be any number, also one of which no memory has so much."""
    ask, index = ASKED[asked], folder / f"{base}.index"
    with Log(folder) as log:
        expected = ask(log)
    before = index.read_bytes()
    assert len(before) == ENTRY_BYTES * (4 if base == 0 else 2)
    for bit in range(len(before) * 8):
        with Log(folder) as log:  # opened first: a start looks at the ends itself
            data = bytearray(before)
            data[bit // 8] ^= 1 << bit % 8
            with index.open("r+b") as file:
                file.write(data)

            assert ask(log) == expected, f"bit {bit}"
        index.write_bytes(before)


def test_readers_get_their_records_while_an_index_is_made_anew(folder, monkeypatch):
    begun, may_go_on, replace = Event(), Event(), Index.replace

    def slow_replace(index, entries):
        begun.set()
        assert may_go_on.wait(10)
        return replace(index, entries)

    monkeypatch.setattr(Index, "replace", slow_replace)
    with Log(folder) as log, ThreadPoolExecutor(4) as pool:
        make_wrong(folder, 2)
        first = pool.submit(log.read, 2)
        assert begun.wait(10)

        others = [pool.submit(log.read, 2) for _ in range(3)]
        good = [log.read(offset).value for offset in (0, 3, 5)]
        may_go_on.set()

        assert good == [VALUES[0], VALUES[3], b"5"]
        assert [each.result(10).value for each in [first, *others]] == [VALUES[2]] * 4


class FullDisk(Disk):
    """No room for another file, while it `is_full`."""

    is_full = False

    def create(self, path):
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().create(path)


def test_a_full_disk_leaves_the_index_that_was_there(folder):
    disk = FullDisk()
    with Log(folder, disk=disk) as log:
        make_wrong(folder, 2)
        wrong = (folder / "0.index").read_bytes()
        disk.is_full = True

        for _ in range(2):
            with pytest.raises(Damaged, match="no space left"):
                log.read(2)
            assert [log.read(offset).value for offset in (0, 3, 5)] == [VALUES[0], VALUES[3], b"5"]
        assert (folder / "0.index").read_bytes() == wrong

        disk.is_full = False
        assert log.read(2).value == VALUES[2]


def make_wrong(folder, entry):
    """Flip a bit in this entry of the first index."""
    data = bytearray((folder / "0.index").read_bytes())
    data[entry * ENTRY_BYTES] ^= 1
    with (folder / "0.index").open("r+b") as file:
        file.write(data)


def test_size_from_counts_what_is_there(folder):
    with Log(folder) as log:
        assert log.size_from(log.next_offset) == 0
        assert log.size_from(0) == log.size_from(-1) == log.size
        log.truncate(3)
        assert log.size_from(0) == log.size
