"""Files that are not what they were: cut or flipped at every byte, followed by garbage, missing, stray, swapped.

The rule: a log never gives wrong data, and is never shortened without a word. Either all records are there, or only a
torn tail is gone and it was said, or the start or the read stops with the file and the position.
"""

import json
import shutil
from functools import partial

import pytest

from emporium.commitlog import Config, Log, tools
from emporium.commitlog.errors import Damaged
from emporium.commitlog.record import HEAD_BYTES

CONFIG = Config(segment_bytes=220)
VALUES = [f"value {number}".encode() * (1 + number % 2) for number in range(10)]


def opened(folder):
    return Log(folder, CONFIG)


def values(log):
    return [record.value for record in log.read_many(log.lowest_offset, 10**6)]


@pytest.fixture
def crashed(quick_path):
    """Ten records in several segments, as a kill leaves them."""
    folder = quick_path / "crashed"
    with opened(folder) as log:
        for value in VALUES:
            log.append(value)
    (folder / "clean.json").unlink()
    return folder


@pytest.fixture
def closed(crashed):
    """The same after a close."""
    opened(crashed).close()
    return crashed


@pytest.fixture
def copy(quick_path):
    """Makes a fresh copy of a folder each time."""

    def make(folder):
        shutil.rmtree(quick_path / "copy", ignore_errors=True)
        return shutil.copytree(folder, quick_path / "copy")

    return make


def bases(folder):
    return sorted(int(path.stem) for path in folder.glob("*.store"))


def last_store(folder):
    return folder / f"{bases(folder)[-1]}.store"


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def starts_with_a_prefix(folder):
    """How many records are left: the first ones, with which the log goes on as ever, also after another start."""
    with opened(folder) as log:
        found, notes = values(log), log.notes
        assert found == VALUES[: len(found)]
        assert (log.lowest_offset, log.next_offset) == (0, len(found))
        assert len(found) == len(VALUES) or notes
        assert log.append(b"on") == len(found)
    with opened(folder) as log:
        assert (values(log), log.notes) == ([*found, b"on"], ())
    return len(found)


# ---- cut at every byte


@pytest.mark.parametrize("state", ["crashed", "closed"])
def test_a_last_store_cut_at_any_byte_leaves_the_records_before(request, copy, state):
    folder = request.getfixturevalue(state)
    first, size = bases(folder)[-1], last_store(folder).stat().st_size
    ends, end = [], 0
    for value in VALUES[first:]:
        end += HEAD_BYTES + len(value)
        ends.append(end)
    assert size == end

    for kept_bytes in range(size):
        cut = copy(folder)
        with last_store(cut).open("r+b") as file:
            file.truncate(kept_bytes)

        assert starts_with_a_prefix(cut) == first + sum(end <= kept_bytes for end in ends)


def test_a_sealed_store_cut_at_any_byte_stops_the_start(crashed, copy):
    store = crashed / "0.store"
    for kept_bytes in range(store.stat().st_size):
        cut = copy(crashed)
        with (cut / "0.store").open("r+b") as file:
            file.truncate(kept_bytes)

        with pytest.raises(Damaged) as caught:
            opened(cut)

        assert caught.value.file == str(cut / "0.store")
        assert caught.value.position <= kept_bytes


@pytest.mark.parametrize("state", ["crashed", "closed"])
@pytest.mark.parametrize("which", [0, -1])
def test_an_index_cut_at_any_byte_costs_nothing(request, copy, state, which):
    folder = request.getfixturevalue(state)
    name = f"{bases(folder)[which]}.index"
    for kept_bytes in range((folder / name).stat().st_size):
        cut = copy(folder)
        with (cut / name).open("r+b") as file:
            file.truncate(kept_bytes)

        assert starts_with_a_prefix(cut) == len(VALUES)


# ---- flipped at every byte


def test_a_flip_in_the_last_store_is_a_torn_tail_only_in_the_last_record(crashed, copy):
    first, size = bases(crashed)[-1], last_store(crashed).stat().st_size
    last_at = size - HEAD_BYTES - len(VALUES[-1])
    assert last_at > 0
    for position in range(size):
        flipped = copy(crashed)
        flip(last_store(flipped), position, position % 8)

        if position >= last_at:
            assert starts_with_a_prefix(flipped) == len(VALUES) - 1
            continue
        before = last_store(flipped).read_bytes()
        with pytest.raises(Damaged) as caught:
            opened(flipped)
        assert caught.value.file == str(last_store(flipped))
        assert caught.value.position <= position < caught.value.position + HEAD_BYTES + max(map(len, VALUES))
        assert last_store(flipped).read_bytes() == before
    assert first > 0


def damaged(call):
    """(what the call gave, None) or (None, the Damaged that it raised)."""
    try:
        return call(), None
    except Damaged as error:
        return None, error


@pytest.mark.parametrize("state", ["crashed", "closed"])
def test_a_flip_that_the_start_does_not_see_is_seen_by_the_read(request, copy, state):
    folder = request.getfixturevalue(state)
    names = [f"{base}.store" for base in bases(folder)]
    for name in names if state == "closed" else names[:-1]:
        for position in range((folder / name).stat().st_size):
            flipped = copy(folder)
            flip(flipped / name, position, position % 8)
            log, error = damaged(lambda flipped=flipped: opened(flipped))
            if error:
                assert error.file == str(flipped / name)
                continue
            with log:
                assert log.next_offset == len(VALUES)
                reads = [damaged(partial(log.read, offset)) for offset in range(len(VALUES))]
                for value, (record, error) in zip(VALUES, reads, strict=True):
                    assert error.file == str(flipped / name) if error else record.value == value
                assert sum(error is not None for _record, error in reads) == 1


@pytest.mark.parametrize("state", ["crashed", "closed"])
def test_a_flip_in_an_index_costs_nothing(request, copy, state):
    folder = request.getfixturevalue(state)
    for base in bases(folder):
        for position in range((folder / f"{base}.index").stat().st_size):
            flipped = copy(folder)
            flip(flipped / f"{base}.index", position, position % 8)

            assert starts_with_a_prefix(flipped) == len(VALUES)


def test_a_flip_in_the_marker_costs_nothing(closed, copy):
    for position in range((closed / "clean.json").stat().st_size):
        flipped = copy(closed)
        flip(flipped / "clean.json", position, position % 8)

        with opened(flipped) as log:
            assert values(log) == VALUES


def test_a_flip_in_the_note_of_the_log_stops_the_start_and_nothing_is_thrown_away(closed):
    """A wrong start would be a truncation."""
    size = (closed / "log.json").stat().st_size
    for bit in range((size - 1) * 8):  # behind the last bracket there is only white space
        flip(closed / "log.json", bit // 8, bit % 8)
        with pytest.raises(Damaged) as caught:
            opened(closed).close()
        flip(closed / "log.json", bit // 8, bit % 8)

        assert caught.value.file == str(closed / "log.json")
    assert starts_with_a_prefix(closed) == len(VALUES)


# ---- something behind the end


@pytest.mark.parametrize("state", ["crashed", "closed"])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 12, 51, 52, 53, 511, 512, 4095, 4096])
@pytest.mark.parametrize("what", ["zeros", "ones", "chance", "half"])
def test_garbage_behind_the_end_is_cut_and_said(request, chance, state, size, what):
    folder = request.getfixturevalue(state)
    store = last_store(folder)
    garbage = {
        "zeros": bytes(size),
        "ones": b"\xff" * size,
        "chance": chance.randbytes(size),
        "half": (store.read_bytes() * 100)[:size],  # records of before: their offsets are wrong here
    }[what]
    with store.open("ab") as file:
        file.write(garbage)

    with opened(folder) as log:
        assert any(f": cut {size} bytes at position" in note for note in log.notes)
    assert starts_with_a_prefix_of_all(folder)


def starts_with_a_prefix_of_all(folder):
    with opened(folder) as log:
        return values(log) == VALUES and log.notes == ()


def test_an_append_of_many_that_is_not_whole_is_cut_whole(quick_path, copy):
    folder = quick_path / "log"
    with Log(folder) as log:
        log.append(b"before")
        size = log.size
        log.append_many([b"a", b"b", b"c"])
        whole = log.size
    (folder / "clean.json").unlink()
    for kept_bytes in range(size, whole):
        cut = copy(folder)
        with (cut / "0.store").open("r+b") as file:
            file.truncate(kept_bytes)
        with Log(cut) as log:
            assert values(log) == [b"before"]
            assert any(f": cut {kept_bytes - size} bytes" in note for note in log.notes) == (kept_bytes > size)


def test_room_that_was_set_aside_is_no_damage(quick_path, copy):
    """A log that was killed has zeros behind its last record; verify, dump and the start know what they are."""
    folder, killed = quick_path / "log", quick_path / "killed"
    with Log(folder) as log:
        log.append_many([b"a", b"b\0\0"])
        shutil.copytree(folder, killed)
    room = (killed / "0.store").stat().st_size - log.size
    said = []

    assert tools.verify(str(killed), said.append) == tools.FINE
    assert any(f"{room} bytes are set aside" in line for line in said)
    assert tools.dump(str(killed), say=said.append) == tools.FINE
    assert "text b" in said[-1] or "base64" in said[-1]
    assert tools.repair(str(copy(killed)), say=said.append) == tools.FINE
    with Log(killed) as log:
        assert values(log) == [b"a", b"b\0\0"]
        assert any(f": cut {room} bytes" in note and "torn" not in note for note in log.notes)
    assert (killed / "0.store").stat().st_size == log.size


@pytest.mark.parametrize("what", ["last", "sealed"])
def test_zeros_in_the_place_of_records_that_are_known_to_be_there_are_damage(quick_path, what):
    folder = quick_path / "log"
    with Log(folder, Config(segment_bytes=100 if what == "sealed" else 1000)) as log:
        for value in (b"a" * 100, b"b"):
            log.append(value)
    store = folder / "0.store"
    size = store.stat().st_size
    kept = 0 if what == "sealed" else size - HEAD_BYTES - 1
    store.write_bytes(store.read_bytes()[:kept] + bytes(size - kept))

    with pytest.raises(Damaged, match="zeros"):
        Log(folder)


def test_damage_to_the_middle_of_the_last_segment_is_never_a_torn_tail(crashed):
    """JetStream lost acknowledged records behind one flipped bit, without a word."""
    flip(last_store(crashed), 20)

    for _ in range(2):
        with pytest.raises(Damaged, match=r"position 0.*says that it was synced"):
            opened(crashed)


@pytest.mark.parametrize("chunk_bytes", range(HEAD_BYTES, 2 * HEAD_BYTES + 20))
def test_the_proof_of_damage_is_found_wherever_it_stands(quick_path, monkeypatch, chunk_bytes):
    """Large stores are read in chunks, and a record may begin at the end of one."""
    monkeypatch.setattr("emporium.commitlog.scan.CHUNK_BYTES", chunk_bytes)
    with Log(quick_path) as log:
        log.append(b"first")
        log.append(b"second")
    (quick_path / "clean.json").unlink()
    flip(quick_path / "0.store", 30)

    with pytest.raises(Damaged, match="synced"):
        Log(quick_path)


def test_a_record_that_holds_records_is_no_damage_when_it_is_torn(quick_path):
    """Its value has the bytes of good records, but none of them says that something here was synced."""
    with Log(quick_path / "a") as log:
        log.append_many([b"x"] * 3)
        inner = log.reader().read()
    with Log(quick_path / "b") as log:
        log.append(b"before")
        log.append(inner)
    (quick_path / "b" / "clean.json").unlink()
    with (quick_path / "b" / "0.store").open("r+b") as file:
        file.truncate(HEAD_BYTES + len(b"before") + HEAD_BYTES + len(inner) - 1)

    with Log(quick_path / "b") as log:
        assert values(log) == [b"before"]


# ---- files that are missing, alone, or at the wrong place


def test_indexes_can_all_be_lost(crashed):
    for path in crashed.glob("*.index"):
        path.unlink()

    assert starts_with_a_prefix(crashed) == len(VALUES)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_missing_store_stops_the_start(closed, which):
    base = bases(closed)[which]
    (closed / f"{base}.store").unlink()

    with pytest.raises(Damaged, match="missing") as caught:
        opened(closed)

    assert caught.value.file == str(closed / f"{base}.store")


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_segment_stops_the_start_and_both_neighbours_are_named(closed, which):
    base, following = bases(closed)[which : which + 2]
    (closed / f"{base}.store").unlink()
    (closed / f"{base}.index").unlink()

    with pytest.raises(Damaged) as caught:
        opened(closed)

    if which:
        assert str(closed / f"{following}.store") in str(caught.value)
        assert caught.value.file == str(closed / f"{bases(closed)[0]}.store")


@pytest.mark.parametrize("state", ["crashed", "closed"])
@pytest.mark.parametrize("kinds", [("store",), ("store", "index")])
def test_a_missing_last_segment_stops_the_start(request, state, kinds):
    """Nothing in the other segments tells of it: log.json does."""
    folder = request.getfixturevalue(state)
    store = last_store(folder)
    with opened(folder) as log:
        identity = log.identity
    if state == "crashed":
        (folder / "clean.json").unlink()
    for kind in kinds:
        store.with_suffix(f".{kind}").unlink()

    for _ in range(2):
        with pytest.raises(Damaged, match="missing") as caught:
            opened(folder)
        assert caught.value.file == str(store)
    assert tools.verify(folder, say=(said := []).append) == tools.DAMAGED
    assert f"{store} is missing" in said[0]

    assert tools.repair(folder, say=said.append) == tools.FINE

    with opened(folder) as log:
        assert values(log) == VALUES[: int(store.stem)]
        assert log.identity != identity


def test_defect_4_a_lone_empty_index_of_a_crash_is_removed(crashed):
    (crashed / "10.index").touch()

    with opened(crashed) as log:
        assert values(log) == VALUES
        assert any("10.index" in note for note in log.notes)
        assert not (crashed / "10.index").exists()


def test_defect_4_a_lone_empty_store_of_a_crash_is_taken_into_use(crashed):
    (crashed / "10.store").touch()

    assert starts_with_a_prefix(crashed) == len(VALUES)


def test_an_empty_store_that_does_not_follow_stops_the_start(crashed):
    (crashed / "11.store").touch()

    with pytest.raises(Damaged, match="ends before offset 10"):
        opened(crashed)


@pytest.mark.parametrize("state", ["crashed", "closed"])
@pytest.mark.parametrize(("kind", "is_cache"), [("store", False), ("index", True)])
def test_swapped_files_give_no_wrong_data(request, state, kind, is_cache):
    folder = request.getfixturevalue(state)
    first, second = (folder / f"{base}.{kind}" for base in bases(folder)[:2])
    first.rename(folder / "third")
    second.rename(first)
    (folder / "third").rename(second)

    if is_cache:
        assert starts_with_a_prefix(folder) == len(VALUES)
    else:
        with pytest.raises(Damaged, match="stands where that of 0 should"):
            opened(folder)


def test_an_index_of_before_is_made_anew(quick_path):
    with Log(quick_path) as log:
        log.append(b"0")
        log.append(b"1")
    aged = (quick_path / "0.index").read_bytes()
    with Log(quick_path) as log:
        log.truncate_back(0)
        for _ in range(4):
            log.append(b"other, and longer")
    (quick_path / "0.index").write_bytes(aged)

    with Log(quick_path) as log:
        assert values(log) == [b"other, and longer"] * 4


def test_an_index_that_is_wrong_inside_is_made_anew_by_the_read(closed):
    base = bases(closed)[0]
    path = closed / f"{base}.index"
    good = path.read_bytes()
    path.write_bytes(good[:12] + bytes(12) + good[24:] if len(good) > 24 else good)

    assert starts_with_a_prefix(closed) == len(VALUES)
    assert path.read_bytes() == good


def test_a_truncation_from_the_back_does_not_trust_a_wrong_index(quick_path):
    with Log(quick_path) as log:
        for value in VALUES:
            log.append(value)
        good = (quick_path / "0.index").read_bytes()
        (quick_path / "0.index").write_bytes(good[:60] + bytes(12) + good[72:])

        log.truncate_back(5)

        assert (values(log), log.append(b"on")) == (VALUES[:5], 5)


def test_without_its_note_a_log_with_records_does_not_start_as_a_new_one(crashed):
    (crashed / "log.json").unlink()

    with pytest.raises(Damaged, match=r"log\.json"):
        opened(crashed)


@pytest.mark.parametrize("left", ["*.index", "clean.json"])
def test_without_its_note_and_its_stores_a_log_does_not_start_as_a_new_one(closed, left):
    kept = {path.name for path in closed.glob(left)}
    for path in closed.iterdir():
        if path.name not in kept:
            path.unlink()

    for _ in range(2):
        with pytest.raises(Damaged, match=r"log\.json is damaged at position 0: it is missing"):
            opened(closed)
    assert {path.name for path in closed.iterdir()} == kept | {"lock"}
    assert tools.repair(closed, say=lambda line: None) == tools.FINE
    with opened(closed) as log:
        assert (log.count, log.append(b"on")) == (0, 0)


def test_a_log_of_a_newer_format_is_left_alone(crashed):
    note = json.loads((crashed / "log.json").read_text())
    (crashed / "log.json").write_text(json.dumps(note | {"format": 2}))

    with pytest.raises(Damaged, match="format 2"):
        opened(crashed)


def test_what_a_crash_left_half_written_is_removed(crashed):
    for name in ("log.json.tmp", "clean.json.tmp", "0.store.tmp"):
        (crashed / name).write_text("half")

    assert starts_with_a_prefix(crashed) == len(VALUES)
    assert list(crashed.glob("*.tmp")) == []


def test_a_marker_that_lies_is_not_believed(closed):
    note = json.loads((closed / "clean.json").read_text())
    for lie in ({"next": 9}, {"next": 11}, {"store_bytes": 1}, {"next": "10"}, {"more": 1}):
        (closed / "clean.json").write_text(json.dumps(note | lie))
        with opened(closed) as log:
            assert values(log) == VALUES


def test_a_marker_is_gone_before_anything_is_written(closed):
    """One that stays would speak of a store that has changed since."""
    with opened(closed):
        assert not (closed / "clean.json").exists()


def test_a_clean_start_reads_no_whole_segment(closed, monkeypatch):
    monkeypatch.setattr("emporium.commitlog.segment.scan", None)

    with opened(closed) as log:
        assert log.next_offset == len(VALUES)
