"""The whole log as one stream of bytes: what stands in the stores, one after the other, length prefixes included."""

import io

STEP_RECORDS = 1024
STEP_BYTES = 2**20


class Reader(io.RawIOBase):
    """Reads whole records, each checked: those that could be read when the reader was made.

    frames  (offset, most records, most bytes) -> (bytes of whole records, the offset behind them)
    Reading raises OffsetOutOfRange when a truncation took what comes next, Damaged and Closed.
    """

    def __init__(self, frames, lowest, next_offset):
        super().__init__()
        self._frames = frames
        self._offset = lowest
        self._next_offset = next_offset
        self._left = memoryview(b"")

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._left and self._offset < self._next_offset:
            most = min(STEP_RECORDS, self._next_offset - self._offset)
            data, self._offset = self._frames(self._offset, most, STEP_BYTES)
            self._left = memoryview(data)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
