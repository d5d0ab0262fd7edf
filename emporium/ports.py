"""Where the services of a cluster listen, which ports are free, and which process holds one that is not."""

import random
import socket
from dataclasses import dataclass

import psutil

COURSE_BASE = 2500
FREE_BASES = range(10_000, 27_000)  # of layouts that anybody may have


class PortTaken(Exception):
    """Somebody else listens where a service should. The message names the ports and their holders."""


def is_free(port, host="127.0.0.1"):
    """True when a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder_of(port):
    """Who listens on the port, in words: 'it is held by pid 4711 (redis-server *:5555)'; None when nobody does."""
    try:
        listeners = [
            connection
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ]
        if not listeners:
            return None
        pid = listeners[0].pid
        if pid is None:
            return "it is held by a process of another user"
        command = " ".join(psutil.Process(pid).cmdline()).strip()
        return f"it is held by pid {pid} ({command[:120]})"
    except psutil.Error as error:
        return f"who holds it could not be found out: {error}"


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

    @property
    def view(self):
        return self.base + 5500

    def db(self, index):
        return self.base + 500 + index

    def redis(self, index):
        return self.base + 3055 + index

    def all(self, ndb, with_view=True):
        """{service name: port}."""
        ports = {
            **{f"r{index}": self.redis(index) for index in range(ndb)},
            "q": self.q,
            **{f"db{index}": self.db(index) for index in range(ndb)},
            "lb": self.lb,
        }
        return ports | {"view": self.view} if with_view else ports

    def require_free(self, ndb, with_view=False):
        """Raises PortTaken that names each taken port and its holder."""
        taken = [
            f"port {port} for {name} is taken: {holder_of(port) or 'by a connection that is just closing'}"
            for name, port in self.all(ndb, with_view).items()
            if not is_free(port)
        ]
        if taken:
            raise PortTaken("\n".join(taken))

    @classmethod
    def find_free(cls, ndb):
        """A layout on which all ports are free now, below those that the kernel gives to clients."""
        for _ in range(1000):
            layout = cls(random.choice(FREE_BASES))
            if all(is_free(port) for port in layout.all(ndb).values()):
                return layout
        raise PortTaken("no free ports were found between 10000 and 32000")
