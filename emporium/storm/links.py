"""The links of a cluster, each led through the fault proxy: their names, their ports, and the proxy's process.

    lb>db2     the load balancer asks shard 2           db0>q      shard 0 tells and hears gossip
    db0>r0     shard 0 asks its Redis                   db0>db1    shard 0 asks shard 1

A client reaches the load balancer directly.
"""

import json
import select
import subprocess
import sys

from emporium.environment import ROOT
from emporium.ports import Ports, PortTaken, is_free
from emporium.storm.proxy import PASS

ANSWER_S = 10.0  # of a process that does nothing else; far more than it takes on a busy machine

BETWEEN = 1000  # from the base of a layout: its shards are below, its Redis servers and queue above


class ProxyFailed(Exception):
    """The fault proxy does not answer; nothing can be said of this storm."""


class Links:
    """The ports of all links: one block, of which the services are given the bases that they count from."""

    def __init__(self, ndb, layout, base):
        self.ndb, self.layout, self.base = ndb, layout, base
        shards = range(ndb)
        self.ports = {f"lb>db{i}": (base + i, layout.db(i)) for i in shards}
        self.ports |= {f"db{i}>r{i}": (base + ndb + i, layout.redis(i)) for i in shards}
        self.ports |= {f"db{i}>q": (base + 2 * ndb + i, layout.q) for i in shards}
        self.ports |= {f"db{i}>db{j}": (self._base_of(i) + j, layout.db(j)) for i in shards for j in shards if i != j}

    @classmethod
    def find_free(cls, ndb):
        """Links on ports that are free now, as those of their layout are."""
        for _ in range(100):
            layout = Ports.find_free(ndb)
            links = cls(ndb, layout, layout.base + BETWEEN)
            if all(is_free(port) for port, _ in links.ports.values()):
                return links
        raise PortTaken("no free ports for the fault proxy were found among those of a cluster")

    def of_balancer(self):
        """The settings that lead a load balancer through its links."""
        return {"db-base-port": self.base}

    def of_shard(self, index):
        """The settings that lead a shard through its links."""
        return {
            "servers": [{"host": "localhost", "port": self.ports[f"db{index}>r{index}"][0]}],
            "qport": self.ports[f"db{index}>q"][0],
            "baseDBport": self._base_of(index),
        }

    def _base_of(self, index):
        return self.base + (3 + index) * self.ndb


class Proxy:
    """The fault proxy's process. It ends with ours, however ours ends, since then its standard input does."""

    def __init__(self, ports):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "emporium.storm.proxy", json.dumps(ports)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # else what a dead one did not take is written again when its pipe is closed
            start_new_session=True,
        )
        self._hear()

    def set(self, link, mode=PASS, delay_s=0.0):
        """Change the link. Returns the harm that it has done since the start: bytes and connections."""
        asked = {"link": link, "mode": mode, "delay_s": delay_s}
        try:
            self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        except BrokenPipeError as error:
            self.close()
            raise ProxyFailed("the fault proxy has ended; its last words are above") from error
        return json.loads(self._hear())["harm"]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(ANSWER_S)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    def _hear(self):
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_S)
        line = self.process.stdout.readline() if ready else b""
        if not line.endswith(b"\n"):
            self.close()
            raise ProxyFailed("the fault proxy does not answer; its last words are above")
        return line
