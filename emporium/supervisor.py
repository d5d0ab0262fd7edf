"""Starts again what died in a cluster: after 0.1 s, then after twice as long each time, up to 2 s.

Who lived for 10 s before it died begins anew with 0.1 s.

Each death is told once: who, how, and the end of its log. A process that is stopped or hangs has not died, and is left
alone: it may go on at any moment, and a second one must not stand beside it. Nor is one started that was broken on
purpose (emporium/lab.py), before it is mended.

All of this happens on the thread that started the cluster, since the kernel ends a process together with the thread
that started it (emporium/service.py).
"""

import time
from math import inf

from emporium.service import StartFailed

FIRST_S, MOST_S, HEALTHY_S = 0.1, 2.0, 10.0
TOLD_LINES = 5


class Backoff:
    """When to start one service again. `now()` is a clock in seconds; the service was started when this was made."""

    def __init__(self, now):
        self._now = now
        self._wait_s = FIRST_S
        self._started_at = now()

    def started(self):
        self._started_at = self._now()

    def died(self):
        """In how many seconds it is to be started again."""
        if self._now() - self._started_at >= HEALTHY_S:
            self._wait_s = FIRST_S
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, MOST_S)
        return wait_s


class Supervisor:
    """Watches these services, all of which run when it is made, each time that it is asked to `look`."""

    def __init__(self, services, say, is_stopping, restarts=True, now=time.monotonic):
        """say          what a death is told to, as text
        is_stopping  () -> True as soon as nothing must be started any more
        restarts     False to leave dead what died
        """
        self._services = services
        self._say = say
        self._is_stopping = is_stopping
        self._restarts = restarts
        self._now = now
        self._backoffs = {service.name: Backoff(now) for service in services}
        self._start_at = {}  # {name of one that died: when to start it again}
        self._broken = set()  # names of those that are to stay dead

    def look(self):
        """Tell who died since the last look, and start again those whose time has come. True when one was started.

        Blocks for no longer than it takes to start a process.
        """
        dead = [service for service in self._services if not service.is_running and service.name not in self._broken]
        started = [self._attend(service) for service in dead]
        return any(started)

    def leave_dead(self, service):
        """Start this one no more, until it is mended."""
        self._broken.add(service.name)

    def mend(self, service):
        """Start this one, if it is dead, and watch it as before. True when it was started."""
        self._broken.discard(service.name)
        return not service.is_running and self._start(service)

    def _attend(self, service):
        """Do what is to be done now about one that is dead. True when it was started."""
        if service.name not in self._start_at:
            end = service.end_of_log(TOLD_LINES)
            self._mourn(
                service, f"ended {service.ending()}", f"; its log ends:\n{end}" if end else "; its log is empty"
            )
        elif self._now() >= self._start_at[service.name] and not self._is_stopping():
            return self._start(service)
        return False

    def _start(self, service):
        try:
            service.start()
        except (OSError, StartFailed) as error:  # no memory, no process left, a full disk: it may be better soon
            self._mourn(service, f"could not be started: {error}")
            return False
        self._backoffs[service.name].started()
        self._start_at.pop(service.name, None)
        return True

    def _mourn(self, service, what, log=""):
        wait_s = self._backoffs[service.name].died() if self._restarts else inf
        self._start_at[service.name] = self._now() + wait_s
        how_on = f", and starts again in {wait_s:.1f} s" if self._restarts else ""
        self._say(f"tea: {service.name} {what}{how_on}{log}")
