"""Servers of ours forked off from a process that has imported them: started in a tenth of the time that Python takes.

Each is a process of its own, as those of emporium/cluster.py, and is killed like them. It ends with the process that it
was forked from, and that one with the process that asked for it.
"""

import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

from emporium import failpoints
from emporium.environment import ROOT
from emporium.service import Service

PROGRAMS = ("serverDB", "serverLB", "serverQ")
PR_SET_PDEATHSIG = 1


def forked(service, forks):
    """The same Service, forked off from now on."""
    return ForkedService(
        service.name, service.command, service.port, service.url, service._answers, service._log, forks
    )


def forks():
    """What ForkedServices are forked off from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PROGRAMS, __name__])
    return context


class ForkedService(Service):
    """`failpoint` is where the next process of it dies, as in TEA_FAILPOINT; None: nowhere."""

    def __init__(self, name, command, port, url, answers, log, forks):
        super().__init__(name, command, port, url, answers, log)
        self.failpoint = None
        self._forks = forks

    def start(self):
        _, program, settings = self.command
        arguments = (Path(program).stem, settings, os.fspath(self._log), self.failpoint)
        self.process = _Process(self._forks.Process(target=_run, args=arguments, name=self.name))


class _Process:
    """What Service asks of a subprocess.Popen."""

    def __init__(self, process):
        process.start()
        self._process = process
        self.pid = process.pid

    def poll(self):
        return self._process.exitcode

    @property
    def returncode(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout_s):
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout_s)


def _run(program, settings, log, failpoint):
    """In the new process: be `python <program>.py '<settings>'`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(ROOT)
    if failpoint:
        failpoints.hit = failpoints.armed(failpoint)
    sys.argv = [f"{program}.py", settings]
    importlib.import_module(program).main()
