"""A shard as a process on its machine, and the Redis beside it: how they start, die and start again."""

from itertools import count

import serverDB
from emporium import wire
from emporium.fence import Fence, Standing, standing_of
from emporium.fingerprints import Fingerprints
from emporium.guard import Guarded
from emporium.othershards import ANSWER_S, others_of
from emporium.peers import Answer
from emporium.recovery import Recovery
from emporium.replica import NotYet, Replica
from emporium.shard import Place
from emporium.shardanswers import outcomes_of
from emporium.store import Store, StoreDown, StoreUnsure
from emporium.turn import Busy
from emporium.upkeep import Upkeep
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
    """As emporium.fence.Note: the file beside Redis. It outlives the process, the last steps only while there is power."""

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
        )
        self.replica = Replica(Fingerprints(self._now))
        self.shard = serverDB.Shard(place, self._store(), queue, watch=self._watch, now=self._now)
        self.shard.turn = Turn(self)
        self.replica.bind(self.shard)
        if settings.is_guarded:
            others = others_of(place, self._reach)
            recovery = Recovery(self.shard, self.replica, others)
            self.upkeep = TimedUpkeep(self, self.replica, recovery, others, settings.anti_entropy_s)
            self.shard.on_damage = lambda teas: (recovery.note_damage(teas), self.upkeep.want())
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


class ShardNode:
    """The machine of one shard: its Redis, and the process that serves now, if any."""

    def __init__(self, world, network, settings, shard_id):
        self.world, self.network, self.settings = world, network, settings
        self.shard_id, self.name = shard_id, f"db{shard_id}"
        self.redis = MemoryRedis(f"{self.name}-run0")
        self.redis_life = 0
        self.redis_down_by = None
        self.is_redis_down = False
        self.on_loss = lambda: None  # called when something that was stored is lost
        self.exchanged = 0  # how many calls of other shards exchanged something
        self.is_crowded = False  # whether other requests wait for their turn
        self.armed = []  # [Fault, how many fitting effects it still lets pass]
        self.process = None
        self.starts = 0
        self.lives = 0
        self.losses = 0  # how often it lost something that was stored
        self.noted = self.noted_safely = Standing(None)  # beside Redis; and what of it outlives a loss of power
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

    def start_twin(self, fault):
        """A second process, while the first one stands still wherever it is, and does not know."""
        process = self.process
        if process is not None and process.depth:
            self.world.hit(fault)
            self.process = None
            self.world.later(fault.seconds, lambda: self.died(process, 0))
            self.start()

    # ---- its Redis

    def draw_life(self):
        self.lives += 1
        return f"{self.name}-life{self.lives}"

    @property
    def is_whole(self):
        """Whether its Redis holds all that it did, or has it back."""
        found = self.redis.keys.get(b"shard", {})
        standing = standing_of([found.get(name) for name in (b"life", b"epoch", b"step", b"recovering")])
        is_same = standing.life == self.noted.life and standing.step >= self.noted.step
        return standing.life is not None and is_same and standing.recovering is None and not self.is_redis_down

    def flush_redis(self, fault):
        """Somebody empties it while it runs."""
        if not self.is_redis_down:
            self.world.note(self.name, "redis is emptied")
            if self.redis.flush():
                self.world.hit(fault)
                self._has_lost()

    def lose_power(self, fault):
        """All of the machine ends at once; what was synced is kept."""
        self.noted = self.noted_safely
        self.kill(fault)
        self.stop_redis(fault)

    def lose_disk(self, fault):
        """All that the machine has stored is gone, and so is what ran on it."""
        self.noted = self.noted_safely = Standing(None)
        self.kill(fault)
        self.stop_redis(fault)

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
            self._has_lost()
        self.world.note(self.name, "redis starts")

    def redis_missed(self):
        """Somebody asked it and found it gone."""
        self.world.hit(self.redis_down_by)

    def _has_lost(self):
        self.losses += 1
        self.on_loss()

    # ---- what others ask of it

    def answer(self, method, path, body):
        """What serverDB.py answers another shard. Raises Crashed."""
        process = self.process
        answer = process.run(lambda: _answer(process, path, body))
        if process.is_dead:
            raise Crashed(process)
        return answer

    def operate(self, operations):
        """The batch.Outcome of each; None when the answer did not come. False when it cannot begin yet."""
        process = self.process
        if process.is_busy:
            return False
        outcomes = process.run(lambda: outcomes_of(process.shard, operations))
        return None if process.is_dead else outcomes


def _answer(process, path, body):
    """What emporium/replicaroutes.py answers."""
    if path == "/healthz":
        return Answer(200, b"{}", {})
    replica, store = process.replica, process.shard.store
    try:
        if path == "/replica/compare":
            told = wire.decode(body, wire.Sums)
            buckets, news, following = replica.compare(told.sums, told.first)
            return Answer(200, wire.encode(wire.Compared(buckets, news, following, store.recovering is not None)), {})
        if path == "/replica/exchange":
            records, teas = wire.decode_given(body)
            changed = replica.absorb(records)
            if changed:
                process.upkeep.want()
            process.node.exchanged += 1
            values = replica.values(teas)
            return Answer(200, wire.encode_exchanged(values, changed, store.recovering is not None), {})
    except StoreUnsure:
        return Answer(504, b"{}", {})
    except (Busy, StoreDown, NotYet):
        return Answer(503, b"{}", {})
    return Answer(404, b"{}", {})
