"""A reader keeps an identity and an offset as its cursor. Where offsets may be given again, the identity is another."""

import shutil

import pytest

from emporium.commitlog import Config, Log, tools
from emporium.commitlog.config import POLICIES
from emporium.commitlog.files import Disk
from emporium.commitlog.record import HEAD_BYTES

VALUES = [b"value %d" % number for number in range(5)]
SIZE = sum(HEAD_BYTES + len(value) for value in VALUES)


class Machine(Disk):
    """A disk in a machine that can be started anew, which it says by another boot id."""

    boot = "first boot"

    def boot_id(self):
        return self.boot


@pytest.fixture
def machine():
    return Machine()


def killed(folder, disk, fsync="group"):
    """A log with five records, as a kill leaves it. Returns its identity."""
    with Log(folder.parent / "made", Config(fsync=fsync, interval_s=1000), disk=disk) as log:
        for value in VALUES:
            log.append(value)
        shutil.copytree(folder.parent / "made", folder)
        return log.identity


def found(folder, disk=None, fsync="group"):
    """(identity, number of records) after a start."""
    with Log(folder, Config(fsync=fsync), disk=disk) as log:
        return log.identity, log.count


def cut(folder, by):
    """Take so many bytes of the last record."""
    with (folder / "0.store").open("r+b") as file:
        file.truncate(SIZE - by)


@pytest.mark.parametrize("fsync", POLICIES)
def test_a_kill_keeps_the_identity(quick_path, machine, fsync):
    folder = quick_path / "log"
    identity = killed(folder, machine, fsync)

    for _ in range(2):
        assert found(folder, machine, fsync) == (identity, 5)


@pytest.mark.parametrize("fsync", POLICIES)
def test_a_kill_during_a_write_keeps_the_identity(quick_path, machine, fsync):
    """The record that is torn was never shown."""
    folder = quick_path / "log"
    identity = killed(folder, machine, fsync)
    with (folder / "0.store").open("r+b") as file:
        file.truncate(SIZE + 30)

    assert found(folder, machine, fsync) == (identity, 5)


@pytest.mark.parametrize("fsync", POLICIES)
@pytest.mark.parametrize("boot", ["second boot", None])
def test_a_power_loss_changes_the_identity_if_records_were_shown_before_they_were_synced(
    quick_path, machine, fsync, boot
):
    folder = quick_path / "log"
    identity = killed(folder, machine, fsync)

    machine.boot = boot
    after, _count = found(folder, machine, "group")

    assert (after != identity) == (fsync in ("interval", "never"))
    assert found(folder, machine, "never")[0] == after  # it was closed in between


def test_a_kill_on_a_machine_that_does_not_tell_its_boots_counts_as_a_power_loss(quick_path, machine):
    folder = quick_path / "log"
    machine.boot = None
    identity = killed(folder, machine, "never")

    assert found(folder, machine)[0] != identity


def test_a_start_of_the_machine_after_a_close_keeps_the_identity(quick_path, machine):
    folder = quick_path / "log"
    identity = killed(folder, machine, "never")
    assert found(folder, machine, "never")[0] == identity

    machine.boot = "second boot"

    assert found(folder, machine, "never") == (identity, 5)


def test_a_closed_log_that_is_shorter_than_it_was_gets_a_new_identity(quick_path):
    folder = quick_path / "log"
    identity = killed(folder, None)
    assert found(folder) == (identity, 5)
    cut(folder, 3)

    after, count = found(folder)

    assert (after != identity, count) == (True, 4)
    assert found(folder) == (after, 4)


@pytest.mark.parametrize("by", [1, HEAD_BYTES + len(VALUES[0]), SIZE])
@pytest.mark.parametrize("is_repaired", [False, True])
def test_a_killed_log_that_is_shorter_than_its_index_says_so_and_gets_a_new_identity(quick_path, by, is_repaired):
    """Also where it was cut between two records, and looks whole."""
    folder = quick_path / "log"
    identity = killed(folder, None)
    cut(folder, by)
    if is_repaired:
        assert tools.repair(folder, say=(said := []).append) == tools.FINE
    else:
        with Log(folder) as log:
            said = log.notes

    after, count = found(folder)

    assert (after != identity, count) == (True, 4 if by < SIZE else 0)
    assert any("new identity" in line for line in said)
    assert found(folder) == (after, count)


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_repair_gives_a_new_identity_when_the_end_is_lost(quick_path, is_closed, damage):
    folder = quick_path / "log"
    identity = killed(folder, None)
    if is_closed:
        found(folder)
    if damage == "cut":
        cut(folder, 3)
    else:
        data = bytearray((folder / "0.store").read_bytes())
        data[SIZE - 2] ^= 1
        (folder / "0.store").write_bytes(data)

    assert tools.repair(folder, say=(said := []).append) == tools.FINE

    after, count = found(folder)
    assert (after != identity, count) == (True, 4)
    assert "new identity" in "".join(said)


def test_repair_gives_a_new_identity_when_no_store_is_left(quick_path):
    folder = quick_path / "log"
    identity = killed(folder, None)
    (folder / "0.store").unlink()

    assert tools.repair(folder, say=lambda line: None) == tools.FINE

    after, count = found(folder)
    assert (after != identity, count) == (True, 0)


def test_repair_keeps_the_identity_when_only_the_middle_is_lost(quick_path):
    folder = quick_path / "log"
    identity = killed(folder, None)
    data = bytearray((folder / "0.store").read_bytes())
    data[2 * (HEAD_BYTES + len(VALUES[0])) + 30] ^= 1
    (folder / "0.store").write_bytes(data)

    assert tools.repair(folder, say=lambda line: None) == tools.FINE

    assert found(folder) == (identity, 5)


def test_truncate_back_gives_a_new_identity_and_truncate_does_not(quick_path):
    with Log(quick_path / "log", Config(segment_bytes=70)) as log:
        for value in VALUES:
            log.append(value)
        identity = log.identity
        log.truncate(2)
        log.reset()
        log.append(b"on")
        log.truncate_back(log.next_offset)
        assert log.identity == identity

        log.truncate_back(5)
        assert log.identity != identity


def test_a_start_writes_log_json_only_when_something_is_to_be_noted(quick_path, machine):
    """A queue starts as many logs as it has channels, and each writing waits for the disk."""
    folder = quick_path / "log"
    killed(folder, machine)
    before = (folder / "log.json").stat().st_ino
    found(folder, machine)

    assert (folder / "log.json").stat().st_ino == before
    machine.boot = "second boot"
    found(folder, machine)
    assert (folder / "log.json").stat().st_ino != before
