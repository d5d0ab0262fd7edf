"""What a person can do with the folder of a log that nobody has open: verify it, repair it, dump it.

verify (troubles.py) and dump read only. repair (repair.py) says what is lost, and leaves a log that starts.

Each returns an exit code of ./tea: 0 done, 1 damaged, 2 refused.
"""

import base64
import fcntl
import os
import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from emporium import progress
from emporium.commitlog.errors import Damaged, InUse
from emporium.commitlog.files import Disk
from emporium.commitlog.folder import LOCK, MARKER, META, Folder, holder
from emporium.commitlog.record import NoRecord, decode
from emporium.commitlog.repair import repair as make_it_start
from emporium.commitlog.scan import Window, log_id_in
from emporium.commitlog.segment import store_of
from emporium.commitlog.troubles import troubles

FINE, DAMAGED, REFUSED = range(3)


class Untouched(Disk):
    """A disk that is only read. `told` hears which file is."""

    def __init__(self, told):
        super().__init__()
        self._told = told

    def open(self, path, is_writable=False):
        self._told(os.path.basename(path))
        return super().open(path)


def verify(path, say=print):
    """Read every byte. Says what is wrong: file, position, and what."""
    return _refusing(_verify, path, say)


def dump(path, offset=None, most=None, say=print):
    """One line a record: offset, time, bytes, and the value as text or base64. At most so many, from this offset on."""
    return _refusing(_dump, path, say, offset, most)


def repair(path, say=print):
    """Make a log that starts of what can still be read. Says each loss."""
    return _refusing(_repair, path, say)


def _refusing(work, path, *arguments):
    try:
        if not os.path.isdir(path) or not any(map(_is_of_a_log, os.listdir(path))):
            raise FileNotFoundError(f"{path} is no folder of a log")
        with progress.shown(f"reading {path}") as told:
            return work(os.fspath(path), told, *arguments)
    except (InUse, OSError) as error:
        print(f"tea: {error}", file=sys.stderr)
        return REFUSED


def _is_of_a_log(name):
    return name.endswith((".store", ".index")) or name in (META, MARKER)


@contextmanager
def _unused(path):
    """Inside, nobody opens the log. Changes nothing. Raises InUse."""
    try:
        file = open(os.path.join(path, LOCK))  # noqa: SIM115  closed below
    except FileNotFoundError:
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(path, holder(path)) from None
        yield


def _verify(path, told, say):
    with _unused(path):
        folder = Folder(Untouched(told), path)
        found = 0
        for line in troubles(folder, say):
            say(line)
            found += 1
        say(f"{path}: {f'damaged, {found} found' if found else 'fine'}")
        return DAMAGED if found else FINE


def _dump(path, told, say, offset, most):
    with _unused(path):
        folder = Folder(Untouched(told), path)
        stores, _indexes = folder.bases()
        meta = None
        with suppress(Damaged):
            meta = folder.meta()
        if meta is not None:
            stores = [base for base in stores if base >= meta.start]
        log_id = meta.log_id if meta is not None else log_id_in(stores, partial(store_of, folder))
        for i, base in enumerate(stores):
            if offset is not None and i + 1 < len(stores) and stores[i + 1] <= offset:
                continue
            store = store_of(folder, base)
            window, position, at = Window(store, log_id), 0, base
            while position < store.size:
                if most == 0:
                    return FINE
                try:
                    head = window.check(position, at)
                except NoRecord as error:
                    if base == stores[-1] and store.is_blank(position):  # set aside for what was to come
                        break
                    say(f"{store.path} at position {position}, offset {at}: {error}")
                    return DAMAGED
                if offset is None or at >= offset:
                    record, head = decode(window.frame(position, head.frame_bytes), log_id, at)
                    say(_line(record, head))
                    most = None if most is None else most - 1
                position += head.frame_bytes
                at += 1
        return FINE


def _line(record, head):
    seconds, nanoseconds = divmod(record.timestamp, 10**9)
    time = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"
    return f"{record.offset} {time} {len(record.value)} {'lost' if head.is_lost else _shown(record.value)}"


def _shown(value):
    with suppress(UnicodeDecodeError):
        text = value.decode()
        if text.isprintable():
            return f"text {text}"
    return f"base64 {base64.b64encode(value).decode()}"


def _repair(path, _told, say):
    return FINE if make_it_start(path, say) else DAMAGED
