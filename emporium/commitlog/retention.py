"""Which segments have become too old, or too many. Pure: what is known of them goes in, a number comes out."""

from itertools import pairwise


def surplus(segments, config, floor, now_ns):
    """How many of the oldest segments may go. Never the last one, which is written to.

    segments  oldest first
    floor     the lowest offset that a consumer still needs: no segment with one at or above it goes; None: nobody does
    now_ns    nanoseconds since 1970
    Raises Damaged when the age of a segment cannot be read.
    """
    size = sum(segment.size for segment in segments)
    count = 0
    for segment, following in pairwise(segments):
        is_too_much = config.retention_bytes is not None and size > config.retention_bytes
        if not (is_too_much or is_too_old(segment, following.base - 1, config, now_ns)):
            break
        if floor is not None and following.base > floor:
            break
        size -= segment.size
        count += 1
    return count


def is_too_old(segment, offset, config, now_ns):
    """Whether the record with this offset has lived long enough."""
    if config.retention_s is None:
        return False
    return segment.timestamp(offset) < now_ns - config.retention_s * 1e9
