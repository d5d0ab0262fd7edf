"""Reading: what readers see of a log, and how they wait for more. Who reads takes no lock.

Readers see the segments and the next offset as they were last published. A truncation publishes anew: a read that met
one begins anew. A read that meets a wrong index has it made anew.
"""

import threading
from bisect import bisect_right
from collections import deque

from emporium.commitlog.errors import Closed, Damaged, LogError, OffsetOutOfRange
from emporium.commitlog.reader import Reader
from emporium.commitlog.segment import Segment

MOST_OPEN = 16  # sealed segments whose files stay open for reading
STEP_RECORDS = 1024  # read_many reads so many at once
STEP_BYTES = 4 * 2**20


class View:
    """Owns what is published. Only who holds the turn publishes.

    next_offset  readers see the records below it
    is_closed    then all that reads raises Closed
    """

    def __init__(self, segments, turn):
        self.next_offset = segments[-1].next_offset
        self.is_closed = False
        self._turn = turn  # of whoever changes files: a read takes it only to have an index made anew
        self._generation = 0  # counts the truncations
        self._open = deque()  # sealed segments that have been read from
        self._news = threading.Condition()
        self._watchers = 0  # how many wait for news
        self._may_wait = True
        self.publish(segments)

    # ---- publishing

    @property
    def segments(self):
        """The segments, oldest first, the active one last."""
        return self._published[0]

    @property
    def bases(self):
        """Their base offsets."""
        return self._published[1]

    @property
    def lowest_offset(self):
        return self._published[1][0]

    def publish(self, segments):
        """Show these segments, in one step."""
        self._generation += 1
        self._published = (segments, [segment.base for segment in segments])

    def show(self, next_offset):
        """Show the records below this offset."""
        self.next_offset = next_offset
        if self._watchers:
            self._wake()

    def hide(self, next_offset):
        """Show the records from this offset on no longer; their bytes go next."""
        self.next_offset = next_offset
        self._generation += 1

    def close(self):
        """Nothing can be read any more."""
        self.is_closed = True
        self.wait_no_more()

    # ---- waiting

    def wait_for(self, offset, timeout_s):
        """See Log.wait_for."""
        if self.is_closed:
            raise Closed
        if offset < self.next_offset:
            return True
        with self._news:
            self._watchers += 1
            try:
                self._news.wait_for(lambda: offset < self.next_offset or not self._may_wait, timeout_s)
            finally:
                self._watchers -= 1
        return offset < self.next_offset and not self.is_closed

    def wait_no_more(self):
        """See Log.wait_no_more."""
        self._may_wait = False
        self._wake()

    def _wake(self):
        with self._news:
            self._news.notify_all()

    # ---- reading

    def read_many(self, offset, most, most_bytes):
        """See Log.read_many."""
        records, left = [], STEP_BYTES if most_bytes is None else most_bytes
        next_offset = self.next_offset
        if offset == next_offset and not self.is_closed:
            return []
        while len(records) < most:
            step = min(most - len(records), STEP_RECORDS, max(1, next_offset - offset))
            try:
                found, offset = self.ask(offset, Segment.read_many, offset, step, min(left, STEP_BYTES))
            except LogError:
                if records:
                    break
                raise
            if records and most_bytes is not None and found and len(found[0].value) > left:
                break
            records += found
            if most_bytes is not None:
                left -= sum(len(record.value) for record in found)
            if offset >= next_offset or left < 0:  # the first record alone may have more
                break
        return records

    def reader(self):
        """See Log.reader."""
        if self.is_closed:
            raise Closed

        def frames(offset, most, most_bytes):
            return self.ask(offset, Segment.frames, offset, most, most_bytes)

        return Reader(frames, self.lowest_offset, self.next_offset)

    def ask(self, offset, question, *arguments):
        """What `question` gives, called with the segment that holds this offset. Raises what it does.

        An index that is wrong is made anew, once. A read that met a truncation begins anew.
        """
        while True:
            generation = self._generation
            segment = self._segment_of(offset)
            was_mended = segment.was_mended
            try:
                return question(segment, *arguments)
            except Damaged:
                if generation == self._generation and was_mended:
                    raise
            with self._turn:
                if generation == self._generation and not segment.was_mended and not self.is_closed:
                    segment.mend()

    def _segment_of(self, offset):
        if self.is_closed:
            raise Closed
        next_offset = self.next_offset  # before the segments: those that hold what is below it are there then
        segments, bases = self._published
        if type(offset) is not int or not bases[0] <= offset < next_offset:
            raise OffsetOutOfRange(offset, bases[0], max(bases[0], next_offset))
        segment = segments[bisect_right(bases, offset) - 1]
        if not segment.is_open:
            self.note_open(segment)
        return segment

    def note_open(self, segment):
        """Files of a sealed segment stay open, but not of too many."""
        self._open.append(segment)
        while len(self._open) > MOST_OPEN:
            old = self._open.popleft()
            if old is not self.segments[-1]:
                old.let_go()

    def size_from(self, offset):
        """See Log.size_from."""
        while True:
            segments, bases = self._published
            offset = max(offset, bases[0])
            if offset >= self.next_offset:
                return 0
            try:
                position = self.ask(offset, Segment.position_of, offset)
            except OffsetOutOfRange:
                if self.lowest_offset <= offset < self.next_offset:  # it is no offset at all
                    raise
                continue  # truncated in between
            return sum(each.size for each in segments[bisect_right(bases, offset) - 1 :]) - position
