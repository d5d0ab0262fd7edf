"""The cluster that a storm goes over: guarded as that of `./tea up`, with the fault proxy in each of its links."""

import json
from contextlib import ExitStack
from pathlib import Path

import redis

from emporium import redisbinary
from emporium.cluster import Cluster, guarded_options, python_service
from emporium.storm.history import Pair
from emporium.storm.links import Links, Proxy

DIGEST_LENGTH = 2
REDIS_S = 5.0
FIELDS = ("rating", "choices", "clocks")


class Ground:
    """Use it in a `with` statement: inside, the cluster serves. Its logs and all that it stores are in the folder."""

    def __init__(self, folder, ndb):
        self.ndb = ndb
        self.links = Links.find_free(ndb)
        self.proxy = None
        folder = Path(folder)
        (folder / "log").mkdir(parents=True)

        def log_of(name):
            return folder / "log" / f"{name}.log"

        self.cluster = Cluster(
            self.links.layout,
            ndb,
            DIGEST_LENGTH,
            folder,
            log_of,
            redisbinary.find_or_install(),
            queue_options={"data-dir": str(folder / "q"), "fsync": "group"},
            shard_options=lambda index: {**guarded_options(folder / f"db{index}"), **self.links.of_shard(index)},
        )
        port = self.links.layout.lb
        settings = {"port": port, "ndb": ndb, **self.links.of_balancer()}
        self.cluster.load_balancer = python_service("lb", "serverLB.py", port, log_of, settings)
        self._stack = ExitStack()

    def __enter__(self):
        with ExitStack() as stack:
            self.proxy = stack.enter_context(Proxy(self.links.ports))
            stack.enter_context(self.cluster)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure):
        self._stack.close()

    def services(self, target):
        """The services of this name; all for "all"."""
        return [service for service in self.cluster.services if target in (service.name, "all")]

    def replicas(self):
        """What each shard's Redis holds now, read there: a list of {tea: its rating, choices and clocks as bytes}."""
        return [self._replica(index) for index in range(self.ndb)]

    def _replica(self, index):
        port = self.links.layout.redis(index)
        with redis.Redis(port=port, socket_timeout=REDIS_S, socket_connect_timeout=REDIS_S) as client:
            keys = sorted(client.scan_iter(match="/rating/*", count=1000))
            with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hmget(key, *FIELDS)
                return {
                    key.decode().removeprefix("/rating/"): tuple(row)
                    for key, row in zip(keys, pipeline.execute(), strict=True)
                }


def pairs_of(stored):
    """The Pairs in one tea's rating, choices and clocks as a Redis holds them. Raises ValueError or TypeError."""
    _, choices, clocks = stored
    return {Pair.of(rating, clock) for rating, clock in zip(json.loads(choices), json.loads(clocks), strict=True)}


def differing(replicas):
    """The teas of which not all replicas hold the same, sorted."""
    teas = set().union(*replicas)
    return sorted(tea for tea in teas if len({replica.get(tea) for replica in replicas}) > 1)
