"""A shard as a process: what serverDB.py builds and answers, with a clock, a watch, a turn and a disk of ours."""

from itertools import count

import serverDB
from emporium import wire
from emporium.fence import Fence
from emporium.fingerprints import Fingerprints
from emporium.guard import Guarded
from emporium.othershards import ANSWER_S, others_of
from emporium.peers import Answer
from emporium.recovery import Recovery
from emporium.replica import NotYet, Replica
from emporium.shard import Place
from emporium.shardtrace import ShardTrace
from emporium.store import Store, StoreDown, StoreUnsure
from emporium.trace import Trace
from emporium.turn import Busy
from emporium.upkeep import Upkeep
from queueservice import DEADLINE_S, Queue
from simulator.connection import Connection
from simulator.network import Peer
from simulator.world import Crashed

PROBE_S, SOON_S = 1.0, 0.1
KEPT_EVENTS = 64


class Watch:
    """As emporium.guard.Watch, on the world's clock."""

    def __init__(self, process, name, ask, on_return=lambda: None):
        self._process, self._name, self._ask, self._on_return = process, name, ask, on_return
        self.trouble = None

    def failed(self, error):
        is_new, self.trouble = self.trouble is None, str(error)
        if is_new:
            self._process.later(SOON_S, self._probe)

    def _probe(self):
        self.trouble = self._ask()
        if self.trouble is None:
            self._on_return()
        else:
            self._process.later(PROBE_S, self._probe)


class Turn:
    """As emporium.turn.Turn: whoever finds somebody inside has waited in vain."""

    is_full = False

    def __init__(self, process):
        self._process = process
        self.is_taken = False

    @property
    def is_wanted(self):
        return self._process.node.is_crowded

    def __enter__(self):
        if self.is_taken:
            raise Busy(f"{self._process.name} is busy")
        self.is_taken = True

    def __exit__(self, *failure):
        self.is_taken = False


class Note:
    """As emporium.fence.Note: a file, which outlives the process; its last steps only while there is power."""

    def __init__(self, process):
        self._process = process

    @property
    def standing(self):
        return self._process.node.noted

    def write(self, standing):
        self.write_step(standing)
        self._process.node.noted_safely = standing

    def write_step(self, standing):
        process = self._process
        fault = process.node.world.effect(process, "disk")
        if fault is not None and fault.kind == "disk-refuses":
            process.node.world.hit(fault)
            raise OSError("the disk is full")
        process.node.noted = standing
        process.node.world.done(process, fault)


class TimedUpkeep(Upkeep):
    """Upkeep whose thread is the world's clock."""

    def __init__(self, process, *parts):
        super().__init__(*parts)
        self._process = process
        self._rounds = count()
        self._number = None  # of the round that is to come
        self._is_at_work = False

    def start(self):
        self._plan(0)

    def want(self):
        if self._is_at_work:
            super().want()
        else:
            self._plan(0)

    def _plan(self, seconds):
        number = self._number = next(self._rounds)
        self._process.later(seconds, lambda: self._begin(number))

    def _begin(self, number):
        if number != self._number:  # another one was planned instead
            return
        self._is_at_work = True
        wait_s = self.round()
        self._is_at_work = False
        self._plan(AT_ONCE_S if self._wanted.is_set() else max(wait_s, AT_ONCE_S))
        self._wanted.clear()


AT_ONCE_S = 0.001


class Process:
    """One process of a shard, from its start to its death."""

    def __init__(self, node, number):
        self.node, self.name = node, node.name
        self.number = number
        self.is_dead = False
        self.depth = 0  # how many of its events are on their way
        self.shard = self.replica = self.upkeep = None

    def start(self):
        """Build what serverDB.create_app builds. Raises Crashed."""
        node, settings = self.node, self.node.settings
        queue = Queue(0)
        queue.peer = Peer(node.network, self, "q", "the queue", DEADLINE_S)
        place = Place(
            node.shard_id,
            settings.ndb,
            settings.digest_length,
            settings.is_guarded,
            settings.coalesces,
            settings.durability,
            replaces_damaged=not settings.is_guarded,
            tells_requests=settings.is_guarded,
        )
        self.replica = Replica(Fingerprints(self._now))
        trace = ShardTrace(place, Trace(place.name, KEPT_EVENTS, now=self._now)) if settings.is_guarded else None
        self.shard = serverDB.Shard(place, self._store(), queue, watch=self._watch, now=self._now, trace=trace)
        self.shard.turn = Turn(self)
        self.replica.bind(self.shard)
        if settings.is_guarded:
            others = others_of(place, self._reach)
            self.recovery = Recovery(self.shard, self.replica, others, self._now)
            self.upkeep = TimedUpkeep(self, self.replica, self.recovery, others, settings.anti_entropy_s)
            self.shard.on_damage = lambda teas: (self.recovery.note_damage(teas), self.upkeep.want())
            self.upkeep.start()

    def _store(self):
        node, options = self.node, {"coalesces": self.node.settings.coalesces}
        if node.settings.is_guarded:
            options |= {"guard": Fence(Note(self), node.draw_life), "learned": self.replica.learned}
        connections = lambda: Connection(node.world, self, node)  # noqa: E731
        return Store(f"redis{node.shard_id}", 0, connections=connections, watch=self._watch, **options)

    def _reach(self, index):
        return Guarded(Peer(self.node.network, self, f"db{index}", f"db{index}", ANSWER_S), self._watch)

    def _watch(self, name, ask, on_return=lambda: None):
        return Watch(self, name, ask, on_return)

    def _now(self):
        return self.node.world.now

    @property
    def is_busy(self):
        """Whether a step is on its way."""
        return self.shard.turn.is_taken

    def fault_for(self, sort):
        """The Fault of this node's that meets an effect of this sort, or None."""
        armed = self.node.armed
        for position, [fault, left] in enumerate(armed):
            if fault.kind in FITTING[sort]:
                if left == 0:
                    del armed[position]
                    return fault
                armed[position][1] -= 1
        return None

    def die(self, fault):
        """End here and now, by this fault. Raises Crashed."""
        self.node.world.hit(fault)
        self.node.died(self, fault.seconds)
        raise Crashed(self)

    def later(self, seconds, event):
        """Call event() then, if this process lives."""
        self.node.world.later(seconds, lambda: self.run(event))

    def run(self, event):
        """What event() gives back; None when this process died before or in it."""
        if self.is_dead:
            return None
        self.depth += 1
        try:
            return event()
        except Crashed as crash:
            if crash.process is not self:
                raise
            return None
        finally:
            self.depth -= 1


CRASHES = {"crash-before", "crash-after"}
FITTING = {
    "redis": {"redis-refuses", "redis-silent", "redis-unheard", "redis-late", *CRASHES},
    "disk": {"disk-refuses", *CRASHES},
    "call": {"call-refused", "call-lost", "call-unheard", "call-reset", "call-twice", "call-late", *CRASHES},
}


def answer_of(process, path, body):
    """What emporium/replicaroutes.py answers."""
    if path == "/healthz":
        return Answer(200, b"{}", {})
    replica, recovery = process.replica, process.recovery
    try:
        if path == "/replica/compare":
            told = wire.decode(body, wire.Sums)
            buckets, news, following = replica.compare(told.sums, told.first)
            return Answer(200, wire.encode(wire.Compared(buckets, news, following, not recovery.is_whole)), {})
        if path == "/replica/exchange":
            records, teas = wire.decode_given(body)
            changed = replica.absorb(records)
            if changed:
                process.upkeep.want()
            process.node.exchanged += 1
            values = replica.values(teas)
            return Answer(200, wire.encode_exchanged(values, changed, not recovery.is_whole), {})
    except StoreUnsure:
        return Answer(504, b"{}", {})
    except (Busy, StoreDown, NotYet):
        return Answer(503, b"{}", {})
    return Answer(404, b"{}", {})
