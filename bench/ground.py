"""The cluster that a benchmark loads: four shards on free ports, as `./tea up` starts them, with real Redis servers.

Redis syncs each write to disk before it answers. Everything is gone when the `with` block ends.
"""

import signal
import tempfile
import time
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path

import psutil

from bench.clusters import queue_on_disk
from bench.load import Target, get_request, put_request
from emporium.cluster import Cluster, python_service, shard_settings
from emporium.environment import ROOT
from emporium.peers import Peer
from emporium.ports import Ports
from serverLB import primary_of

NDB = 4
DIGEST_LENGTH = 2
TEAS_OF_A_SHARD = 512  # more than wait at a time: those of one tea that travel together are one load
PATIENCE_S = 10
MB = 1e6


@contextmanager
def opened(programs, slowed_to=None):
    """Inside, a Ground serves. `slowed_to`: {index of a shard: operations a second that it does at most}."""
    parent = ROOT / "var" / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        cluster = _cluster(Path(folder), programs, slowed_to or {})
        with cluster:
            yield Ground(cluster)


def _cluster(folder, programs, slowed_to):
    def log_of(name):
        return folder / f"{name}.log"

    layout = Ports.find_free(NDB)
    cluster = Cluster(layout, NDB, DIGEST_LENGTH, folder, log_of, programs, queue_options=queue_on_disk(folder))
    for index, operations_per_s in slowed_to.items():
        settings = {**shard_settings(index, layout, NDB, DIGEST_LENGTH), "slowed-to": operations_per_s}
        cluster.shards[index] = python_service(f"db{index}", "serverDB.py", layout.db(index), log_of, settings)
    return cluster


class Ground:
    """A cluster that serves, requests for it, and what it shows of itself."""

    def __init__(self, cluster):
        self.cluster = cluster
        self._counts = count(1)  # each write's clock dominates those before it

    # ---- requests: each of these is () -> the next one, as bytes

    def reads(self, shard, query=""):
        """Reads of teas whose primary is this shard. `query`: such as "?consistency=weak"."""
        teas = teas_of(shard)
        half = len(teas) // 2  # a read right behind a write is not of the same tea
        requests = cycle([get_request(path_of(tea) + query) for tea in (*teas[half:], *teas[:half])])
        return lambda: next(requests)

    def writes(self, shard):
        """Writes of the same teas."""
        paths = cycle([path_of(tea) for tea in teas_of(shard)])

        def next_write():
            number = next(self._counts)
            return put_request(next(paths), b'{"rating": %d, "clock": {"bench": %d}}' % (number % 5, number))

        return next_write

    def half_and_half(self, shard):
        """A write and a read in turn."""
        turns = cycle([self.writes(shard), self.reads(shard)])
        return lambda: next(turns)()

    # ---- what it shows, and does

    def wait_until(self, condition, what):
        """Returns when condition() holds. Raises TimeoutError after PATIENCE_S. Blocks all load meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {PATIENCE_S} s still not: {what}")
            time.sleep(0.001)

    def status_of(self, service):
        return Peer(service.name, "127.0.0.1", service.port, PATIENCE_S).call("GET", "/status").read()

    def memory_mb(self):
        """{service: its resident memory}."""
        return {each.name: psutil.Process(each.process.pid).memory_info().rss / MB for each in self.cluster.services}

    @contextmanager
    def stopped(self, service):
        """Inside, the process is there and does nothing: it accepts connections and never answers."""
        process = psutil.Process(service.process.pid)
        service.signal(signal.SIGSTOP)
        try:
            self.wait_until(lambda: process.status() == psutil.STATUS_STOPPED, f"{service.name} is stopped")
            yield
        finally:
            service.signal(signal.SIGCONT)


def teas_of(shard, number=TEAS_OF_A_SHARD):
    """Names of teas whose primary is this shard."""
    names = (f"bench-{index}" for index in count())
    mine = (name for name in names if primary_of(name, NDB) == shard)
    return [next(mine) for _ in range(number)]


def path_of(tea):
    return f"/rating/{tea}"


def target_of(service):
    return Target("127.0.0.1", service.port)
