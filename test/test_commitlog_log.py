"""The log: proglog's own scenarios, each defect that it has, and what goes beyond it."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import eventually

from emporium.commitlog import Config, Log
from emporium.commitlog.errors import Closed, InUse, NotStored, OffsetOutOfRange, TooLarge
from emporium.commitlog.record import HEAD_BYTES, decode

HELLO = b"hello world"
TWO_A_SEGMENT = Config(segment_bytes=HEAD_BYTES + len(HELLO) + 1)


def filled(folder, count, config=TWO_A_SEGMENT, **more):
    log = Log(folder, config, **more)
    for number in range(count):
        assert log.append(HELLO) == log.next_offset - 1 >= number
    return log


def values(log):
    return [record.value for record in log.read_many(log.lowest_offset, 10**6)]


def test_records_without_a_value_fit_whatever_is_left_also_behind_a_full_segment(quick_path):
    with Log(quick_path, Config(segment_bytes=HEAD_BYTES * 2)) as log:
        for _ in range(5):
            log.append(b"")

        assert len(log.read_many(0, 5, most_bytes=0)) == 5
        log.append_many([b"x", b""])
        assert len(log.read_many(5, 5, most_bytes=0)) == 1  # more than there is room for: nothing fits behind it


# ---- proglog's scenarios


def test_proglog_append_and_read(quick_path):
    with Log(quick_path) as log:
        before_ns = time.time_ns()
        assert log.append(HELLO) == 0
        record = log.read(0)

    assert (record.offset, record.value) == (0, HELLO)
    assert before_ns <= record.timestamp <= time.time_ns()


def test_proglog_out_of_range_tells_offset_lowest_and_next(quick_path):
    with Log(quick_path) as log:
        with pytest.raises(OffsetOutOfRange, match="1") as caught:
            log.read(1)
        assert (caught.value.offset, caught.value.lowest, caught.value.next) == (1, 0, 0)
        for offset in (0, -1, 2**63, True, 0.0, "0"):
            with pytest.raises(OffsetOutOfRange):
                log.read(offset)


def test_proglog_an_existing_log_goes_on_where_it_ended(quick_path):
    log = filled(quick_path, 3)
    log.close()
    assert (log.lowest_offset, log.highest_offset, log.next_offset) == (0, 2, 3)

    with Log(quick_path, TWO_A_SEGMENT) as again:
        assert (again.lowest_offset, again.highest_offset, again.notes) == (0, 2, ())
        assert again.append(HELLO) == 3


def test_proglog_the_readers_bytes_are_the_records(quick_path):
    with filled(quick_path, 3) as log:
        data = log.reader().read()

    for offset in range(3):
        record, head = decode(data, None, offset, offset * (HEAD_BYTES + len(HELLO)))
        assert record.value == HELLO
    assert len(data) == 3 * head.frame_bytes


def test_proglog_truncate_drops_the_segment_that_ends_with_that_offset(quick_path):
    with filled(quick_path, 3) as log:
        assert log.segments == 2
        log.truncate(0)
        assert log.read(0)

        log.truncate(1)

        with pytest.raises(OffsetOutOfRange):
            log.read(0)
        assert (log.lowest_offset, log.next_offset, log.read(2).value) == (2, 3, HELLO)


def test_a_new_log_begins_where_it_is_told(quick_path):
    with Log(quick_path, Config(first_offset=1)) as log:
        assert (log.lowest_offset, log.next_offset, log.highest_offset, log.count) == (1, 1, None, 0)
        assert log.append(b"x") == 1


# ---- proglog's defects, by their numbers in the list


def test_defect_1_an_index_limit_that_is_no_multiple_of_12_stops_no_append(quick_path):
    with Log(quick_path, Config(fsync="never", index_bytes=1024)) as log:
        for number in range(200):
            assert log.append(b"x") == number
        assert log.segments == 3
        assert len(values(log)) == 200


def test_defect_1_an_append_of_many_that_does_not_fit_goes_to_a_new_segment_whole(quick_path):
    with Log(quick_path, Config(index_bytes=60)) as log:
        log.append_many([b"x"] * 3)
        assert log.append_many([b"y"] * 5) == 3
        assert log.segments == 2

        with pytest.raises(TooLarge, match="5 records"):
            log.append_many([b"z"] * 6)

        assert (log.next_offset, log.append(b"on")) == (8, 8)


def test_defect_2_a_reset_log_works_and_holds_nothing_old(quick_path):
    log = filled(quick_path, 5)

    log.reset()

    assert (log.lowest_offset, log.next_offset, log.count, log.segments, log.size) == (5, 5, 0, 1, 0)
    assert log.append(b"new") == 5
    log.close()
    with Log(quick_path) as again:
        assert (again.lowest_offset, values(again)) == (5, [b"new"])
    assert sorted(path.name for path in quick_path.glob("*.store")) == ["5.store"]


def test_a_reset_goes_to_no_offset_that_a_start_would_refuse(quick_path):
    """A folder that begins beyond what the names of files can say would never open again."""
    with filled(quick_path, 3) as log:
        for beyond in (2**62, 2**63, 2**64):
            with pytest.raises(ValueError, match="below"):
                log.reset(beyond)
        assert (log.lowest_offset, log.next_offset) == (0, 3)
        log.reset(2**62 - 1)
    with Log(quick_path) as log:
        assert log.append(HELLO) == 2**62 - 1
        assert log.read(2**62 - 1).value == HELLO
    with Log(quick_path) as log:
        assert (log.lowest_offset, log.next_offset) == (2**62 - 1, 2**62)


def test_a_reset_may_go_ahead_but_never_back(quick_path):
    with filled(quick_path, 5) as log:
        with pytest.raises(ValueError, match="never go back"):
            log.reset(4)
        assert log.count == 5

        log.reset(100)
        assert (log.lowest_offset, log.append(b"x")) == (100, 100)
        log.reset(101)
        log.reset()
        assert (log.lowest_offset, log.next_offset) == (101, 101)


@pytest.mark.parametrize("lowest", [4, 5, 10**9])
def test_defect_3_a_truncation_past_the_end_keeps_an_active_segment_at_the_same_next_offset(quick_path, lowest):
    with filled(quick_path, 5) as log:
        log.truncate(lowest)

        assert (log.lowest_offset, log.next_offset, log.segments, log.highest_offset) == (5, 5, 1, None)
        assert log.append(b"on") == 5
        log.truncate(lowest - 10**9)
        assert log.count == 1
    with Log(quick_path) as again:
        assert (again.lowest_offset, values(again)) == (5, [b"on"])


def test_defect_4_stray_files_and_odd_names_are_left_alone_and_said(quick_path):
    filled(quick_path, 3).close()
    strays = ["notes.txt", "x.store", "02.store", "-1.store", "1.store.bak", "3.log"]
    for name in strays:
        (quick_path / name).write_text("stray")

    with Log(quick_path, TWO_A_SEGMENT) as log:
        assert len(values(log)) == 3
        assert all(any(name in note for note in log.notes) for name in strays)
    assert all((quick_path / name).read_text() == "stray" for name in strays)


def test_defect_4_segments_are_in_the_order_of_numbers_not_of_letters(quick_path):
    filled(quick_path, 25).close()

    with Log(quick_path, TWO_A_SEGMENT) as log:
        assert [record.offset for record in log.read_many(0, 100)] == list(range(25))


def test_defect_5_waiting_for_a_truncated_offset_ends_at_once(quick_path):
    with filled(quick_path, 5) as log:
        log.truncate(3)

        assert log.wait_for(0, timeout_s=60)
        with pytest.raises(OffsetOutOfRange):
            log.read(0)


def test_defect_5_waiting_at_the_end_takes_no_cpu(quick_path):
    with filled(quick_path, 1) as log:
        before_s = time.thread_time()  # of this thread: others may have other things to do
        assert not log.wait_for(1, timeout_s=0.3)
        assert time.thread_time() - before_s < 0.1


def test_defect_6_a_read_does_not_wait_for_the_turn_of_writers(quick_path):
    with filled(quick_path, 3) as log, log._writer.turn:
        assert log.read(2).value == HELLO
        assert len(log.read_many(0, 10)) == 3
        assert len(log.reader().read()) == log.size


# ---- many


def test_many_values_follow_each_other_and_are_read_in_parts(quick_path):
    with Log(quick_path, TWO_A_SEGMENT) as log:
        assert log.append_many([b"a", b"bb", b""]) == 0
        assert log.append_many([b"ccc"]) == 3

        assert values(log) == [b"a", b"bb", b"", b"ccc"]
        assert [record.value for record in log.read_many(1, 2)] == [b"bb", b""]
        assert [record.value for record in log.read_many(0, 9, most_bytes=3)] == [b"a", b"bb", b""]
        assert [record.value for record in log.read_many(0, 9, most_bytes=5)] == [b"a", b"bb", b""]
        assert [record.value for record in log.read_many(3, 9, most_bytes=1)] == [b"ccc"]
        assert log.read_many(4, 9) == []
        for offset in (5, -1):
            with pytest.raises(OffsetOutOfRange):
                log.read_many(offset, 9)


def test_large_appends_follow_each_other(quick_path):
    values = [b"s", b"m" * 20_000, b"l" * 2**20, b"s"]
    with Log(quick_path) as log:
        for _ in range(2):
            log.append_many(values)
            for value in values:
                log.append(value)

        assert [record.value for record in log.read_many(0, 100)] == values * 4
        assert [log.read(offset).value for offset in range(16)] == values * 4


def test_many_read_over_many_segments_and_steps(quick_path):
    with Log(quick_path, Config(fsync="never", segment_bytes=100_000)) as log:
        for first in range(0, 5000, 100):
            log.append_many([b"%d" % number for number in range(first, first + 100)])

        assert log.segments > 2
        assert values(log) == [b"%d" % number for number in range(5000)]
        assert len(log.read_many(10, 3000)) == 3000
        assert len(log.read_many(10, 5000, most_bytes=8000)) == 90 + 900 + 1280  # of 2, 3 and 4 digits


@pytest.mark.parametrize("wrong", [[], ["text"], [b"ok", None], [1]])
def test_what_is_no_list_of_bytes_is_refused_and_nothing_stored(quick_path, wrong):
    with Log(quick_path) as log:
        with pytest.raises((TypeError, ValueError)):
            log.append_many(wrong)
        assert log.next_offset == 0


def test_bytes_like_values_are_taken_as_they_are_now(quick_path):
    with Log(quick_path) as log:
        log.append_many([bytearray(b"a"), memoryview(b"b")])
        assert values(log) == [b"a", b"b"]


def test_too_large_an_append_is_refused(quick_path):
    with Log(quick_path, Config(append_bytes=10)) as log:
        for given in ([b"x" * 11], [b"x" * 6] * 2):
            with pytest.raises(TooLarge):
                log.append_many(given)
        assert log.append(b"x" * 10) == 0


# ---- truncate from the back


@pytest.mark.parametrize("next_offset", range(6))
def test_truncated_from_the_back_it_goes_on_from_there(quick_path, next_offset):
    log = Log(quick_path, TWO_A_SEGMENT)
    for number in range(5):
        log.append(b"%d" % number * 11)
    kept = values(log)[:next_offset]

    log.truncate_back(next_offset)

    assert (log.next_offset, values(log)) == (next_offset, kept)
    assert log.append(b"new") == next_offset
    log.close()
    with Log(quick_path, TWO_A_SEGMENT) as again:
        assert values(again) == [*kept, b"new"]


def test_an_append_of_many_that_was_truncated_is_not_taken_for_a_torn_one(quick_path):
    log = Log(quick_path)
    log.append_many([b"0", b"1", b"2", b"3"])
    for next_offset in (3, 1):
        log.truncate_back(next_offset)
        log.close()
        (quick_path / "clean.json").unlink()

        log = Log(quick_path)
        assert len(values(log)) == next_offset
    log.append_many([b"x", b"y", b"z"])
    log.close()
    (quick_path / "clean.json").unlink()
    with (quick_path / "0.store").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 1)
    with Log(quick_path) as log:
        assert values(log) == [b"0"]


def test_where_an_append_was_truncated_is_forgotten_with_it(quick_path):
    log = Log(quick_path)
    log.append_many([b"0", b"1", b"2", b"3"])
    log.truncate_back(3)
    log.truncate_back(0)
    log.append_many([b"a", b"b", b"c", b"d"])
    log.close()
    (quick_path / "clean.json").unlink()
    with (quick_path / "0.store").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 1)

    with Log(quick_path) as log:
        assert values(log) == []


def test_a_truncation_from_the_back_beyond_the_log_is_refused(quick_path):
    with filled(quick_path, 5) as log:
        log.truncate(1)
        for next_offset in (1, 6, -1):
            with pytest.raises(OffsetOutOfRange):
                log.truncate_back(next_offset)
        assert log.count == 3


@pytest.mark.parametrize("was_mended", [False, True])
def test_a_read_that_met_a_truncation_from_the_back_is_told_that_the_record_is_gone(quick_path, was_mended):
    with filled(quick_path, 3) as log:
        log._writer.active.was_mended = was_mended

        def read(segment):
            log.truncate_back(2)  # as another thread may, just then
            return segment.read(2)

        with pytest.raises(OffsetOutOfRange):
            log._view.ask(2, read)


# ---- waiting


def test_a_waiting_reader_wakes_when_the_record_is_there(quick_path):
    with filled(quick_path, 1) as log, ThreadPoolExecutor() as pool:
        waits = pool.submit(log.wait_for, 2, 60)
        eventually(lambda: log._view._watchers == 1, "it waits")

        log.append(b"1")
        assert not waits.done()
        log.append(b"2")

        assert waits.result(10)
        assert log.read(2).value == b"2"


def test_a_waiting_reader_wakes_when_the_log_is_closed(quick_path):
    log = filled(quick_path, 1)
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(log.wait_for, 1, 60)
        eventually(lambda: log._view._watchers == 1, "it waits")

        log.close()

        assert waits.result(10) is False
    with pytest.raises(Closed):
        log.wait_for(0, 1)


def test_who_waits_and_who_comes_to_wait_returns_when_nobody_is_to_wait_any_more(quick_path):
    with filled(quick_path, 1) as log, ThreadPoolExecutor() as pool:
        waits = pool.submit(log.wait_for, 1, 60)
        eventually(lambda: log._view._watchers == 1, "it waits")

        log.wait_no_more()

        assert waits.result(10) is False
        assert pool.submit(log.wait_for, 1, 60).result(10) is False
        log.append(b"1")
        assert log.wait_for(1, 60)
        assert log.read(1).value == b"1"


# ---- reader


def test_a_reader_gives_what_could_be_read_when_it_was_made_over_rolls(quick_path):
    with filled(quick_path, 3) as log:
        reader = log.reader()
        expected = log.size
        first = reader.read(10)
        for _ in range(4):
            log.append(HELLO)

        assert len(first + reader.read()) == expected
        assert reader.read() == b""


def test_a_reader_says_when_it_was_truncated(quick_path):
    with filled(quick_path, 6) as log:
        reader = log.reader()
        reader._frames = _one_at_a_time(reader._frames)
        reader.read(1)
        log.truncate(3)

        with pytest.raises(OffsetOutOfRange) as caught:
            reader.readall()

        assert caught.value.lowest == 4


def _one_at_a_time(frames):
    return lambda offset, _most, most_bytes: frames(offset, 1, most_bytes)


# ---- retention


def test_retention_by_size_drops_the_oldest_segments_and_keeps_the_active_one(quick_path):
    frame_bytes = HEAD_BYTES + len(HELLO)
    with filled(
        quick_path, 9, Config(segment_bytes=2 * frame_bytes, retention_bytes=5 * frame_bytes, tend_s=None)
    ) as log:
        log.tend()

        assert (log.lowest_offset, log.next_offset, log.size) == (4, 9, 5 * frame_bytes)
        log.tend()
        assert log.lowest_offset == 4


def test_retention_by_age_drops_what_is_old_also_from_the_active_segment(quick_path, monkeypatch):
    passed_s, now_ns = 0, time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + passed_s * 10**9)
    with filled(quick_path, 5, Config(segment_bytes=72, retention_s=1000, tend_s=None)) as log:
        log.tend()
        assert log.count == 5

        passed_s = 2000
        log.append(b"young")
        log.tend()

        assert log.lowest_offset <= 5
        assert log.read(5).value == b"young"
        passed_s = 4000
        log.tend()
        assert (log.count, log.next_offset, log.oldest_ns) == (0, 6, None)


@pytest.mark.parametrize("floor", range(10))
def test_retention_never_takes_what_a_consumer_still_needs(quick_path, floor):
    config = Config(segment_bytes=72, retention_bytes=0, tend_s=None)
    with filled(quick_path, 9, config, floor=floor) as log:
        log.tend()

        assert log.lowest_offset <= floor
        assert log.lowest_offset >= floor - 2
        log.floor = None
        log.tend()
        assert log.segments == 1


def test_retention_works_in_the_background(quick_path):
    with filled(quick_path, 9, Config(segment_bytes=72, retention_bytes=0, tend_s=0.02), floor=0) as log:
        time.sleep(0.1)  # in which the background looks and must find nothing to take
        assert log.lowest_offset == 0

        log.floor = 9

        eventually(lambda: log.segments == 1, "all but the active segment are gone")


def test_retention_by_size_is_looked_at_after_each_roll(quick_path):
    config = Config(segment_bytes=72, retention_bytes=200, tend_s=1000)
    with Log(quick_path, config) as log:
        for _ in range(20):
            log.append(HELLO)

        eventually(lambda: log.size <= 300, "the oldest segments are gone")


def test_retention_by_age_takes_about_twice_as_long_at_most_however_seldom_the_background_looks(quick_path):
    with Log(quick_path, Config(retention_s=0.5)) as log:
        log.append(HELLO)
        time.sleep(0.4)  # so that the younger record holds the older one back as long as it can
        log.append(b"in the same segment")

        eventually(lambda: log.count == 0, "both are gone", Config().tend_s / 2)


@pytest.mark.parametrize(
    ("retention_s", "tend_s", "period_s"),
    [(None, 30.0, 30.0), (3, 30.0, 0.3), (3, 0.1, 0.1), (7 * 86400, 30.0, 30.0), (0.001, 30.0, 0.1)],
)
def test_the_background_looks_as_often_as_the_age_asks_for(retention_s, tend_s, period_s):
    assert Config(retention_s=retention_s, tend_s=tend_s).tend_period_s == pytest.approx(period_s)


# ---- the life of a folder


def test_the_identity_stays_until_the_log_is_removed(quick_path):
    folder = quick_path / "a" / "b"
    with Log(folder) as log:
        identity = log.identity
        log.reset()
    with Log(folder) as log:
        assert log.identity == identity
        log.remove()
        log.remove()
    assert not folder.exists()
    with Log(folder) as log:
        assert log.identity != identity


def test_a_closed_log_can_be_removed_and_other_files_are_spared(quick_path):
    folder = quick_path / "log"
    log = filled(folder, 3)
    (folder / "mine.txt").write_text("mine")
    log.close()

    log.remove()

    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_second_opener_is_refused_with_the_holders_pid(quick_path):
    with Log(quick_path), pytest.raises(InUse, match=str(os.getpid())) as caught:
        Log(quick_path)
    assert caught.value.pid == os.getpid()
    Log(quick_path).close()


def test_a_forked_child_cannot_write(quick_path):
    with Log(quick_path) as log:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                log.append(b"child")
            except InUse:
                log.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert log.append(b"parent") == 0
        with pytest.raises(InUse):
            Log(quick_path)


def test_a_closed_log_still_tells_its_offsets_and_refuses_all_else(quick_path):
    log = filled(quick_path, 3)
    log.close()
    log.close()

    assert (log.lowest_offset, log.next_offset, log.highest_offset, log.count) == (0, 3, 2, 3)
    calls = [
        lambda: log.append(b"x"),
        lambda: log.append_many([b"x"]),
        lambda: log.read(0),
        lambda: log.read_many(0, 1),
        lambda: log.read_many(3, 1),
        lambda: log.reader(),
        lambda: log.truncate(1),
        lambda: log.truncate_back(1),
        lambda: log.reset(),
        lambda: log.tend(),
    ]
    for call in calls:
        with pytest.raises(Closed):
            call()


# ---- threads


def test_threads_append_read_follow_and_truncate_together(quick_path):
    """Every value is stored once, at the offset that was answered, in the order of its thread."""
    writers, each = 8, 60
    with Log(quick_path, Config(segment_bytes=1000)) as log, ThreadPoolExecutor(24) as pool:

        def write(writer):
            return [log.append(b"%d %d" % (writer, number)) for number in range(each)]

        def follow(_number):
            seen, offset = [], 0
            while len(seen) < writers * each:
                assert log.wait_for(offset, 30)
                seen += (found := log.read_many(offset, 7))
                offset = found[-1].offset + 1
            return seen

        follows = [pool.submit(follow, number) for number in range(3)]
        writes = [pool.submit(write, writer) for writer in range(writers)]
        offsets = [write.result(60) for write in writes]
        expected = {
            offset: b"%d %d" % (writer, number)
            for writer, given in enumerate(offsets)
            for number, offset in enumerate(given)
        }
        assert sorted(expected) == list(range(writers * each))
        assert all(given == sorted(given) for given in offsets)
        for seen in (follow.result(60) for follow in follows):
            assert {record.offset: record.value for record in seen} == expected


def test_reads_meet_truncations_and_never_get_wrong_data(quick_path):
    with Log(quick_path, Config(fsync="never", segment_bytes=400)) as log, ThreadPoolExecutor(4) as pool:
        is_over = threading.Event()

        def read():
            count = 0
            while not is_over.is_set():
                for offset in range(log.lowest_offset, log.next_offset):
                    try:
                        assert log.read(offset).value.startswith(b"%d " % offset)
                        count += 1
                    except OffsetOutOfRange:
                        pass
            return count

        readers = [pool.submit(read) for _ in range(3)]
        for round_ in range(150):
            first = log.next_offset
            log.append_many([b"%d %d" % (offset, round_) for offset in range(first, first + 10)])
            log.truncate_back(log.next_offset - round_ % 9)
            if round_ % 20 == 0:
                log.truncate(log.next_offset - 15)
            if round_ % 50 == 49:
                log.reset()
        is_over.set()
        assert sum(reader.result(60) for reader in readers) > 100


def test_files_of_sealed_segments_do_not_all_stay_open(quick_path):
    before = len(os.listdir("/proc/self/fd"))
    with filled(quick_path, 150, Config(fsync="never", segment_bytes=1)) as log:
        for offset in range(150):
            log.read(offset)

        assert log.segments == 150
        assert len(os.listdir("/proc/self/fd")) < before + 100


# ---- config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "sometimes"),
        ("interval_s", 0),
        ("interval_s", "1"),
        ("segment_bytes", 0),
        ("segment_bytes", 1.5),
        ("segment_bytes", True),
        ("index_bytes", 11),
        ("append_bytes", 0),
        ("retention_bytes", -1),
        ("retention_s", float("nan")),
        ("tend_s", -1),
        ("first_offset", -1),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        Config(**{name: value})


def test_an_append_after_a_failed_roll_is_stored(quick_path, monkeypatch):
    with filled(quick_path, 2) as log:
        monkeypatch.setattr(log._folder.disk, "create", _full)
        with pytest.raises(NotStored) as caught:
            log.append(b"x")
        assert caught.value.is_full
        monkeypatch.undo()

        assert log.append(b"y") == 2
        assert values(log) == [HELLO, HELLO, b"y"]


def _full(_path):
    raise OSError(28, "no space left")
