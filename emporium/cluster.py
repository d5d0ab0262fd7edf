"""A whole cluster as processes: started, waited for, and stopped without leaving one behind.

Redis r0..r(N-1)   queue q   shards db0..db(N-1)   load balancer lb
"""

import json
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from emporium.environment import ROOT
from emporium.failures import PeerError
from emporium.peers import Peer
from emporium.service import Service, stop_these

START_S = 20  # far more than it takes on two busy cores; a service that needs longer hangs
ASK_S = 1.0


class Cluster:
    """N shards, each with its Redis, a queue and a load balancer.

    `log_of(name)` gives what Service takes as its log. `programs` are the RedisPrograms. `redis_options` go beyond
    those of redis_service; `queue_options`, `shard_options(index)` and `balancer_options` beyond the course's settings
    of each; None for the course's alone. `view_options` go beyond where the view finds the others; None for no view.
    Use it in a `with` statement, or call `stop` whatever happens.
    """

    def __init__(
        self,
        layout,
        ndb,
        digest_length,
        data,
        log_of,
        programs,
        redis_dies_with_us=True,
        redis_options=None,
        queue_options=None,
        shard_options=None,
        balancer_options=None,
        view_options=None,
    ):
        self.layout, self.ndb, self.digest_length = layout, ndb, digest_length
        self.redis = [
            redis_service(index, layout, Path(data) / f"r{index}", log_of, programs, redis_dies_with_us, redis_options)
            for index in range(ndb)
        ]
        queue_settings = {"id": 0, "port": layout.q, "ndb": ndb, **(queue_options or {})}
        self.queue = python_service("q", "serverQ.py", layout.q, log_of, queue_settings)
        self.shards = [
            python_service(
                f"db{index}",
                "serverDB.py",
                layout.db(index),
                log_of,
                {
                    **shard_settings(index, layout, ndb, digest_length),
                    **(shard_options(index) if shard_options else {}),
                },
            )
            for index in range(ndb)
        ]
        balancer_settings = {"id": 0, "port": layout.lb, "ndb": ndb, "db-base-port": layout.db(0)}
        self.view = None
        if view_options is not None:
            balancer_settings["view-port"] = layout.view
            of_view = {**view_settings(layout, ndb), **view_options}
            self.view = python_service("view", "serverView.py", layout.view, log_of, of_view)
        balancer_settings |= balancer_options or {}
        self.load_balancer = python_service("lb", "serverLB.py", layout.lb, log_of, balancer_settings)
        self.patience_s = START_S
        self.is_cancelled = lambda: False

    @property
    def services(self):
        return [*self.redis, self.queue, *self.shards, self.load_balancer, *self._views]

    @property
    def _views(self):
        return [] if self.view is None else [self.view]

    def start(self):
        """Start all and wait until each answers. Raises PortTaken, or StartFailed with everything stopped again."""
        self.layout.require_free(self.ndb, with_view=self.view is not None)
        self.start_these(self.services)

    def start_these(self, services):
        """Start these, all at once: a shard does without its Redis and queue until they come."""
        deadline = time.monotonic() + self.patience_s
        try:
            for service in services:
                service.start()
            for service in services:
                service.wait_until_it_answers(deadline, self.is_cancelled)
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self, patience_s):
        """Whether every shard serves, as the load balancer sees it, within this time."""
        peer = Peer("lb", "127.0.0.1", self.load_balancer.port, ASK_S)
        deadline = time.monotonic() + patience_s
        while not self.is_cancelled():
            with suppress(PeerError):
                if peer.call("GET", "/readyz").is_ok:
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def stop(self):
        """Stop what runs, those who ask before those who are asked."""
        for tier in (self._views, [self.load_balancer], self.shards, [self.queue], self.redis):
            stop_these(tier)

    def kill(self):
        """Tell everything to end at once. Does not wait, so that a signal handler may call it; `stop` does."""
        for service in self.services:
            service.signal(signal.SIGKILL)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        self.stop()


def shard_settings(index, layout, ndb, digest_length):
    """What the course's harness passes to a shard."""
    return {
        "id": index,
        "hostport": layout.db(index),
        "servers": [{"host": "localhost", "port": layout.redis(index)}],
        "ndb": ndb,
        "qport": layout.q,
        "digest-length": digest_length,
        "baseDBport": layout.db(0),
    }


def view_settings(layout, ndb):
    """Where the view finds the others."""
    return {
        "port": layout.view,
        "ndb": ndb,
        "lb-port": layout.lb,
        "db-base-port": layout.db(0),
        "qport": layout.q,
        "redis-base-port": layout.redis(0),
    }


def guarded_options(folder):
    """The settings of ours with which a shard keeps its word whatever fails. `folder` is where it notes what it must
    know when its Redis has forgotten."""
    return {
        "data-dir": str(folder),
        "anti-entropy-s": 1,
        "tombstones": True,
        "coalesce": True,
        "durability": 1,
    }


def python_service(name, program, port, log_of, settings, answers=None):
    """A server of ours, or another's in its place: `python <program> '<settings as JSON>'`."""
    command = [sys.executable, str(ROOT / program), json.dumps(settings)]
    peer = Peer(name, "127.0.0.1", port, ASK_S)
    return Service(name, command, port, peer.url, answers or (lambda service: _serves(peer, service)), log_of(name))


def redis_service(index, layout, folder, log_of, programs, dies_with_us, more_options=None):
    """Redis number `index`. It writes each change to disk before it answers, unless `more_options` say otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    port = layout.redis(index)
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "databases": 1,
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        **(more_options or {}),
    }
    command = [programs.server, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    name = f"r{index}"
    return Service(
        name,
        command,
        port,
        f"redis://127.0.0.1:{port}",
        lambda service: redis_answers(port),
        log_of(name),
        dies_with_us,
    )


def redis_answers(port):
    """True when a Redis on this port says PONG."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ASK_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def accepts_connections(service):
    """True when anything listens on the service's port: all that can be asked of a plain course server."""
    try:
        socket.create_connection(("127.0.0.1", service.port), timeout=ASK_S).close()
    except OSError:
        return False
    return True


def _serves(peer, service):
    # The pid tells our process from another one that may have been on the port before it.
    try:
        return peer.call("GET", "/healthz").read().get("pid") == service.process.pid
    except PeerError:
        return False
