"""`./tea` as people type it: one command, or a cluster that runs in the foreground."""

import json
import subprocess
import sys

from harness import eventually, is_alive

from emporium import running
from emporium.environment import ROOT
from emporium.ports import Ports

OPEN_S = 40  # the services of a cluster have 20 s to answer, and its shards 5 s to serve
TEA = [sys.executable, str(ROOT / "tea")]


def tea(*words, **options):
    """The finished command: its returncode, stdout and stderr."""
    return subprocess.run([*TEA, *map(str, words)], capture_output=True, text=True, timeout=60, check=False, **options)


class Up:
    """`./tea up` in the foreground, on free ports; without the view, unless the test is about it."""

    def __init__(self, data, ndb=2, layout=None, extra=(), output=None, with_view=False, **options):
        self.data = data
        self.layout = layout or Ports.find_free(ndb)
        self.base = ["--port-base", str(self.layout.base)]
        command = [*TEA, "up", "--ndb", str(ndb), "--data", str(data), *self.base, *extra]
        command += [] if with_view else ["--no-view"]
        self._output = data.parent / f"{data.name}.out"
        with open(self._output, "w") as file:
            output = output or file
            self.process = subprocess.Popen(command, stdout=output, stderr=output, **options)
        self.pids = []

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.kill()
        self.process.wait()

    def wait_until_open(self):
        def is_open():
            assert self.process.poll() is None, self.said()
            return "Try:" in self.said()

        eventually(is_open, "the cluster is open", OPEN_S)
        self.pids = [service["pid"] for service in self.services()]
        return self

    def said(self):
        return self._output.read_text()

    def now(self, name):
        """How the service is, as `./tea status` asks it, without the time that a command takes."""
        return next(row for row in running.ask_all(self.note()) if row["name"] == name)

    def pid_of(self, name):
        """The pid of the service, None while it is dead."""
        return self.now(name)["pid"]

    def serves_again(self, name, pid):
        """Whether the service serves in another process than this one."""
        now = self.now(name)
        return now["up"] and now["pid"] != pid

    def note(self):
        """What the launcher has noted for others."""
        return running.find(self.layout.base)

    def noted_pid_of(self, name):
        return next(service.pid for service in self.note().services if service.name == name)

    def status(self):
        return json.loads(tea("status", "--json", *self.base).stdout)["services"]

    def services(self):
        """The same as status, without the time that a command takes; nothing while no cluster is open."""
        try:
            return running.ask_all(self.note())
        except running.NotRunning:
            return []

    def all_are_gone(self):
        return not any(is_alive(pid) for pid in self.pids)
