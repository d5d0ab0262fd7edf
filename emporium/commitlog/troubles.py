"""What is wrong with the files of a log, in lines. Reads every byte and changes nothing."""

from functools import partial

from emporium.commitlog.errors import Damaged
from emporium.commitlog.folder import META
from emporium.commitlog.index import Index
from emporium.commitlog.pieces import pieces_of
from emporium.commitlog.scan import log_id_in, scan
from emporium.commitlog.segment import path_of, store_of


def troubles(folder, say):
    """A line for each thing that is not as it should be. What is only worth knowing goes to `say`."""
    stores, indexes = folder.bases(say)
    start = None
    try:
        meta = folder.meta()
        if meta is None:
            yield f"{folder.at(META)} is missing"
        else:
            start = meta.start
    except Damaged as error:
        yield str(error)
    if start is not None:
        stores = [base for base in stores if base >= start]
        if stores[:1] != [start] and meta.is_begun:
            yield f"{path_of(folder.path, start, 'store')} is missing, and the log begins with it"
        elif meta.is_begun and meta.active not in stores:
            yield f"{path_of(folder.path, meta.active, 'store')} is missing, and it was written to"
    for base in sorted(set(indexes) - set(stores)):
        if start is None or base >= start:
            yield f"{path_of(folder.path, base, 'store')} is missing, and its index is there"
    log_id = meta.log_id if start is not None else log_id_in(stores, partial(store_of, folder))
    expected = None
    cut_at = meta.cut_at if start is not None else None
    for base, following in zip(stores, [*stores[1:], cut_at], strict=False):
        is_last = base == stores[-1]
        store = store_of(folder, base)
        if expected not in (None, base):
            yield f"{store.path} at position 0: it begins with offset {base}, and {expected} was to follow"
        found = scan(store, log_id, base, following)
        if found.blank and is_last:
            say(f"{store.path}: {found.blank} bytes are set aside for what was to come")
        elif found.blank:
            yield f"{store.path} at position {found.end}: {found.blank} zeros stand behind its records"
        if found.trouble is None:
            expected = found.next_offset
        else:
            expected = None
            yield from _troubles_of_store(store, log_id, base, found, is_last)
        for offset in found.lost:
            say(f"{store.path}: the record of offset {offset} was lost, and repair noted it")
        if found.trouble is None:
            yield from troubles_of_index(folder, base, bytes(found.entries))
    marker = folder.marker()
    if marker is not None and stores and expected is not None and marker.next != expected:
        yield f"{folder} was closed before offset {marker.next}, and ends before {expected}"


def _troubles_of_store(store, log_id, base, found, is_last):
    pieces = pieces_of(store, log_id, base, None)
    bad = [piece for piece in pieces if not piece.is_good]
    for piece in bad:
        behind = next((other for other in pieces if other.position >= piece.end), None)
        if behind is None:
            what = "the next start cuts it, if it was never synced" if is_last else "no record follows"
        else:
            what = f"the record of offset {behind.offset} follows at {behind.position}"
        yield f"{store.path} at position {piece.position}, offset {piece.offset}: {piece.why}; {what}"
    if not bad:
        yield f"{store.path} at position {found.end}, offset {found.next_offset}: {found.trouble}"


def troubles_of_index(folder, base, entries):
    path = path_of(folder.path, base, "index")
    try:
        index = Index(folder.disk, path, 0)
    except FileNotFoundError:
        yield f"{path} is missing; the next start makes it anew"
        return
    held = index.read_at(index.size, 0)
    if held != entries:
        at = next(
            (i for i, (a, b) in enumerate(zip(held, entries, strict=False)) if a != b), min(len(held), len(entries))
        )
        yield f"{path} at position {at}: it does not fit its store; it is made anew from there"
