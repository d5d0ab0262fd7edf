"""The cost as work grows: more shards, more teas, more siblings of a tea, more records that wait in a channel."""

import http.client
import json
import time
from collections import Counter
from contextlib import contextmanager
from statistics import median

from bench import clusters, processes, wrk
from bench.clusters import started
from bench.report import Claim, progress
from bench.throughput import NAMES, marked
from emporium import wire
from emporium.cluster import python_service

CLIENTS = 32
KINDS = ("strong", "mix")
SHARDS = (1, 2, 4, 8)
KEYS = (1_000, 100_000)
SIBLINGS = (1, 10, 50)
WAITING, WAITING_QUICKLY = (10, 100_000), (10, 1_000)
ROUNDS, RUN_S = 5, 2
CALLS = 1_000  # at the queue, of each kind and length
TAKEN = 10  # records a take

MOST_SLOWER_OF_KEYS = 0.15
MOST_SLOWER_OF_WAITING = 0.20

RECORD = wire.encode({"primary": "db0", "key": "persimmon", "rating": 3, "choices": [3], "clocks": [{"client-000": 1}]})

US = 1e6


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 3 minutes; `is_quick` takes half a minute, and its figures are worth nothing."""
    for part in (shards, keys, siblings, waiting):
        others = processes.Others()
        part(programs, findings, is_quick)
        findings.others_cores.append(others.cores())


def shards(programs, findings, is_quick):
    tool, teas = wrk.find_or_install(), wrk.Teas(KEYS[0])
    rounds, run_s = _rounds(is_quick)
    rows = []
    for ndb in SHARDS[:2] if is_quick else SHARDS:
        progress(f"growth: {ndb} shards")
        with clusters.ours(programs, ndb) as on:
            on.store(teas)
            loads = {kind: [] for kind in KINDS}
            for _ in range(rounds):
                for kind in KINDS:
                    loads[kind].append(_load(tool, on, kind, run_s, teas))
            memory_mb = sum(processes.memory_mb(on.services).values())
            rows.append([ndb, *_medians(loads), on.start_s, memory_mb, _errors(loads)])
    columns = ["\nshards", *_heads(KINDS), "start-up\ns", "memory\nMB", "\nerrors"]
    findings.add_table(f"More shards, {CLIENTS} clients:", columns, rows, "shards")


def keys(programs, findings, is_quick):
    tool = wrk.find_or_install()
    rounds, run_s = _rounds(is_quick)
    few, many = KEYS
    with clusters.ours(programs) as small, clusters.ours(programs) as large:
        found = {}
        for number, on in ((few, small), (many, large)):
            progress(f"growth: storing {number} teas in each Redis")
            on.store(wrk.Teas(number))
        for number in range(rounds):
            progress(f"growth: {few} and {many} teas, round {number + 1} of {rounds}")
            for count, on in ((few, small), (many, large)):
                for kind in KINDS:
                    load = _load(tool, on, kind, run_s, wrk.Teas(count))
                    found.setdefault(count, {}).setdefault(kind, []).append(load)
    rows = [[f"{count:,}", *_medians(found[count]), _errors(found[count])] for count in KEYS]
    columns = ["teas in\neach Redis", *_heads(KINDS), "\nerrors"]
    findings.add_table(f"More teas, {CLIENTS} clients:", columns, rows, "keys")
    for kind in KINDS:
        of_few = median(
            at_many.rate_per_s / at_few.rate_per_s
            for at_few, at_many in zip(found[few][kind], found[many][kind], strict=True)
        )
        asked = f"{NAMES[kind]} with {many:,} teas: within {MOST_SLOWER_OF_KEYS:.0%} of the rate with {few:,}"
        findings.claims.append(Claim(asked, f"{of_few:.2f} of it", of_few >= 1 - MOST_SLOWER_OF_KEYS))


def siblings(programs, findings, is_quick):
    tool = wrk.find_or_install()
    rounds, run_s = _rounds(is_quick)
    kinds = ("strong", "write")
    loads = {}
    with clusters.ours(programs) as on:
        sets = {number: wrk.Teas(KEYS[0], f"of-{number}") for number in SIBLINGS}
        for number, teas in sets.items():
            on.store(teas, number)
        for round_number in range(rounds):
            progress(f"growth: siblings, round {round_number + 1} of {rounds}")
            for number, teas in sets.items():
                for kind in kinds:
                    loads.setdefault(number, {}).setdefault(kind, []).append(_load(tool, on, kind, run_s, teas))
    rows = [[number, *_medians(loads[number]), _errors(loads[number])] for number in SIBLINGS]
    columns = ["\nsiblings", *_heads(kinds), "\nerrors"]
    findings.add_table(f"More siblings of each tea, {CLIENTS} clients:", columns, rows, "siblings")


def _rounds(is_quick):
    return (1, 1) if is_quick else (ROUNDS, RUN_S)


def _load(tool, on, kind, run_s, teas):
    load = wrk.run(tool, on.port, kind, CLIENTS, run_s, teas)
    on.settle()
    return load


def _medians(loads):
    return [
        median(figure(load) for load in each)
        for each in loads.values()
        for figure in (lambda load: load.rate_per_s, lambda load: load.p99_ms)
    ]


def _errors(loads):
    return marked(sum((Counter(load.errors) for each in loads.values() for load in each), Counter()))


def _heads(kinds):
    return [f"{NAMES[kind]}\n{figure}" for kind in kinds for figure in ("/s", "p99 ms")]


# ---- a channel, at the queue by itself


def waiting(programs, findings, is_quick):
    """A take and a GET of channels that hold few and many records, at a queue on disk and at one in memory."""
    calls, numbers = (CALLS // 10, WAITING_QUICKLY) if is_quick else (CALLS, WAITING)
    medians_us = {}
    for where in ("on disk", "in memory"):
        with queue_by_itself(is_in_memory=where == "in memory") as queue:
            for number in numbers:
                progress(f"growth: channels {where} with {number} records")
                queue.fill(number)
            for key, times_us in times_of_calls(queue, numbers, calls).items():
                medians_us[where, *key] = median(times_us)
    rows = [
        [where, f"{number:,}", *(medians_us[where, what, number] for what in ("GET", "take"))]
        for where in ("on disk", "in memory")
        for number in numbers
    ]
    columns = ["\nthe queue", "records\nwaiting", "GET\nus", f"take of {TAKEN}\nus"]
    findings.add_table(f"A channel at a queue by itself, medians of {calls} calls:", columns, rows, "waiting")
    findings.claims += waiting_claims(medians_us)


def times_of_calls(queue, numbers, calls):
    """{("GET" or "take", records waiting): the microseconds that each of so many calls took}.

    Few and many take turns, also in who comes first: a call is slower behind one of another kind.
    """
    times_us = {(what, number): [] for what in ("GET", "take") for number in numbers}
    for index in range(calls):
        for number in numbers if index % 2 else reversed(numbers):
            times_us["GET", number].append(US * queue.timed_get(number))
            times_us["take", number].append(US * queue.timed_take(number))
    return times_us


def waiting_claims(medians_us):
    """What was promised of long channels, and what these medians show."""
    numbers = {number for _where, _what, number in medians_us}
    few, many = min(numbers), max(numbers)
    claims = []
    for where, what, number in medians_us:
        if number == many:
            of_few = medians_us[where, what, many] / medians_us[where, what, few]
            asked = f"{what}, queue {where}, {many:,} records waiting:"
            asked += f" within {MOST_SLOWER_OF_WAITING:.0%} of its time with {few}"
            claims.append(Claim(asked, f"{of_few:.2f} of it", of_few <= 1 + MOST_SLOWER_OF_WAITING))
    return claims


class QueueByItself:
    """One kept connection to a queue server.

    answer  what its last call answered
    """

    def __init__(self, port):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=clusters.PATIENCE_S)
        self._cursors = {}
        self.answer = None

    def timed(self, method, path, body=None):
        """How many seconds the call took."""
        began_s = time.perf_counter()
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        given = self._connection.getresponse()
        text = given.read()
        took_s = time.perf_counter() - began_s
        if given.status != 200:
            raise RuntimeError(f"{method} {path}: {given.status} {text[:200]!r}")
        self.answer = json.loads(text)
        return took_s

    def fill(self, number):
        """Put so many records on each of two channels, one to GET from and one to take from."""
        for what in ("GET", "take"):
            for start in range(0, number, wire.MOST_RECORDS):
                self._put(f"{what}-{number}", min(wire.MOST_RECORDS, number - start))

    def timed_get(self, number):
        """How many seconds a GET takes where so many wait; the record that it took is replaced."""
        took_s = self.timed("GET", f"/q/GET-{number}")
        self._put(f"GET-{number}", 1)
        return took_s

    def timed_take(self, number):
        """How many seconds a take takes there. Each removes what the one before it answered, which is replaced."""
        asked = json.dumps({"cursor": self._cursors.get(number), "most": TAKEN})
        took_s = self.timed("POST", f"/channel/take-{number}/take", asked)
        self._cursors[number] = self.answer["cursor"]
        self._put(f"take-{number}", TAKEN)
        return took_s

    def _put(self, channel, number):
        self.timed("POST", f"/channel/{channel}/put", wire.encode_records([RECORD] * number))

    def close(self):
        self._connection.close()


def queue_service(is_in_memory=False):
    """Inside, the Service of a queue alone."""

    def make(layout, folder, log_of):
        kept = {} if is_in_memory else clusters.queue_on_disk(folder)
        return python_service("q", "serverQ.py", layout.q, log_of, {"port": layout.q, **kept})

    return started(make)


@contextmanager
def queue_by_itself(is_in_memory=False):
    """Inside, a QueueByItself of a queue alone."""
    with queue_service(is_in_memory) as service:
        queue = QueueByItself(service.port)
        try:
            yield queue
        finally:
            queue.close()
