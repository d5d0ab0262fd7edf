"""What happens, one effect after the other: time, faults that wait for their effect, and events inside of events.

An *effect* is what others could see of a process: a round trip to Redis, a call to a service. Before and after each of
them a process may die, and whole events of others may take place there, as if it were stopped for so long. There are no
threads: an event that began inside of another one has ended before that goes on.
"""

import heapq
from itertools import count

EFFECT_S = 0.0005  # what an effect takes


class Crashed(BaseException):
    """The death of `process`: nothing of the code that it runs may hold it up."""

    def __init__(self, process):
        super().__init__(process.name)
        self.process = process


class Violation(BaseException):
    """A promise was broken. `rule` names it, so that shrinking keeps to the same one.

    No Exception, since a shard goes on after those.
    """

    def __init__(self, rule, what):
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class World:
    """The clock, the order of events, and the book of what happened. `trace`: a list that gets its lines, or None."""

    def __init__(self, trace=None):
        self.now = 0.0
        self.effects = 0  # how many there have been: the time of the ledger
        self.trace = trace
        self.hits = {}  # {Fault of the plan: how often it changed something}
        self._timers = []
        self._numbers = count()
        self._inside = []  # (number of the effect at which it begins, event) of those that wait for their moment
        self.is_calm = False  # from then on nothing fails and nothing is nested

    def note(self, who, what, *details):
        if self.trace is not None:
            words = " ".join(each.decode(errors="replace") if type(each) is bytes else str(each) for each in details)
            self.trace.append(f"{self.now:9.4f} {who:<6} {what} {words}".rstrip())

    def hit(self, fault):
        """This Fault of the plan has changed something."""
        if fault is not None and not self.is_calm:
            self.hits[fault] = self.hits.get(fault, 0) + 1

    # ---- time

    def later(self, seconds, event):
        """Call event() when so much time has passed."""
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), event))

    def pass_time(self, seconds):
        """Let time pass, and what is due then happen."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now = max(self.now, self._timers[0][0])
            heapq.heappop(self._timers)[2]()
        self.now = max(self.now, until)

    # ---- events inside of events

    def run(self, event, inside=()):
        """event(), and those of `inside`, (after how many effects, event), inside of it: or after it, if it ends first.

        An event that cannot begin yet, since its process is at work, returns False, and is tried again.
        """
        begin = self.effects
        self._inside += [(begin + after, each) for after, each in inside]
        event()
        while self._inside:
            waiting, self._inside = self._inside, []
            for _, each in waiting:
                each()

    def effect(self, process, sort, what=""):
        """Note that `process` is about to have an effect of this sort. The Fault that meets it, or None.

        Raises Crashed when it is dead, or dies here.
        """
        self._between(process)
        self.effects += 1
        self.now += EFFECT_S
        fault = None if self.is_calm else process.fault_for(sort)
        if fault is not None and fault.kind == "crash-before":
            process.die(fault)
        return fault

    def done(self, process, fault=None):
        """The effect has happened, and its process does not know yet."""
        if fault is not None and fault.kind == "crash-after":
            process.die(fault)
        self._between(process)

    def _between(self, process):
        if process.is_dead:
            raise Crashed(process)
        if self._inside:
            self._begin_inside()
            if process.is_dead:
                raise Crashed(process)
        if self._timers and self._timers[0][0] <= self.now:
            self.pass_time(0)
            if process.is_dead:
                raise Crashed(process)

    def _begin_inside(self):
        ready = [each for each in self._inside if each[0] <= self.effects]
        for each in ready:
            if each in self._inside:  # not begun inside of another one meanwhile
                self._inside.remove(each)
                if each[1]() is False:
                    self._inside.append((self.effects + 1, each[1]))
