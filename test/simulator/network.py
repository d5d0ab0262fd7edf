"""How the services reach each other: calls that arrive, are lost, come twice or late, and links that are cut.

What a call says is what it says on the wire, and whoever is called answers as its server does.
"""

from emporium.failures import NoAnswer, NotReached
from emporium.peers import CONNECT_S
from simulator.world import Crashed


class Network:
    """Who is where, and which links are cut."""

    def __init__(self, world):
        self.world = world
        self.services = {}  # {name: what has answer(method, path, body) and is_down}
        self.cuts = {}  # {(name, name): the Fault that cut it}, for one direction of asking

    def cut(self, one, other, fault):
        self.cuts[one, other] = fault

    def heal(self, one=None, other=None):
        """Heal this link, or all of them."""
        if one is None:
            self.cuts.clear()
        else:
            self.cuts.pop((one, other), None)


class Peer:
    """As emporium.peers.Peer, from the process of a shard to the service of that name.

    Faults that a call can meet, beside death: call-refused, call-lost (not done, and the deadline passes),
    call-unheard (done, and the deadline passes), call-reset (done, and the connection ends), call-twice, call-late
    (done only later).
    """

    is_plain = was_plain = False
    connections_opened = 1

    def __init__(self, network, process, target, name, deadline_s):
        self._network, self._process, self._target = network, process, target
        self.name, self.deadline_s = name, deadline_s
        self.url = f"http://{target}"

    def call(self, method, path, body=None, deadline_s=None, may_repeat=True, headers=()):
        world, process, target = self._network.world, self._process, self._target
        fault = world.effect(process, "call", target)
        world.note(process.name, f"calls {target}", method, path, body or b"", f"<{fault.kind}>" if fault else "")
        deadline_s = deadline_s or self.deadline_s
        kind = fault.kind if fault else None
        cut = self._network.cuts.get((process.name, target))
        service = self._network.services[target]
        if cut is not None:
            world.hit(cut)
            world.now += CONNECT_S
            raise NotReached(f"{self.name} takes no connection", is_timeout=True)
        if service.is_down or kind == "call-refused":
            world.hit(fault if kind == "call-refused" else service.down_by)
            raise NotReached(f"{self.name} cannot be reached")
        if kind in ("call-lost", "call-late"):
            world.hit(fault)
            if kind == "call-late":
                world.later(fault.seconds, lambda: self._late(method, path, body))
            self._silent(deadline_s)
        if kind == "call-twice":
            world.hit(fault)
            self._delivered(method, path, body)
        answer = self._delivered(method, path, body)
        world.done(process, fault)
        if kind in ("call-unheard", "call-reset"):
            world.hit(fault)
            if kind == "call-reset":
                raise NoAnswer(f"{self.name} did not answer: the connection ended")
            self._silent(deadline_s)
        return answer

    def call_ours(self, path, body):
        return self.call("POST", path, body)

    def _silent(self, deadline_s):
        self._network.world.now += deadline_s
        raise NoAnswer(f"{self.name} did not answer within {deadline_s} s", is_timeout=True)

    def _delivered(self, method, path, body):
        try:
            return self._network.services[self._target].answer(method, path, body)
        except Crashed as crash:
            if crash.process is self._process:
                raise
            raise NoAnswer(f"{self.name} did not answer: the connection ended") from crash

    def _late(self, method, path, body):
        if not self._network.services[self._target].is_down:
            self._network.world.note("late", f"for {self._target}", method, path, body or b"")
            try:
                self._network.services[self._target].answer(method, path, body)
            except Crashed as crash:
                self._network.world.note(crash.process.name, "died of a late call")
