"""The commit log beside SQLite, Redis Streams and the disk itself: all on the same disk, in turn, in one run.

appends   of one record, from 1, 8 and 64 threads, and of 100 records by one thread
reads     of single records, at random, by one thread
starts    of a log with a million records, after a kill and after a close
memory    of a process that appends and reads while a gigabyte goes through its log
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from math import nan
from statistics import median

from bench import clusters, logs, processes, turns
from bench.report import Claim, progress
from emporium.commitlog import Config
from emporium.commitlog.record import HEAD_BYTES
from emporium.environment import ROOT

VALUE = bytes(range(100))
THREADS = (1, 8, 64)
BATCH = 100
ROUNDS, RUN_S = 5, 1.0
STORED, STORED_QUICKLY = 100_000, 2_000  # records to read from
RECORDS, RECORDS_QUICKLY = 1_000_000, 20_000  # of the log that is started
FREE = 2_000  # how many more would fit into the last segment of the other log that is started
STARTS = 3
GIGABYTE, GIGABYTE_QUICKLY = 2**30, 2**24

GROUP, ALWAYS, NEVER = "our log", "our log, a sync each", "our log, no syncs"
OWN, SHARED = "SQLite, a connection each", "SQLite, one connection"
REDIS = "Redis Streams"
NEW, WRITTEN = "fdatasync, new bytes", "fdatasync, written before"
SINGLE, MANY = "one", "many"

LEAST_OF_SQLITE = {1: 0.9, 8: 1.0, 64: 1.0}
LEAST_OF_SYNCS = 30
MOST_START_S = 3.0
MOST_GROWTH_MB = 20

PATIENCE_S = 300  # for a process that fills a log, or pours a gigabyte through one


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 5 minutes; `is_quick` takes half a minute, and its figures are worth nothing."""
    rounds, run_s = (1, 0.1) if is_quick else (ROUNDS, RUN_S)
    with clusters.new_folder() as folder:
        rates = append_rates(programs, folder, findings, rounds, run_s)
    add_appends(rates, findings)
    with clusters.new_folder() as folder:
        stored = STORED_QUICKLY if is_quick else STORED
        add_reads(read_rates(programs, folder, findings, rounds, run_s, stored), stored, findings)
    starts(findings, is_quick)
    memory(findings, is_quick)


# ---- appends and reads


def append_rates(programs, folder, findings, rounds, run_s):
    """{(system, SINGLE or MANY, threads): records a second, one a round}."""
    with ExitStack() as stack:
        systems = {
            GROUP: logs.OurLog(folder, "group"),
            SHARED: logs.Sqlite(folder, is_shared=True),
            OWN: logs.Sqlite(folder, is_shared=False),
            ALWAYS: logs.OurLog(folder, "always"),
            NEVER: logs.OurLog(folder, "never"),
            REDIS: logs.redis_stream(programs),
            NEW: logs.Disk(folder, is_written_before=False),
            WRITTEN: logs.Disk(folder, is_written_before=True),
        }
        systems = {name: stack.enter_context(system) for name, system in systems.items()}
        runs = {}  # those that are compared, as near to each other as can be
        for threads in reversed(THREADS):
            for name, system in systems.items():
                if threads == 1 or name not in (NEW, WRITTEN):
                    runs[name, SINGLE, threads] = partial(rate_of, system, append_one, threads, run_s)
        for name in (GROUP, NEVER, SHARED, REDIS):
            runs[name, MANY, 1] = partial(rate_of, systems[name], append_batch, 1, run_s, BATCH)
        return turns.take("appends to a log", rounds, runs, findings)


def append_one(connection):
    connection.append(VALUE)


def append_batch(connection):
    connection.append_many([VALUE] * BATCH)


def read_rates(programs, folder, findings, rounds, run_s, stored):
    """{system: reads a second, one a round}, of so many stored records."""
    with ExitStack() as stack:
        systems = {
            GROUP: logs.OurLog(folder),
            SHARED: logs.Sqlite(folder, is_shared=True),
            REDIS: logs.redis_stream(programs),
        }
        runs = {}
        for name, system in systems.items():
            on = stack.enter_context(system)
            runs[name] = partial(rate_of, on, reader_of(on, stored), 1, run_s)
        return turns.take("reads of a log", rounds, runs, findings)


def reader_of(system, stored):
    """What reads one record of the system, drawn at random, from so many that are stored first."""
    with system.connected() as connection:
        for _ in range(0, stored, BATCH):
            connection.append_many([VALUE] * BATCH)
    keys = list(system.keys())
    random.Random(0).shuffle(keys)
    drawn = cycle(keys)

    def read_one(connection):
        connection.read(next(drawn))

    return read_one


def rate_of(system, work, threads, run_s, records=1):
    """How many records a second so many threads, each with its connection, are done with.

    work(connection)  is done with `records` of them
    """
    os.sync()  # what the run before left to be written must not cost this one
    all_are_there = threading.Barrier(threads)

    def keep_working():
        with system.connected() as connection:
            all_are_there.wait(clusters.PATIENCE_S)
            began_s = time.monotonic()
            done = 0
            while time.monotonic() - began_s < run_s:
                work(connection)
                done += 1
            return done, began_s, time.monotonic()

    with ThreadPoolExecutor(threads) as pool:
        told = [each.result() for each in [pool.submit(keep_working) for _ in range(threads)]]
    counts, begins_s, ends_s = zip(*told, strict=True)
    return records * sum(counts) / (max(ends_s) - min(begins_s))


def add_appends(rates, findings):
    names = list(dict.fromkeys(name for name, *_ in rates))
    cells = [*((SINGLE, threads) for threads in THREADS), (MANY, 1)]
    rows = [[name, *(median(rates.get((name, *cell), [nan])) for cell in cells)] for name in names]
    columns = ["\n", *(f"{_threads(threads)}\n/s" for threads in THREADS), f"{BATCH} a call\nrecords/s"]
    title = f"Appends of {len(VALUE)} bytes, medians of the rounds; one a call where nothing else is said:"
    findings.add_table(title, columns, rows, "appends to a log")
    findings.claims += append_claims(rates)


def append_claims(rates):
    """What was promised of appends, and what these rates show."""
    claims = []
    for threads, least in LEAST_OF_SQLITE.items():
        sqlite = faster_of(rates, (OWN, SINGLE, threads), (SHARED, SINGLE, threads))
        found = turns.ratio(rates[GROUP, SINGLE, threads], rates[sqlite])
        asked = f"at least {least} of its rate" if least < 1 else "faster"
        asked = f"durable appends, {_threads(threads)}, beside the faster way of SQLite: {asked}"
        is_reached = found >= least if least < 1 else found > least
        claims.append(Claim(asked, f"{found:.2f} times that of {sqlite[0]}", is_reached))
    disk = faster_of(rates, (NEW, SINGLE, 1), (WRITTEN, SINGLE, 1))
    found = turns.ratio(rates[GROUP, MANY, 1], rates[disk])
    asked = f"durable appends of {BATCH} records: at least {LEAST_OF_SYNCS} times as many records/s as the disk syncs"
    return [*claims, Claim(asked, f"{found:.0f} times {disk[0]}", found >= LEAST_OF_SYNCS)]


def faster_of(rates, *keys):
    return max(keys, key=lambda key: median(rates[key]))


def add_reads(rates, stored, findings):
    rows = [[name, median(each)] for name, each in rates.items()]
    title = f"Reads at random of {stored:,} records, one thread, medians of the rounds:"
    findings.add_table(title, ["\n", "\n/s"], rows, "reads of a log")


def _threads(number):
    return f"{number} thread{'s' if number > 1 else ''}"


# ---- starts and memory, in processes of their own


def starts(findings, is_quick):
    """How long logs take to open: one with a million records, and one whose last segment is as full as it gets."""
    in_segment = Config().segment_bytes // (HEAD_BYTES + len(VALUE))
    counts, rounds = ((RECORDS_QUICKLY,), 1) if is_quick else ((RECORDS, 3 * in_segment - FREE), STARTS)
    with clusters.new_folder() as folder:
        runs = {}
        for count in counts:
            progress(f"filling a log with {count:,} records")
            where = str(folder / f"log-{count}")
            in_process("fill", where, "{}", str(count))
            for end in ("killed", "closed"):
                runs[count, end] = partial(start_s, where, end)
        add_starts(turns.take("starts of a log", rounds, runs, findings), findings)


def start_s(folder, end):
    """How long a log takes to open that was left so: "killed" or "closed"."""
    in_process("open", folder, "{}", end)
    return in_process("open", folder, "{}", end)["took_s"]


def add_starts(times_s, findings):
    """`times_s`: {(records, "killed" or "closed"): [seconds]}."""
    rows = [[f"{count:,}", end, median(each), max(each)] for (count, end), each in times_s.items()]
    title = f"The start of a log with records of {len(VALUE)} bytes; after a kill the last segment is read whole:"
    columns = ["\nrecords", "the process\nbefore was", "median\ns", "slowest\ns"]
    findings.add_table(title, columns, rows, "starts of a log")
    for (count, end), each in times_s.items():
        if count > RECORDS:
            continue  # the worst case: shown, and not promised
        asked = f"a log with {count:,} records, {end}: opens within {MOST_START_S:g} s"
        findings.claims.append(Claim(asked, f"the slowest after {max(each):.2f} s", max(each) <= MOST_START_S))


def memory(findings, is_quick):
    """How much memory a process has while it appends and reads a gigabyte."""
    size = GIGABYTE_QUICKLY if is_quick else GIGABYTE
    progress("a gigabyte through a log")
    others = processes.Others()
    with clusters.new_folder() as folder:
        told = in_process("pour", str(folder / "log"), "{}", str(size))
    findings.others_cores.append(others.cores())
    add_memory("a log", told["looks"], findings)


def add_memory(of, looks, findings):
    """`looks`: [MB that went through, MB of memory]. What one needs to begin with counts as its first eighth."""
    begin = max(1, len(looks) // 8)
    warm_mb, most_mb = looks[begin - 1][1], max(mb for _through, mb in looks[begin - 1 :])
    through_mb = looks[-1][0]
    title = f"Memory of {of} while {through_mb:,.0f} MB go through:"
    shown = looks[begin - 1 :: begin]
    findings.add_table(title, ["through\nMB", "memory\nMB"], shown, f"memory of {of}")
    asked = f"{of} while a gigabyte goes through: memory grows by less than {MOST_GROWTH_MB} MB"
    found = f"{most_mb - warm_mb:.1f} MB, from {warm_mb:.1f} after the first {looks[begin - 1][0]:.0f}"
    findings.claims.append(Claim(asked, found, most_mb - warm_mb < MOST_GROWTH_MB))


def in_process(*words):
    """What bench/logprocess.py told, told as JSON. Raises RuntimeError."""
    command = [sys.executable, "-m", "bench.logprocess", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"bench.logprocess {words}: {done.stderr}")
    return json.loads(done.stdout)
