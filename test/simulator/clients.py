"""The clients: what they ask a shard for, what they hear, and what goes into the ledger of it."""

from typing import NamedTuple

import msgspec

from emporium.shard import Delete, Read, Write
from emporium.siblings import Sibling
from simulator.ledger import sibling_of
from simulator.plan import Get, Put, Remove, primary_of
from simulator.world import Violation
from vectorclock import VectorClock


class Asked(NamedTuple):
    """One operation on its way: the sibling that a Put writes, and the floor of its tea when it began."""

    operation: Put | Get | Remove
    sibling: tuple | None
    floor: frozenset


class Refused:
    """What a client hears where no process is: nothing was done."""

    status, body, clock = 503, b"{}", None


class Clients:
    """`survivors` () tells what is left of all that was stored, as oracle.surviving."""

    def __init__(self, world, settings, ledger, nodes, survivors):
        self._world, self._settings, self._ledger = world, settings, ledger
        self._nodes, self._survivors = nodes, survivors

    def ask(self, ask):
        """Carry out what clients ask. False when the shard is at work."""
        node = self._nodes[ask.shard]
        if node.process is not None and node.process.is_busy:
            return False
        asked = [self._begin(operation) for operation in ask.operations]
        if ask.fate == "late":
            self._world.later(ask.pause_s * 3, lambda: self._carry_out(ask, asked))
        outcomes = [None] * len(asked) if ask.fate == "late" else self._carry_out(ask, asked)
        for each, outcome in zip(asked, outcomes, strict=True):
            self._end(ask, each, outcome)
        return True

    def _begin(self, operation):
        ledger, tea = self._ledger, operation.tea
        sibling = None
        if isinstance(operation, Put):
            sibling = ledger.sibling_for(operation)
            ledger.asked(tea, sibling)
        elif isinstance(operation, Remove):
            ledger.deletes[tea] += 1
        return Asked(operation, sibling, ledger.floor[tea])

    def _carry_out(self, ask, asked):
        """The outcome of each, None where no answer came."""
        node, world = self._nodes[ask.shard], self._world
        if world.trace is not None:
            world.note("client", f"{ask.number} asks db{ask.shard} {ask.fate}", *map(_told, asked))
        losses = self._losses()
        if node.process is None:
            outcomes = [Refused] * len(asked)
        else:
            node.is_crowded = ask.is_crowded
            outcomes = node.operate([self._operation(each, ask) for each in asked])
            node.is_crowded = False
            if outcomes is False:
                outcomes = [Refused] * len(asked)
        self._has_lost = self._losses() != losses
        return [None] * len(asked) if outcomes is None or ask.fate else outcomes

    def _end(self, ask, asked, outcome):
        """Enter one outcome into the ledger."""
        operation, sibling, floor = asked
        ledger, tea = self._ledger, operation.tea
        status = outcome.status if outcome else None
        if self._world.trace is not None:
            self._world.note("client", f"{ask.number} hears", status, bytes(outcome.body) if outcome else "nothing")
        if status == 404 and isinstance(operation, Remove):
            if ledger.deletes[tea] == 1 and floor - ledger.lost[tea]:
                raise Violation("acknowledged and lost", f"a delete of {tea!r} finds nothing, and there was {floor}")
        elif status not in (200, 503, 504, None):
            raise Violation("unexpected answer", f"{status} to {operation}: {bytes(outcome.body)}")
        elif isinstance(operation, Get):
            if status == 200:
                is_strong = self._is_primary(tea, ask.shard)
                ledger.read(operation.client, tea, *_reading(outcome), floor if is_strong else None)
        elif status == 503:
            ledger.refused(tea, sibling)
        elif status != 200:
            ledger.unknown()
        elif sibling is not None:
            ledger.acknowledged(tea, sibling)
        else:
            ledger.deleted(tea, floor)
        if status == 200 and self._has_lost:  # it may have been answered from what is gone now
            ledger.lower_floor(tea, self._survivors()[tea])

    def _losses(self):
        return sum(node.losses for node in self._nodes)

    def _is_primary(self, tea, shard):
        return primary_of(tea, self._settings.ndb) == shard

    def _operation(self, asked, ask):
        operation, sibling, _ = asked
        request = f"ask-{ask.number}"
        if sibling is not None:
            clock, rating = sibling
            return Write(operation.tea, Sibling(rating, VectorClock.fromDict(dict(clock))), request)
        if isinstance(operation, Remove):
            return Delete(operation.tea, request)
        return Read(operation.tea, not self._is_primary(operation.tea, ask.shard), request)


def _reading(outcome):
    """(The living siblings, the clock that subsumes all if some are deleted) of the answer to a read."""
    reading = msgspec.json.decode(outcome.body)
    buried = None if outcome.clock is None else tuple(sorted(outcome.clock.items()))
    return tuple(map(sibling_of, reading["clocks"], reading["choices"])), buried


def _told(asked):
    operation, sibling, _ = asked
    if sibling is not None:
        return f"put {operation.tea} {sibling[1]} at {dict(sibling[0])};"
    return f"{'delete' if isinstance(operation, Remove) else 'get'} {operation.tea};"
