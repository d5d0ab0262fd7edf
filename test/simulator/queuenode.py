"""The queue as a process: the channels of serverQ.py, on logs in memory that may outlive it."""

from urllib.parse import unquote

from emporium import wire
from emporium.channel import Limits, Progress
from emporium.channels import Channels
from emporium.memorylog import MemoryLog
from emporium.peers import Answer
from emporium.shelf import MemoryShelf, MemoryShelves

TEND_S = 0.5


class KeptShelf(MemoryShelf):
    """A channel that outlives its process: the records that were answered, and the progress as it was last saved."""

    def __init__(self, life):
        super().__init__()
        self.log = MemoryLog()
        self.log.identity = life
        self._progress = Progress()

    def load(self):
        return self._progress

    def save(self, progress):
        self._progress = progress


class KeptShelves(MemoryShelves):
    """As a folder, in memory."""

    is_durable = True

    def __init__(self, lives):
        self._lives, self._by_name = lives, {}

    def stored(self):
        return list(self._by_name.items())

    def make(self, name):
        shelf = self._by_name[name] = KeptShelf(f"life{next(self._lives)}")
        return shelf

    def clear(self):
        self._by_name = {}


class TendedChannels(Channels):
    """Channels whose tender is the world's clock, and no thread."""

    def _tend(self):
        """Nothing, at once."""

    def tend(self):
        for channel in self.all().values():
            channel.tend()


class QueueNode:
    """serverQ.py, its routes for shards in short. `lives` counts the channels that there ever were."""

    def __init__(self, world, lives):
        self._world, self._lives = world, lives
        self._shelves = KeptShelves(lives)
        self.channels = None
        self.is_down, self.down_by = True, None
        self.put_count = 0
        self.losses = 0  # how often it lost records
        self.on_loss = lambda: None
        self.start()
        self._tend()

    def start(self):
        if self.is_down:
            self.channels = TendedChannels(self._shelves, Limits())
            self.is_down, self.down_by = False, None

    def stop(self, fault):
        """Die at once, for so many seconds, and forget all if the fault says so."""
        world = self._world
        if fault.is_empty:
            if any(channel.log.next_offset for channel in self.channels.all().values()):
                world.hit(fault)
                self.losses += 1
            self._shelves = KeptShelves(self._lives)
            self.on_loss()
        self.is_down, self.down_by, self.channels = True, fault, None
        world.note("q", "dies", "and loses all" if fault.is_empty else "")
        world.later(fault.seconds, self.start)

    def shelves(self, only=None):
        """What its disk has, of all channels or of this one."""
        return [shelf for name, shelf in self._shelves.stored() if only in (None, name)]

    def waiting(self):
        """How many records wait on all channels."""
        return sum(channel.waiting for channel in self.channels.all().values())

    def answer(self, method, path, body):
        """What serverQ.py answers."""
        if path == "/healthz":
            return _json({})
        if path == "/status":
            return _json({"durable": True, "fsync": "group", "channels": {}})
        if path == "/exchange":
            asked, records = wire.decode_exchange(body)
            if records:
                self._put(asked.to, records)
            return self._take(asked.source, asked)
        path, _, query = path.partition("?")
        _, _, name, what = path.split("/")
        name = unquote(name)
        if what == "put":
            records = wire.decode_records(body)
            first, length = self._put(name, records)
            return _json({"channel": name, "length": length, "first": first})
        if what == "take":
            return self._take(name, wire.decode_take(body))
        return self._look(name, what, dict(pair.split("=") for pair in query.split("&") if pair))

    def _put(self, name, records):
        self.put_count += len(records)
        self._world.note("q", f"{name} gets", *records)
        return self.channels.put(name, records)

    def _take(self, name, asked):
        found = self.channels.find(name)
        return Answer(200, wire.encode_taken(*(found.take(asked.cursor, asked.most) if found else ([], None, 0))), {})

    def _look(self, name, what, query):
        found = self.channels.find(name)
        if found is None:
            return Answer(404, b'{"title": "there is no such channel"}', {})
        if what == "info":
            return _json(found.info())
        if what == "peek":
            records = found.peek(int(query.get("offset", 0)), int(query.get("most", 10)))
            return _json(
                {
                    "records": [
                        {"offset": each.offset, "put_at": 0, "record": wire.decode(each.value)} for each in records
                    ]
                }
            )
        return Answer(404, b'{"title": "not here"}', {})

    def _tend(self):
        if not self.is_down:
            self.channels.tend()
        self._world.later(TEND_S, self._tend)


def _json(value):
    return Answer(200, wire.encode(value), {})
