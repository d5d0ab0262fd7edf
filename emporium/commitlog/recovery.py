"""Starting: from the files in a folder to segments that are right, whatever happened before.

A closed log left a marker: if its last segment ends where the marker says, nothing is read but the ends of the
segments. Otherwise the last segment is read whole:

    a bad record, and behind it a good one that     damaged: the start stops, with file and position;
    says that the bad one was synced, or a marker   ./tea log verify and ./tea log repair decide
    that says how long the store was with it
    a whole record of another log                   the same: the files were swapped
    nothing but zeros                               room that was set aside: it is cut, and said
    a bad record otherwise, or an append of         a torn tail that nobody was told is stored: it is cut, and the
    several records that is not whole               number of bytes is said

The segments before it were synced before the next one was begun. Of each the ends are checked, and the whole of one
whose index is missing or wrong; a bad record there is damage. So is a gap between two segments. Damage that no start
can see is found by the read of that very record, and by verify.

The log's identity changes when records that someone may have read may be gone, since their offsets are given again
then: when the log ends earlier than a close has noted, or, without a close, than its index has entries; and when the
machine was started anew since an unclean end under a policy that syncs late. A kill alone takes nothing that was shown,
and leaves no entry without its record, since the entry is written after it, and is taken away before it.

Files below the start that log.json names are left of a truncation, and go. An index is made anew from its store where
it does not fit.
"""

from itertools import pairwise

from emporium.commitlog.config import UNSYNCED
from emporium.commitlog.errors import Damaged
from emporium.commitlog.segment import Segment, path_of


def start(folder, config, meta, note):
    """(Meta, [Segments]): at least one segment; all that they hold is on the disk. Calls `note` with what was found.

    folder  a Folder that is ours alone
    meta    its Meta, of a new log one that is not begun
    Raises Damaged, and then has changed nothing that held records; OSError.
    """
    stores, indexes = folder.bases(note)
    folder.remove_unfinished()
    _drop_what_was_truncated(folder, meta, stores, indexes)
    stores = [base for base in stores if base >= meta.start]
    indexes = [base for base in indexes if base >= meta.start]
    boot = folder.disk.boot_id()
    is_renewed = _may_have_lost_the_newest(folder, meta, boot, note)
    if not stores and not meta.is_begun:
        segments = [begin(folder, config, meta)]
    else:
        segments, is_shorter = _opened(folder, config, meta, stores, indexes, note)
        is_renewed = is_renewed or is_shorter
    meta = meta.renewed() if is_renewed else meta
    return _noted(folder, meta, is_begun=True, active=segments[-1].base, policy=config.fsync, boot=boot), segments


def _opened(folder, config, meta, stores, indexes, note):
    """([Segment], whether the log ends earlier than is known of it)."""
    if stores[:1] != [meta.start]:
        raise Damaged(path_of(folder.path, meta.start, "store"), 0, "it is missing, and the log begins with it")
    if meta.active not in stores:
        raise Damaged(path_of(folder.path, meta.active, "store"), 0, "it is missing, and it was written to")
    _drop_lone_indexes(folder, stores, indexes, note)
    for base in set(stores) - set(indexes):
        note(f"{path_of(folder.path, base, 'index')} is missing: made anew from the store")
    segments = [Segment.open(folder.disk, folder.path, meta.log_id, base, config) for base in stores]
    for sealed, following in pairwise(segments):
        _check_sealed(sealed, following, note)
        sealed.let_go()
    is_shorter = _check_last(folder, segments[-1], meta.cut_at, note)
    folder.sync()
    return segments, is_shorter


def begin(folder, config, meta):
    """The first Segment, created where log.json says that it begins."""
    segment = Segment.create(folder.disk, folder.path, meta.log_id, meta.start, config)
    folder.sync()
    return segment


def _may_have_lost_the_newest(folder, meta, boot, note):
    """Whether the power may have failed when not all that readers saw was synced."""
    if meta.policy not in UNSYNCED or folder.marker() is not None or (boot is not None and boot == meta.boot):
        return False
    note(f"{folder}: the machine was started anew, and the newest records may be gone: the log has a new identity")
    return True


def _noted(folder, meta, **fields):
    """This Meta with these fields, which log.json holds when this returns."""
    noted = meta.changed(**fields)
    if noted != folder.meta():
        folder.write_meta(noted)
        folder.put_meta_in_place()
    return noted


def throw_away(folder):
    """Unlink all that is ours but the lock; log.json last, so that a crash in between is known for what it is."""
    stores, indexes = folder.bases()
    folder.remove_unfinished()
    folder.remove_marker()
    for kind, bases in (("index", indexes), ("store", stores)):
        for base in bases:
            folder.disk.unlink(path_of(folder.path, base, kind))
    folder.sync()
    folder.disk.unlink(folder.at("log.json"))
    folder.sync()


def _drop_what_was_truncated(folder, meta, stores, indexes):
    for kind, bases in (("index", indexes), ("store", stores)):
        for base in bases:
            if base < meta.start:
                folder.disk.unlink(path_of(folder.path, base, kind))


def _drop_lone_indexes(folder, stores, indexes, note):
    """One without entries is left of a crash between two creations; one with entries had a store, and records."""
    for base in sorted(set(indexes) - set(stores)):
        path = path_of(folder.path, base, "index")
        if folder.disk.size(folder.disk.open(path)):
            raise Damaged(path_of(folder.path, base, "store"), 0, "it is missing, and its index has entries")
        folder.disk.unlink(path)
        note(f"{path} has no store and no entries: removed")


def _check_sealed(segment, following, note):
    if segment.fits(following.base):
        return
    found = segment.scan(following.base)
    if found.trouble or found.blank:
        raise Damaged(segment.path, found.end, found.trouble or f"{found.blank} zeros stand behind its records")
    if found.next_offset != following.base:
        raise Damaged(
            segment.path,
            found.end,
            f"it ends before offset {found.next_offset}, and the next segment, {following.path}, begins with "
            f"{following.base}",
        )
    if segment.take(found):
        note(f"{segment.index_path} was wrong: made anew from the store")


def _check_last(folder, segment, cut_at, note):
    """Whether it ends earlier than when the log was closed, or else than its index says."""
    marker = folder.marker()
    indexed = segment.next_offset
    if marker is not None and segment.fits(marker.next, marker.store_bytes):
        return False
    found = segment.scan(cut_at)
    if found.trouble or found.blank:
        what = found.trouble or f"{found.blank} zeros stand behind its records"
        proof = proof_of_damage(segment, found, marker)
        if proof is not None:
            raise Damaged(segment.path, found.end, f"{what}; {proof}")
        size = segment.size - found.end
        is_cut = f"{segment.path}: cut {size} bytes at position {found.end}, offset {found.next_offset}"
        if found.trouble:
            note(f"{is_cut}: a torn tail: {what}")
        else:
            note(f"{is_cut}, which were set aside for what was to come", is_usual=True)
    is_shorter = marker is not None and found.next_offset < marker.next
    if marker is not None and found.next_offset != marker.next:
        then = ": it has a new identity" if is_shorter else ""
        note(f"{folder} was closed before offset {marker.next}, and now ends before {found.next_offset}{then}")
    elif marker is None and found.next_offset < indexed:
        is_shorter = True
        note(
            f"{segment.path} ends before offset {found.next_offset}, and its index before {indexed}: "
            "records may be gone, and the log has a new identity"
        )
    if segment.keep(found):
        note(f"{segment.index_path} did not fit: made anew from the store")
    return is_shorter


def proof_of_damage(segment, found, marker):
    """In words, what shows that what stands at the end of this Scan was synced; None: nothing does."""
    if marker is not None and found.next_offset < marker.next and segment.size >= marker.store_bytes:
        return f"the log was closed before offset {marker.next}, when this store had {marker.store_bytes} bytes"
    if found.is_foreign:
        return "it was not written by this log"
    for position, head in segment.good_records_behind(found):
        if head.durable > found.next_offset:
            return f"the record of offset {head.offset} at {position} says that it was synced"
    return None
