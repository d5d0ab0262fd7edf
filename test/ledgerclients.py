"""Clients that write down what was acknowledged to them, and judge each strong answer by it.

Client number k rates with the clock {"ck": n} and the rating n, a higher n each time. So an answer tells at once of
whose writes it knows, up to which one. Some teas are rated, and deleted, by one client alone; some by all.
"""

import random
import threading
from collections import defaultdict

from emporium import wire
from emporium.failures import PeerError
from emporium.peers import Peer

PAUSE_S = 0.005
AWAY_PAUSE_S = 0.03  # after an answer that says that a service is away
CALL_S = 3.0


class Broken(Exception):
    """The store has not kept its word."""


class Ledger:
    """Of all teas: what each client's count must be in a strong answer, at least. Safe to share between threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._floors = defaultdict(dict)  # {tea: {node: the highest count that was acknowledged, or read}}
        self._buried = {}  # {tea: the floors that an acknowledged delete has dominated}
        self._deletes = set()  # teas of which a delete was ever sent
        self.acknowledged = 0

    def floors(self, tea):
        with self._lock:
            return dict(self._floors[tea])

    def acknowledge(self, tea, counts):
        with self._lock:
            self.acknowledged += 1
            self._raise(tea, counts)

    def _raise(self, tea, counts):
        for node, count in counts.items():
            self._floors[tea][node] = max(count, self._floors[tea].get(node, 0))

    def delete_sent(self, tea):
        with self._lock:
            self._deletes.add(tea)

    def bury(self, tea, counts):
        with self._lock:
            self.acknowledged += 1
            self._buried[tea] = counts

    def judge(self, tea, floors, answer):
        """`floors` are those from before the strong read was sent. Raises Broken."""
        reading = answer.read()
        tops = {}
        for rating, clock in zip(reading["choices"], reading["clocks"], strict=True):
            [(node, count)] = clock.items()
            if rating != count:
                raise Broken(f"{tea}: {node} wrote {count}, and {rating} is read")
            tops[node] = count
        living = dict(tops)
        if "X-Clock" in answer.headers:
            if tea not in self._deletes:
                raise Broken(f"{tea} was never deleted: {answer}")
            tops |= wire.decode_clock(answer.headers["X-Clock"]).asDict()
        for node, floor in floors.items():
            if tops.get(node, 0) < floor:
                raise Broken(f"{tea}: {node} stood at {floor} before, and now {reading} {answer.headers}")
        with self._lock:
            for node, count in self._buried.get(tea, {}).items():
                if living.get(node, count + 1) <= count:
                    raise Broken(f"{tea} was deleted when {node} stood at {count}, and is back: {reading}")
            self._raise(tea, tops)


class Client(threading.Thread):
    """One client, at work from `start` to `end`; `failure` is what it found to be wrong, if anything was.

    own, shared  the teas that it alone rates, and those that all do
    """

    def __init__(self, number, port, own, shared, ledger):
        super().__init__(name=f"client {number}", daemon=True)
        self.failure = None
        self._node = f"c{number}"
        self._lb = Peer("lb", "127.0.0.1", port, CALL_S)
        self.own, self._shared = own, shared
        self._ledger = ledger
        self._count = 0
        self._ends = threading.Event()
        self._chance = random.Random(number)

    def end(self):
        self._ends.set()
        self.join(2 * CALL_S)

    def run(self):
        try:
            while not self._ends.is_set():
                self._ends.wait(PAUSE_S if self._act() else AWAY_PAUSE_S)
        except (Broken, ValueError) as error:
            self.failure = error

    def _act(self):
        """One operation. Whether it was answered by whoever it was for."""
        tea = self._chance.choice(self.own if self._chance.random() < 0.7 else self._shared)
        try:
            match self._chance.random():
                case x if x < 0.5:
                    return self.write(tea)
                case x if x < 0.6 and tea in self.own:
                    return self.delete(tea)
                case x if x < 0.7:
                    return self._lb.call("GET", f"/rating/{tea}?consistency=weak").is_ok
                case _:
                    return self.read(tea)
        except PeerError:  # the load balancer is away, or has died: nobody knows what was done
            return False

    def write(self, tea):
        self._count += 1
        rated = {"rating": self._count, "clock": {self._node: self._count}}
        answer = self._lb.call("PUT", f"/rating/{tea}", wire.encode(rated))
        if not answer.is_ok:
            return False
        if answer.headers.get("X-Merge") != "stored":
            raise Broken(f"{tea}: a newer write of {rated} came to {answer}")
        self._ledger.acknowledge(tea, rated["clock"])
        return True

    def delete(self, tea):
        floors = self._ledger.floors(tea)
        self._ledger.delete_sent(tea)
        answer = self._lb.call("DELETE", f"/rating/{tea}")
        if answer.is_ok:
            self._ledger.bury(tea, floors)
        return answer.is_ok or answer.status == 404

    def read(self, tea):
        floors = self._ledger.floors(tea)
        answer = self._lb.call("GET", f"/rating/{tea}")
        if answer.is_ok:
            self._ledger.judge(tea, floors, answer)
        return answer.is_ok
