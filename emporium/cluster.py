"""A whole cluster as processes: started, waited for, watched, and stopped without leaving one behind.

    Redis r0..r(N-1)   queue q   shards db0..db(N-1)   load balancer lb

Every process is started through `setpriv --pdeathsig KILL`: the kernel ends it when its launcher dies, however
the launcher dies. That binds it to the *thread* that starts it, so a cluster is started from the main thread.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from emporium import ports
from emporium.environment import ROOT
from emporium.peers import Peer, PeerError

COURSE_BASE = 2500
START_S = 20  # far more than it takes on two busy cores; a service that needs longer hangs
STOP_S = 6  # a service has 5 s to finish what is in flight
ASK_S = 1.0


class StartFailed(Exception):
    """A service did not come up, or could not have. The message names it and shows the end of its log."""


@dataclass(frozen=True)
class Ports:
    """Where the services of a cluster listen: as in the course, or all of it moved to another base."""

    base: int = COURSE_BASE

    @property
    def lb(self):
        return self.base

    @property
    def q(self):
        return self.base + 3500

    def db(self, index):
        return self.base + 500 + index

    def redis(self, index):
        return self.base + 3055 + index

    def all(self, ndb):
        """{service name: port}."""
        return {
            **{f"r{index}": self.redis(index) for index in range(ndb)},
            "q": self.q,
            **{f"db{index}": self.db(index) for index in range(ndb)},
            "lb": self.lb,
        }

    def require_free(self, ndb):
        """Raises StartFailed that names each taken port and its holder."""
        taken = [
            f"port {port} for {name} is taken: {ports.holder_of(port) or 'by a connection that is just closing'}"
            for name, port in self.all(ndb).items()
            if not ports.is_free(port)
        ]
        if taken:
            raise StartFailed("\n".join(taken))

    @classmethod
    def find_free(cls, ndb):
        """A layout on which all ports are free now, below those that the kernel gives to clients."""
        for _ in range(1000):
            layout = cls(random.randrange(10_000, 28_000))
            if all(ports.is_free(port) for port in layout.all(ndb).values()):
                return layout
        raise StartFailed("no free ports were found between 10000 and 32000")


class Service:
    """One process: its command, its log, and how to ask whether it answers."""

    def __init__(self, name, command, port, url, answers, log, dies_with_us=True):
        """answers   (service) -> True when it serves
        log       a file that its output is appended to, or a function that is called with each line of it
        """
        self.name = name
        self.command = command
        self.port = port
        self.url = url
        self.process = None
        self._answers = answers
        self._log = log
        self._dies_with_us = dies_with_us
        self._pump = None
        self._last_lines = []

    def start(self):
        """Start the process; returns at once."""
        bound = [_setpriv(), "--pdeathsig", "KILL", "--"] if self._dies_with_us else []
        environ = {name: value for name, value in os.environ.items() if name != "PORT"}
        options = {"cwd": ROOT, "env": environ, "stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        if callable(self._log):
            # In a session of its own, so that Ctrl-C at the terminal reaches the launcher only.
            self.process = subprocess.Popen(
                bound + self.command, stdout=subprocess.PIPE, start_new_session=True, **options
            )
            self._pump = threading.Thread(target=self._pump_lines, name=f"log-{self.name}", daemon=True)
            self._pump.start()
        else:
            with open(self._log, "ab") as log:
                self.process = subprocess.Popen(bound + self.command, stdout=log, start_new_session=True, **options)

    def wait_until_it_answers(self, deadline, is_cancelled=lambda: False):
        """Returns when it serves. Raises StartFailed when it ends before, or does not by the deadline."""
        while not self._answers(self):
            if is_cancelled():
                raise StartFailed("the start was interrupted")
            if self.process.poll() is not None:
                raise StartFailed(f"{self.name} ended at once, {self.ending()}; its log ends:\n{self.end_of_log()}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self.name} does not answer on port {self.port}; its log ends:\n{self.end_of_log()}"
                )
            time.sleep(0.01)

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def ending(self):
        """How the process ended, in words."""
        code = self.process.returncode
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"

    def end_of_log(self, lines=10):
        if callable(self._log):
            if not self.is_running:
                self._pump.join(1)
            return "\n".join(self._last_lines[-lines:])
        return "\n".join(Path(self._log).read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number):
        if self.is_running:
            self.process.send_signal(number)

    def wait_for_end(self, timeout_s):
        """True when the process is gone within the time."""
        if self.process is None:
            return True
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if self._pump:
            self._pump.join(1)
        return True

    def kill(self):
        self.signal(signal.SIGKILL)
        self.wait_for_end(STOP_S)

    def let_go(self):
        """Leave the process running behind us: from now on it is nobody's."""
        self.process.returncode = 0  # else Python warns of a child that was never waited for

    def _pump_lines(self):
        for line in self.process.stdout:
            text = line.decode(errors="replace").rstrip()
            self._last_lines = [*self._last_lines[-19:], text]
            self._log(text)
        self.process.stdout.close()


class Cluster:
    """N shards, each with its Redis, a queue and a load balancer.

    `log_of(name)` gives what Service takes as its log. `programs` are the RedisPrograms. Use it in a `with`
    statement, or call `stop` whatever happens.
    """

    def __init__(self, layout, ndb, digest_length, data, log_of, programs, redis_dies_with_us=True):
        self.layout, self.ndb, self.digest_length = layout, ndb, digest_length
        self.redis = [
            redis_service(index, layout, Path(data) / f"r{index}", log_of, programs, redis_dies_with_us)
            for index in range(ndb)
        ]
        self.queue = python_service("q", "serverQ.py", layout.q, log_of, {"id": 0, "port": layout.q, "ndb": ndb})
        self.shards = [
            python_service(
                f"db{index}", "serverDB.py", layout.db(index), log_of, shard_settings(index, layout, ndb, digest_length)
            )
            for index in range(ndb)
        ]
        self.load_balancer = python_service(
            "lb",
            "serverLB.py",
            layout.lb,
            log_of,
            {"id": 0, "port": layout.lb, "ndb": ndb, "db-base-port": layout.db(0)},
        )
        self.patience_s = START_S
        self.is_cancelled = lambda: False

    @property
    def services(self):
        return [*self.redis, self.queue, *self.shards, self.load_balancer]

    def start(self):
        """Start all and wait until each answers. Raises StartFailed, with everything stopped again."""
        self.layout.require_free(self.ndb)
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

    def stop(self):
        """Stop what runs, those who ask before those who are asked."""
        for tier in ([self.load_balancer], self.shards, [self.queue], self.redis):
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


def stop_these(services):
    """The ladder: SIGTERM to all, wait to a deadline, SIGKILL."""
    deadline = time.monotonic() + STOP_S
    for service in services:
        service.signal(signal.SIGTERM)
    for service in services:
        if not service.wait_for_end(max(0, deadline - time.monotonic())):
            service.kill()


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


def python_service(name, program, port, log_of, settings, answers=None):
    """A server of ours, or another's in its place: `python <program> '<settings as JSON>'`."""
    command = [sys.executable, str(ROOT / program), json.dumps(settings)]
    peer = Peer(name, "127.0.0.1", port, ASK_S)
    return Service(name, command, port, peer.url, answers or (lambda service: _serves(peer, service)), log_of(name))


def redis_service(index, layout, folder, log_of, programs, dies_with_us):
    """Redis number `index`. It writes each change to disk before it answers, so that it survives a kill."""
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


def _setpriv():
    found = shutil.which("setpriv")
    if found is None:
        raise StartFailed("setpriv is missing: apt install util-linux")
    return found
