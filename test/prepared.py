"""Servers that start in a fraction of the time: copies of a process that has imported their libraries already.

    prepared.py -- asks --> copied.py: flask, granian, redis are imported
                              |-- fork --> serverDB.py '<settings>'     a process like any other, with its own pid,
                              |-- fork --> serverQ.py '<settings>'      session and log
                              '-- ...

Of the 0.7 s of CPU that a server needs to start most goes into the import of other people's libraries, and the tests
start some hundred servers. A copy differs from a server that is started by hand in two things only: all copies salt
their hashes alike, and `ps` shows another name. How servers start and end is tried on such as are started by hand
(test_servers.py, test_tea.py, test_run.py, test_docs.py).

A copy dies with copied.py, and that with pytest, however it ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from emporium import service
from emporium.environment import ROOT

COPIED = Path(__file__).with_name("copied.py")
LOOK_AGAIN_S = 0.005


class Service(service.Service):
    """A service that is a copy if it is a Python program whose output goes to a file, else one as ever."""

    def start(self):
        if self.command[0] != sys.executable or callable(self._log):
            super().start()
            return
        open(self._log, "ab").close()  # who looks into it may come before the copy
        environ = {name: value for name, value in os.environ.items() if name != "PORT"}
        self.process = Copy({"argv": self.command[1:], "log": str(self._log), "environ": environ, "cwd": str(ROOT)})


class Copy:
    """What is used of a subprocess.Popen, for a server that is copied.py's child."""

    _lock = threading.Lock()
    _copied = None  # the process that runs copied.py, from the first server on

    def __init__(self, server):
        self.returncode = None
        self._polling = threading.Lock()
        if Copy._copied is None:
            Copy._copied = _copied_py()
        self.pid = self._ask(server)

    @classmethod
    def end(cls):
        """End copied.py, and so what is left of its copies."""
        if cls._copied:
            cls._copied.communicate(timeout=service.STOP_S)
            cls._copied = None

    def poll(self):
        with self._polling:  # only one is told of its end, and who asks once more ends copied.py
            return self._poll()

    def _poll(self):
        if self.returncode is None:
            self.returncode = self._ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(LOOK_AGAIN_S)
        return self.returncode

    def send_signal(self, number):
        with self._polling:  # until somebody is told of its end, the pid is nobody else's
            if self._poll() is None:
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _ask(self, question):
        with self._lock:
            self._copied.stdin.write(json.dumps(question).encode() + b"\n")
            self._copied.stdin.flush()
            return json.loads(self._copied.stdout.readline())


def _copied_py():
    """As every service, it dies with the thread that starts it, which is the main one."""
    command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, str(COPIED)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
