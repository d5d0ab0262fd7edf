"""One run: from its plan to its verdict."""

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count

import msgspec

import serverDB
from emporium import wire
from emporium.shard import Read, Write
from emporium.siblings import Sibling
from simulator import oracle
from simulator.ledger import Ledger, sibling_of
from simulator.network import Network
from simulator.nodes import FITTING, ShardNode
from simulator.plan import TEAS, Ask, Get, plan_of, primary_of
from simulator.queuenode import QueueNode
from simulator.world import Violation, World
from vectorclock import VectorClock

ENOUGH_WRITES, ENOUGH_FAULTS = 20, 3
FLUSH = "settling"  # the tea whose writes push the others out of the digests
ARMED = FITTING["redis"] | FITTING["call"]


@dataclass
class Outcome:
    """What came of a run.

    failure  the Violation, or the exception of the code under test; None when it passed
    faults   how many of the plan's changed something
    counts   of outcomes of operations
    """

    failure: Exception | None
    faults: int
    counts: dict
    effects: int
    trace: list | None = None

    @property
    def counts_as_run(self):
        return self.counts["acknowledged"] >= ENOUGH_WRITES and self.faults >= ENOUGH_FAULTS

    @property
    def rule(self):
        """Which rule was broken: a word to tell one failure from another."""
        return getattr(self.failure, "rule", type(self.failure).__name__) if self.failure else None

    @property
    def hash(self):
        return blake2b("\n".join(self.trace).encode(), digest_size=16).hexdigest()


def run_seed(seed, with_trace=False):
    return run_plan(plan_of(seed), with_trace)


def run_plan(plan, with_trace=False):
    trace = [] if with_trace else None
    run = Run(plan, trace)
    failure = None
    with _silence(), _in_portions_of(plan.settings.portion):
        try:
            run.go()
        except Exception as error:  # noqa: BLE001 - whatever the code under test raises is a finding
            failure = error
    if with_trace and failure:
        trace.append(f"{type(failure).__name__}: {failure}")
    return Outcome(failure, len(run.world.hits), run.ledger.counts, run.world.effects, trace)


@contextmanager
def _silence():
    """Inside, the shards' warnings go nowhere: there are thousands, and what they tell is planned."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _in_portions_of(records):
    """Inside, what travels and is merged at a time is so small that a few records already need several portions."""
    before = wire.MOST_RECORDS, serverDB.PORTION_RECORDS, serverDB.PORTION_SIBLINGS
    if records:
        wire.MOST_RECORDS, serverDB.PORTION_RECORDS, serverDB.PORTION_SIBLINGS = records + 1, records, 2 * records
    try:
        yield
    finally:
        wire.MOST_RECORDS, serverDB.PORTION_RECORDS, serverDB.PORTION_SIBLINGS = before


class Run:
    def __init__(self, plan, trace):
        self.plan, self.settings = plan, plan.settings
        self.world = World(trace)
        self.network = Network(self.world)
        self.ledger = Ledger()
        self.queue = self.network.services["q"] = QueueNode(self.world, count(1))
        self.nodes = []
        self.teas = TEAS[: self.settings.teas]

    def go(self):
        """Carry out the plan, heal everything, and judge. Raises Violation, and what the code under test raises."""
        for shard_id in range(self.settings.ndb):
            node = ShardNode(self.world, self.network, self.settings, shard_id)
            self.network.services[node.name] = node
            self.nodes.append(node)
            oracle.Replica(node, self.ledger)
        steps, index = self.plan.steps, 0
        while index < len(steps):
            first, inside = steps[index], []
            index += 1
            while index < len(steps) and steps[index].inside:
                inside.append((steps[index].inside, self._event(steps[index])))
                index += 1
            self.world.pass_time(getattr(first, "pause_s", 0))
            self.world.run(self._event(first), inside)
        self._settle()

    def _event(self, step):
        return lambda: self._ask(step) if isinstance(step, Ask) else self._fail(step)

    # ---- clients

    def _ask(self, ask):
        """Carry out what clients ask. False when the shard is at work."""
        node = self.nodes[ask.shard]
        if node.process is not None and node.process.depth:
            return False
        asked = [(each, None if isinstance(each, Get) else self.ledger.sibling_for(each)) for each in ask.operations]
        floors = {each.tea: self.ledger.floor[each.tea] for each in ask.operations}
        for operation, sibling in asked:
            if sibling is not None:
                self.ledger.asked(operation.tea, sibling)
        if ask.fate == "late":
            self.world.later(ask.pause_s * 3, lambda: self._carry_out(ask, asked, floors))
            for _, sibling in asked:
                if sibling is not None:
                    self.ledger.unknown()
        else:
            self._carry_out(ask, asked, floors)
        return True

    def _carry_out(self, ask, asked, floors):
        node, world = self.nodes[ask.shard], self.world
        if world.trace is not None:
            world.note(
                "client", f"{ask.number} asks db{ask.shard}{' ' + ask.fate if ask.fate else ''}", *map(_told, asked)
            )
        if node.process is None:
            outcomes = [None] * len(asked) if ask.fate else [REFUSED] * len(asked)
        else:
            node.is_crowded = ask.is_crowded
            outcomes = node.operate([_operation(*each) for each in asked])
            node.is_crowded = False
            if outcomes is False:
                outcomes = [REFUSED] * len(asked)
        if outcomes is None or ask.fate:
            outcomes = [None] * len(asked)
        if ask.fate == "late":
            return
        for (operation, sibling), outcome in zip(asked, outcomes, strict=True):
            self._answered(ask, operation, sibling, outcome, floors[operation.tea])

    def _answered(self, ask, operation, sibling, outcome, floor):
        """Enter one outcome into the ledger; None: no answer came."""
        world, tea = self.world, operation.tea
        status = outcome.status if outcome else None
        if world.trace is not None:
            world.note("client", f"{ask.number} hears", status, bytes(outcome.body) if outcome else "nothing")
        if sibling is not None:
            if status == 200:
                self.ledger.acknowledged(tea, sibling)
            elif status == 503:
                self.ledger.refused(tea, sibling)
            elif status in (None, 504):
                self.ledger.unknown()
            else:
                raise Violation("unexpected answer", f"{status} to {operation}: {bytes(outcome.body)}")
        elif status == 200:
            reading = msgspec.json.decode(outcome.body)
            siblings = tuple(map(sibling_of, reading["clocks"], reading["choices"]))
            is_strong = primary_of(tea, self.settings.ndb) == ask.shard
            self.ledger.read(operation.client, tea, siblings, floor if is_strong else None)
        elif status not in (None, 503):
            raise Violation("unexpected answer", f"{status} to {operation}: {bytes(outcome.body)}")

    # ---- faults

    def _fail(self, fault):
        """Let this happen, or lie in wait for its effect."""
        node = self.nodes[fault.shard]
        if fault.kind in ARMED:
            node.armed.append([fault, fault.after])
        elif fault.kind == "kill":
            node.kill(fault)
        elif fault.kind == "redis-dies":
            node.stop_redis(fault)
        elif fault.kind == "queue-dies":
            if not self.queue.is_down:
                self.queue.stop(fault)
        elif fault.kind == "cut":
            self.network.cut(node.name, "q", fault)
            self.world.later(fault.seconds, lambda: self.network.heal(node.name, "q"))
        return True

    # ---- the end

    def _settle(self):
        """Heal everything, let it come to rest, and judge."""
        world = self.world
        world.is_calm = True
        for node in self.nodes:
            node.armed.clear()
        self.network.heal()
        world.note("world", "heals")
        world.pass_time(15)  # all that died is back, and was noticed
        self._gossip_to_the_end()
        oracle.check_replicas(self.nodes, self.teas, self.ledger)
        self._rest()

    def _gossip_to_the_end(self):
        """As in the course gossip moves with requests only: ask everywhere, and push out what the digests hold."""
        length = self.settings.digest_length
        for number in range(3 * self.settings.ndb + 3):
            for node in self.nodes:
                clock = {f"s{node.shard_id}": number}
                writes = [Write(FLUSH, Sibling(i, VectorClock.fromDict(clock))) for i in range(length)]
                self._must(node, [*writes, Read(FLUSH)])
            if number >= self.settings.ndb and not oracle.differing(self.nodes, self.teas):
                return

    def _must(self, node, operations):
        outcomes = node.operate(operations)
        for outcome in outcomes or [None]:
            if outcome is None or outcome.status != 200:
                raise Violation("not available", f"{node.name} answers {outcome} when all is well again")

    def _rest(self):
        """That nothing goes round for ever: with reads alone, the channels run dry."""
        before = None
        for _ in range(2 * self.settings.ndb + 4):
            for node in self.nodes:
                self._must(node, [Read(FLUSH)])
            told = self.queue.put_count
            if told == before and self.queue.waiting() == 0:
                return
            before = told
        raise Violation("no rest", f"{self.queue.waiting()} records still go round")


class _Refused:
    status, body = 503, b"{}"


REFUSED = _Refused()


def _operation(operation, sibling):
    if sibling is None:
        return Read(operation.tea)
    clock, rating = sibling
    return Write(operation.tea, Sibling(rating, VectorClock.fromDict(dict(clock))))


def _told(asked):
    operation, sibling = asked
    if sibling is None:
        return f"get {operation.tea};"
    return f"put {operation.tea} {sibling[1]} at {dict(sibling[0])};"
