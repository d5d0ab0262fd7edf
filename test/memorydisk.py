"""A disk in memory that remembers every operation, so that a power loss at any moment can be tried.

A write reaches the disk for sure when its file is synced, a name when its folder is. Until then each part of a write,
each change of a file's size and each change of a name may be there or not, whatever became of the others.
"""

import errno

from emporium.commitlog.files import Disk

PART_BYTES = 64  # a write may be torn at multiples of this: brutal, since real sectors have 512


class Contents:
    """What one file holds: surely, and on top of that the changes that no sync has covered."""

    def __init__(self):
        self.now = bytearray()
        self.synced = b""
        self.changes = []

    def change(self, position, data=None):
        """Write the data there, or cut the file at this position."""
        parts = [(position, None)] if data is None else list(_parts(position, data))
        for each in parts:
            _apply(self.now, each)
            self.changes.append(each)

    def sync(self):
        self.synced, self.changes = bytes(self.now), []


class Handle:
    """An open file."""

    def __init__(self, contents, path):
        self.contents = contents
        self.path = path


class MemoryDisk(Disk):
    """`operations` lists all that changed it: (name of the method, its arguments)."""

    def __init__(self):
        self.now = {}  # {path: Contents}
        self.synced = {}
        self.changes = []  # of names: [(path, Contents or None), ...] each, which happen together
        self.operations = []
        self.boots = 0

    def open(self, path, is_writable=False):
        if path not in self.now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return Handle(self.now[path], path)

    def create(self, path):
        self.operations.append(("create", path))
        if path in self.now:
            self.now[path].change(0)
        else:
            self._rename((path, Contents()))
        return self.open(path)

    def size(self, file):
        return len(file.contents.now)

    def read(self, file, size, position):
        return bytes(file.contents.now[position : position + size])

    def write(self, file, data, position):
        self.operations.append(("write", file.path, bytes(data), position))
        file.contents.change(position, bytes(data))

    def truncate(self, file, size):
        self.operations.append(("truncate", file.path, size))
        file.contents.change(size)

    def allocate(self, file, size):
        if size > self.size(file):
            self.truncate(file, size)

    def sync(self, file):
        self.operations.append(("sync", file.path))
        file.contents.sync()

    def sync_folder(self, folder):
        self.operations.append(("sync_folder", folder))
        self.synced, self.changes = dict(self.now), []

    def rename(self, old, new):
        self.operations.append(("rename", old, new))
        self._rename((old, None), (new, self.now[old]))

    def unlink(self, path):
        if path not in self.now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self.operations.append(("unlink", path))
        self._rename((path, None))

    def names(self, folder):
        return [path.rpartition("/")[2] for path in self.now]

    def boot_id(self):
        return str(self.boots)

    def make_folder(self, folder):
        pass

    def _rename(self, *change):
        self.changes.append(change)
        _apply_names(self.now, change)

    # ---- power loss

    @classmethod
    def replayed(cls, operations):
        """A disk to which this has been done."""
        disk = cls()
        for name, path, *arguments in operations:
            if name in ("write", "truncate", "sync"):
                getattr(disk, name)(disk.open(path), *arguments)
            else:
                getattr(disk, name)(path, *arguments)
        return disk

    @property
    def unsure(self):
        """How many things a power loss may take or leave."""
        contents = {id(each): each for each in [*self.synced.values(), *self.now.values()]}
        return len(self.changes) + sum(len(each.changes) for each in contents.values())

    def after_power_loss(self, stays):
        """What is left. `stays()` is asked for each thing that a power loss may take."""
        left = MemoryDisk()
        names = dict(self.synced)
        for change in self.changes:
            if stays():
                _apply_names(names, change)
        for path, contents in names.items():
            data = bytearray(contents.synced)
            for change in contents.changes:
                if stays():
                    _apply(data, change)
            left.now[path] = Contents()
            left.now[path].now = data
            left.now[path].sync()
        left.synced = dict(left.now)
        left.boots = self.boots + 1
        return left


def _parts(position, data):
    while data:
        size = PART_BYTES - position % PART_BYTES
        yield position, data[:size]
        position, data = position + size, data[size:]


def _apply(data, change):
    position, written = change
    if written is None:
        del data[position:]
        data.extend(bytes(position - len(data)))
        return
    data.extend(bytes(max(0, position - len(data))))
    data[position : position + len(written)] = written


def _apply_names(names, change):
    for path, contents in change:
        if contents is None:
            names.pop(path, None)
        else:
            names[path] = contents
