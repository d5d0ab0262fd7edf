"""Records of another log count for nothing, wherever they stand: inside of a value, or in files that were swapped."""

import shutil

import pytest

from emporium.commitlog import Config, Log, tools
from emporium.commitlog.errors import Damaged
from emporium.commitlog.record import HEAD_BYTES

OWN = [b"own 0", b"own 1", b"own 2"]


def log_of(folder, values, **settings):
    """A closed log that holds these values. Returns the whole of it, as its reader gives it."""
    with Log(folder, Config(**settings)) as log:
        for value in values:
            log.append(value)
        return log.reader().read()


@pytest.fixture
def exported(quick_path):
    """Twenty records of another log, as bytes."""
    return log_of(quick_path / "other", [b"foreign %d" % number for number in range(20)])


def kill(folder):
    (folder / "clean.json").unlink()


def left(folder):
    """{offset: value} of what can be read, and the next offset."""
    with Log(folder) as log:
        return {each.offset: each.value for each in log.read_many(log.lowest_offset, 1000)}, log.next_offset


def test_a_torn_record_that_holds_another_log_is_cut(quick_path, exported):
    """Its inner records have higher offsets than its own, and say that they were synced."""
    folder = quick_path / "log"
    log_of(folder, [*OWN, exported])
    kill(folder)
    with (folder / "0.store").open("r+b") as file:
        file.truncate((folder / "0.store").stat().st_size - 1)

    assert left(folder) == (dict(enumerate(OWN)), 3)


@pytest.mark.parametrize("is_log_json_lost", [False, True])
def test_repair_does_not_take_the_records_inside_of_a_damaged_one(quick_path, exported, is_log_json_lost):
    folder = quick_path / "log"
    log_of(folder, [*OWN, exported, b"after 4", b"after 5"])
    store = folder / "0.store"
    data = bytearray(store.read_bytes())
    data[3 * (HEAD_BYTES + len(OWN[0])) + 20] ^= 1
    store.write_bytes(data)
    if is_log_json_lost:
        (folder / "log.json").unlink()

    tools.verify(folder, say=(said := []).append)
    assert "the record of offset 4 follows" in "".join(said)
    assert tools.repair(folder, say=said.append) == tools.FINE

    assert left(folder) == ({**dict(enumerate(OWN)), 4: b"after 4", 5: b"after 5"}, 6)
    with Log(folder) as log:
        assert log.append(b"on") == 6
    assert tools.verify(folder, say=said.append) == tools.FINE


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("values", [[b"1"], [b"1", b"2", b"3"], [b"1", b"2", b"3", b"4"]])
def test_a_last_store_of_another_log_stops_the_start(quick_path, values, is_killed):
    """Whether it is shorter, as long or longer than what stood there."""
    mine, other = quick_path / "mine", quick_path / "other"
    log_of(mine, [b"a", b"b", b"c"])
    log_of(other, values)
    shutil.copy(other / "0.store", mine / "0.store")
    shutil.copy(other / "0.index", mine / "0.index")
    if is_killed:
        kill(mine)

    for _ in range(2):
        with pytest.raises(Damaged, match="another log") as caught:
            Log(mine)
        assert (caught.value.file, caught.value.position) == (str(mine / "0.store"), 0)
    assert (mine / "0.store").read_bytes() == (other / "0.store").read_bytes()
    assert tools.verify(mine, say=(said := []).append) == tools.DAMAGED
    assert "0.store at position 0, offset 0: the record of offset 0 that stands here belongs to another log" in said[0]


def test_a_sealed_store_of_another_log_stops_the_start(quick_path):
    for name in ("mine", "other"):
        log_of(quick_path / name, [name.encode() * 20, b"second"], segment_bytes=60)
    for name in ("0.store", "0.index"):
        shutil.copy(quick_path / "other" / name, quick_path / "mine" / name)

    with pytest.raises(Damaged, match="another log") as caught:
        Log(quick_path / "mine")
    assert caught.value.file == str(quick_path / "mine" / "0.store")


def test_a_store_of_another_log_is_not_read_although_it_came_in_behind_our_back(quick_path):
    for name in ("mine", "other"):
        log_of(quick_path / name, [name.encode() + b" %d" % number for number in range(10)])
    with Log(quick_path / "mine") as log:
        with (quick_path / "mine" / "0.store").open("r+b") as file:
            file.write((quick_path / "other" / "0.store").read_bytes())

        for read in (lambda: log.read(5), lambda: log.read_many(5, 5), lambda: log.reader().read()):
            with pytest.raises(Damaged):
                read()


def test_dump_stops_at_a_record_of_another_log(quick_path, capsys):
    log_of(quick_path / "mine", [b"a", b"b"])
    log_of(quick_path / "other", [b"c", b"d"])
    shutil.copy(quick_path / "other" / "0.store", quick_path / "mine" / "0.store")

    assert tools.dump(quick_path / "mine") == tools.DAMAGED
    assert "another log" in capsys.readouterr().out


def test_the_id_of_a_log_is_that_of_its_records_also_after_repair_wrote_log_json_anew(quick_path):
    folder = quick_path / "log"
    log_of(folder, OWN)
    before = (folder / "0.store").read_bytes()
    (folder / "log.json").unlink()

    assert tools.repair(folder, say=lambda line: None) == tools.FINE

    assert (folder / "0.store").read_bytes() == before
    assert left(folder) == (dict(enumerate(OWN)), 3)
