"""The benchmarks of the commit log and of the queue: each system stores what it is given, and the claims are honest.

Nothing here asserts how fast anything is.
"""

import threading
import time
from contextlib import contextmanager

import pytest
import requests
from test_throughput_bench import load

from bench import clusters, commitlog, growth, logs, pair, queue, turns
from bench.commitlog import BATCH, GROUP, MANY, NEW, OWN, SHARED, SINGLE, THREADS, WRITTEN
from bench.growth import WAITING
from bench.queue import DISK, MEMORY
from bench.report import Findings, exit_code
from bench.throughput import Run
from emporium import redisbinary

# ---- turns


def test_each_round_has_the_opposite_order_of_the_one_before():
    asked = []
    runs = {name: lambda name=name: asked.append(name) or len(asked) for name in "abc"}

    found = turns.take("trial", 3, runs, Findings())

    assert "".join(asked) == "abccbaabc"
    assert found == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_a_ratio_is_the_median_of_those_within_the_rounds():
    """A round in which the machine was busy with other things slows both, and must not count as ours."""
    assert turns.ratio([800, 80, 900], [100, 10, 300]) == 8


# ---- what a log is compared with


@pytest.mark.parametrize(
    "open_system",
    [
        lambda folder: logs.OurLog(folder, "group"),
        lambda folder: logs.OurLog(folder, "never"),
        lambda folder: logs.Sqlite(folder, is_shared=False),
        lambda folder: logs.Sqlite(folder, is_shared=True),
        lambda _folder: logs.redis_stream(redisbinary.find_or_install()),
    ],
    ids=["group", "never", "sqlite-own", "sqlite-shared", "redis"],
)
def test_each_system_stores_what_all_threads_append(open_system, tmp_path):
    with open_system(tmp_path) as system:
        with system.connected() as connection:
            connection.append(b"one")
            connection.append_many([b"two", b"three"])
        commitlog.rate_of(system, commitlog.append_one, threads=8, run_s=0.05)

        keys = list(system.keys())
        with system.connected() as connection:
            values = [connection.read(key) for key in keys]

    values = [value if isinstance(value, bytes) else value.value for value in values]  # a log answers a Record
    assert values[:3] == [b"one", b"two", b"three"]
    assert len(values) >= 3 + 8
    assert set(values[3:]) == {commitlog.VALUE}


def test_sqlite_and_redis_are_as_durable_as_is_said(tmp_path):
    with logs.Sqlite(tmp_path, is_shared=False) as sqlite, sqlite.connected() as connection:
        assert [list(connection._execute(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")] == [
            [("wal",)],
            [(2,)],  # FULL
        ]
    with logs.redis_stream(redisbinary.find_or_install()) as stream, stream.connected() as connection:
        found = connection._client.config_get("append*")
    assert (found["appendonly"], found["appendfsync"]) == ("yes", "always")


@pytest.mark.parametrize("is_written_before", [True, False])
def test_the_disk_is_written_to_from_its_beginning_to_its_end(is_written_before, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "WRITTEN_BYTES", 10)

    with logs.Disk(tmp_path, is_written_before) as disk:
        for value in (b"aaaa", b"bbbb", b"cccc"):
            disk.append(value)

    [file] = tmp_path.iterdir()
    assert file.read_bytes() == (b"ccccbbbb\0\0" if is_written_before else b"aaaabbbbcccc")


class Counting:
    """A system that counts what is done with it. `fails`: or one that refuses everything."""

    def __init__(self, fails=False):
        self.fails = fails
        self.done = 0
        self.threads = set()

    @contextmanager
    def connected(self):
        yield self

    def work(self, _connection):
        if self.fails:
            raise OSError("no room")
        self.done += 1
        self.threads.add(threading.get_ident())


def test_a_rate_counts_every_record_of_every_thread(monkeypatch):
    monkeypatch.setattr(commitlog.os, "sync", lambda: None)  # what it takes is no part of the run
    system = Counting()
    began_s = time.monotonic()

    rate_per_s = commitlog.rate_of(system, system.work, threads=3, run_s=0.2, records=10)

    took_s = time.monotonic() - began_s
    assert len(system.threads) == 3
    assert 10 * system.done / took_s <= rate_per_s <= 10 * system.done / 0.2


def test_a_system_that_fails_has_no_rate():
    system = Counting(fails=True)

    with pytest.raises(OSError, match="no room"):
        commitlog.rate_of(system, system.work, threads=2, run_s=0.1)


# ---- what is claimed of the log

RATES = {
    **{(GROUP, SINGLE, threads): [1000.0] * 3 for threads in THREADS},
    **{(OWN, SINGLE, threads): [500.0] * 3 for threads in THREADS},
    **{(SHARED, SINGLE, threads): [900.0] * 3 for threads in THREADS},
    (GROUP, MANY, 1): [40_000.0] * 3,
    (NEW, SINGLE, 1): [1000.0] * 3,
    (WRITTEN, SINGLE, 1): [1200.0] * 3,
}


def test_what_was_promised_of_appends_and_found_is_ok():
    assert exit_code(commitlog.append_claims(RATES)) == 0


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({(SHARED, SINGLE, 1): [1112.0] * 3}, "1 thread, "),
        ({(SHARED, SINGLE, 8): [1000.0] * 3}, "8 threads, "),
        ({(OWN, SINGLE, 64): [1001.0] * 3}, "64 threads, "),
        ({(WRITTEN, SINGLE, 1): [1334.0] * 3}, f"of {BATCH} records"),
        ({(NEW, SINGLE, 1): [1334.0] * 3}, f"of {BATCH} records"),
    ],
)
def test_what_was_promised_of_appends_and_not_found_is_said(changed, missed):
    """The log is measured by the faster way of SQLite, and by the faster way of the disk."""
    [claim] = [each for each in commitlog.append_claims({**RATES, **changed}) if not each.is_reached]

    assert missed in claim.asked


@pytest.mark.parametrize(("slowest_s", "is_reached"), [(3.0, True), (3.1, False)])
def test_the_slowest_start_counts(slowest_s, is_reached):
    findings = Findings()

    commitlog.add_starts({(1000, "killed"): [0.1, slowest_s, 0.1]}, findings)

    [claim] = findings.claims
    assert claim.is_reached is is_reached


@pytest.mark.parametrize(("most_mb", "is_reached"), [(49.9, True), (50.0, False)])
def test_memory_grows_from_the_first_eighth_to_the_most_there_ever_was(most_mb, is_reached):
    findings = Findings()
    looks = [[through, 30.0] for through in range(10, 170, 10)]
    looks[0][1] = 10.0  # what one needs to begin with
    looks[9][1] = most_mb

    commitlog.add_memory("a log", looks, findings)

    [claim] = findings.claims
    assert claim.is_reached is is_reached
    assert len(findings.figures["memory of a log"]) == 8


def test_a_log_that_was_filled_is_found_whole_after_a_kill_and_after_a_close(tmp_path):
    folder = str(tmp_path / "log")

    filled = commitlog.in_process("fill", folder, "{}", "3000")
    opened = [commitlog.in_process("open", folder, "{}", end) for end in ("killed", "closed", "killed")]

    assert filled == {"records": 3000}
    assert [each["records"] for each in opened] == [3000] * 3
    assert not (tmp_path / "log" / "clean.json").exists()


def test_what_is_poured_through_a_log_is_read_and_dropped(tmp_path):
    told = commitlog.in_process("pour", str(tmp_path / "log"), '{"segment_bytes": 1000000}', "3000000")

    throughs = [through for through, _memory in told["looks"]]
    assert throughs == sorted(throughs)
    assert throughs[-1] >= 2.9


# ---- the queue


@pytest.fixture(scope="module")
def on_disk():
    with growth.queue_service() as service:
        yield service


@pytest.mark.parametrize("kind", queue.KINDS, ids=lambda kind: kind.name)
def test_every_call_of_every_client_is_made_and_the_queue_is_empty_then(kind, on_disk):
    found = queue.one_run_of_calls(on_disk, kind, clients=4, number=40)

    assert found.rate_per_s > 0
    assert 0 < found.p50_ms <= found.p99_ms
    assert requests.get(f"{on_disk.url}/status", timeout=5).json()["channels"] == {}


@pytest.mark.parametrize("call", [queue.Client.get, queue.Client.take])
def test_a_call_that_finds_nothing_is_not_counted(call, on_disk):
    client = queue.Client(on_disk.port, "nothing")

    with pytest.raises(RuntimeError, match="nothing waits"):
        call(client)


def test_calls_are_timed_one_by_one():
    latencies_s, took_s = queue.timed([lambda: None, lambda: None], 50)

    assert len(latencies_s) == 100
    assert 0 < sum(latencies_s) <= 2 * took_s


@pytest.mark.parametrize(("many_us", "missed"), [(120, []), (121, [(DISK, "GET")])])
def test_a_long_channel_is_compared_with_a_short_one_at_the_same_queue(many_us, missed):
    few, many = WAITING
    medians_us = {
        (where, what, number): 100 for where in (DISK, MEMORY) for what in ("GET", "take") for number in WAITING
    }
    medians_us[DISK, "GET", many] = many_us

    claims = growth.waiting_claims(medians_us)

    assert len(claims) == 4
    assert [claim.asked for claim in claims if not claim.is_reached] == [
        f"{what}, queue {where}, {many:,} records waiting: within 20% of its time with {few}" for where, what in missed
    ]


def store_runs(on_disk, in_memory):
    return {
        (where, kind, clients): [Run(each, {"q": 0.01})] * 3
        for where, each in ((DISK, on_disk), (MEMORY, in_memory))
        for kind in pair.KINDS
        for clients in pair.CLIENTS
    }


@pytest.mark.parametrize(
    ("on_disk", "missed"),
    [
        (load(86), 0),
        (load(84), len(pair.KINDS) * len(pair.CLIENTS)),
        (load(100, errors={"timeout": 1}), 1),
    ],
)
def test_a_store_with_its_queue_on_disk_is_compared_with_one_in_memory(on_disk, missed):
    least = dict.fromkeys(pair.KINDS, queue.LEAST_OF_MEMORY)
    claims = pair.claims("the queue", DISK, MEMORY, store_runs(on_disk, load(100)), least)

    assert sum(not claim.is_reached for claim in claims) == missed


@pytest.mark.parametrize("is_queue_in_memory", [False, True])
def test_our_cluster_has_its_queue_on_disk_unless_it_is_told_otherwise(is_queue_in_memory):
    with clusters.ours(redisbinary.find_or_install(), ndb=1, is_queue_in_memory=is_queue_in_memory) as running:
        told = requests.get(f"{running.cluster.queue.url}/status", timeout=5).json()

    assert told["durable"] is not is_queue_in_memory


# ---- the command


def test_the_log_is_measured_from_end_to_end(bench):
    found = bench("--log")

    rows = {row[""]: row for row in found["appends to a log"]}
    assert {GROUP, OWN, SHARED, NEW, WRITTEN} < set(rows)
    assert all(rows[GROUP][f"{commitlog._threads(threads)} /s"] > 0 for threads in THREADS)
    assert rows[NEW]["8 threads /s"] is None  # one thread shows what the disk can do
    assert len(found["reads of a log"]) == 3
    assert [row["the process before was"] for row in found["starts of a log"]] == ["killed", "closed"]
    assert len(found["claims"]) == 4 + 2 + 1


@pytest.mark.full
def test_the_queue_is_measured_from_end_to_end(tool, bench):
    found = bench("--queue")

    assert len(found["calls of the queue"]) == len(queue.KINDS) * len(queue.CLIENTS)
    assert [row["the queue"] for row in found["waiting"]] == [DISK, DISK, MEMORY, MEMORY]
    assert all(row["errors on disk"] == "none" for row in found["the store, the queue"])
    assert len(found["claims"]) == 4 + 1 + 4 + 1


@pytest.mark.full
def test_what_surviving_faults_costs_is_measured_from_end_to_end(tool, bench):
    found = bench("--guarded")

    assert all(row["errors on"] == "none" for row in found["the store, fault tolerance"])
    assert [row["teas"] for row in found["rounds"]] == ["1,000"]
    assert [row["teas that differ"] for row in found["meetings"]][1] == 500
    assert len(found["claims"]) == 4 + 1 + 1 + 1


@pytest.mark.full
def test_what_looking_on_costs_is_measured_from_end_to_end(tool, bench):
    found = bench("--view")

    assert [row["looked on by"] for row in found["view"]] == ["no view", "no page", "fifty pages", "a trace"]
    assert all(row["errors"] == "none" for row in found["view"])
    assert len(found["claims"]) == 2
