"""Repair: a log that starts, made of what can still be read. Each loss is said.

A copy of each file that is changed is kept under <name>.damaged. No record moves to another offset: where nothing can
be read, the offset stays, marked as lost (record.py), so that what stands behind keeps its own.
"""

import os
import shutil
from functools import partial

from emporium.commitlog.errors import Damaged, LogError
from emporium.commitlog.files import Disk
from emporium.commitlog.folder import META, Folder, FolderLock, Meta
from emporium.commitlog.index import Index
from emporium.commitlog.log import Log
from emporium.commitlog.pieces import pieces_of
from emporium.commitlog.record import LOST, PREFIX_BYTES, encode
from emporium.commitlog.scan import log_id_in, scan
from emporium.commitlog.segment import path_of, store_of
from emporium.commitlog.troubles import troubles_of_index


def repair(path, say):
    """Whether the log starts now. Raises InUse and OSError."""
    lock = FolderLock(path)
    try:
        folder = Folder(Disk(), path)
        _repair_meta(folder, say)
        _repair_stores(folder, say)
        _repair_indexes(folder, say)
        folder.remove_marker()
        folder.sync()
    finally:
        lock.release()
    try:
        with Log(path) as log:
            for line in log.notes:
                say(line)
            say(f"{path}: holds the offsets from {log.lowest_offset} to below {log.next_offset}")
    except LogError as error:
        say(f"not repaired: {error}")
        return False
    return True


def _repair_meta(folder, say):
    stores, _indexes = folder.bases()
    try:
        meta = folder.meta()
    except Damaged as error:
        say(f"{error}; a new one is written, with a new identity")
        _keep_aside(folder.at(META), say)
        meta = None
    if meta is not None and meta.is_removed:
        return
    before = meta
    start = next((base for base in stores if meta is None or base >= meta.start), None)
    if meta is None:
        meta = Meta.new(start or 0, log_id_in(stores, partial(store_of, folder)))
    elif start is None:
        if meta.is_begun:
            say(f"{folder}: no store is left; all records are lost")
            meta = meta.renewed()
    elif start != meta.start:
        say(f"{folder}: the offsets from {meta.start} to below {start} are lost: their stores are missing")
    if start is None:
        meta = meta.changed(active=meta.start, is_begun=False)
    else:
        if meta.active > stores[-1]:
            say(f"{path_of(folder.path, meta.active, 'store')} is missing: what it held is lost")
            meta = meta.renewed()
        meta = meta.changed(start=start, active=stores[-1], is_begun=True)
    if meta != before:
        folder.write_meta(meta)
        folder.put_meta_in_place()


def _repair_stores(folder, say):
    stores, _indexes = folder.bases(say)
    meta = folder.meta()
    stores = [base for base in stores if base >= meta.start]
    for i, base in enumerate(stores):
        next_base = stores[i + 1] if i + 1 < len(stores) else None
        store = store_of(folder, base)
        pieces = pieces_of(store, meta.log_id, base, next_base)
        end = base + sum(piece.count for piece in pieces)
        if next_base is None:
            _renew(folder, base, pieces, end, say)
            _keep_half_an_append(folder, folder.meta(), pieces, end, say)
        is_short = next_base is not None and end < next_base
        if is_short or not all(piece.is_good for piece in pieces):
            _rewrite(store, meta.log_id, base, pieces, next_base, say)


def _renew(folder, base, pieces, end, say):
    """Give the log a new identity if its end is lost, since the offsets there will be given again."""
    marker = folder.marker()
    known = marker.next if marker is not None else base + _entries_of(folder, base)
    if (pieces and not pieces[-1].is_good) or end < known:
        say(f"{folder}: what was read from offset {end} on may be gone: the log has a new identity")
        folder.write_meta(folder.meta().renewed())  # before anything is cut
        folder.put_meta_in_place()


def _entries_of(folder, base):
    """How many entries the index with this base offset has; none when it is missing."""
    try:
        return Index(folder.disk, path_of(folder.path, base, "index"), 0).count
    except FileNotFoundError:
        return 0


def _keep_half_an_append(folder, meta, pieces, end, say):
    """The records before `end` stay, although the append of many that they belong to cannot be read to its end.

    Only if the log was closed behind them: then they were acknowledged. Otherwise that append may never have been
    whole, and the start cuts it.
    """
    good = [piece for piece in pieces if piece.is_good]
    marker = folder.marker()
    if not good or not good[-1].has_more or meta.cut_at == end or marker is None or marker.next < end:
        return
    say(f"{folder}: the append that ends here is not whole: what can be read of it, up to offset {end - 1}, stays")
    folder.write_meta(meta.changed(cut_at=end))  # before anything is cut, so that no start finds half an append
    folder.put_meta_in_place()


def _rewrite(store, log_id, base, pieces, next_base, say):
    """Replace the store by its good records, each at its own offset."""
    path = store.path
    for piece in pieces:
        if piece.is_good:
            continue
        lost = f"offsets {piece.offset} to {piece.offset + piece.count - 1} are lost" if piece.count else "no offset"
        if piece is pieces[-1]:
            lost = f"what it held from offset {piece.offset} on is lost"
        say(f"{path} at position {piece.position}: {piece.end - piece.position} bytes cannot be read: {lost}")
    _keep_aside(path, say)
    disk = Disk()
    file = disk.create(path + ".tmp")
    position, offset, timestamp = 0, base, 0
    for piece in pieces:
        if not piece.is_good:
            position = _mark_lost(disk, file, log_id, position, offset, piece.count, timestamp)
        else:
            at = piece.position
            while at < piece.end:
                data = store.read_at(min(2**20, piece.end - at), at)
                disk.write(file, data, position)
                at, position = at + len(data), position + len(data)
            timestamp = piece.timestamp
        offset += piece.count
    if next_base is not None and offset < next_base:
        say(f"{path}: the offsets from {offset} to below {next_base} are lost")
        _mark_lost(disk, file, log_id, position, offset, next_base - offset, timestamp)
    disk.sync(file)
    disk.put_in_place(path)


def _mark_lost(disk, file, log_id, position, offset, count, timestamp):
    """Write so many records that are marked as lost. Returns the position behind them."""
    for i in range(count):
        payload = encode(b"", log_id, offset + i, timestamp, offset + i, LOST)
        disk.write(file, len(payload).to_bytes(PREFIX_BYTES, "big") + payload, position)
        position += PREFIX_BYTES + len(payload)
    return position


def _repair_indexes(folder, say):
    """Those that do not fit go; the start makes them anew. So do those whose store is gone."""
    stores, indexes = folder.bases()
    meta = folder.meta()
    ends = dict(zip(stores, [*stores[1:], meta.cut_at], strict=False))
    for base in indexes:
        path = path_of(folder.path, base, "index")
        if base in stores:
            found = scan(store_of(folder, base), meta.log_id, base, ends[base])
            if not any(True for _line in troubles_of_index(folder, base, bytes(found.entries))):
                continue
        else:
            say(f"{path_of(folder.path, base, 'store')} is missing: what it held is lost")
        _keep_aside(path, say)
        os.unlink(path)


def _keep_aside(path, say):
    """Copy it to a name that no log uses."""
    aside, number = f"{path}.damaged", 1
    while os.path.exists(aside):
        number += 1
        aside = f"{path}.damaged-{number}"
    shutil.copy2(path, aside)
    say(f"{path}: kept as {aside}")
