"""Backup and restore: the file, what is taken from the shards, and what is given back to them."""

import gzip
import json
import os
import random
import re
import signal

import pytest
import redis
from asking import ask
from harness import eventually
from rawclient import served
from teacommand import Up, tea

from emporium import backup, backupfile, wire
from emporium.backup import Failed
from emporium.backupfile import BackupRefused
from emporium.failures import NoAnswer, NotReached
from emporium.peers import Answer
from emporium.siblings import UNRATED, Sibling, merge
from emporium.wire import Record
from serverLB import primary_of
from vectorclock import VectorClock

MADE = "2026-01-02T03:04:05+00:00"


def value_of(*siblings):
    """A Value of (rating, clock) pairs."""
    return merge(UNRATED, [Sibling(rating, VectorClock.fromDict(clock)) for rating, clock in siblings])


ASSAM = value_of((3, {"c0": 1}))
NEWER_ASSAM = value_of((4, {"c0": 2}))
DELETED = value_of((None, {"c0": 2}))
CHAI = value_of((1, {"c0": 1}), (2.5, {"c1": 1}))


# ---- the file


def written(path, *records):
    backupfile.write(path, 4, MADE, list(records))
    return path


SOME = [Record("db1", "assam", ASSAM), Record("db0", "chai", CHAI), Record("db2", "thé vert", DELETED)]


@pytest.mark.parametrize("name", ["teas.jsonl", "teas.jsonl.gz"])
def test_what_is_written_is_read_again(name, tmp_path):
    path = written(tmp_path / name, *SOME)

    header, values = backupfile.read(path)

    assert (header.ndb, header.made, header.teas) == (4, MADE, 3)
    assert values == [("assam", ASSAM), ("chai", CHAI), ("thé vert", DELETED)]
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_the_file_is_json_a_line_for_other_programs(tmp_path):
    packed, plain = written(tmp_path / "teas.gz", *SOME), written(tmp_path / "teas", *SOME)

    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    first, assam, _chai, deleted, last = map(json.loads, plain.read_text().splitlines())
    assert first == {"format": 1, "ndb": 4, "made": MADE, "teas": 3}
    assert assam == {"primary": "db1", "key": "assam", "rating": 3, "choices": [3], "clocks": [{"c0": 1}]}
    assert (deleted["choices"], deleted["clocks"]) == ([None], [{"c0": 2}])
    assert last["teas"] == 3


def test_a_backup_of_nothing_is_a_backup(tmp_path):
    assert backupfile.read(written(tmp_path / "teas")).values == []


@pytest.mark.parametrize("name", ["teas", "teas.gz"])
def test_a_file_that_was_cut_anywhere_is_refused(name, tmp_path):
    whole = written(tmp_path / name, *SOME).read_bytes()
    if name == "teas":
        whole = whole[:-1]  # without the end of its last line it is whole all the same

    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(BackupRefused, match=r"line \d"):
            backupfile.read(tmp_path / name)


def test_a_file_in_which_any_bit_is_another_is_refused(tmp_path):
    whole = written(tmp_path / "teas", *SOME).read_bytes()

    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << random.randrange(8)
        (tmp_path / "teas").write_bytes(changed)
        with pytest.raises(BackupRefused):
            backupfile.read(tmp_path / "teas")


@pytest.mark.parametrize(
    ("line", "words", "complaint"),
    [
        (1, '{"format": 2, "ndb": 4, "made": "", "teas": 3}', "format"),
        (1, '{"rating": 3}', "no backup of ./tea backup"),
        (2, '{"key": "assam", "choices": [3], "clocks": []}', "one clock for each choice"),
        (2, '{"key": "a/b", "choices": [3], "clocks": [{"c0": 1}]}', "key must name a tea"),
        (3, '{"key": "chai", "choices": ["good"], "clocks": [{"c0": 1}]}', "choices"),
        (4, "beep", "not valid JSON"),
        (5, '{"key": "chai", "choices": [3], "clocks": [{"c0": 1}]}', "the file was cut, or more was added"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(line, words, complaint, tmp_path):
    path = written(tmp_path / "teas", *SOME)
    lines = path.read_text().splitlines()
    lines[line - 1] = words
    path.write_text("\n".join(lines) + "\n")

    with pytest.raises(BackupRefused, match=f"teas, line {line}: .*{complaint}"):
        backupfile.read(path)


def test_lines_of_another_backup_are_refused(tmp_path):
    """Each of them is a good one; together they are not what was written."""
    path = written(tmp_path / "teas", *SOME)
    first, second, *others = path.read_text().splitlines()

    path.write_text("\n".join([first, second.replace("assam", "sencha"), *others]))

    with pytest.raises(BackupRefused, match="line 5: the lines before it are not those that were written"):
        backupfile.read(path)


def test_a_backup_that_cannot_be_written_leaves_the_one_before_it(tmp_path):
    path = written(tmp_path / "teas", *SOME)
    before = path.read_bytes()
    unfinished = tmp_path / "no-folder"

    with pytest.raises(BackupRefused, match="cannot be written"):
        backupfile.write(path, 4, MADE, [Record("db0", "x" * 3, ASSAM), _OfNoDisk()])
    with pytest.raises(BackupRefused, match="there is no folder"):
        backupfile.require_writable(unfinished / "teas")
    with pytest.raises(BackupRefused, match="no file"):
        backupfile.require_writable(tmp_path)

    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["teas"]


class _OfNoDisk:
    """In place of a record: the disk is full when its turn comes."""

    @property
    def primary(self):
        raise OSError(28, "No space left on device")


# ---- taking from the shards, and giving back


class FakeShard:
    """A shard in memory that answers as docs/protocol.md says, in small pages, and notes what it was sent."""

    def __init__(self, index, held=None):
        self.name, self.url = f"db{index}", f"http://127.0.0.1:{3000 + index}"
        self.held = dict(held or {})
        self.again = {}  # {tea: Value} that it tells once more, as a scan may
        self.status = {"state": "serving", "epoch": 7}
        self.sent = []  # bodies
        self.troubles = []  # what the next calls meet: an exception, or an Answer

    def call(self, method, path, body=None):
        if self.troubles:
            trouble = self.troubles.pop(0)
            if isinstance(trouble, Answer):
                return trouble
            raise trouble
        if path == "/status":
            return self._answer(self.status)
        if method == "GET":
            return self._page(int(path.removeprefix("/replica/values?page=")))
        assert path == "/replica/exchange"
        self.sent.append(body)
        asked = json.loads(body)
        assert asked["want"] == []
        for each in asked["values"]:
            tea, value = backupfile.decode_held(wire.encode(each))
            self.held[tea] = merge(self.held.get(tea, UNRATED), value.siblings)
        return self._answer({"values": []})

    def _page(self, page):
        rows = [*self.held.items(), *self.again.items()]
        texts = [json.loads(wire.encode_record(Record(self.name, *row))) for row in rows[page : page + 2]]
        return self._answer({"values": texts, "next": page + 2 if page + 2 < len(rows) else None})

    def _answer(self, told):
        return Answer(200, json.dumps(told).encode(), {})


def problem(status, detail):
    return Answer(status, json.dumps({"status": status, "detail": detail}).encode(), {})


def no_pause(_seconds):
    """Takes the place of time.sleep."""


def collect(shards, pause=no_pause):
    return {record.key: record.value for record in backup.collect(shards, primary_of, pause)}


def give_back(shards, values, progress=lambda _done: None):
    backup.give_back(shards, list(values.items()), primary_of, progress, no_pause)


def test_a_backup_is_the_merge_of_what_all_shards_hold():
    concurrent = value_of((5, {"c9": 1}))
    shards = [
        FakeShard(0, {"assam": ASSAM, "chai": CHAI, "gone": ASSAM, "oolong": ASSAM, "sencha": ASSAM}),
        FakeShard(1, {"assam": NEWER_ASSAM, "chai": concurrent, "gone": DELETED}),
    ]
    shards[0].again = {"sencha": NEWER_ASSAM}

    found = collect(shards)

    both = merge(CHAI, concurrent.siblings)
    assert found == {"assam": NEWER_ASSAM, "chai": both, "gone": DELETED, "oolong": ASSAM, "sencha": NEWER_ASSAM}


def test_the_records_of_a_backup_are_sorted_and_name_their_primaries():
    teas = ["oolong", "assam", "chai", "thé vert"]

    records = backup.collect([FakeShard(0, dict.fromkeys(teas, ASSAM)), FakeShard(1)], primary_of)

    assert [record.key for record in records] == sorted(teas)
    assert all(record.primary == f"db{primary_of(record.key, 2)}" for record in records)


def test_a_shard_that_does_not_answer_is_tried_again_and_then_named():
    shards, pauses = [FakeShard(0), FakeShard(1)], []
    shards[1].troubles = [NotReached("it is away")] * 5

    with pytest.raises(Failed, match=r"db1 at .*: it is away"):
        collect(shards, pauses.append)

    assert pauses == [1, 1, 1, 1]


def test_a_shard_that_comes_back_meanwhile_spoils_no_backup():
    shard = FakeShard(0, {"assam": ASSAM})
    shard.troubles = [NotReached("away"), NoAnswer("slow"), problem(503, "busy")]

    assert collect([shard]) == {"assam": ASSAM}


@pytest.mark.parametrize("state", ["recovering: its Redis is empty", "fenced: epoch 8 has begun"])
def test_no_backup_is_made_of_a_shard_that_may_lack_something(state):
    shards = [FakeShard(0), FakeShard(1)]
    shards[1].status = {"state": state, "epoch": 7}

    with pytest.raises(Failed, match=f"db1 is {state}"):
        collect(shards)


def test_a_shard_that_has_soon_recovered_is_waited_for():
    shard, pauses = FakeShard(0, {"assam": ASSAM}), []
    shard.status = {"state": "recovering: its Redis is empty", "epoch": 7}

    def pause(seconds):
        pauses.append(seconds)
        shard.status = {"state": "serving", "epoch": 7}

    assert collect([shard], pause) == {"assam": ASSAM}
    assert pauses == [1]


def test_no_backup_is_made_of_a_shard_that_began_anew_in_between():
    shard = FakeShard(0, {"assam": ASSAM})
    answer_page = shard._page

    def page_and_restart(page):
        shard.status = {"state": "serving", "epoch": 8}
        return answer_page(page)

    shard._page = page_and_restart

    with pytest.raises(Failed, match="db0 began anew"):
        collect([shard])


def test_a_plain_course_server_is_named_as_one_at_once():
    shard, pauses = FakeShard(0), []
    shard.troubles = [problem(404, "no such path")]

    with pytest.raises(Failed, match=r"db0 .* answered 404: it is a plain course server"):
        collect([shard], pauses.append)

    assert pauses == []


def test_each_tea_is_given_to_its_primary_in_a_cluster_of_another_size():
    teas = {f"tea {number}": ASSAM for number in range(1000)}
    shards = [FakeShard(index) for index in range(3)]
    seen = []

    give_back(shards, teas, seen.append)

    for index, shard in enumerate(shards):
        assert shard.held == {tea: ASSAM for tea in teas if primary_of(tea, 3) == index}
    assert seen == sorted(seen)
    assert seen[-1] == 1000


def test_what_is_newer_there_stays():
    shard = FakeShard(0, {"assam": NEWER_ASSAM, "sencha": DELETED})

    give_back([shard], {"assam": ASSAM, "chai": CHAI, "sencha": ASSAM, "oolong": DELETED})

    assert shard.held == {"assam": NEWER_ASSAM, "chai": CHAI, "sencha": DELETED, "oolong": DELETED}


def test_no_call_carries_more_than_a_shard_takes():
    many = {f"tea {number}": ASSAM for number in range(600)}
    clocks = [{f"{node}-{'x' * 50}": sibling for node in range(sibling, 64 + sibling)} for sibling in range(120)]
    large = value_of(*((sibling, clock) for sibling, clock in enumerate(clocks)))
    shard, seen = FakeShard(0), []
    assert len(wire.encode(wire.reading(large))) > 256 * 1024

    give_back([shard], {**many, "large": large, "more": CHAI}, seen.append)

    assert shard.held == {**many, "large": large, "more": CHAI}
    assert max(map(len, shard.sent)) <= 256 * 1024
    assert max(len(json.loads(body)["values"]) for body in shard.sent) == 256
    assert len(shard.sent) < 10
    assert seen[-1] == 602


def test_a_restore_that_breaks_off_says_how_far_it_came_and_what_to_do():
    shard = FakeShard(0)
    teas = {f"tea {number}": ASSAM for number in range(300)}

    def refuse_the_next(_done):
        shard.troubles = [problem(422, "the second portion is bad")]

    with pytest.raises(Failed, match="second portion is bad; 256 of 300 teas are restored, and the same command again"):
        give_back([shard], teas, refuse_the_next)
    give_back([shard], teas)

    assert shard.held == teas


# ---- on a running cluster


def all_reads(up, teas):
    """{tea: what a strong read answers}, without what a deletion's clock is: that is in a header."""
    return {name: served(up.layout.lb, "GET", f"/rating/{name}").body for name in teas}


def test_a_cluster_that_lost_everything_has_it_again_from_its_backup(tmp_path):
    """Ratings, siblings and deletions; in a cluster of another size; and what was rated since stays."""
    file = tmp_path / "teas.jsonl.gz"
    teas = [f"tea-{number}" for number in range(20)]
    with Up(tmp_path / "data") as up:
        up.wait_until_open()
        for name in teas:
            rate(up, name, 3, {"c0": 1})
            rate(up, name, 4, {"c1": 1})
        rate(up, "tea-0", 2, {"c0": 2, "c1": 2})
        assert served(up.layout.lb, "DELETE", "/rating/tea-1").status == 200
        before = all_reads(up, teas)

        done = tea("backup", file, *up.base)

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"20 teas (1 of them deleted) from 2 shards are in {file}\n"

    with Up(tmp_path / "other", ndb=3) as up:
        up.wait_until_open()
        rate(up, "tea-1", 5, {"c0": 1})  # of before its deletion
        rate(up, "tea-2", 5, {"c0": 9, "c1": 9})

        done = tea("restore", file, *up.base)

        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("20 teas (1 of them deleted) of 20")
        assert "Newer ratings, and what was deleted since, stay as they are." in done.stdout
        newer = {"rating": 5, "choices": [5], "clocks": [{"c0": 9, "c1": 9}]}
        assert all_reads(up, teas) == {**before, "tea-2": newer}
        assert before["tea-1"] == {"rating": 0.0, "choices": [], "clocks": []}
        for port in map(up.layout.db, range(3)):
            eventually(
                lambda port=port: ask(port, "GET", "/rating/tea-3").body == before["tea-3"], "every replica has it, too"
            )


def test_a_damaged_backup_changes_nothing_and_a_shard_that_is_away_makes_none(tmp_path):
    file = tmp_path / "teas.jsonl"
    with Up(tmp_path / "data", extra=["--no-restart"]) as up:
        up.wait_until_open()
        rate(up, "assam", 3, {"c0": 1})
        assert tea("backup", file, *up.base).returncode == 0
        assert served(up.layout.lb, "DELETE", "/rating/assam").status == 200
        file.write_text(file.read_text().rpartition("\n{")[0])

        done = tea("restore", file, *up.base)

        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"{file}, line 2: this is where a whole backup tells that it is whole" in done.stderr
        assert served(up.layout.lb, "GET", "/rating/assam").body["choices"] == []

        os.kill(up.pid_of("db1"), signal.SIGKILL)
        done = tea("backup", tmp_path / "other", *up.base)

        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "db1 at http" in done.stderr
        assert not (tmp_path / "other").exists()


def test_a_shard_recovers_without_one_that_is_away_when_it_is_told_to(tmp_path):
    with Up(tmp_path / "data", extra=["--no-restart"]) as up:
        up.wait_until_open()
        done = tea("recover", "db0", "--without", "db1", *up.base)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "db0 is not recovering" in done.stderr
        os.kill(up.pid_of("db1"), signal.SIGKILL)

        with redis.Redis(port=up.layout.redis(0)) as by_hand:
            by_hand.flushall()

        eventually(lambda: str(up.now("db0")["state"]).startswith("recovering: "), "its loss is noticed")
        done = tea("recover", "db0", "--without", "db1", *up.base)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"db0 is recovering: .+\nWhat this may lose: .*db1.*\n", done.stdout)
        eventually(lambda: up.now("db0")["state"] == "serving", "it serves again")


def rate(up, name, rating, clock):
    answer = served(up.layout.lb, "PUT", f"/rating/{name}", json.dumps({"rating": rating, "clock": clock}))
    assert answer.status == 200, answer.text
