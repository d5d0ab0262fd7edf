"""Where the channels of a queue are kept: in a folder, or in memory.

    data-dir/
      lock          which process has the folder
      epoch         which of the folders counts; /clear raises it
      channels-7/   the channels that came into being since then
        db0/
          log/      the records (emporium/commitlog)
          name      what the channel is called; made last: without it nothing was put yet
          progress  what its readers are done with

`epoch`, `name` and `progress` are replaced in one step, and begin with a checksum. A record is safe when its log says
so. The progress may lag behind what readers were told, never ahead of it: what it does not know of comes again. It
names the log that it is about: beside another one, whose records it would take for done, the start stops.
"""

import logging
import os
from contextlib import contextmanager
from hashlib import sha256
from urllib.parse import quote
from zlib import crc32

import msgspec

from emporium import failpoints
from emporium.channel import Progress
from emporium.commitlog import Config, Log
from emporium.commitlog.errors import Damaged, LogError, NotStored
from emporium.commitlog.files import FULL, Disk
from emporium.commitlog.folder import FolderLock
from emporium.memorylog import MemoryLog

log = logging.getLogger(__name__)

EPOCH = "channels-"
LONGEST_FOLDER = 200  # characters; file systems allow 255, and a name of 255 bytes may need three times as many


class MemoryShelf:
    """A channel that is gone with the process."""

    def __init__(self):
        self.log = MemoryLog()

    def load(self):
        return Progress()

    def save(self, progress):
        """Nothing outlives the log, so there is nothing to remember."""

    def close(self):
        """Nothing to let go of."""


class MemoryShelves:
    """Channels that are gone with the process."""

    is_durable = False

    def stored(self):
        """(name, shelf) of each channel that is there."""
        return []

    def make(self, name):
        """The shelf for a new channel."""
        return MemoryShelf()

    def clear(self):
        """Forget all channels in one step."""

    def tend(self):
        """Delete what has been forgotten."""

    def close(self):
        """Let go of the folder."""


class Shelf:
    """One channel in its folder."""

    def __init__(self, folder, config, disk):
        self._progress = os.path.join(folder, "progress")
        self._disk = disk
        self._is_closed = False
        with telling():
            self.log = Log(os.path.join(folder, "log"), config, disk=disk)

    def load(self):
        """The Progress. One that cannot be read counts as none, since a record may come twice, but not never.

        Raises Damaged when it is that of another log, and has closed ours then.
        """
        try:
            progress = msgspec.json.decode(read(self._disk, self._progress), type=Progress)
        except FileNotFoundError:
            return Progress()
        except (Damaged, msgspec.DecodeError) as error:
            log.error("what was done with comes again: %s", error, extra={"event": "progress-lost"})
            return Progress()
        if progress.log not in (None, self.log.id):
            self.log.close()
            raise Damaged(self._progress, 0, "it is about another log than the one beside it")
        return progress

    def save(self, progress):
        """Returns when it is on disk. Raises NotStored."""
        if not self._is_closed:
            write(self._disk, self._progress, msgspec.json.encode(progress._replace(log=self.log.id)))

    def close(self):
        self._is_closed = True


class Shelves:
    """The channels in a folder, which is ours alone until `close`.

    Raises InUse when another process has it, Damaged when it cannot be told what counts, NotStored.
    """

    is_durable = True

    def __init__(self, folder, fsync="group", segment_bytes=16 * 2**20, disk=None):
        self._folder = os.fspath(folder)
        self._config = Config(fsync=fsync, segment_bytes=segment_bytes, tend_s=None)
        self._disk = disk or Disk()
        with telling():
            self._disk.make_folder(self._folder)
            self._lock = FolderLock(self._folder)
        self._epoch_file = os.path.join(self._folder, "epoch")
        try:
            self._epoch = self._read_epoch()
            with telling():
                self._disk.make_folder(self._current)
            self.tend()
        except LogError:
            self._lock.release()
            raise

    @property
    def _current(self):
        return os.path.join(self._folder, f"{EPOCH}{self._epoch}")

    def stored(self):
        """(name, shelf) of each channel that is there. Raises the log's errors."""
        for entry in sorted(self._disk.names(self._current)):
            folder = os.path.join(self._current, entry)
            try:
                stores = self._stores_of(os.path.join(folder, "log"))
                name = read(self._disk, os.path.join(folder, "name")).decode()
            except NotADirectoryError:
                log.warning(
                    "%s does not belong to the queue, and is ignored", folder, extra={"event": "folder-ignored"}
                )
                continue
            except FileNotFoundError:
                if any(self._disk.size(self._disk.open(store)) for store in stores):
                    raise Damaged(os.path.join(folder, "name"), 0, "it is missing, and there are records") from None
                self._disk.remove_folder(folder)  # the making of it was cut short, and nothing was put on it yet
                continue
            if folder_of(name) != entry:
                raise Damaged(os.path.join(folder, "name"), 0, f"it is that of {name!r}, whose folder is another one")
            if not stores:
                raise Damaged(os.path.join(folder, "log"), 0, "the log is missing")
            yield name, Shelf(folder, self._config, self._disk)

    def _stores_of(self, folder):
        try:
            return [os.path.join(folder, name) for name in self._disk.names(folder) if name.endswith(".store")]
        except FileNotFoundError:
            return []

    def make(self, name):
        """The shelf for a new channel. Raises NotStored."""
        folder = os.path.join(self._current, folder_of(name))
        with telling():
            self._disk.make_folder(folder)
        shelf = Shelf(folder, self._config, self._disk)
        failpoints.hit("channel-unnamed")
        try:
            write(self._disk, os.path.join(folder, "name"), name.encode())
        except NotStored:
            shelf.log.close()
            raise
        failpoints.hit("channel-named")
        return shelf

    def clear(self):
        """Forget all channels in one step: after a crash all are there, or none. Raises NotStored.

        They must be closed.
        """
        write(self._disk, self._epoch_file, str(self._epoch + 1).encode())
        self._epoch += 1

    def tend(self):
        """Delete what has been forgotten."""
        with telling():
            for epoch in self._epochs():
                if epoch < self._epoch:
                    self._disk.remove_folder(os.path.join(self._folder, f"{EPOCH}{epoch}"))  # the rest the next time

    def _epochs(self):
        """The epochs of which there are folders."""
        numbers = [name.removeprefix(EPOCH) for name in self._disk.names(self._folder) if name.startswith(EPOCH)]
        return [int(number) for number in numbers if number.isdecimal()]

    def close(self):
        self._lock.release()

    def _read_epoch(self):
        newest = max(self._epochs(), default=None)
        try:
            epoch = int(read(self._disk, self._epoch_file))
        except FileNotFoundError:
            epoch = None
        if newest is not None and (epoch is None or newest > epoch):
            found = "missing" if epoch is None else f"{epoch}"
            raise Damaged(self._epoch_file, 0, f"it is {found}, and there are channels of epoch {newest}")
        if epoch is None:
            write(self._disk, self._epoch_file, b"0")
        return epoch or 0


def folder_of(name):
    """The folder's name for a channel: readable, never a path, and never that of another channel."""
    quoted = quote(name, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(quoted) <= LONGEST_FOLDER:
        return quoted
    return f"{quoted[:LONGEST_FOLDER]}~{sha256(name.encode()).hexdigest()[:32]}"


# ---- small files that are replaced in one step


def read(disk, path):
    """What `write` wrote there. Raises FileNotFoundError, or Damaged."""
    file = disk.open(path)
    checksum, _, data = disk.read(file, disk.size(file), 0).partition(b" ")
    if checksum != _checksum(data):
        raise Damaged(path, 0, "the checksum does not match")
    return data


def write(disk, path, data):
    """Returns when the file holds this and is on disk. A crash leaves the old file or the new one. Raises NotStored."""
    with telling():
        disk.write_whole(path, _checksum(data) + b" " + data)
        disk.put_in_place(path)


def _checksum(data):
    return b"%08x" % crc32(data)


@contextmanager
def telling():
    """Inside, what goes wrong with the files is raised as NotStored."""
    try:
        yield
    except OSError as error:
        raise NotStored(str(error), is_full=error.errno in FULL) from error
