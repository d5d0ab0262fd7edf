"""Carries a plan out on the ground, starts again what it killed, and notes what hit.

A fault counts only when its effect was seen: the process was there and died, the process stopped, the link swallowed,
delayed or reset something. It runs in the main thread, to which the life of the services is bound.
"""

import heapq
import signal
import time
from itertools import count

import msgspec
import psutil

from emporium.service import StartFailed
from emporium.storm.plan import KILL, STOP, Fault

LOOK_S = 0.05  # how often it looks for processes that ended or came back by themselves
STOPPED_S = 0.5  # within this time a process that got SIGSTOP stands still
HEAL_S = 20.0  # for everything to answer again; far more than a start takes on a busy machine


class Happened(msgspec.Struct, eq=False):
    """What came of a fault of the plan. `back_s`: when all the processes that it killed answered again."""

    fault: Fault
    began_s: float
    ended_s: float | None = None
    back_s: float | None = None
    has_hit: bool = False


class Faults:
    """`now()` is the storm's time in seconds, `say(line)` tells whoever watches."""

    def __init__(self, plan, ground, now, say):
        self.happened = []
        self.deaths = []  # of processes that ended by themselves, in words
        self._ground, self._now, self._say = ground, now, say
        self._order = count()  # of what is due at the same time
        self._agenda = []
        self._down = {}  # {service that is dead on purpose: the Happened that killed it}
        self._rising = {}  # {service that was started again and does not answer yet: the same}
        self._harm_before = {}
        for fault in plan:
            self._at(fault.at_s, self._begin, fault)

    def carry_out(self, until_s):
        """Returns at that time, all faults ended."""
        while self._now() < until_s or self._agenda:
            self._look()
            while self._agenda and self._agenda[0][0] <= self._now():
                _, _, do, what = heapq.heappop(self._agenda)
                do(what)
            next_s = self._agenda[0][0] if self._agenda else until_s
            time.sleep(max(0.0, min(LOOK_S, next_s - self._now())))

    def heal(self):
        """Wait until all that was started again answers. Returns what does not, in words."""
        troubles = []
        deadline = time.monotonic() + HEAL_S
        for service in self._ground.cluster.services:
            try:
                service.wait_until_it_answers(deadline)
            except StartFailed as error:
                troubles.append(str(error))
        self._look()
        return troubles

    def _at(self, time_s, do, what):
        heapq.heappush(self._agenda, (time_s, next(self._order), do, what))

    def _begin(self, fault):
        happened = Happened(fault, self._now())
        self.happened.append(happened)
        self._say(f"{fault.what} {fault.target} for {fault.for_s:.2f} s")
        if fault.what == KILL:
            self._kill(happened)
        elif fault.what == STOP:
            [service] = self._ground.services(fault.target)
            happened.has_hit = _stop(service)
        else:
            self._harm_before[id(happened)] = self._ground.proxy.set(fault.target)
            self._ground.proxy.set(fault.target, fault.what, fault.delay_s)
        self._at(self._now() + fault.for_s, self._end, happened)

    def _kill(self, happened):
        services = [service for target in happened.fault.targets for service in self._ground.services(target)]
        alive = [service for service in services if service.is_running]
        for service in alive:  # at once, and not one after the other
            service.signal(signal.SIGKILL)
        ended = [service for service in alive if service.wait_for_end(HEAL_S)]
        happened.has_hit = len(ended) == len(services)
        for service in ended:
            self._rising.pop(service, None)
            self._down[service] = happened

    def _end(self, happened):
        fault = happened.fault
        if fault.what == KILL:
            for service in [service for service, by in self._down.items() if by is happened]:
                del self._down[service]
                service.start()
                self._rising[service] = happened
        elif fault.what == STOP:
            [service] = self._ground.services(fault.target)
            service.signal(signal.SIGCONT)
        else:
            happened.has_hit = self._ground.proxy.set(fault.target) > self._harm_before.pop(id(happened))
        happened.ended_s = self._now()

    def _look(self):
        """Note what answers again, and what has ended by itself; the latter is started again, too."""
        for service, happened in list(self._rising.items()):
            if service.answers():
                del self._rising[service]
                if happened not in self._rising.values() and happened not in self._down.values():
                    happened.back_s = self._now()
        for service in self._ground.cluster.services:
            if not service.is_running and service not in self._down:
                words = f"{service.name} ended {service.ending()} at {self._now():.3f} s; its log ends:"
                self.deaths.append(f"{words}\n{service.end_of_log()}")
                self._rising.pop(service, None)
                service.start()


def _stop(service):
    """Send SIGSTOP. Whether the process stands still."""
    if not service.is_running:
        return False
    service.signal(signal.SIGSTOP)
    process = psutil.Process(service.process.pid)
    deadline = time.monotonic() + STOPPED_S
    while time.monotonic() < deadline:
        if process.status() == psutil.STATUS_STOPPED:
            return True
        time.sleep(0.005)  # between two looks at the condition
    return False
