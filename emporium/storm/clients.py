"""The clients of a storm: threads that write, read and delete through the load balancer, and note what comes of it.

Each keeps a steady pace, whatever happens, as users do who try again a moment later, and makes up for the last second
in which it was held up. Half of what they do is for a few teas that change every ten seconds, so that clients meet.
Some teas are also deleted, and only those.
"""

import random
import threading
from contextlib import contextmanager
from typing import Annotated

import msgspec

from emporium import wire
from emporium.failures import BadAnswer, NoAnswer, NotReached
from emporium.peers import Peer
from emporium.storm.history import DELETE, FAIL, OK, READ, UNKNOWN, WEAK, WRITE, Operation, Pair
from vectorclock import VectorClock

CLIENTS = 10
PACE_S = 0.05  # between two begins of a client
ARREARS_S = 1.0  # that a client makes up for when it was held up
DEADLINE_S = 3.0  # the load balancer gives up after 2 s
TEAS = 200
DELETED_EVERY = 10  # every tenth tea is also deleted
HOT, HOT_S = 8, 10.0
RATINGS = 100_000  # of each client, so that every write is told from every other one

# What each status means, and for which operations the protocol allows it.
OUTCOMES = {
    200: (OK, {WRITE, READ, WEAK, DELETE}),
    404: (OK, {DELETE}),  # nothing was there
    409: (FAIL, {WRITE}),
    503: (FAIL, {WRITE, READ, WEAK, DELETE}),
    504: (UNKNOWN, {WRITE, DELETE}),
}
METHODS = {WRITE: "PUT", READ: "GET", WEAK: "GET", DELETE: "DELETE"}


class Seen(msgspec.Struct):
    """The siblings in the answer to a read."""

    choices: list[int | float]
    clocks: list[dict[str, Annotated[int, msgspec.Meta(ge=0)]]]


def teas():
    """The names of all teas."""
    return [f"storm-{number:03}" for number in range(TEAS)]


def is_deleted(tea):
    """Whether clients also delete it."""
    return int(tea.rpartition("-")[2]) % DELETED_EVERY == 0


class Client:
    """One client; only one thread may use it. `now()` is the storm's time in seconds."""

    def __init__(self, number, seed, port, history, now):
        self.number, self.name = number, f"c{number}"
        self._chance = random.Random(f"{seed} {number}")
        self._peer = Peer("the load balancer", "127.0.0.1", port, DEADLINE_S)
        self._history, self._now = history, now
        self._teas = teas()
        self._count = 0  # of writes
        self._seen = {}  # {tea: the entries of the clock that subsumes all it has seen}
        self._own = {}  # {tea: the entries of the clock of its last write}

    def act(self):
        """Do one thing or other."""
        tea = self._draw_tea()
        drawn = self._chance.random()
        if drawn < 0.4:
            self.write(tea)
        elif drawn < 0.7:
            self.read(tea)
        elif drawn < 0.85:
            self.read(tea, WEAK)
        elif is_deleted(tea):
            self.delete(tea)
        else:
            self.read(tea, WEAK, self._seen.get(tea))

    def write(self, tea):
        self._count += 1
        clock = self._draw_clock(tea)
        rating = self.number * RATINGS + self._count % RATINGS
        body = wire.encode({"rating": rating, "clock": clock})
        done, _ = self._ask(WRITE, tea, body, written=Pair.of(rating, clock))
        self._own[tea] = clock
        if done.is_ok:
            self._learn(tea, [clock])

    def read(self, tea, what=READ, session=None):
        """Read it, strongly or weakly, in a session or not. Whether that succeeded."""
        headers = [f"X-Clock: {wire.encode(session).decode()}"] if session else []
        done, answer = self._ask(what, tea, session=session, headers=headers)
        if done.is_ok:
            self._learn(tea, [dict(pair.clock) for pair in done.seen])
            if "X-Clock" in answer.headers:
                self._learn(tea, [msgspec.json.decode(answer.headers["X-Clock"], type=dict[str, int])])
        return done.is_ok

    def delete(self, tea):
        self._ask(DELETE, tea)

    def _draw_tea(self):
        if self._chance.random() < 0.5:
            first = int(self._now() // HOT_S) * HOT
            return self._teas[(first + self._chance.randrange(HOT)) % TEAS]
        return self._chance.choice(self._teas)

    def _draw_clock(self, tea):
        """Most writes know what their client has seen; some know nothing; some come late, or twice with two ratings."""
        now = {self.name: self._count}
        drawn = self._chance.random()
        if drawn < 0.70:
            return self._seen.get(tea, {}) | now
        own = self._own.get(tea)
        if drawn < 0.92 or own is None or is_deleted(tea):
            return now
        return own if drawn < 0.96 else {self.name: max(0, own[self.name] - 1)}

    def _learn(self, tea, clocks):
        known = [self._seen.get(tea, {}), *clocks]
        self._seen[tea] = VectorClock.converge(map(VectorClock.fromDict, known)).asDict()

    def _ask(self, what, tea, body=None, written=None, session=None, headers=()):
        """(the Operation, which is noted; the Answer or None)."""
        path = f"/rating/{tea}" + ("?consistency=weak" if what == WEAK else "")
        begin = self._now()
        answer, status, seen, odd = None, 0, (), None
        try:
            answer = self._peer.call(METHODS[what], path, body, headers=headers)
            status = answer.status
            outcome, allowed = OUTCOMES.get(status, (UNKNOWN, ()))
            if what not in allowed:
                outcome, odd = UNKNOWN, f"answered {status} {answer.body[:300]!r}"
            elif what in (READ, WEAK) and outcome == OK:
                seen = _seen(answer)
        except NotReached:
            outcome = FAIL
        except NoAnswer:
            outcome = UNKNOWN
        except BadAnswer as error:
            outcome, odd = UNKNOWN, str(error)
        end = self._now()
        begin, end = round(begin, 6), round(end, 6)
        done = Operation(self.number, what, tea, begin, end, outcome, written, seen, session, status, odd)
        self._history.add(done)
        return done, answer


def _seen(answer):
    found = answer.read(lambda text: msgspec.json.decode(text, type=Seen))
    if len(found.choices) != len(found.clocks):
        raise BadAnswer(f"{len(found.choices)} choices and {len(found.clocks)} clocks")
    return tuple(Pair.of(*pair) for pair in zip(found.choices, found.clocks, strict=True))


@contextmanager
def at_work(port, seed, history, now):
    """Inside, the clients act. Raises what went wrong in one of them; a failed operation is nothing wrong."""
    is_over = threading.Event()
    troubles = []

    def work(client):
        due_s = now() + PACE_S * client.number / CLIENTS
        try:
            while not is_over.wait(max(0.0, due_s - now())):
                client.act()
                due_s = max(due_s + PACE_S, now() - ARREARS_S)
        except Exception as error:  # noqa: BLE001  it is raised in the thread that waits for this one
            troubles.append(error)

    threads = [
        threading.Thread(target=work, args=(Client(number, seed, port, history, now),), name=f"client-{number}")
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    if troubles:
        raise troubles[0]


def read_all(port, history, now, within_s):
    """Read all teas strongly, each until it is answered. Returns those that were not within the time."""
    client = Client(CLIENTS, 0, port, history, now)
    left = teas()
    ends_s = now() + within_s
    while left and now() < ends_s:
        left = [tea for tea in left if now() < ends_s and not client.read(tea)]
    return left
