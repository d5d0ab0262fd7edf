"""One process of a cluster: started with its log, waited for, and stopped by the ladder.

Every process is started through `setpriv --pdeathsig KILL`: the kernel ends it when its launcher dies, however the
launcher dies. That binds it to the *thread* that starts it, so services are started from the main thread.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from pathlib import Path

from emporium.environment import ROOT

LAST_LINES = 20  # that are kept of its output, to be shown when it ends
STOP_S = 6  # a service has 5 s to finish what is in flight
LAST_WORDS_S = 5  # for what it has said before its end to be read; a child of it may still hold its output


class StartFailed(Exception):
    """A service did not come up, or could not have. The message names it and shows the end of its log."""


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
        self._last_lines = deque()

    def start(self):
        """Start the process, again when an earlier one has ended; returns at once. Raises OSError or StartFailed."""
        bound = [_setpriv(), "--pdeathsig", "KILL", "--"] if self._dies_with_us else []
        environ = {name: value for name, value in os.environ.items() if name != "PORT"}
        options = {"cwd": ROOT, "env": environ, "stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        options["start_new_session"] = True  # so that Ctrl-C at the terminal reaches the launcher only
        if callable(self._log):
            self.process = subprocess.Popen(bound + self.command, stdout=subprocess.PIPE, **options)
            self._last_lines = deque(maxlen=LAST_LINES)  # of this life: the pump of an earlier one may still be at work
            what = self.process.stdout, self._last_lines
            self._pump = threading.Thread(target=self._pump_lines, args=what, name=f"log-{self.name}", daemon=True)
            self._pump.start()
        else:
            with open(self._log, "ab") as log:
                self.process = subprocess.Popen(bound + self.command, stdout=log, **options)

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

    def answers(self):
        """Whether it serves now. Blocks for as long as one question may take."""
        return self.is_running and self._answers(self)

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
                self._pump.join(LAST_WORDS_S)
            return "\n".join(list(self._last_lines)[-lines:])
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
            self._pump.join(LAST_WORDS_S)
        return True

    def kill(self):
        self.signal(signal.SIGKILL)
        self.wait_for_end(STOP_S)

    def let_go(self):
        """Leave the process running behind us: from now on it is nobody's."""
        self.process.returncode = 0  # else Python warns of a child that was never waited for

    def _pump_lines(self, output, last_lines):
        for line in output:
            text = line.decode(errors="replace").rstrip()
            last_lines.append(text)
            self._log(text)
        output.close()


def stop_these(services):
    """The ladder: SIGTERM to all, wait to a deadline, SIGKILL."""
    deadline = time.monotonic() + STOP_S
    for service in services:
        service.signal(signal.SIGTERM)
        service.signal(signal.SIGCONT)  # else one that was stopped on purpose would not hear of it
    for service in services:
        if not service.wait_for_end(max(0, deadline - time.monotonic())):
            service.kill()


def _setpriv():
    found = shutil.which("setpriv")
    if found is None:
        raise StartFailed("setpriv is missing: apt install util-linux")
    return found
