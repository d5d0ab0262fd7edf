"""The machine of a shard: the Redis and the files on it, and the process that serves; how they die and start again."""

from emporium.fence import Standing, standing_of
from emporium.shardanswers import outcomes_of
from simulator.memoryredis import MemoryRedis
from simulator.process import Process, answer_of
from simulator.world import Crashed


class ShardNode:
    """The machine of one shard: its Redis, and the process that serves now, if any."""

    def __init__(self, world, network, settings, shard_id):
        self.world, self.network, self.settings = world, network, settings
        self.shard_id, self.name = shard_id, f"db{shard_id}"
        self.redis = MemoryRedis(f"{self.name}-run0")
        self.redis_life = 0
        self.damaged = {}  # {name of a key: what stands there now in place of its value}
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
    def is_noted(self):
        """Whether the note knows of all steps, but for one that is just being made."""
        step = int(self.redis.keys.get(b"shard", {}).get(b"step", 0))
        return self.noted.life is not None and step <= self.noted.step + 1

    @property
    def is_whole(self):
        """Whether its Redis holds all that it did, or has it back."""
        found = self.redis.keys.get(b"shard", {})
        standing = standing_of([found.get(name) for name in (b"life", b"epoch", b"step", b"recovering")])
        is_same = standing.life == self.noted.life and standing.step >= self.noted.step
        if standing.life is None or not is_same or standing.recovering is not None or self.is_redis_down:
            return False
        return not any(self.redis.keys.get(name) == fields for name, fields in self.damaged.items())

    def flush_redis(self, fault):
        """Somebody empties it while it runs."""
        if not self.is_redis_down:
            self.world.note(self.name, "redis is emptied")
            if self.redis.flush():
                self.world.hit(fault)
                self._has_lost()

    def damage(self, fault):
        """One of its stored values becomes another one, which looks as good."""
        names = sorted(name for name in self.redis.keys if name.startswith(b"/rating/"))
        if names and not self.is_redis_down:
            name = names[fault.number % len(names)]
            fields = self.redis.keys[name]
            self.damaged[name] = {**fields, b"choices": b"[9]", b"clocks": b'[{"c9":9}]'}
            self.redis.keys[name] = self.damaged[name]
            self.world.note(self.name, "redis damages", name)
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
        answer = process.run(lambda: answer_of(process, path, body))
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
