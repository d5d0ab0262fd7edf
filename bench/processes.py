"""What processes take: CPU time, memory, and how much of the machine everything else had meanwhile."""

import time
from contextlib import suppress

import psutil

MB = 1e6


class Cost:
    """CPU seconds of the processes of some services, from when it was made until it is asked."""

    def __init__(self, services):
        self._processes = {service.name: psutil.Process(service.process.pid) for service in services}
        self._before = self._now()

    def cpu_s(self):
        """{name: CPU seconds}."""
        return {name: now_s - self._before[name] for name, now_s in self._now().items()}

    def _now(self):
        return {name: _own_s(process.cpu_times()) for name, process in self._processes.items()}


class Others:
    """How busy everything but ourselves and the processes that we started keeps this machine."""

    def __init__(self):
        self._since_s, self._before_s = time.monotonic(), self._others_s()

    def cores(self):
        """How many cores they have kept busy since this was made, on average."""
        return max(0.0, (self._others_s() - self._before_s) / (time.monotonic() - self._since_s))

    def _others_s(self):
        return _busy_s() - own_cpu_s()


def memory_mb(services):
    """{name: proportional set size}: memory of its own, and its share of what it has in common with others."""
    return {service.name: psutil.Process(service.process.pid).memory_full_info().pss / MB for service in services}


def _busy_s():
    """CPU seconds that all cores have been busy; `steal` is what other machines on our host took."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def own_cpu_s():
    """CPU seconds of this process and of its children, those included that have ended."""
    ourselves = psutil.Process()
    times = ourselves.cpu_times()
    ours_s = _own_s(times) + times.children_user + times.children_system
    for child in ourselves.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            ours_s += _own_s(child.cpu_times())
    return ours_s


def _own_s(times):
    return times.user + times.system
