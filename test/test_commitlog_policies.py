"""What each fsync policy promises, and what a log does when the disk fails: full, broken, or lying about a sync."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import eventually

from emporium.commitlog import Config, Log
from emporium.commitlog.config import POLICIES
from emporium.commitlog.errors import NotStored, ReadOnly, TooLarge, Unsure
from emporium.commitlog.files import Disk

SYNCED = ["group", "always"]
WRITTEN = ["interval", "never"]


class FailingDisk(Disk):
    """Counts syncs of stores, can hold them up, and fails what it is told to.

    fails  {name of a method: what is done instead, called with the arguments}
    """

    def __init__(self):
        self.syncs = 0
        self.fails = {}
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.is_syncing = threading.Event()

    def sync(self, file):
        if file.path.endswith(".store"):
            self.is_syncing.set()
            assert self.may_sync.wait(20)
            self.syncs += 1
        self._may_fail("sync", file)
        super().sync(file)

    def _pwrite(self, file, data, position):
        self._may_fail("write", file, data, position)
        return super()._pwrite(file, data, position)

    def truncate(self, file, size):
        self._may_fail("truncate", file)
        super().truncate(file, size)

    def allocate(self, file, size):
        self._may_fail("allocate", file, size)
        super().allocate(file, size)

    def create(self, path):
        self._may_fail("create", path)
        return super().create(path)

    def sync_folder(self, folder):
        self._may_fail("sync_folder", folder)
        super().sync_folder(folder)

    def rename(self, old, new):
        self._may_fail("rename", old)
        super().rename(old, new)

    def unlink(self, path):
        self._may_fail("unlink", path)
        super().unlink(path)

    def _may_fail(self, name, *arguments):
        if name in self.fails:
            self.fails[name](*arguments)


def failing_with(code, kind=""):
    """Fails for files whose name ends so."""

    def fail(file, *_more):
        if str(getattr(file, "path", file)).endswith(kind):
            raise OSError(code, "it fails")

    return fail


@pytest.fixture
def disk():
    return FailingDisk()


def values(log):
    return [record.value for record in log.read_many(log.lowest_offset, 10**6)]


# ---- when a record counts as stored


@pytest.mark.parametrize("fsync", POLICIES)
def test_what_is_stored_is_there_after_reopening(quick_path, fsync):
    with Log(quick_path, Config(fsync=fsync, segment_bytes=100)) as log:
        for number in range(5):
            log.append(b"%d" % number)
        log.append_many([b"a", b"b"])
    with Log(quick_path) as log:
        assert values(log) == [b"0", b"1", b"2", b"3", b"4", b"a", b"b"]


@pytest.mark.parametrize("fsync", SYNCED)
def test_nobody_sees_a_record_before_it_is_synced(quick_path, disk, fsync):
    with Log(quick_path, Config(fsync=fsync), disk=disk) as log, ThreadPoolExecutor() as pool:
        log.append(b"old")
        disk.is_syncing.clear()
        disk.may_sync.clear()
        append = pool.submit(log.append, b"new")
        assert disk.is_syncing.wait(10)

        half = log._writer.active.store.size // 2
        assert (log.next_offset, values(log), len(log.reader().read())) == (1, [b"old"], half)
        assert not log.wait_for(1, 0.02)
        assert not append.done()

        disk.may_sync.set()
        assert append.result(10) == 1
        assert values(log) == [b"old", b"new"]


def test_under_group_those_that_wait_share_one_sync_and_one_that_comes_alone_has_its_own(quick_path, disk):
    with Log(quick_path, Config(fsync="group"), disk=disk) as log, ThreadPoolExecutor(20) as pool:
        for _ in range(3):
            log.append(b"alone")
        assert disk.syncs == 3

        disk.is_syncing.clear()
        disk.may_sync.clear()
        first = pool.submit(log.append, b"first")
        assert disk.is_syncing.wait(10)
        others = [pool.submit(log.append, b"other") for _ in range(15)]
        eventually(lambda: len(log._writer._group._waiting) == 15, "they wait")
        disk.may_sync.set()

        assert first.result(10) == 3
        assert sorted(other.result(10) for other in others) == list(range(4, 19))
        assert disk.syncs == 3 + 2


def test_under_always_each_append_has_its_own_sync(quick_path, disk):
    with Log(quick_path, Config(fsync="always"), disk=disk) as log, ThreadPoolExecutor(20) as pool:
        before = disk.syncs

        for append in [pool.submit(log.append_many, [b"a", b"b"]) for _ in range(15)]:
            append.result(10)

        assert disk.syncs == before + 15


def test_under_interval_a_sync_follows_and_an_idle_log_has_none(quick_path, disk):
    with Log(quick_path, Config(fsync="interval", interval_s=0.05), disk=disk) as log:
        before = disk.syncs
        log.append_many([b"a"] * 10)
        assert values(log) == [b"a"] * 10

        eventually(lambda: log._writer.durable == 10, "it is synced")
        syncs = disk.syncs
        assert syncs - before == 1
        assert not log.wait_for(10, 0.2)
        assert disk.syncs == syncs


def test_under_never_only_sealing_and_closing_sync(quick_path, disk):
    log = Log(quick_path, Config(fsync="never", segment_bytes=220), disk=disk)
    before = disk.syncs
    for _ in range(10):
        log.append(b"a")

    assert disk.syncs - before == log.segments - 1 > 0
    log.close()
    assert disk.syncs - before == log.segments


# ---- the disk is full, or cannot be written


@pytest.mark.parametrize("fsync", POLICIES)
@pytest.mark.parametrize("kind", [".store", ".index"])
@pytest.mark.parametrize(("code", "is_full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
def test_a_failed_write_stores_nothing_and_the_log_goes_on(quick_path, disk, fsync, kind, code, is_full):
    with Log(quick_path, Config(fsync=fsync), disk=disk) as log:
        log.append(b"old")
        size = log.size

        def fail_in_the_middle(file, data, position):
            if file.path.endswith(kind):
                Disk._pwrite(disk, file, data[: len(data) // 2], position)
                raise OSError(code, "it fails")

        disk.fails["write"] = fail_in_the_middle
        with pytest.raises(NotStored) as caught:
            log.append_many([b"never"] * 3)
        assert caught.value.is_full is is_full
        assert (log.next_offset, log.size, log.failure) == (1, size, None)
        assert (quick_path / "0.store").stat().st_size == size

        disk.fails.clear()
        assert log.append(b"new") == 1
        assert values(log) == [b"old", b"new"]
    with Log(quick_path) as again:
        assert (values(again), again.notes) == ([b"old", b"new"], ())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_the_last_room_of_a_disk_is_left_for_the_notes_that_let_old_records_go(quick_path, disk, code):
    """Else a disk that was full once would stay full, whatever consumers are done with."""
    with Log(quick_path) as log:
        log.append(b"old")

    def give_up_in_the_midst(file, size):
        Disk.allocate(disk, file, disk.size(file) + 100)
        raise OSError(code, "no room")

    with Log(quick_path, disk=disk) as log:
        disk.fails["allocate"] = give_up_in_the_midst
        with pytest.raises(NotStored) as caught:
            log.append(b"never")
        assert caught.value.is_full
        assert (quick_path / "0.store").stat().st_size == log.size
        log.truncate(0)
        assert (log.count, log.next_offset) == (0, 1)
    with Log(quick_path) as log:
        assert (log.append(b"on"), log.notes) == (1, ())


def test_those_that_wait_together_are_all_stored_though_a_segment_holds_only_three(quick_path, disk):
    with Log(quick_path, Config(index_bytes=36), disk=disk) as log, ThreadPoolExecutor(10) as pool:
        disk.is_syncing.clear()
        disk.may_sync.clear()
        first = pool.submit(log.append, b"first")
        assert disk.is_syncing.wait(10)
        others = [pool.submit(log.append, b"other") for _ in range(6)]
        fours = pool.submit(log.append_many, [b"four"] * 4)
        eventually(lambda: len(log._writer._group._waiting) == 7, "they wait")
        disk.may_sync.set()

        assert first.result(10) == 0
        assert sorted(other.result(10) for other in others) == list(range(1, 7))
        with pytest.raises(TooLarge):
            fours.result(10)
        assert values(log) == [b"first"] + [b"other"] * 6


def test_one_that_does_not_fit_fails_none_of_those_that_wait_with_it(quick_path, disk):
    with Log(quick_path, Config(ahead_bytes=0), disk=disk) as log, ThreadPoolExecutor() as pool:

        def fail_if_large(file, data, _position):
            if len(data) > 1000:
                raise OSError(errno.ENOSPC, "it fails")

        disk.fails["write"] = fail_if_large
        disk.is_syncing.clear()
        disk.may_sync.clear()
        first = pool.submit(log.append, b"first")
        assert disk.is_syncing.wait(10)
        large = pool.submit(log.append, b"x" * 1000)
        eventually(lambda: len(log._writer._group._waiting) == 1, "it waits")
        small = pool.submit(log.append, b"small")
        eventually(lambda: len(log._writer._group._waiting) == 2, "they wait together")
        disk.may_sync.set()

        assert (first.result(10), small.result(10)) == (0, 1)
        with pytest.raises(NotStored):
            large.result(10)
        assert values(log) == [b"first", b"small"]


def test_what_can_neither_be_written_nor_cut_back_ends_the_writing(quick_path, disk):
    with Log(quick_path, disk=disk) as log:
        log.append(b"old")
        disk.fails = {"write": failing_with(errno.EIO), "truncate": failing_with(errno.EIO)}

        with pytest.raises(Unsure):
            log.append(b"new")

        disk.fails.clear()
        with pytest.raises(ReadOnly):
            log.append(b"newer")
        assert values(log) == [b"old"]


@pytest.mark.parametrize("call", ["truncate", "reset", "tend"])
def test_a_change_for_which_there_is_no_room_changes_nothing(quick_path, disk, call):
    with Log(quick_path, Config(segment_bytes=100, retention_bytes=0, tend_s=None), disk=disk) as log:
        for _ in range(6):
            log.append(b"x")
        disk.fails["create"] = failing_with(errno.ENOSPC)

        with pytest.raises(NotStored):
            log.truncate(3) if call == "truncate" else getattr(log, call)()

        assert (log.count, log.failure) == (6, None)
        disk.fails.clear()
        assert log.append(b"y") == 6


# ---- a sync fails


@pytest.mark.parametrize("fsync", SYNCED)
def test_after_a_failed_sync_nothing_more_is_written_and_nothing_is_tried_again(quick_path, disk, fsync):
    with Log(quick_path, Config(fsync=fsync), disk=disk) as log:
        log.append(b"old")
        disk.fails["sync"] = failing_with(errno.EIO, ".store")
        with pytest.raises(Unsure):
            log.append(b"unsure")
        disk.fails.clear()
        syncs = disk.syncs

        for call in (
            lambda: log.append(b"x"),
            lambda: log.truncate(0),
            log.reset,
            lambda: log.truncate_back(0),
            log.tend,
        ):
            with pytest.raises(ReadOnly):
                call()

        assert "it fails" in log.failure
        assert (log.next_offset, values(log), disk.syncs) == (1, [b"old"], syncs)
    assert not (quick_path / "clean.json").exists()
    with Log(quick_path) as again:
        assert values(again)[:1] == [b"old"]
        assert again.append(b"on") == again.next_offset - 1


def test_all_that_shared_a_failed_sync_are_unsure_and_those_behind_are_not_stored(quick_path, disk):
    with Log(quick_path, disk=disk) as log, ThreadPoolExecutor(10) as pool:
        disk.is_syncing.clear()
        disk.may_sync.clear()
        first = pool.submit(log.append, b"first")
        assert disk.is_syncing.wait(10)
        others = [pool.submit(log.append, b"other") for _ in range(5)]
        eventually(lambda: len(log._writer._group._waiting) == 5, "they wait")
        disk.fails["sync"] = failing_with(errno.EIO)
        disk.may_sync.set()

        with pytest.raises(Unsure):
            first.result(10)
        for other in others:
            with pytest.raises(ReadOnly):
                other.result(10)
        assert log.count == 0


def test_a_sync_that_fails_in_the_background_ends_the_writing_and_the_close_says_so(quick_path, disk):
    log = Log(quick_path, Config(fsync="interval", interval_s=0.01), disk=disk)
    disk.fails["sync"] = failing_with(errno.EIO)
    log.append(b"x")

    eventually(lambda: log.failure, "it failed")

    with pytest.raises(ReadOnly):
        log.append(b"y")
    with pytest.raises(Unsure):
        log.close()


@pytest.mark.parametrize("fsync", WRITTEN)
def test_a_close_that_cannot_sync_says_so_and_frees_the_folder(quick_path, disk, fsync):
    log = Log(quick_path, Config(fsync=fsync, interval_s=1000), disk=disk)
    log.append(b"x")
    disk.fails["sync"] = failing_with(errno.EIO)

    with pytest.raises(Unsure):
        log.close()

    Log(quick_path).close()


@pytest.mark.parametrize("failing", ["sync", "sync_folder"])
def test_a_roll_whose_sync_fails_stores_nothing_and_ends_the_writing(quick_path, disk, failing):
    with Log(quick_path, Config(segment_bytes=68), disk=disk) as log:
        log.append(b"x" * 20)
        disk.fails[failing] = failing_with(errno.EIO)
        with pytest.raises(ReadOnly):
            log.append(b"y")
        disk.fails.clear()
        assert values(log) == [b"x" * 20]
    with Log(quick_path) as again:
        assert values(again) == [b"x" * 20]


def test_a_start_writes_again_what_was_not_surely_synced(quick_path):
    """After a failed sync Linux counts the pages as clean: a sync alone would not write them."""

    class Watching(Disk):
        written = 0

        def write(self, file, data, position):
            if file.path.endswith(".store"):
                self.written += len(data)
            super().write(file, data, position)

    disk = FailingDisk()
    log = Log(quick_path, disk=disk)
    for _ in range(10):
        log.append(b"x" * 100)
    size = log.size
    disk.fails["sync"] = failing_with(errno.EIO)
    with pytest.raises(Unsure):
        log.append(b"y" * 100)
    log.close()

    disk = Watching()
    with Log(quick_path, disk=disk) as again:
        assert again.count == 11
        assert disk.written == size // 10  # the last one: it says that those before it are synced


def test_an_interrupt_leaves_nobody_waiting_and_ends_the_writing(quick_path, disk):
    with Log(quick_path, disk=disk) as log:

        def interrupt(*_arguments):
            raise KeyboardInterrupt

        disk.fails["sync"] = interrupt
        with pytest.raises(KeyboardInterrupt):
            log.append(b"x")
        disk.fails.clear()

        with pytest.raises(ReadOnly):
            log.append(b"y")


def test_those_that_shared_an_interrupted_sync_are_unsure(quick_path, disk):
    with Log(quick_path, disk=disk) as log, ThreadPoolExecutor(4) as pool:
        syncs = iter(["first"])

        def interrupt(*_arguments):
            if next(syncs, None) is None:
                raise KeyboardInterrupt

        disk.fails["sync"] = interrupt
        disk.is_syncing.clear()
        disk.may_sync.clear()
        first = pool.submit(log.append, b"first")
        assert disk.is_syncing.wait(10)
        others = [pool.submit(log.append, b"other") for _ in range(3)]
        eventually(lambda: len(log._writer._group._waiting) == 3, "they wait")
        disk.may_sync.set()

        assert first.result(10) == 0
        assert sorted(type(other.exception(10)).__name__ for other in others) == ["KeyboardInterrupt", *["Unsure"] * 2]


def test_files_that_cannot_be_unlinked_go_with_the_next_start(quick_path, disk):
    log = Log(quick_path, Config(segment_bytes=68), disk=disk)
    for _ in range(4):
        log.append(b"x" * 20)
    disk.fails["unlink"] = failing_with(errno.EIO)
    log.truncate(1)
    assert (log.lowest_offset, values(log)) == (2, [b"x" * 20] * 2)
    disk.fails.clear()
    log.close()
    assert (quick_path / "0.store").exists()

    with Log(quick_path) as again:
        assert (again.lowest_offset, again.count) == (2, 2)
    assert not (quick_path / "0.store").exists()
