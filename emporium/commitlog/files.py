"""The one small layer through which all file operations of a log pass.

Tests put another Disk in its place: one that records what was done, so that a power loss can be replayed at any
moment, or one that fails. Every method raises OSError, as the system does.
"""

import errno
import os
import shutil

FULL = {errno.ENOSPC, errno.EDQUOT}


class File:
    """An open file. It is closed when the last one who uses it lets go of it.

    So a thread may read while another one truncates or closes the log: the number `fd` cannot come to mean another
    file meanwhile.
    """

    def __init__(self, fd, path):
        self.fd = fd
        self.path = path

    def __del__(self):
        os.close(self.fd)


class Disk:
    """The real one. Paths are text."""

    def open(self, path, is_writable=False):
        """The File at this path. Raises FileNotFoundError."""
        return File(os.open(path, (os.O_RDWR if is_writable else os.O_RDONLY) | os.O_CLOEXEC), path)

    def create(self, path):
        """A new, empty, writable File; one of that name is emptied."""
        return File(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644), path)

    def size(self, file):
        return os.fstat(file.fd).st_size

    def read(self, file, size, position):
        """At most `size` bytes from there; fewer only where the file ends."""
        data = os.pread(file.fd, size, position)
        if len(data) < size:  # the end of the file, or an interrupted call
            while more := os.pread(file.fd, size - len(data), position + len(data)):
                data += more
        return data

    def write(self, file, data, position):
        """All of the data. When it raises, a part may be written."""
        done = self._pwrite(file, data, position)
        while done < len(data):
            done += self._pwrite(file, memoryview(data)[done:], position + done)

    def _pwrite(self, file, data, position):
        """How many bytes were written: the system may write fewer than it was given."""
        return os.pwrite(file.fd, data, position)

    def truncate(self, file, size):
        os.ftruncate(file.fd, size)

    def allocate(self, file, size):
        """Let the file have at least this size, and the disk room for it. What was not written is zeros.

        They are really written: a disk that only knows of the room has to note, at each sync, how much of it is used.
        """
        begin = self.size(file)
        if begin < size:
            os.posix_fallocate(file.fd, begin, size - begin)
            self.write(file, bytes(size - begin), begin)

    def sync(self, file):
        """Returns when the file's bytes and its size are on the disk; not its name, see sync_folder."""
        os.fdatasync(file.fd)

    def sync_folder(self, folder):
        """Returns when the names in this folder are on the disk."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old, new):
        os.rename(old, new)

    def unlink(self, path):
        os.unlink(path)

    def names(self, folder):
        """The names in this folder, in no order."""
        return os.listdir(folder)

    def boot_id(self):
        """A text that is another one each time the machine has been started; None when it cannot be told."""
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                return file.read().strip() or None
        except OSError:
            return None

    def make_folder(self, folder):
        """The folder, and those above it, each on the disk when this returns."""
        if os.path.isdir(folder):
            return
        above = os.path.dirname(os.path.abspath(folder))
        self.make_folder(above)
        os.makedirs(folder, exist_ok=True)
        self.sync_folder(above)

    def remove_folder(self, folder):
        """Unlink it and all that is in it, as far as that goes; nothing is synced."""
        shutil.rmtree(folder, ignore_errors=True)

    def write_whole(self, path, data):
        """A file that holds this, under a name that is not valid yet: put_in_place makes it so."""
        file = self.create(path + ".tmp")
        self.write(file, data, 0)
        self.sync(file)

    def put_in_place(self, path):
        """What write_whole wrote takes the place of the file in one step. A crash leaves the old or the new one."""
        self.rename(path + ".tmp", path)
        self.sync_folder(os.path.dirname(path))
