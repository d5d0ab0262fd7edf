"""The queue: named channels of JSON objects, first in, first out. Shards gossip through it.

    shard db0 --PUT /q/db0-->  [ channel db0: oldest ... newest ]  --GET /q/db0--> shard db1

It promises order within a channel, and that a record is given out until someone has taken it. It keeps its
channels in memory: what waits is gone when this process dies.

A plain GET removes what it answers, as in the course. A shard takes with a cursor instead, and its records stay
until it has said, with the next cursor, that their effect is safe.

    python serverQ.py '{"port": 6000}'

Source: the assignment's "The queue service (Q)".
"""

import secrets
import threading
from collections import deque
from itertools import islice

from emporium import serving, web, wire
from emporium.settings import QSettings, from_command_line


class Channel:
    """The records that wait in one channel, oldest first. The one at the left has offset `lowest`.

    `life` names this channel from its first record to its end: a cursor of another life counts as none.
    Not safe between threads by itself; Channels holds the lock.
    """

    def __init__(self):
        self.life = secrets.token_hex(8)
        self.waiting = deque()
        self.lowest = 0

    def put(self, records):
        self.waiting.extend(records)

    def pop(self):
        """The oldest record, removed; None when nothing waits."""
        if not self.waiting:
            return None
        self.lowest += 1
        return self.waiting.popleft()

    def take(self, cursor, most):
        """Forget the records up to `cursor`. One that stands ahead of all that was ever put counts as none.

        Returns (at most `most` of those behind it, the cursor after them, how many are left behind that).
        """
        if cursor is not None and cursor.life == self.life and cursor.offset < self.lowest + len(self.waiting):
            while self.waiting and self.lowest <= cursor.offset:
                self.pop()
        records = list(islice(self.waiting, min(most, wire.one_call(self.waiting))))
        left = len(self.waiting) - len(records)
        return records, wire.Cursor(self.life, self.lowest + len(records) - 1) if records else cursor, left


class Channels:
    """All channels of this queue. A channel comes into being when something is first put on it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._by_name = {}

    def put(self, name, records):
        """Put records at the end. Returns how many wait there now."""
        with self._lock:
            channel = self._by_name.setdefault(name, Channel())
            channel.put(records)
            return len(channel.waiting)

    def pop(self, name):
        """The oldest record, removed; None when nothing waits or there is no such channel."""
        with self._lock:
            channel = self._by_name.get(name)
            return channel.pop() if channel else None

    def take(self, name, cursor, most):
        with self._lock:
            channel = self._by_name.get(name)
            return channel.take(cursor, most) if channel else ([], None, 0)

    def waiting(self):
        """{channel: how many wait}."""
        with self._lock:
            return {name: len(channel.waiting) for name, channel in self._by_name.items()}

    def clear(self):
        """Empty all channels, which begin anew. Returns {channel: how many had waited}."""
        with self._lock:
            waited = {name: len(channel.waiting) for name, channel in self._by_name.items()}
            self._by_name = {}  # else names that anyone made up would stay for ever
            return waited


def create_app(settings):
    channels = Channels()
    app = web.create_app_for(
        "q",
        settings.threads,
        checks=dict,  # nothing that the queue depends on
        status=lambda: {"channels": channels.waiting()},
    )

    @app.put("/q/<channel>")
    def put(channel):
        name, record = web.channel_name(channel), web.json_body()
        web.checked(wire.decode_object, record)
        return web.answer({"channel": name, "length": channels.put(name, [record])})

    @app.get("/q/<channel>")
    def get(channel):
        return web.answer(channels.pop(web.channel_name(channel)) or b"{}")

    # Flask answers HEAD wherever it answers GET. Here it would take a record away.
    for rule in app.url_map.iter_rules("get"):
        rule.methods.discard("HEAD")

    @app.delete("/clear")
    def clear():
        return web.answer(channels.clear())

    # Our own paths: the same channels, many records a call. A plain course server has none of them.

    @app.post("/channel/<channel>/put")
    def put_all(channel):
        name, body = web.channel_name(channel), web.own_json_body()
        return web.answer({"channel": name, "length": channels.put(name, web.checked(wire.decode_records, body))})

    @app.post("/channel/<channel>/take")
    def take(channel):
        name, asked = web.channel_name(channel), web.checked(wire.decode_take, web.own_json_body())
        return web.answer(wire.encode_taken(*channels.take(name, asked.cursor, asked.most)))

    @app.post("/exchange")
    def exchange():
        asked, records = web.checked(wire.decode_exchange, web.own_json_body())
        to, source = web.channel_name(asked.to), web.channel_name(asked.source)
        if records:
            channels.put(to, records)
        return web.answer(wire.encode_taken(*channels.take(source, asked.cursor, asked.most)))

    return app


def main():
    settings = from_command_line(QSettings)
    serving.log_to(settings.logfile)
    serving.serve(create_app(settings), "q", settings.host, settings.port)


if __name__ == "__main__":
    main()
