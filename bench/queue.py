"""The queue on disk, where a record is synced before its PUT is answered, beside the queue in memory.

calls     PUT, GET, take and a put of 100, at a queue by itself
waiting   GET and take where few and many records wait (bench/growth.py)
memory    of a queue on disk while a gigabyte goes through one of its channels
store     what it costs the store, at clusters that are alike but for their queue
"""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import psutil

from bench import clusters, growth, pair, processes, turns
from bench.commitlog import GIGABYTE, GIGABYTE_QUICKLY, add_memory
from bench.load import percentile
from bench.report import progress
from emporium import wire
from emporium.peers import Peer

DISK, MEMORY = "on disk", "in memory"
CLIENTS = (1, 8)
CALLS, CALLS_QUICKLY = 2_000, 80  # of all clients together, in one run
BATCH = 100
ROUNDS = 5

POURED = 100  # records a call
LEAST_BYTES, MOST_BYTES = 2**10, 10 * 2**10  # of each
LOOKS = 64

LEAST_OF_MEMORY = 0.85

US, MS = 1e6, 1e3


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 5 minutes; `is_quick` takes half a minute, and its figures are worth nothing."""
    for part in (calls, growth.waiting, memory):
        others = processes.Others()
        part(programs, findings, is_quick)
        findings.others_cores.append(others.cores())
    store(programs, findings, is_quick)


# ---- calls


class Client:
    """One client of a queue, with a connection and a channel. Every call raises RuntimeError unless it was served."""

    def __init__(self, port, channel):
        self._peer = Peer("q", "127.0.0.1", port, clusters.PATIENCE_S)
        self._channel = channel
        self._cursor = None

    def put(self):
        self._call("PUT", f"/q/{self._channel}", growth.RECORD)

    def get(self):
        if self._call("GET", f"/q/{self._channel}").body == b"{}":
            raise RuntimeError(f"nothing waits in {self._channel}")

    def take(self):
        """Ten records, the first time; then those after them, so that those before are done with."""
        answer = self._call("POST", f"/channel/{self._channel}/take", wire.encode_take(self._cursor, growth.TAKEN))
        records, self._cursor, _left = answer.read(wire.decode_taken)
        if not records:
            raise RuntimeError(f"nothing waits in {self._channel}")

    def put_batch(self, records=(growth.RECORD,) * BATCH):
        self._call("POST", f"/channel/{self._channel}/put", wire.encode_records(records))

    def fill(self, number):
        """Let so many records wait."""
        for start in range(0, number, wire.MOST_RECORDS):
            self.put_batch([growth.RECORD] * min(wire.MOST_RECORDS, number - start))

    def clear(self):
        """Take away all channels."""
        self._call("DELETE", "/clear")

    def _call(self, method, path, body=None):
        answer = self._peer.call(method, path, body, may_repeat=False)
        if not answer.is_ok:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
        return answer


class Kind(NamedTuple):
    """One kind of call.

    call      (Client) -> None
    taken     how many records one call takes
    is_apart  each client has a channel of its own, as each shard takes from its own
    """

    name: str
    call: object
    taken: int = 0
    is_apart: bool = False


KINDS = (
    Kind("PUT", Client.put),
    Kind("GET", Client.get, taken=1),
    Kind(f"take of {growth.TAKEN}", Client.take, taken=growth.TAKEN, is_apart=True),
    Kind(f"put of {BATCH}", Client.put_batch),
)


class Calls(NamedTuple):
    """What came of one run: calls a second, latencies, and CPU of the queue a call."""

    rate_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def calls(programs, findings, is_quick):
    rounds, number = (1, CALLS_QUICKLY) if is_quick else (ROUNDS, CALLS)
    with growth.queue_service() as on_disk, growth.queue_service(is_in_memory=True) as in_memory:
        runs = {
            (where, kind.name, clients): partial(one_run_of_calls, service, kind, clients, number)
            for kind in KINDS
            for clients in CLIENTS
            for where, service in ((DISK, on_disk), (MEMORY, in_memory))
        }
        add_calls(turns.take("calls of the queue", rounds, runs, findings), findings)


def one_run_of_calls(service, kind, clients, number):
    """The Calls of so many clients, who make so many calls together."""
    each = number // clients
    made = [Client(service.port, f"bench-{index if kind.is_apart else 0}") for index in range(clients)]
    for client in made:
        client.fill(each * kind.taken + 1)  # one more: a channel is made by the first record that is put on it
    cost = processes.Cost([service])
    latencies_s, took_s = timed([partial(kind.call, client) for client in made], each)
    [cpu_s] = cost.cpu_s().values()
    made[0].clear()
    p50_ms, p99_ms = (MS * percentile(latencies_s, share) for share in (0.5, 0.99))
    return Calls(len(latencies_s) / took_s, p50_ms, p99_ms, US * cpu_s / len(latencies_s))


def timed(works, number):
    """([how long each call took], how long all took): each of these is called so often, by a thread of its own."""
    all_are_there = threading.Barrier(len(works))

    def keep_working(work):
        all_are_there.wait(clusters.PATIENCE_S)
        times_s = [time.perf_counter()]
        for _ in range(number):
            work()
            times_s.append(time.perf_counter())
        return times_s

    with ThreadPoolExecutor(len(works)) as pool:
        told = list(pool.map(keep_working, works))
    latencies_s = [end_s - begin_s for times_s in told for begin_s, end_s in pairwise(times_s)]
    return latencies_s, max(times_s[-1] for times_s in told) - min(times_s[0] for times_s in told)


def add_calls(runs, findings):
    rows = []
    for kind in KINDS:
        for clients in CLIENTS:
            on_disk, in_memory = (runs[where, kind.name, clients] for where in (DISK, MEMORY))
            rates = [[each.rate_per_s for each in one] for one in (on_disk, in_memory)]
            row = [kind.name, clients, *map(median, rates), turns.ratio(*rates)]
            for figure in Calls._fields[1:]:
                row += [median(getattr(each, figure) for each in one) for one in (on_disk, in_memory)]
            rows.append(row)
    columns = ["\n", "\nclients", "/s\ndisk", "/s\nmemory", "/s\nratio"]
    columns += [f"{figure}\n{where}" for figure in ("p50 ms", "p99 ms", "CPU us") for where in ("disk", "memory")]
    title = "Calls of a queue by itself, medians of the rounds; ratios within a round:"
    findings.add_table(title, columns, rows, "calls of the queue")


# ---- memory


def memory(programs, findings, is_quick):
    """How much memory a queue on disk has while a gigabyte is put on a channel and taken from it."""
    size = GIGABYTE_QUICKLY if is_quick else GIGABYTE
    progress("a gigabyte through a channel")
    chance = random.Random(0)
    looks, through = [], 0
    with growth.queue_service() as service:
        process = psutil.Process(service.process.pid)
        client = Client(service.port, "bench")
        while through < size:
            values = ["x" * chance.randint(LEAST_BYTES, MOST_BYTES) for _ in range(POURED)]
            client.put_batch([wire.encode({"value": value}) for value in values])
            for _ in range(POURED // growth.TAKEN):
                client.take()
            through += sum(map(len, values))
            if through >= len(looks) * size // LOOKS:
                looks.append([through / processes.MB, process.memory_info().rss / processes.MB])
    add_memory("the queue", looks, findings)


# ---- the store


def store(programs, findings, is_quick):
    """The same loads on a store with its queue on disk and on one with its queue in memory."""
    least = dict.fromkeys(pair.KINDS, LEAST_OF_MEMORY)
    made = {
        DISK: clusters.ours(programs, is_guarded=False),
        MEMORY: clusters.ours(programs, is_guarded=False, is_queue_in_memory=True),
    }
    pair.compare("The store with its queue", "the queue", made, least, findings, is_quick)
