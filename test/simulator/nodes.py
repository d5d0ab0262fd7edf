"""A shard as a process on its machine, and the Redis beside it: how they start, die and start again."""

import serverDB
from emporium.shard import Place
from emporium.store import Store
from emporium.turn import Busy
from queueservice import DEADLINE_S, Queue
from simulator.connection import Connection
from simulator.memoryredis import MemoryRedis
from simulator.network import Peer
from simulator.world import Crashed

PROBE_S, SOON_S = 1.0, 0.1


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
        self._is_taken = False

    @property
    def is_wanted(self):
        return self._process.node.is_crowded

    def __enter__(self):
        if self._is_taken:
            raise Busy(f"{self._process.name} is busy")
        self._is_taken = True

    def __exit__(self, *failure):
        self._is_taken = False


class Process:
    """One process of a shard, from its start to its death."""

    def __init__(self, node, number):
        self.node, self.name = node, node.name
        self.number = number
        self.is_dead = False
        self.depth = 0  # how many of its events are on their way
        self.shard = None

    def start(self):
        """Build what serverDB.create_app builds. Raises Crashed."""
        node, world = self.node, self.node.world

        def watch(name, ask, on_return=lambda: None):
            return Watch(self, name, ask, on_return)

        store = Store(f"redis{node.shard_id}", 0, connections=lambda: Connection(world, self, node), watch=watch)
        queue = Queue(0)
        queue.peer = Peer(node.network, self, "q", "the queue", DEADLINE_S)
        settings = node.settings
        place = Place(node.shard_id, settings.ndb, settings.digest_length)
        self.shard = serverDB.Shard(place, store, queue, watch=watch, now=lambda: world.now)
        self.shard.turn = Turn(self)

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
    "call": {"call-refused", "call-lost", "call-unheard", "call-reset", "call-twice", "call-late", *CRASHES},
}


class ShardNode:
    """The machine of one shard: its Redis, and the process that serves now, if any."""

    def __init__(self, world, network, settings, shard_id):
        self.world, self.network, self.settings = world, network, settings
        self.shard_id, self.name = shard_id, f"db{shard_id}"
        self.redis = MemoryRedis(f"{self.name}-run0")
        self.redis_life = 0
        self.redis_down_by = None
        self.is_redis_down = False
        self.is_crowded = False  # whether other requests wait for their turn
        self.armed = []  # [Fault, how many fitting effects it still lets pass]
        self.process = None
        self.starts = 0
        self.start()

    @property
    def is_down(self):
        return self.process is None

    down_by = None

    def start(self):
        """A new process, unless one lives."""
        if self.process is not None:
            return
        self.starts += 1
        process = self.process = Process(self, self.starts)
        self.world.note(self.name, f"starts, {self.starts}")
        process.run(process.start)

    def died(self, process, seconds):
        """This process has ended; another one comes after these seconds."""
        process.is_dead = True
        self.world.note(process.name, "dies")
        if self.process is process:
            self.process = None
            self.world.later(seconds, self.start)

    def kill(self, fault):
        """End what serves now, wherever it stands."""
        process = self.process
        if process is not None:
            if process.depth:
                self.world.hit(fault)
            self.died(process, fault.seconds)

    # ---- its Redis

    def stop_redis(self, fault):
        """Its Redis dies, and comes again with what the fault leaves of its memory."""
        if self.is_redis_down:
            return
        self.is_redis_down, self.redis_down_by = True, fault
        self.world.note(self.name, "redis dies", f"back by {fault.back_by}", "and empty" if fault.is_empty else "")
        self.world.later(fault.seconds, lambda: self.start_redis(fault))

    def start_redis(self, fault):
        if not self.is_redis_down:
            return
        self.is_redis_down = False
        self.redis_life += 1
        if self.redis.restart(f"{self.name}-run{self.redis_life}", fault.back_by, fault.is_empty):
            self.world.hit(fault)
            self.lost_memory()
        self.world.note(self.name, "redis starts")

    def redis_missed(self):
        """Somebody asked it and found it gone."""
        self.world.hit(self.redis_down_by)

    def lost_memory(self):
        """What is stored has gone back. The oracle takes the place of this."""

    # ---- what others ask of it

    def answer(self, method, path, body):
        """What serverDB.py answers another shard. Raises Crashed."""
        raise NotImplementedError(f"{method} {path}: shards do not call each other yet")

    def operate(self, operations):
        """The batch.Outcome of each; None when the answer did not come. False when it cannot begin yet."""
        process = self.process
        if process.depth:
            return False
        outcomes = process.run(lambda: serverDB.outcomes_of(process.shard, operations))
        return None if process.is_dead else outcomes
