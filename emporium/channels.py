"""All channels of a queue, by name. A channel comes into being when something is first put on it.

    shelves   where they are kept: in memory, or in a folder (emporium/shelf.py)

Source: the assignment's "The queue service (Q)".
"""

import logging
import threading
import time
from contextlib import suppress

from emporium.channel import Channel
from emporium.commitlog.errors import Closed, LogError, Unsure

log = logging.getLogger(__name__)

TEND_S = 0.5


class TooManyChannels(Exception):
    """There is no room for another channel."""


class Channels:
    """Safe between threads. `close` when done."""

    def __init__(self, shelves, limits, most_channels=1000):
        self._shelves = shelves
        self._limits = limits
        self._most_channels = most_channels
        self._lock = threading.Condition()  # notified when a channel is made, and when nobody shall wait any longer
        self._is_ending = False
        self.is_held = False
        self.let_through = 0  # how many records, since they are held
        self._by_name = {}
        self._is_closed = threading.Event()
        try:
            self._open_all()
        except LogError:
            shelves.close()
            raise
        self._tender = threading.Thread(target=self._tend, name="tender", daemon=True)
        self._tender.start()

    @property
    def is_durable(self):
        """Whether what is put outlives this process."""
        return self._shelves.is_durable

    def trouble(self):
        """Why nothing can be put any more on some channel, in words, or None."""
        return next((each.log.failure for each in self.all().values() if each.log.failure), None)

    def find(self, name):
        """The Channel of this name, or None."""
        with self._lock:
            return self._by_name.get(name)

    def find_or_make(self, name):
        """The Channel of this name, made if need be. Raises TooManyChannels, or the log's errors."""
        with self._lock:
            channel = self._by_name.get(name)
            if channel is None:
                if len(self._by_name) >= self._most_channels:
                    raise TooManyChannels(f"there are {self._most_channels} channels already, as many as may be")
                if self._is_closed.is_set():
                    raise Closed
                channel = self._by_name[name] = Channel(self._shelves.make(name), self._limits)
                if self.is_held:
                    channel.hold()
                self._lock.notify_all()
            return channel

    def all(self):
        """{name: Channel}."""
        with self._lock:
            return dict(self._by_name)

    def put(self, name, values):
        """(The offset of the first of `values`, how many wait there now), when they are as safe as `fsync` says.

        No values at all are stored at once, at no offset (None). Raises the log's errors, or TooManyChannels.
        """
        if not values:
            channel = self.find(name)
            return None, channel.waiting if channel else 0
        while True:
            channel = self.find_or_make(name)
            try:
                return channel.put(values)
            except Closed:
                if self.find(name) is channel:
                    raise
                # It was cleared in this very moment, and what is put now comes after that.

    def serve(self, name, serve, wait_s=0):
        """serve(Channel, how long it may wait): a list, empty when nothing waits there, or comes within `wait_s`.

        Waits for a channel, too, that is not there yet, and goes on over a clear.
        """
        deadline = time.monotonic() + wait_s
        while True:
            left_s = deadline - time.monotonic()
            with self._lock:
                channel = self._by_name.get(name)
                if channel is None and left_s > 0 and not self._is_ending:
                    self._lock.wait(left_s)
                    continue
            found = serve(channel, max(0, left_s)) if channel else []
            if found or left_s <= 0 or self._is_ending:
                return found

    def clear(self):
        """End all channels, which begin anew when they are written to. Returns {name: how many had waited}.

        After a crash either all of them are there or none. Raises the log's errors: then all are there.
        """
        with self._lock:
            try:
                waited = {name: channel.end() for name, channel in self._by_name.items()}
                self._shelves.clear()
            except LogError:
                for channel in self._by_name.values():
                    with suppress(LogError):  # the first of them is raised below
                        channel.end()
                try:
                    self._open_all()
                except LogError as error:
                    raise Unsure(f"the channels could neither be cleared nor opened again: {error}") from error
                raise
            self._by_name = {}
        return waited

    def hold(self):
        """Hold back all records, those that wait and those that come; they can be put all the same."""
        with self._lock:
            if not self.is_held:
                self.is_held, self.let_through = True, 0
                for channel in self._by_name.values():
                    channel.hold()

    def play(self):
        """Hold back nothing any longer."""
        with self._lock:
            self.is_held = False
            for channel in self._by_name.values():
                channel.play()

    def step(self):
        """(name of its channel, the Record) that waits longest, which is held back no longer; None when none is.

        Raises the log's errors.
        """
        with self._lock:
            held = [(name, channel, channel.first_held()) for name, channel in self._by_name.items()]
            found = [each for each in held if each[2] is not None]
            if not found:
                return None
            name, channel, record = min(found, key=lambda each: each[2].timestamp)
            channel.let_through(record.offset)
            self.let_through += 1
            return name, record

    def wake(self):
        """Let nobody wait any longer for a record."""
        with self._lock:
            self._is_ending = True
            self._lock.notify_all()
        for channel in self.all().values():
            channel.wake()

    def close(self):
        """Remember all, and let go of the folder."""
        self._is_closed.set()
        self._tender.join()
        with self._lock:
            # All is remembered before the first log is closed: with many channels that takes long, and may be cut off.
            for step in (Channel.save, Channel.close):
                for name, channel in self._by_name.items():
                    try:
                        step(channel)
                    except LogError as error:
                        log.error(
                            "what readers of channel %r are done with could not be remembered: %s",
                            name,
                            error,
                            extra={"event": "progress-unsaved", "channel": name},
                        )
            self._shelves.close()

    def _open_all(self):
        opened = {}
        try:
            for name, shelf in self._shelves.stored():
                opened[name] = Channel(shelf, self._limits)
        except LogError:
            for channel in opened.values():
                with suppress(LogError):  # why they cannot be opened is raised below
                    channel.log.close()
            raise
        self._by_name = opened

    def _tend(self):
        while not self._is_closed.wait(TEND_S):
            for name, channel in self.all().items():
                if self._is_closed.is_set():
                    return
                try:
                    channel.tend()
                except Closed:  # cleared in this very moment
                    continue
                except LogError as error:
                    log.warning(
                        "channel %r: what its readers are done with would come again: %s",
                        name,
                        error,
                        extra={"event": "progress-unsaved", "channel": name},
                    )
            try:
                self._shelves.tend()
            except LogError as error:
                log.warning("the files of cleared channels are still there: %s", error, extra={"event": "files-left"})
