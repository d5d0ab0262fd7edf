"""The folder of a log: which files are ours, what the log itself remembers, and that only one process uses it.

    log.json       {"format": 1, "log": "...", "identity": "...", "start": 0, "active": 32, "is_begun": true,
                   "is_removed": false, "cut_at": null, "policy": "group", "boot": "...", "checksum": 3141592653}
    clean.json     {"next": 12, "store_bytes": 816}: the log was closed, and its last segment ends so
    lock           held while a process has the log open; its pid
    <base>.store, <base>.index

`log` is the id that each record carries, 8 random bytes in hexadecimal digits: a record with another one is none.
`identity` changes when offsets may be given again, see recovery.py.
`start` is the base offset of the first segment: files below it are left of a truncation and are thrown away.
`active` is the base offset of the segment that was written to last; it is noted before its first record.
`is_begun` is false until that segment has been created. `is_removed`: remove() was called, and all goes.
`cut_at`: a truncation from the back, or a repair, ended here in the midst of an append of many; what is left of it is
whole.
`policy` is how the last start was told to sync, `boot` the machine's boot id then.
`checksum` is the CRC-32 of the others, written so.
Each JSON file is replaced in one step, and is on the disk when the writing returns.
"""

import fcntl
import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from zlib import crc32

from emporium.commitlog.errors import Damaged, InUse

FORMAT = 1
META, MARKER, LOCK = "log.json", "clean.json", "lock"
_NAME = re.compile(r"(0|[1-9]\d{0,18})\.(store|index)")
_ASIDE = re.compile(r".*\.damaged(-\d+)?")


@dataclass(frozen=True)
class Meta:
    """See the top of the file."""

    log: str
    identity: str
    start: int
    active: int
    is_begun: bool = False
    is_removed: bool = False
    cut_at: int | None = None
    policy: str | None = None
    boot: str | None = None

    @classmethod
    def new(cls, start, log_id=None):
        """That of a log that begins here; of one that is there already, with the id that its records carry."""
        log_id = secrets.randbits(64) if log_id is None else log_id
        return cls(f"{log_id:016x}", _new_identity(), start, start)

    @property
    def log_id(self):
        """`log`, as a number."""
        return int(self.log, 16)

    def changed(self, **fields):
        return replace(self, **fields)

    def renewed(self):
        """With a new identity: what a reader has noted of this log counts no longer."""
        return self.changed(identity=_new_identity())


def _new_identity():
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Marker:
    """next: the log's next offset; store_bytes: the size of its last store."""

    next: int
    store_bytes: int


class Folder:
    """`disk`: see files.py; `path`: text. Raises OSError throughout."""

    def __init__(self, disk, path):
        self.disk = disk
        self.path = path

    def __str__(self):
        return self.path

    def at(self, name):
        return os.path.join(self.path, name)

    def sync(self):
        """Returns when the names in the folder are on the disk."""
        self.disk.sync_folder(self.path)

    def bases(self, note=lambda line: None):
        """({base offset: ...} of the stores, the same of the indexes), as two sorted lists. Calls `note` with a line
        about each file that is not ours, and leaves it alone.
        """
        found = {"store": [], "index": []}
        for name in sorted(self.disk.names(self.path)):
            if match := _NAME.fullmatch(name):
                found[match[2]].append(int(match[1]))
            elif name not in (META, MARKER, LOCK) and not _ASIDE.fullmatch(name) and not name.endswith(".tmp"):
                note(f"{self.at(name)} does not belong to the log, and is ignored")
        return sorted(found["store"]), sorted(found["index"])

    def remove_unfinished(self):
        """Unlink what a crash left half written, under names that never were valid."""
        for name in self.disk.names(self.path):
            if name in (META + ".tmp", MARKER + ".tmp") or re.fullmatch(_NAME.pattern + r"\.tmp", name):
                self.disk.unlink(self.at(name))

    def meta(self):
        """The Meta; None when there is none. Raises Damaged."""
        found = self._json(META)
        if found is None:
            return None
        try:
            checksum, version = found.pop("checksum"), found.pop("format")
            if version != FORMAT:
                raise ValueError(f"format {version}, and this version reads format {FORMAT}")
            meta = Meta(**found)
            if checksum != _with_checksum(meta)["checksum"]:
                raise ValueError("the checksum does not match")
            if not (type(meta.start) is type(meta.active) is int and meta.start >= 0 and type(meta.identity) is str):
                raise ValueError("a field has a wrong type")
            return meta
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(self.at(META), 0, f"no note of a log: {error}") from error

    def write_meta(self, meta):
        """Prepare it: put_meta_in_place makes it so. When this raises, surely nothing has changed."""
        self.disk.write_whole(self.at(META), json.dumps(_with_checksum(meta)).encode() + b"\n")

    def put_meta_in_place(self):
        self.disk.put_in_place(self.at(META))

    @property
    def has_marker(self):
        """Whether there is one, even if it makes no sense."""
        return MARKER in self.disk.names(self.path)

    def marker(self):
        """The Marker that a close has left; None when there is none, or none that makes sense."""
        try:
            found = Marker(**self._json(MARKER))
        except (Damaged, TypeError):
            return None
        return found if type(found.next) is int and type(found.store_bytes) is int else None

    def write_marker(self, marker):
        self.disk.write_whole(self.at(MARKER), json.dumps(asdict(marker)).encode() + b"\n")
        self.disk.put_in_place(self.at(MARKER))

    def remove_marker(self):
        """Before anything is written: a marker that is there means that nothing was."""
        with suppress(FileNotFoundError):
            self.disk.unlink(self.at(MARKER))
            self.sync()

    def _json(self, name):
        """What the file holds; None when it is not there. Raises Damaged."""
        try:
            file = self.disk.open(self.at(name))
        except FileNotFoundError:
            return None
        try:
            return json.loads(self.disk.read(file, self.disk.size(file), 0))
        except ValueError as error:
            raise Damaged(self.at(name), 0, f"no JSON: {error}") from error


def _with_checksum(meta):
    """What log.json holds. A start that is wrong would throw records away."""
    fields = {"format": FORMAT, **asdict(meta)}
    return {**fields, "checksum": crc32(json.dumps(fields).encode())}


class FolderLock:
    """One process per folder. Raises InUse, with the pid of the one that has it."""

    def __init__(self, folder):
        self._path = os.path.join(folder, LOCK)
        self._folder = folder
        while True:
            self._file = open(self._path, "a+")  # noqa: SIM115  held until release
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = holder(folder)
                self._file.close()
                raise InUse(folder, pid) from None
            if self._is_in_place():
                break
            self._file.close()  # the log was removed in between: that file locks nothing any more
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def _is_in_place(self):
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            return False

    def release(self):
        self._file.close()

    def remove(self):
        """Unlink it and release it."""
        os.unlink(self._path)
        self.release()


def holder(folder):
    """The pid that the lock file names; None when it names none."""
    try:
        with open(os.path.join(folder, LOCK)) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
