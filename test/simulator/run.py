"""One run: from its plan to its verdict."""

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count

import serverDB
from emporium import fingerprints, wire
from emporium.shard import Read, Write
from emporium.siblings import Sibling
from simulator import oracle
from simulator.clients import Clients
from simulator.ledger import Ledger
from simulator.network import Network
from simulator.nodes import ShardNode
from simulator.plan import MEMORY, TEAS, Ask, plan_of, primary_of
from simulator.process import FITTING
from simulator.queuenode import QueueNode
from simulator.world import Violation, World
from vectorclock import VectorClock

ENOUGH_WRITES, ENOUGH_FAULTS = 20, 3
FLUSH = "settling"  # the tea whose writes push the others out of the digests
BUCKETS = 16  # of fingerprints: few, since there are few teas, and thousands of processes that make them
NOTICED_S = 1.5  # after which everybody has noticed that those who were away are back
MEET_S, LOOKS = 5.0, 20  # how long replicas may take to meet when all is well, and how often that is looked at
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
    def summary(self):
        """The figures in words."""
        counted = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return f"{self.effects} effects, {self.faults} faults that changed something; {counted}"

    @property
    def hash(self):
        return blake2b("\n".join(self.trace).encode(), digest_size=16).hexdigest()


def run_seed(seed, with_trace=False):
    return run_plan(plan_of(seed), with_trace)


def run_plan(plan, with_trace=False):
    trace = [] if with_trace else None
    run = Run(plan, trace)
    failure = None
    with _listening() as errors, _in_portions_of(plan.settings.portion):
        try:
            run.go()
        except (Exception, Violation) as error:  # noqa: BLE001 - whatever the code under test raises is a finding
            failure = error
    if errors and failure is None:
        failure = errors[0]
    if with_trace and failure:
        trace.append(f"{type(failure).__name__}: {failure}")
    return Outcome(failure, len(run.world.hits), run.ledger.counts, run.world.effects, trace)


class _Exceptions(logging.Handler):
    """Keeps the exceptions that were logged, where the code under test goes on after them."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        if record.exc_info:
            self.found.append(record.exc_info[1])


@contextmanager
def _listening():
    """Inside, the shards' warnings go nowhere: there are thousands, and what they tell is planned.

    Gives the list of exceptions that were logged.
    """
    before, handler, root = logging.root.manager.disable, _Exceptions(), logging.getLogger()
    logging.disable(logging.WARNING)
    root.addHandler(handler)
    try:
        yield handler.found
    finally:
        root.removeHandler(handler)
        logging.disable(before)


@contextmanager
def _in_portions_of(records):
    """Inside, what travels and is merged at a time is so small that a few records already need several portions."""
    before = wire.MOST_RECORDS, serverDB.PORTION_RECORDS, serverDB.PORTION_SIBLINGS, fingerprints.BUCKETS
    fingerprints.BUCKETS = BUCKETS
    if records:
        wire.MOST_RECORDS, serverDB.PORTION_RECORDS, serverDB.PORTION_SIBLINGS = records + 1, records, 2 * records
    try:
        yield
    finally:
        wire.MOST_RECORDS, serverDB.PORTION_RECORDS, serverDB.PORTION_SIBLINGS, fingerprints.BUCKETS = before


class Run:
    def __init__(self, plan, trace):
        self.plan, self.settings = plan, plan.settings
        self.world = World(trace)
        self.network = Network(self.world)
        self.ledger = Ledger()
        self.queue = self.network.services["q"] = QueueNode(self.world, count(1))
        self.nodes = []
        self._losers = set()  # nodes that have lost something since all replicas were last equal
        self.teas = TEAS[: self.settings.teas]
        self.queue.on_loss = self._has_lost
        self.clients = Clients(self.world, self.settings, self.ledger, self.nodes, self._survivors)

    def go(self):
        """Carry out the plan, heal everything, and judge. Raises Violation, and what the code under test raises."""
        for shard_id in range(self.settings.ndb):
            node = ShardNode(self.world, self.network, self.settings, shard_id)
            self.network.services[node.name] = node
            self.nodes.append(node)
            self._follow(node)
        if self.settings.is_guarded:
            self._wait_until(self._are_whole)  # until all have found out that nobody knows anything
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
        return lambda: self.clients.ask(step) if isinstance(step, Ask) else self._fail(step)

    def _follow(self, node):
        replica = oracle.Replica(node, self.ledger)

        def has_lost():
            replica.has_lost()
            self._losers.add(node)
            self._has_lost(node)

        node.on_loss = has_lost

    # ---- memories that are lost

    def _survivors(self):
        return oracle.surviving(self.nodes, self.queue.shelves())

    def _has_lost(self, node=None):
        """This node, or the queue, has lost something. With durability 2 all must come back that one disk has lost.

        With durability 1 only what has left in the order of gossip must be there at once: to the node's channel, and
        to the next shard that is whole. What anti-entropy gave to others may come back later.
        """
        surviving = self._survivors()
        near = surviving if node is None or self.settings.durability > 1 else self._near(node)
        for tea in self.teas:
            is_own = node is not None and primary_of(tea, self.settings.ndb) == node.shard_id
            gone = self.ledger.lower_floor(tea, (near if is_own else surviving)[tea])
            safe = gone & self.ledger.answered[tea]
            if safe and self.settings.durability > 1 and not self.queue.losses:
                raise Violation("lost with one disk", f"nobody else has {safe} of {tea!r}")

    def _near(self, node):
        """What its own channel and the next whole shard have."""
        others = self.nodes[node.shard_id + 1 :] + self.nodes[: node.shard_id]
        return oracle.surviving([other for other in others if other.is_whole][:1], self.queue.shelves(node.name))

    def _may_lose(self, node, kind):
        """Whether its loss would be the only one: what two disks have lost at once may be nowhere."""
        if not oracle.differing(self.nodes, self.teas):
            self._losers.clear()
        if kind == "redis-goes-back" and not node.is_noted:  # the power was cut just now
            return False
        return self._losers <= {node} and all(other.is_whole for other in self.nodes if other is not node)

    # ---- faults

    def _fail(self, fault):
        """Let this happen, or lie in wait for its effect."""
        node, kind = self.nodes[fault.shard], fault.kind
        if kind in MEMORY and kind != "queue-loses":
            if not self._may_lose(node, kind):
                return True
            if kind == "redis-is-flushed":
                node.flush_redis(fault)
            elif kind == "disk-is-lost":
                node.lose_disk(fault)
            elif kind == "value-is-damaged":
                node.damage(fault)
            else:
                node.stop_redis(fault)
        elif kind in ARMED:
            node.armed.append([fault, fault.after])
        elif kind == "kill":
            node.kill(fault)
        elif kind == "twin":
            node.start_twin(fault)
        elif kind == "power-fails":
            if node.is_whole:
                node.lose_power(fault)
        elif kind == "redis-dies":
            node.stop_redis(fault)
        elif kind in ("queue-dies", "queue-loses"):
            if not self.queue.is_down:
                self.queue.stop(fault)
        else:
            link = node.name, "q" if kind == "cut" else f"db{fault.other}"
            self.network.cut(*link, fault)
            self.world.later(fault.seconds, lambda: self.network.heal(*link))
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
        world.pass_time(self._longest_s() + NOTICED_S)  # all that died is back
        if not self.settings.is_guarded:
            self._gossip_to_the_end()
        else:
            self._wait_until(lambda: self._are_whole() and not oracle.differing(self.nodes, self.teas))
        oracle.check_replicas(self.nodes, self.teas, self.ledger)
        self._rest()
        oracle.check_replicas(self.nodes, self.teas, self.ledger)

    def _are_whole(self):
        return all(node.is_whole for node in self.nodes)

    def _wait_until(self, is_so):
        """Let time pass until it is, and at most MEET_S."""
        for _ in range(LOOKS):
            if is_so():
                return
            self.world.pass_time(MEET_S / LOOKS)

    def _longest_s(self):
        """When the last of those that are away, or late, is back."""
        return max((step.seconds for step in self.plan.steps if not isinstance(step, Ask)), default=0)

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
                words = outcome and (outcome.status, bytes(outcome.body))
                raise Violation("not available", f"{node.name} answers {words} when all is well again")

    def _rest(self):
        """That nothing goes round for ever: with reads alone, the channels run dry."""
        before = None
        for _ in range(2 * self.settings.ndb + 4):
            for node in self.nodes:
                mine = [tea for tea in self.teas if primary_of(tea, self.settings.ndb) == node.shard_id]
                self._must(node, [Read(tea) for tea in mine or [FLUSH]])
            told = self.queue.put_count, sum(node.exchanged for node in self.nodes)
            if told == before and self.queue.waiting() == 0:
                return
            before = told
            if self.settings.is_guarded:
                self.world.pass_time(1.1)
        raise Violation("no rest", f"{self.queue.waiting()} records still go round")
