"""The clusters that are compared: ours as `./tea up` starts it, and the baseline, on free ports, with teas in them.

Everything is gone when the `with` block ends.
"""

import json
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import redis

from emporium import wire
from emporium.cluster import START_S, Cluster, accepts_connections, guarded_options, python_service, redis_answers
from emporium.environment import ROOT
from emporium.failures import PeerError
from emporium.fingerprints import Fingerprints
from emporium.peers import Peer
from emporium.ports import Ports
from emporium.service import Service, StartFailed, stop_these
from emporium.stored import check_of
from emporium.up import KEPT_EVENTS

DIGEST_LENGTH = 2
PATIENCE_S = 10
PORTION = 1000  # teas that are stored in one go
PROBED = 16  # teas that must be served before a cluster counts as started: some of each shard


@contextmanager
def ours(programs, ndb=4, more_settings=None, is_queue_in_memory=False, is_guarded=True, is_watched=False):
    """Inside, a Running of our own servers. `more_settings` are for each of them, beside its own. Shards that are not
    guarded have the course's settings alone. One that is watched keeps a trace, and has a view.
    """
    with new_folder() as folder:
        kept = {} if is_queue_in_memory else queue_on_disk(folder)
        layout, logs = Ports.find_free(ndb), _logs(folder)
        trace = {"trace": KEPT_EVENTS} if is_watched else {}
        of_shard = trace and {**trace, "gossip-ids": True}
        guard = (lambda index: {**guarded_options(folder / f"db{index}"), **of_shard}) if is_guarded else None
        cluster = Cluster(
            layout,
            ndb,
            DIGEST_LENGTH,
            folder,
            logs,
            programs,
            queue_options={**kept, **trace},
            shard_options=guard,
            balancer_options=trace,
            view_options={} if is_watched else None,
        )
        for service in (cluster.load_balancer, *cluster.shards, cluster.queue):
            *program, settings = service.command
            service.command = [*program, json.dumps({**json.loads(settings), **(more_settings or {})})]
        yield from _running("ours", cluster)


@contextmanager
def baseline(programs, ndb=4):
    """Inside, a Running of the baseline."""
    with new_folder() as folder:
        cluster = Cluster(Ports.find_free(ndb), ndb, DIGEST_LENGTH, folder, _logs(folder), programs)
        cluster.redis = [_plain_redis(service, folder, programs) for service in cluster.redis]
        cluster.queue = _plain(cluster.queue, folder)
        cluster.shards = [_plain(service, folder) for service in cluster.shards]
        cluster.load_balancer = _plain(cluster.load_balancer, folder)
        yield from _running("baseline", cluster)


class Running:
    """A cluster that serves.

    start_s  how long it took from the start of its first process until every shard served through the load balancer
    """

    def __init__(self, name, cluster, start_s):
        self.name = name
        self.cluster = cluster
        self.start_s = start_s
        self.services = cluster.services
        self.port = cluster.load_balancer.port

    def store(self, teas, siblings=1):
        """Put these Teas into every Redis by hand, with so many siblings each, as if gossip had carried them round.

        One of the siblings is wrk's own: what it writes takes the place of that one, and their number stays.
        """
        clocks = [{"bench": 1}, *({f"client-{index:03}": 1} for index in range(1, siblings))]
        fields = {"rating": b"3", "choices": wire.encode([3] * siblings), "clocks": wire.encode(clocks)}
        names = teas.names()
        for service in self.cluster.redis:
            with redis_of(service) as client:
                for start in range(0, len(names), PORTION):
                    pipe = client.pipeline(transaction=False)
                    for name in names[start : start + PORTION]:
                        check = {"check": check_of(name, fields.values())}
                        pipe.hset(f"/rating/{name}", mapping={**fields, **check})
                    pipe.execute()
        if self.is_guarded:
            self.look_anew()

    @property
    def is_guarded(self):
        return "data-dir" in json.loads(self.cluster.shards[0].command[-1])

    def look_anew(self):
        """Start the shards anew: what was put into Redis behind their backs they know after a look at all of it."""
        stop_these(self.cluster.shards)
        self.cluster.start_these(self.cluster.shards)
        self.wait_until_it_compares()
        _wait_until_it_serves(self.cluster)

    def settle(self):
        """Let the gossip that is on its way come to its end: a load must not pay for the one before it."""
        for _ in range(2 * self.cluster.ndb):
            for service in self.cluster.shards:
                _read(service.port, "settled")

    def are_equal(self, names):
        """Whether all Redis servers hold the same values of these teas."""
        held = []
        for service in self.cluster.redis:
            with redis_of(service) as client, client.pipeline(transaction=False) as asked:
                for name in names:
                    asked.hget(f"/rating/{name}", "check")
                held.append(asked.execute())
        return None not in held[0] and all(each == held[0] for each in held)

    def folders_of(self, index):
        """Where a shard and its Redis keep what they must not forget."""
        [settings] = self.cluster.shards[index].command[2:]
        redis_command = self.cluster.redis[index].command
        return [Path(json.loads(settings)["data-dir"]), Path(redis_command[redis_command.index("--dir") + 1])]

    def wait_until_it_compares(self):
        """Returns when each shard has looked over all that it holds."""
        sums = wire.encode(wire.Sums(Fingerprints().sums(), self.cluster.ndb))
        deadline = time.monotonic() + PATIENCE_S * 10
        for service in self.cluster.shards:
            peer = Peer(service.name, "127.0.0.1", service.port, PATIENCE_S)
            while not peer.call("POST", "/replica/compare", sums).is_ok:
                if time.monotonic() > deadline:
                    raise StartFailed(f"{service.name} does not compare")
                time.sleep(0.1)


def queue_on_disk(folder):
    """The settings with which `./tea up` starts the queue, beside the course's."""
    return {"data-dir": str(folder / "q"), "fsync": "group"}


def redis_of(service):
    """A client of this Redis."""
    return redis.Redis(port=service.port, decode_responses=True, socket_timeout=PATIENCE_S)


@contextmanager
def started(make):
    """Inside, the Service that make(layout, folder, log_of) gives serves, by itself."""
    with new_folder() as folder:
        service = make(Ports.find_free(1), folder / "data", _logs(folder))
        try:
            service.start()
            service.wait_until_it_answers(time.monotonic() + START_S)
            yield service
        finally:
            stop_these([service])


def another_load_balancer(running, settings):
    """Inside, the Service of one more load balancer for the same shards, with these settings besides."""
    _python, _program, given = running.cluster.load_balancer.command

    def make(layout, _folder, log_of):
        return python_service(
            "lb-2", "serverLB.py", layout.lb, log_of, {**json.loads(given), **settings, "port": layout.lb}
        )

    return started(make)


def _running(name, cluster):
    began_s = time.monotonic()
    with cluster:
        _wait_until_it_serves(cluster)
        yield Running(name, cluster, time.monotonic() - began_s)


def _wait_until_it_serves(cluster):
    deadline = time.monotonic() + START_S
    for index in range(PROBED):
        while not _read(cluster.load_balancer.port, f"probe-{index}"):
            if time.monotonic() > deadline:
                raise StartFailed(f"a cluster does not serve on port {cluster.load_balancer.port}")
            time.sleep(0.01)


def _read(port, tea):
    """Whether a read of the tea was served."""
    try:
        return Peer("a server", "127.0.0.1", port, PATIENCE_S).call("GET", f"/rating/{tea}").is_ok
    except PeerError:
        return False


def _plain(service, folder):
    """The server of the baseline in the place of one of ours: the same settings, for these are the course's."""
    _python, program, settings = service.command
    plain = Path(program).name.replace("server", "plain")
    program = f"bench/baseline/{plain}"
    return python_service(service.name, program, service.port, _logs(folder), json.loads(settings), accepts_connections)


def _plain_redis(service, folder, programs):
    """A Redis with all as it comes, which means that nothing is synced."""
    command = [programs.server, "--port", str(service.port), "--bind", "127.0.0.1", "--databases", "1"]
    command += ["--dir", str(folder / service.name)]
    url = f"redis://127.0.0.1:{service.port}"
    return Service(
        service.name, command, service.port, url, lambda each: redis_answers(each.port), _logs(folder)(service.name)
    )


@contextmanager
def new_folder():
    """Inside, an empty folder on the disk that the project is on."""
    parent = ROOT / "var" / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def _logs(folder):
    return lambda name: Path(folder) / f"{name}.log"
