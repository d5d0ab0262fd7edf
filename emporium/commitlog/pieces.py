"""A store in pieces: good records in a row, and the bytes between them of which nothing is known."""

from emporium.commitlog.record import HEAD_BYTES, NoRecord
from emporium.commitlog.scan import Window, records_behind


class Piece:
    """A stretch of a store: good records in a row, the first with this offset, or bytes of which nothing is known.

    count     how many records; of a bad one, how many offsets are missing up to the next good record
    has_more  whether the append that its last record belongs to goes on behind it
    """

    def __init__(self, offset, position, is_good, why=None):
        self.offset, self.position, self.is_good, self.why = offset, position, is_good, why
        self.end, self.count, self.timestamp, self.has_more = position, 0, 0, False


def pieces_of(store, log_id, base, next_base):
    """[Piece] of this store, from its first byte to its last.

    log_id     of the log that it belongs to: no other records count as good
    next_base  none from this offset on does either
    """
    pieces, position, offset, window = [], 0, base, Window(store, log_id)
    while position < store.size:
        try:
            if offset == next_base:
                raise NoRecord(f"the next segment begins with offset {next_base}")
            head = window.check(position, offset)
        except NoRecord as error:
            if next_base is None and store.is_blank(position):  # set aside for what was to come
                break
            piece = Piece(offset, position, False, str(error))
            piece.end, piece.count = store.size, 0
            for found_at, head in records_behind(store, log_id, position, offset - 1):
                # So many records must have fitted in between.
                fits = (head.offset - offset) * HEAD_BYTES <= found_at - position
                if fits and (next_base is None or head.offset < next_base):
                    piece.end, piece.count = found_at, head.offset - offset
                    break
            pieces.append(piece)
            position, offset = piece.end, offset + piece.count
            continue
        if not pieces or not pieces[-1].is_good:
            pieces.append(Piece(offset, position, True))
        position, offset = position + head.frame_bytes, offset + 1
        piece = pieces[-1]
        piece.end, piece.count, piece.timestamp, piece.has_more = (
            position,
            piece.count + 1,
            head.timestamp,
            head.has_more,
        )
    return pieces
