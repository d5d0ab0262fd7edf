"""Where channels are kept: what a power loss at any moment leaves, and what becomes of those who meet a clear."""

import itertools
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from memorydisk import MemoryDisk

from emporium.channel import Channel, Limits
from emporium.channels import Channels
from emporium.commitlog.errors import Closed, Damaged, InUse, NotStored, Unsure
from emporium.shelf import MemoryShelves, Shelves, folder_of

DRAWN, DRAWN_IN_FULL = 6, 60


class Folders(MemoryDisk):
    """A disk in memory with more than one folder. A folder that was made is there for sure; locks are real files."""

    def names(self, folder):
        inside = [path[len(folder) + 1 :] for path in self.now if path.startswith(folder + "/")]
        return sorted({path.partition("/")[0] for path in inside} - {"lock"})

    def make_folder(self, folder):
        os.makedirs(folder, exist_ok=True)

    def sync_folder(self, folder):
        self.operations.append(("sync_folder", folder))
        mine, others = [], []
        for change in self.changes:
            (mine if os.path.dirname(change[-1][0]) == folder else others).append(change)
        for change in mine:
            for path, contents in change:
                if contents is None:
                    self.synced.pop(path, None)
                else:
                    self.synced[path] = contents
        self.changes = others

    def remove_folder(self, folder):
        for path in [path for path in self.now if path.startswith(folder + "/")]:
            self.unlink(path)


def what_waits(shelves):
    """{channel: the values that its readers are not done with}."""
    found = {}
    for name, shelf in shelves.stored():
        channel = Channel(shelf)
        found[name] = channel.take(None, 256)[0]
        channel.log.close()
    return {name: values for name, values in found.items() if values}


def test_a_power_loss_at_any_moment_leaves_what_was_promised(tmp_path, chance, pytestconfig):
    drawn = DRAWN_IN_FULL if pytestconfig.getoption("--full") else DRAWN
    disk, folder = Folders(), str(tmp_path)
    moments = [(0, [{}])]  # (how many operations, what may wait when the power goes after so many)
    shelves = Shelves(folder, segment_bytes=150, disk=disk)
    state = {}

    def does(call, after):
        nonlocal state
        moments.append((len(disk.operations), [state, after]))
        call()
        moments.append((len(disk.operations), [after]))
        state = after

    a = b = None

    def make_a():
        nonlocal a
        a = Channel(shelves.make("a"))
        a.put([b"1", b"2"])

    def make_b():
        nonlocal b
        b = Channel(shelves.make("b"))
        b.put([b"3"])

    def done_with_one():
        a.get(1)
        a.save()

    def clear():
        a.end()
        b.end()
        shelves.clear()

    does(make_a, {"a": [b"1", b"2"]})
    does(make_b, {"a": [b"1", b"2"], "b": [b"3"]})
    does(done_with_one, {"a": [b"2"], "b": [b"3"]})
    does(lambda: a.put([b"4"] * 3), {"a": [b"2", *[b"4"] * 3], "b": [b"3"]})
    does(done_with_one, {"a": [b"4"] * 3, "b": [b"3"]})
    does(a.tend, state)
    does(clear, {})
    does(shelves.tend, {})
    does(make_a, {"a": [b"1", b"2"]})
    a.log.close()
    shelves.close()

    for count in range(len(disk.operations) + 1):
        allowed = [states for since, states in moments if since <= count][-1]
        for draw in range(drawn):
            before = Folders.replayed(disk.operations[:count])
            share = {0: 0, 1: 1}.get(draw, chance.random())
            left = Folders()
            left.now = left.synced = before.after_power_loss(lambda share=share: chance.random() < share).now
            again = Shelves(folder, segment_bytes=150, disk=left)
            found = what_waits(again)
            again.close()
            assert found in allowed, f"after {count} operations: {found}, and {allowed} are allowed"


# ---- names


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/", "~", "x" * 255, "茶" * 85, "\0", "%2E", " "])
def test_a_name_becomes_one_folder_and_no_path(name):
    folder = folder_of(name)

    assert "/" not in folder
    assert folder not in (".", "..")
    assert 0 < len(folder.encode()) < 255


def test_names_that_differ_have_folders_that_differ():
    long = "茶" * 84
    names = ["a", "A", "a.", "a%2E", "a%252E", ".", "%2E", "~", "%7E", long + "a", long + "b", "x" * 200, "x" * 201]

    assert len({folder_of(name) for name in names}) == len(names)


# ---- together


@pytest.fixture(params=["memory", "disk"])
def channels(request, tmp_path):
    made = Channels(MemoryShelves() if request.param == "memory" else Shelves(tmp_path, "never"), Limits())
    yield made
    made.close()


def test_what_is_put_while_others_clear_is_cleared_or_stays_and_is_counted_once(channels):
    """Each value is either among those that a clear has counted, or still there in the end."""
    put, cleared = itertools.count(), []
    is_over = threading.Event()

    def keep_putting(name):
        while not is_over.is_set():
            channels.put(name, [b"{}"])
            next(put)

    with ThreadPoolExecutor(4) as at_once:
        for name in ("a", "a", "b", "c"):
            at_once.submit(keep_putting, name)
        for _ in range(30):
            cleared.append(sum(channels.clear().values()))
        is_over.set()
    left = sum(channel.waiting for channel in channels.all().values())

    assert sum(cleared) + left == next(put)


@pytest.fixture
def filled(tmp_path):
    """A queue's folder with the channels a and b, of which b was made after a clear."""
    channels = Channels(Shelves(tmp_path, "never"), Limits())
    channels.put("gone", [b"0"])
    channels.clear()
    channels.put("a", [b"1"])
    channels.put("b", [b"1", b"2", b"3"])
    channels.find("b").get(1)
    channels.close()
    return tmp_path


def opened(folder):
    """{channel: how many wait}, of a queue that is opened and closed again."""
    channels = Channels(Shelves(folder, "never"), Limits())
    try:
        return {name: channel.waiting for name, channel in channels.all().items()}
    finally:
        channels.close()


def remove_name(folder):
    (folder / "channels-1" / "b" / "name").unlink()


def remove_log(folder):
    shutil.rmtree(folder / "channels-1" / "b" / "log")


def remove_epoch(folder):
    (folder / "epoch").unlink()


def take_back_epoch(folder):
    (folder / "epoch").write_bytes(b"f4dbdf21 0")


def copy_channel(folder):
    shutil.copytree(folder / "channels-1" / "b", folder / "channels-1" / "b-backup")


def swap_names(folder):
    a, b = (folder / "channels-1" / name / "name" for name in "ab")
    of_a, of_b = a.read_bytes(), b.read_bytes()
    a.write_bytes(of_b)
    b.write_bytes(of_a)


def swap_logs(folder):
    a, b, aside = folder / "channels-1" / "a" / "log", folder / "channels-1" / "b" / "log", folder / "aside"
    for old, new in ((a, aside), (b, a), (aside, b)):
        old.rename(new)


def copy_progress(folder):
    shutil.copy(folder / "channels-1" / "b" / "progress", folder / "channels-1" / "a" / "progress")


def records_in(folder):
    """{store: what it holds} of the channels that count."""
    return {path: path.read_bytes() for path in folder.glob("channels-1/*/log/*.store")}


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (remove_name, "b/name"),
        (remove_log, "b/log"),
        (remove_epoch, "epoch"),
        (take_back_epoch, "epoch"),
        (copy_channel, "b-backup/name"),
        (swap_names, "name"),
        (swap_logs, "b/progress"),
        (copy_progress, "a/progress"),
    ],
)
def test_what_is_missing_or_in_the_wrong_place_stops_the_start_and_nothing_is_deleted(filled, harm, named):
    harm(filled)
    before = records_in(filled)

    with pytest.raises(Damaged, match=f"{named} is damaged"):
        opened(filled)

    assert records_in(filled) == before


def test_what_others_have_put_beside_it_is_left_alone(filled):
    (filled / "channels-1" / ".DS_Store").write_text("")
    (filled / "2024" / "holiday").mkdir(parents=True)

    assert opened(filled) == {"a": 1, "b": 2}
    assert (filled / "2024" / "holiday").is_dir()


@pytest.mark.parametrize("left", [[], ["log"], ["log/0.store"]])
def test_a_channel_whose_making_was_cut_short_is_none(filled, left):
    folder = filled / "channels-1" / "half"
    folder.mkdir()
    for name in left:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("") if "." in name else (folder / name).mkdir()

    assert opened(filled) == {"a": 1, "b": 2}
    assert not folder.exists()


def test_a_clear_that_can_neither_go_on_nor_back_is_unsure_and_nothing_hangs(tmp_path, monkeypatch):
    shelves = Shelves(tmp_path, "never")
    channels = Channels(shelves, Limits())
    channels.put("a", [b"1"])
    (tmp_path / "epoch.tmp").mkdir()

    def fail():
        raise NotStored("full", is_full=True)

    monkeypatch.setattr(shelves, "stored", fail)

    with pytest.raises(Unsure):
        channels.clear()
    with pytest.raises(Closed):
        channels.put("a", [b"2"])
    channels.close()


def test_who_waits_gets_what_is_put_on_a_channel_that_is_made_or_cleared_meanwhile(channels):
    def get(name):
        return channels.serve(name, lambda channel, wait_s: channel.get(1, wait_s), wait_s=20)

    with ThreadPoolExecutor(2) as at_once:
        new = at_once.submit(get, "new")
        channels.put("old", [b"1"])
        channels.find("old").get(1)
        old = at_once.submit(get, "old")
        channels.clear()
        channels.put("old", [b"2"])
        channels.put("new", [b"3"])

        assert (old.result(10), new.result(10)) == ([b"2"], [b"3"])
    assert channels.serve("unknown", lambda channel, wait_s: channel.get(1, wait_s)) == []
    assert channels.find("unknown") is None


def test_what_a_clear_could_not_do_changes_nothing(tmp_path):
    shelves = Shelves(tmp_path, "never")
    channels = Channels(shelves, Limits())
    channels.put("a", [b"1", b"2"])
    life = channels.find("a").life
    (tmp_path / "epoch.tmp").mkdir()  # so that no new epoch can be written

    with pytest.raises(NotStored):
        channels.clear()

    assert (channels.find("a").life, channels.find("a").waiting) == (life, 2)
    (tmp_path / "epoch.tmp").rmdir()
    assert channels.clear() == {"a": 2}
    channels.close()


def test_once_closed_nothing_can_be_put(channels):
    channels.put("a", [b"1"])

    channels.close()

    for name in ("a", "b"):
        with pytest.raises(Closed):
            channels.put(name, [b"2"])


def test_an_end_that_is_cut_short_has_remembered_all_channels(tmp_path, monkeypatch):
    """With a thousand of them the closing takes long."""
    monkeypatch.setattr("emporium.channels.TEND_S", 1000)
    channels = Channels(Shelves(tmp_path / "q", "never"), Limits())
    for name in "abc":
        channels.put(name, [b"1", b"2"])
        channels.find(name).get(1)
    with monkeypatch.context() as cut_short:
        cut_short.setattr("emporium.commitlog.Log.close", cut)
        with pytest.raises(KeyboardInterrupt):
            channels.close()

    shutil.copytree(tmp_path / "q", tmp_path / "left")
    channels.close()

    assert opened(tmp_path / "left") == {"a": 1, "b": 1, "c": 1}


def cut(_log):
    raise KeyboardInterrupt


def test_only_one_process_has_the_folder(tmp_path):
    shelves = Shelves(tmp_path)

    with pytest.raises(InUse, match=str(os.getpid())):
        Shelves(tmp_path)

    shelves.close()
    Shelves(tmp_path).close()
