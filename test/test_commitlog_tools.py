"""./tea log verify, repair and dump: what they find, what they save, and what they leave alone."""

import shutil
import subprocess
import sys

import pytest

from emporium import command
from emporium.commitlog import Config, Log
from emporium.commitlog.errors import Damaged
from emporium.commitlog.record import HEAD_BYTES
from emporium.environment import ROOT

CONFIG = Config(segment_bytes=220)
VALUES = [f"value {number}".encode() for number in range(10)]
FRAME_BYTES = HEAD_BYTES + len(VALUES[0])
A_SEGMENT = 4


@pytest.fixture
def folder(quick_path):
    """Three segments: 0 to 3, 4 to 7, 8 and 9."""
    with Log(quick_path / "log", CONFIG) as log:
        for value in VALUES:
            log.append(value)
    assert sorted(int(path.stem) for path in (quick_path / "log").glob("*.store")) == [0, 4, 8]
    return quick_path / "log"


@pytest.fixture
def tea(capsys):
    """Runs ./tea log; returns (exit code, its lines)."""

    def run(*words):
        code = command.main(["log", *map(str, words)])
        said = capsys.readouterr()
        return code, (said.out + said.err).splitlines()

    return run


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left(folder):
    """{offset: value} of what can be read."""
    with Log(folder, CONFIG) as log:
        return {record.offset: record.value for record in log.read_many(log.lowest_offset, 1000)}


def without(*offsets):
    return {offset: value for offset, value in enumerate(VALUES) if offset not in offsets}


# ---- verify


def test_a_whole_log_is_fine(folder, tea):
    before = contents(folder)

    assert tea("verify", folder) == (0, [f"{folder}: fine"])
    assert contents(folder) == before


def test_every_flipped_byte_of_every_store_and_index_is_found_with_file_and_position(folder, tea):
    before = contents(folder)
    for path in [*folder.glob("*.store"), *folder.glob("*.index")]:
        unit = FRAME_BYTES if path.suffix == ".store" else 1
        for position in range(0, path.stat().st_size, 5):
            flip(path, position)
            code, lines = tea("verify", folder)
            flip(path, position)

            assert code == 1
            assert f"{path} at position {position // unit * unit}" in lines[0]
            assert len(lines) == 2
    assert contents(folder) == before


@pytest.mark.parametrize("marker", [True, False])
def test_a_torn_tail_is_named(folder, tea, marker):
    if not marker:
        (folder / "clean.json").unlink()
    with (folder / "8.store").open("ab") as file:
        file.write(b"torn")

    code, lines = tea("verify", folder)

    assert code == 1
    assert f"8.store at position {2 * FRAME_BYTES}, offset 10" in lines[0]


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (["0.store"], "0.store is missing"),
        (["0.store", "0.index"], "0.store is missing"),
        (["4.store"], "4.store is missing"),
        (["4.store", "4.index"], "8.store at position 0: it begins with offset 8, and 4 was to follow"),
        (["4.index"], "4.index is missing"),
        (["8.store", "8.index"], "closed before offset 10, and ends before 8"),
        (["log.json"], "log.json is missing"),
    ],
)
def test_what_is_missing_is_named(folder, tea, gone, named):
    for name in gone:
        (folder / name).unlink()

    code, lines = tea("verify", folder)

    assert code == 1
    assert any(named in line for line in lines), lines


@pytest.mark.parametrize("what", ["verify", "repair", "dump"])
def test_a_folder_in_use_and_what_is_no_log_are_refused(folder, tea, quick_path, what):
    with Log(folder, CONFIG):
        before = contents(folder)
        code, lines = tea(what, folder)
        assert (code, "in use by the process" in lines[0]) == (2, True)
        assert contents(folder) == before
    for other in (quick_path, quick_path / "nothing"):
        code, lines = tea(what, other)
        assert (code, "no folder of a log" in lines[0]) == (2, True)
    assert [path.name for path in quick_path.iterdir()] == ["log"]


def test_verify_and_dump_know_a_truncated_append_and_what_a_truncation_left(folder, tea):
    kept = contents(folder)
    with Log(folder, CONFIG) as log:
        log.truncate(4)
        log.append_many([b"a", b"b"])
        log.truncate_back(11)
    (folder / "0.store").write_bytes(kept["0.store"])  # as a crash leaves it

    assert tea("verify", folder)[0] == 0
    assert [line.split()[0] for line in tea("dump", folder)[1]] == [str(offset) for offset in range(4, 11)]


# ---- dump


def test_a_dump_has_one_line_a_record(folder, tea):
    with Log(folder, CONFIG) as log:
        log.append_many([b"\0\xff", "thé ☕".encode(), b"two\nlines", b""])

    code, lines = tea("dump", folder, "--offset", 8)

    assert code == 0
    words = [line.split(" ", 2) for line in lines]
    assert [word[0] for word in words] == ["8", "9", "10", "11", "12", "13"]
    assert all(word[1].startswith("20") and word[1].endswith("Z") for word in words)
    assert [word[2] for word in words] == [
        "7 text value 8",
        "7 text value 9",
        "2 base64 AP8=",
        "9 text thé ☕".replace("9", str(len("thé ☕".encode()))),
        "9 base64 dHdvCmxpbmVz",
        "0 text ",
    ]


@pytest.mark.parametrize(
    ("words", "offsets"),
    [
        ([], range(10)),
        (["--offset", 7], [7, 8, 9]),
        (["--max", 2], [0, 1]),
        (["--offset", 3, "--max", 2], [3, 4]),
        (["--max", 0], []),
        (["--offset", 10], []),
    ],
)
def test_a_dump_has_what_was_asked_for(folder, tea, words, offsets):
    before = contents(folder)

    code, lines = tea("dump", folder, *words)

    assert (code, [int(line.split()[0]) for line in lines]) == (0, list(offsets))
    assert contents(folder) == before


def test_a_dump_stops_at_damage_and_names_it(folder, tea):
    flip(folder / "4.store", FRAME_BYTES + 3)

    code, lines = tea("dump", folder)

    assert (code, len(lines)) == (1, 6)
    assert f"4.store at position {FRAME_BYTES}, offset 5" in lines[-1]


# ---- repair


@pytest.mark.parametrize("offset", range(10))
def test_repair_loses_a_damaged_record_alone_and_keeps_the_file(folder, tea, offset):
    base = offset // A_SEGMENT * A_SEGMENT
    store = folder / f"{base}.store"
    flip(store, (offset - base) * FRAME_BYTES + HEAD_BYTES)
    damaged = store.read_bytes()

    code, lines = tea("repair", folder)

    assert code == 0
    assert (folder / f"{base}.store.damaged").read_bytes() == damaged
    assert any(f"position {(offset - base) * FRAME_BYTES}" in line and "lost" in line for line in lines)
    assert left(folder) == without(offset)
    assert tea("verify", folder)[0] == 0
    with Log(folder, CONFIG) as log:
        if offset < 9:
            assert log.next_offset == 10
            with pytest.raises(Damaged, match="lost"):
                log.read(offset)
            assert "lost" in "".join(tea_lines(log, folder, offset))
        assert log.append(b"on") == (10 if offset < 9 else 9)


def tea_lines(log, folder, offset):
    """The dump of that record while the log is in use: of a copy."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    done = subprocess.run(
        [sys.executable, "-c", f"from emporium.commitlog.tools import dump; dump({str(copy)!r}, {offset}, 1)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("position", range(0, 3 * FRAME_BYTES, 7))
def test_repair_after_any_flip_loses_one_record(folder, tea, position):
    flip(folder / "4.store", position)

    assert tea("repair", folder)[0] == 0
    assert left(folder) == without(4 + position // FRAME_BYTES)


def test_repair_of_two_neighbours_and_of_a_torn_tail(folder, tea):
    for position in (FRAME_BYTES, 2 * FRAME_BYTES):
        flip(folder / "0.store", position)
    with (folder / "8.store").open("ab") as file:
        file.write(b"torn")

    code, lines = tea("repair", folder)

    assert code == 0
    assert left(folder) == without(1, 2)
    assert any("offsets 1 to 2 are lost" in line for line in lines)
    assert (folder / "8.store.damaged").read_bytes().endswith(b"torn")


@pytest.mark.parametrize(
    ("gone", "lost"),
    [
        (["0.store"], range(4)),
        (["0.store", "0.index"], range(4)),
        (["4.store"], range(4, 8)),
        (["4.store", "4.index"], range(4, 8)),
        (["8.store"], range(8, 10)),
        (["8.store", "8.index"], range(8, 10)),
        (["4.index", "8.index"], []),
        (["log.json"], []),
        (["0.store", "4.store", "8.store"], range(10)),
    ],
)
def test_repair_of_missing_files_keeps_all_others_at_their_offsets(folder, tea, gone, lost):
    for name in gone:
        (folder / name).unlink()

    code, lines = tea("repair", folder)

    assert code == 0, lines
    assert left(folder) == without(*lost)
    assert tea("verify", folder)[0] == 0


@pytest.fixture
def with_many(folder):
    """The last segment holds 8 and 9, and 10, 11 and 12, which were appended together."""
    with Log(folder, Config()) as log:
        log.append_many([b"ten", b"eleven", b"twelve"])
    return folder


POSITIONS = {10: 2 * FRAME_BYTES, 11: 2 * FRAME_BYTES + HEAD_BYTES + 3, 12: 2 * FRAME_BYTES + 2 * HEAD_BYTES + 9}


@pytest.mark.parametrize(
    ("bad", "kept"),
    [([12], [10, 11]), ([11, 12], [10]), ([10, 11, 12], []), ([10, 12], [11]), ([11], [10, 12]), ([10], [11, 12])],
)
def test_repair_keeps_what_can_be_read_of_the_last_append_of_a_log_that_was_closed(with_many, tea, bad, kept):
    for offset in bad:
        flip(with_many / "8.store", POSITIONS[offset])

    code, lines = tea("repair", with_many)

    assert code == 0
    stays = f"up to offset {kept[-1]}, stays" if kept and kept[-1] < 12 else None
    assert [stays] * bool(stays) == [line[-len(stays) :] for line in lines if "not whole" in line]
    for _start in range(2):
        assert sorted(left(with_many)) == [*range(10), *kept]
        assert tea("verify", with_many)[0] == 0
        (with_many / "clean.json").unlink()  # as after a kill: the start reads the whole store
    with Log(with_many, CONFIG) as log:
        assert log.append(b"on") == max([9, *kept]) + 1


@pytest.mark.parametrize("size", [POSITIONS[12], POSITIONS[12] + 5, POSITIONS[11]])
def test_repair_of_a_closed_log_that_was_cut_keeps_what_is_left_of_the_last_append(with_many, tea, size):
    with (with_many / "8.store").open("r+b") as file:
        file.truncate(size)

    assert tea("repair", with_many)[0] == 0
    assert sorted(left(with_many)) == [*range(10), *([10, 11] if size >= POSITIONS[12] else [10])]


def test_repair_keeps_a_truncated_append_when_log_json_is_lost(with_many, tea):
    with Log(with_many, CONFIG) as log:
        log.truncate_back(12)
    (with_many / "log.json").unlink()

    assert tea("repair", with_many)[0] == 0
    assert sorted(left(with_many)) == list(range(12))


def test_repair_of_a_log_that_was_killed_keeps_the_last_append_whole_or_not_at_all(with_many, tea):
    (with_many / "clean.json").unlink()
    flip(with_many / "8.store", POSITIONS[12])
    flip(with_many / "0.store", 0)

    assert tea("repair", with_many)[0] == 0
    assert sorted(left(with_many)) == list(range(1, 10))


def test_repair_of_a_sealed_store_that_was_cut(folder, tea):
    with (folder / "4.store").open("r+b") as file:
        file.truncate(2 * FRAME_BYTES + 5)

    assert tea("repair", folder)[0] == 0
    assert left(folder) == without(6, 7)


def test_repair_of_a_whole_log_changes_nothing_and_a_second_repair_keeps_the_first_copy(folder, tea):
    stores = {name: data for name, data in contents(folder).items() if name.endswith("store")}
    assert tea("repair", folder)[0] == 0
    assert {name: data for name, data in contents(folder).items() if name.endswith("store")} == stores
    assert list(folder.glob("*.damaged*")) == []

    for position in (0, FRAME_BYTES):
        flip(folder / "4.store", position)
        tea("repair", folder)

    assert (folder / "4.store.damaged").read_bytes() != (folder / "4.store.damaged-2").read_bytes()
    assert left(folder) == without(4, 5)


def test_the_command_is_there_in_a_shell(folder):
    flip(folder / "4.store", 20)

    done = subprocess.run(
        [ROOT / "tea", "log", "verify", folder], capture_output=True, text=True, check=False, timeout=120
    )

    assert (done.returncode, done.stderr) == (1, "")
    assert "4.store at position 0, offset 4" in done.stdout
