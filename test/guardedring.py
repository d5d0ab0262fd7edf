"""A ring of guarded shards as `./tea up` starts it, on ports of its own: what tests of faults do to it, and ask it."""

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import redis
import requests
from asking import ask
from harness import CALL_S, JSON, MEMORY, eventually, start

from emporium import redisbinary
from emporium.cluster import Cluster, guarded_options
from emporium.ports import Ports
from serverLB import primary_of

PROMISED_S = 5  # within so many seconds after the last fault is healed, all replicas are equal
MEET_S = 20  # where that is not the matter, and a machine may have other things to do


class GuardedRing:
    """`options` go beyond those of `./tea up`; use it in a with statement: then it serves. Its logs are in `folder`."""

    def __init__(self, folder, ndb=3, digest_length=2, **options):
        self.ndb = ndb
        folder.mkdir(parents=True, exist_ok=True)
        self._stored = tempfile.TemporaryDirectory(dir=MEMORY)
        self.folder = Path(self._stored.name)
        self.layout = Ports.find_free(ndb)
        queue_options = {"data-dir": str(self.folder / "q"), "fsync": "group"}
        self.cluster = Cluster(
            self.layout,
            ndb,
            digest_length,
            self.folder,
            lambda name: folder / f"{name}.log",
            redisbinary.find_or_install(),
            queue_options=queue_options,
            shard_options=lambda index: {**guarded_options(self.folder / f"db{index}"), **options},
        )

    def __enter__(self):
        self.cluster.start()
        self.wait_until_ready()
        return self

    def __exit__(self, *failure):
        self.cluster.stop()
        self._stored.cleanup()

    # ---- as a client

    def put(self, tea, rating, **clock):
        """The answer to a write through the load balancer."""
        return ask(self.layout.lb, "PUT", f"/rating/{tea}", json.dumps({"rating": rating, "clock": clock}))

    def read(self, tea, query="", headers=JSON):
        return ask(self.layout.lb, "GET", f"/rating/{tea}{query}", headers=headers)

    def delete(self, tea):
        return ask(self.layout.lb, "DELETE", f"/rating/{tea}")

    def must_put(self, tea, rating, **clock):
        """A write that is acknowledged, perhaps after some more tries."""
        eventually(lambda: self.put(tea, rating, **clock).status == 200, f"{tea} is written")

    def choices(self, tea):
        """What a strong read answers, as soon as it does."""
        return eventually(lambda: (given := self.read(tea)).status == 200 and given, f"{tea} is read").body["choices"]

    # ---- underneath

    def primary_of(self, tea):
        return primary_of(tea, self.ndb)

    def tea_of(self, shard, start=0):
        """A name whose primary is this shard; another one for each `start`."""
        return next(name for i in range(1000) if self.primary_of(name := f"tea-{start}-{i}") == shard)

    def at(self, shard, method, path, body=None, headers=JSON):
        """The answer of one shard itself."""
        return ask(self.layout.db(shard), method, path, body, headers)

    def status(self, shard):
        return self.at(shard, "GET", "/status").body

    def redis(self, shard):
        return redis.Redis(port=self.layout.redis(shard), decode_responses=True, socket_timeout=CALL_S)

    def stored(self, shard):
        """{tea: (choices, clocks)} in the Redis of this shard, as text."""
        with self.redis(shard) as by_hand:
            keys = by_hand.keys("/rating/*")
            with by_hand.pipeline(transaction=False) as asked:
                for key in keys:
                    asked.hmget(key, "choices", "clocks")
                return dict(zip(keys, map(tuple, asked.execute()), strict=True))

    def are_equal(self):
        held = [self.stored(shard) for shard in range(self.ndb)]
        return all(each == held[0] for each in held)

    def wait_until_equal(self, within_s=MEET_S):
        eventually(self.are_equal, "all replicas are equal", within_s)

    def is_ready(self):
        return requests.get(f"http://127.0.0.1:{self.layout.lb}/readyz", timeout=CALL_S).status_code == 200

    def wait_until_ready(self):
        eventually(self.is_ready, "all shards serve", within_s=20)

    # ---- faults

    @contextmanager
    def dead(self, *services):
        """Inside, these are killed; afterwards they run again."""
        for service in services:
            service.kill()
        try:
            yield
        finally:
            for service in services:
                start(service)

    def lose_disk(self, shard):
        """A killed shard's Redis, and the note beside it, are gone for good."""
        for name in (f"r{shard}", f"db{shard}"):
            shutil.rmtree(self.folder / name)
            (self.folder / name).mkdir()

    def parts_of(self, shard):
        """The processes of a shard and of its Redis."""
        return self.cluster.shards[shard], self.cluster.redis[shard]
