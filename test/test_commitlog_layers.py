"""The layers of the log from the bottom up: record, store, index, segment; and proglog's own scenarios of each."""

import errno
from zlib import crc32

import pytest

from emporium.commitlog import Config
from emporium.commitlog.errors import Damaged
from emporium.commitlog.files import Disk
from emporium.commitlog.index import ENTRY_BYTES, Full, Index
from emporium.commitlog.record import HEAD_BYTES, LOST, MORE, NoRecord, check, decode, encode
from emporium.commitlog.segment import Segment
from emporium.commitlog.store import Store

DISK = Disk()
HELLO = b"hello world"
LOG = 0x7EA7EA7EA7EA7EA7
FRAME_BYTES = HEAD_BYTES + len(HELLO)


def framed(payload):
    return len(payload).to_bytes(8, "big") + payload


@pytest.fixture
def store(quick_path):
    return Store.create(DISK, str(quick_path / "0.store"))


@pytest.fixture
def index(quick_path):
    return Index.create(DISK, str(quick_path / "0.index"), 1024)


# ---- record


@pytest.mark.parametrize("value", [b"", b"\0", b"tea", bytes(range(256)) * 40])
def test_a_record_comes_back_as_it_was_written(value):
    data = framed(encode(value, LOG, offset=7, timestamp=123, durable=5, flags=MORE, term=2))

    record, head = decode(data, LOG, 7)

    assert record == (7, value, 123, 2)
    assert (head.durable, head.has_more, head.is_lost, head.frame_bytes) == (5, True, False, len(data))


def test_a_record_has_the_drawn_bytes():
    data = framed(encode(b"tea", LOG, offset=7, timestamp=123, durable=5))

    assert data[:12] == b"\0\0\0\0\0\0\0\x37TEA\x01"
    assert int.from_bytes(data[12:16], "big") == crc32(data[:8] + data[16:])
    assert data[16:] == b"".join(n.to_bytes(8, "big") for n in (LOG, 7, 123, 0, 5)).join([b"\0\0\0\0", b"tea"])


def test_every_flipped_bit_of_a_record_is_seen():
    data = framed(encode(b"tea", LOG, offset=7, timestamp=123, durable=5))

    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NoRecord):
            check(bytes(flipped), LOG, 7)


@pytest.mark.parametrize("size", [0, 1, 8, HEAD_BYTES, 4096])
def test_defect_zeros_are_no_empty_record(size):
    """The checksum of nothing is 0, so a header of zeros would verify if it did not cover length and offset."""
    with pytest.raises(NoRecord):
        check(bytes(size), LOG, 0)


def test_a_record_at_the_place_of_another_is_none():
    with pytest.raises(NoRecord, match="the record of offset 7 stands where that of 8 should"):
        check(framed(encode(b"tea", LOG, 7, 0, 0)), LOG, 8)


def test_a_record_of_a_newer_format_is_named_as_such():
    data = framed(encode(b"tea", LOG, 7, 0, 0)).replace(b"TEA\x01", b"TEA\x02")

    with pytest.raises(NoRecord, match="format 2"):
        check(data, LOG, 7)


# ---- store


def test_proglog_three_appends_add_up_and_are_read_back_also_after_reopening(store):
    for number in range(3):
        written, position = store.append(HELLO)
        assert (written, position + written) == (8 + len(HELLO), (8 + len(HELLO)) * (number + 1))

    for again in (store, Store(DISK, store.path)):
        assert again.size == 3 * (8 + len(HELLO))
        for number in range(3):
            position = number * (8 + len(HELLO))
            assert again.read(position) == HELLO
            assert again.read_at(8, position) == len(HELLO).to_bytes(8, "big")
            assert again.read_at(len(HELLO), position + 8) == HELLO


def test_what_is_appended_is_in_the_file_at_once(store, quick_path):
    """Defect: proglog keeps it in a buffer of 4096 bytes, and a kill takes acknowledged records with it."""
    store.append(HELLO)

    assert (quick_path / "0.store").read_bytes() == framed(HELLO)


def test_a_store_appends_where_the_file_ends(store):
    store.append(b"a")

    assert Store(DISK, store.path).append(b"b") == (9, 9)


def test_a_huge_length_is_refused_before_anything_is_allocated(store, quick_path):
    (quick_path / "0.store").write_bytes((2**60).to_bytes(8, "big") + b"tea")

    with pytest.raises(EOFError):
        Store(DISK, store.path).read(0)


def test_room_is_set_aside_ahead_and_taken_away_when_nothing_more_comes(quick_path):
    path = quick_path / "0.store"
    store = Store.create(DISK, str(path), ahead_bytes=1000)
    syncs = []

    for _ in range(100):
        store.append(HELLO)
        syncs.append(path.stat().st_size)

    assert len(set(syncs)) == 2  # it grew twice, and not a hundred times
    assert path.read_bytes()[store.size :].strip(b"\0") == b""
    assert store.is_blank(store.size - 1) is False
    store.trim()
    assert path.stat().st_size == store.size == 100 * (8 + len(HELLO))


class Refuser(Disk):
    """A disk that sets nothing aside, and gives up in the midst of it."""

    def allocate(self, file, size):
        super().allocate(file, self.size(file) + 100)
        raise OSError(errno.EOPNOTSUPP, "not supported")


def test_where_no_room_can_be_set_aside_records_are_stored_all_the_same(quick_path):
    store = Store.create(Refuser(), str(quick_path / "0.store"), ahead_bytes=1000)

    positions = [store.append(HELLO)[1] for _ in range(3)]

    store.trim()
    assert [store.read(position) for position in positions] == [HELLO] * 3
    assert (quick_path / "0.store").stat().st_size == store.size


def test_a_cut_store_goes_on_where_it_was_cut(store):
    store.append_many([b"a", b"b", b"c"])

    store.cut(9)

    assert store.append(b"d") == (9, 9)
    assert (store.read(0), store.read(9)) == (b"a", b"d")


class Stutterer(Disk):
    """Writes at most three bytes at a time."""

    def _pwrite(self, file, data, position):
        return super()._pwrite(file, data[:3], position)


def test_short_writes_are_continued(quick_path):
    store = Store.create(Stutterer(), str(quick_path / "0.store"))

    store.append(HELLO)

    assert store.read(0) == HELLO
    assert (quick_path / "0.store").read_bytes() == framed(HELLO)


# ---- index


def test_proglog_an_index_gives_back_its_entries_also_after_reopening(index):
    with pytest.raises(EOFError):
        index.read(-1)

    index.append(0)
    index.append(10)

    assert (index.read(0), index.read(1)) == ((0, 0), (1, 10))
    with pytest.raises(EOFError):
        index.read(2)
    assert Index(DISK, index.path, 1024).read(-1) == (1, 10)


def test_an_index_has_the_drawn_bytes_and_no_others(index, quick_path):
    """Defect: proglog's is grown to its limit with zeros, and after a kill the zeros count as entries."""
    index.append_many([0, 10])

    assert (quick_path / "0.index").read_bytes() == bytes(12) + b"\0\0\0\x01" + (10).to_bytes(8, "big")


def test_a_full_index_takes_none_of_the_entries(quick_path):
    index = Index.create(DISK, str(quick_path / "0.index"), 3 * ENTRY_BYTES + 11)
    index.append_many([0, 1])

    with pytest.raises(Full):
        index.append_many([2, 3])

    assert index.count == 2


# ---- segment


def segment_of(quick_path, base=16, **settings):
    return Segment.create(DISK, str(quick_path), LOG, base, Config(**{"ahead_bytes": 0, **settings}))


def append(segment, *values):
    segment.append([list(values)], timestamp=1, durable=segment.base)


def test_proglog_a_segment_of_three_entries_is_full_after_three(quick_path):
    segment = segment_of(quick_path, index_bytes=36)
    assert (segment.next_offset, segment.is_full) == (16, False)

    for offset in (16, 17, 18):
        append(segment, HELLO)
        assert segment.read(offset).value == HELLO

    assert (segment.next_offset, segment.is_full, segment.has_room([1])) == (19, True, 0)


def test_proglog_a_segment_is_full_by_its_store_and_new_after_removal(quick_path):
    segment = segment_of(quick_path)
    append(segment, HELLO, HELLO)

    again = Segment.open(DISK, str(quick_path), LOG, 16, Config(segment_bytes=2 * FRAME_BYTES))
    assert (again.is_full, again.next_offset) == (True, 18)

    again.remove()
    assert list(quick_path.iterdir()) == []
    assert not segment_of(quick_path, segment_bytes=2 * FRAME_BYTES).is_full


def test_defect_1_an_index_limit_that_is_no_multiple_of_12_is_full_at_the_last_whole_entry(quick_path):
    """proglog's default of 1024 bytes holds 85 entries: its 86th append fails for ever, after it wrote the store."""
    segment = segment_of(quick_path, index_bytes=1024)

    append(segment, *[b"x"] * 85)

    assert segment.is_full
    assert segment.has_room([1]) == 0


def test_as_many_appends_fit_as_have_room_one_after_the_other(quick_path):
    segment = segment_of(quick_path, index_bytes=5 * ENTRY_BYTES)

    assert segment.has_room([2, 2, 2, 1]) == 2
    assert segment.has_room([6]) == 0


def test_a_damaged_record_is_named_by_file_and_position_and_the_others_are_read(quick_path):
    segment = segment_of(quick_path)
    append(segment, b"a", b"b", b"c")
    data = bytearray((quick_path / "16.store").read_bytes())
    data[-1 - HEAD_BYTES - 1] ^= 1
    (quick_path / "16.store").write_bytes(data)

    with pytest.raises(Damaged) as caught:
        segment.read(17)

    assert (caught.value.file, caught.value.position) == (str(quick_path / "16.store"), HEAD_BYTES + 1)
    assert [segment.read(offset).value for offset in (16, 18)] == [b"a", b"c"]
    records, behind = segment.read_many(16, 3, 100)
    assert ([record.value for record in records], behind) == ([b"a"], 17)
    with pytest.raises(Damaged):
        segment.read_many(17, 3, 100)


def test_a_lost_record_is_left_out_of_many_and_named_when_asked_for(quick_path):
    segment = segment_of(quick_path)
    append(segment, b"a")
    lost, sound = encode(b"", LOG, 17, 1, 16, LOST), encode(b"c", LOG, 18, 1, 16)
    segment.index.append_many(segment.store.append_many([lost, sound]))

    records, behind = segment.read_many(16, 3, 100)

    assert ([record.value for record in records], behind) == ([b"a", b"c"], 19)
    with pytest.raises(Damaged, match="lost"):
        segment.read(17)


def test_many_are_limited_by_number_and_by_bytes_but_one_always_comes(quick_path):
    segment = segment_of(quick_path)
    append(segment, b"aaa", b"bb", b"cccc")

    assert segment.read_many(16, 2, 100)[1] == 18
    assert segment.read_many(16, 3, 5)[1] == 18
    assert segment.read_many(16, 3, 4)[1] == 17
    assert segment.read_many(18, 3, 0)[1] == 19


@pytest.mark.parametrize("store_bytes", [None, 2 * FRAME_BYTES])
def test_an_index_fits_only_when_its_ends_do(quick_path, store_bytes):
    append(segment_of(quick_path), HELLO, HELLO)

    def opened():
        return Segment.open(DISK, str(quick_path), LOG, 16, Config())

    assert opened().fits(18, store_bytes)
    assert not opened().fits(19, store_bytes)
    assert not opened().fits(17, store_bytes)
    good = (quick_path / "16.index").read_bytes()
    for wrong in (b"", good[:-1], good[:12], good + bytes(12), bytes(24), bytes(12) + good[:12], good[:20] + b"\1234"):
        (quick_path / "16.index").write_bytes(wrong)
        assert not opened().fits(18, store_bytes), wrong
