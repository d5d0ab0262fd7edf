"""What is wrong with the history of one tea. Pure: a history goes in, Findings come out.

What a read shows is a state: pairs, none of which dominates another. A state *covers* a pair that is in it or is
dominated by one that is, and state a <= state b when b covers all of a. Writes only ever add, so in any order of the
operations the states grow. A history without deletes is linearizable exactly when, for each strong read r,

    (a)  each pair in it was written, by a write that began before r ended, and none dominates another;
    (b)  it covers what was acknowledged before it began;
    (c)  it and any other strong read are comparable, and it covers those that ended before it began;
    (d)  of each pair in it, it covers what was acknowledged or read before the write of that pair began.

Why that is enough: sort the reads by what they cover. By (a) to (d) the latest begin among a read, those below it and
the writes they show is before the end of every one above it and of every acknowledged write that it does not cover. So
points in time can be found for the reads in this order, and each pair fits in just before the first read that shows
it. The others change nothing that anybody saw. A test compares this with trying all orders.

A write of unknown outcome may be shown, and need not be. One that surely failed must not be.
"""

from bisect import bisect_left
from itertools import pairwise
from typing import NamedTuple

from emporium.storm.history import DELETE, FAIL, READ, WEAK, WRITE, Operation
from vectorclock import VectorClock


class Finding(NamedTuple):
    """Something that must not be: the rule it breaks, what happened, and the operation that shows it, if one does."""

    rule: str
    words: str
    tea: str = ""
    operation: Operation | None = None


def check_registers(operations):
    """The Findings of the rules a to d, of one tea that nobody deletes; and of the rule `weak`: a weak read shows only
    what was written, and no strong read that begins later covers less."""
    pairs = Pairs(operations)
    reads = [each for each in operations if each.what in (READ, WEAK) and each.is_ok]
    findings = []
    sound = []
    for read in reads:
        trouble = pairs.trouble_with(read)
        if trouble:
            findings.append(_finding("a" if read.what == READ else "weak", trouble, read))
        else:
            sound.append(read)
    strong = [read for read in sound if read.what == READ]
    writes = [each for each in operations if each.what == WRITE and each.is_ok]
    known = Known(
        [*((each, pairs.covers[each.written]) for each in writes), *((r, pairs.cover(r.seen)) for r in strong)]
    )
    known_weakly = Known([(read, pairs.cover(read.seen)) for read in sound if read.what == WEAK])
    for read in strong:
        cover = pairs.cover(read.seen)
        since = max([read.begin, *(pairs.begins[pair] for pair in read.seen)])
        if missed := known.missed(since, cover):
            rule = "d" if missed.end >= read.begin else "b" if missed.what == WRITE else "c"
            findings.append(_finding(rule, f"misses what {_told(missed)}", read))
        if missed := known_weakly.missed(read.begin, cover):
            findings.append(_finding("weak", f"misses what {_told(missed)}", read))
    chain = sorted(strong, key=lambda read: pairs.cover(read.seen).bit_count())
    for lower, upper in pairwise(chain):
        if pairs.cover(lower.seen) & ~pairs.cover(upper.seen):
            findings.append(_finding("c", f"is neither above nor below what {_told(lower)}", upper))
    return findings


class Pairs:
    """The pairs that may have been written to one tea.

    begins  {pair: when its first write began}
    covers  {pair: the set of pairs that it covers, itself included}, as the bits of a number
    """

    def __init__(self, operations):
        self.begins = {}
        self._failed = set()
        for each in operations:
            if each.what == WRITE and each.outcome == FAIL:
                self._failed.add(each.written)
            elif each.what == WRITE:
                self.begins[each.written] = min(each.begin, self.begins.get(each.written, each.begin))
        self.covers = {pair: 1 << place for place, pair in enumerate(self.begins)}
        own = dict(self.covers)
        clocks = [(pair, VectorClock.fromDict(dict(pair.clock)), bit) for pair, bit in own.items()]
        for pair, clock, _ in clocks:
            for _, other, bit in clocks:
                if other < clock:
                    self.covers[pair] |= bit

    def cover(self, state):
        """The set of pairs that these cover."""
        found = 0
        for pair in state:
            found |= self.covers[pair]
        return found

    def trouble_with(self, read):
        """What rule (a) says of the read, in words; None when it is fine."""
        for pair in read.seen:
            if pair not in self.begins:
                return f"shows {pair}, {'whose write surely failed' if pair in self._failed else 'which nobody wrote'}"
            if self.begins[pair] > read.end:
                return f"shows {pair}, written only from {self.begins[pair]:.3f} s on"
        if len(set(read.seen)) < len(read.seen):
            return "shows a pair twice"
        for pair in read.seen:
            for other in read.seen:
                if pair is not other and self.covers[pair] & ~self.covers[other] == 0:
                    return f"shows {pair} beside {other}, which dominates it"
        return None


class Known:
    """What is known at a time: the union of what ended before it. `operations`: [(Operation, what it covers), ...]."""

    def __init__(self, operations):
        self._operations = sorted(operations, key=lambda each: each[0].end)
        self._ends = [operation.end for operation, _ in self._operations]
        self._unions = [0]
        for _, cover in self._operations:
            self._unions.append(self._unions[-1] | cover)

    def missed(self, time, cover):
        """The first operation that ended before this time, and is not within this cover; None when all are."""
        count = bisect_left(self._ends, time)
        if self._unions[count] & ~cover == 0:
            return None
        return next(operation for operation, its in self._operations[:count] if its & ~cover)


# ---- teas that are deleted


def check_deletes(operations):
    """The Findings of the rule `delete`, of one tea that is also deleted.

    A delete buries all that was acknowledged before it began: no strong read that begins after its end shows that. And
    it buries only what it can have seen: of what was acknowledged, a read misses nothing that began after the end of
    every delete, as long as each write has a clock that no earlier one covers.
    """
    pairs = Pairs(operations)
    writes = [each for each in operations if each.what == WRITE and each.is_ok]
    deletes = [each for each in operations if each.what == DELETE and each.outcome != FAIL]
    ended = {write.written: write.end for write in writes}
    findings = []
    for read in operations:
        if read.what not in (READ, WEAK) or not read.is_ok:
            continue
        if trouble := pairs.trouble_with(read):
            findings.append(_finding("a" if read.what == READ else "weak", trouble, read))
            continue
        if read.what == WEAK:
            continue
        before = [each for each in deletes if each.is_ok and each.end < read.begin]
        cut = max((each.begin for each in before), default=float("-inf"))
        for pair in read.seen:
            if ended.get(pair, float("inf")) < cut:
                findings.append(_finding("delete", f"shows {pair}, which was deleted at {cut:.3f} s", read))
        cover = pairs.cover(read.seen)
        last = max((_last_effect(each) for each in deletes if each.begin < read.end), default=float("-inf"))
        for write in writes:
            if last < write.begin and write.end < read.begin and not pairs.covers[write.written] & cover:
                findings.append(_finding("delete", f"misses what {_told(write)}, and no delete can have seen", read))
    return findings


def _last_effect(delete):
    """Until when the delete can have taken effect: one of unknown outcome at any time."""
    return delete.end if delete.is_ok else float("inf")


# ---- sessions, and the end


def check_session(read):
    """The Findings of the rule `session`: the answer to a read that carried a clock is at or above it."""
    if read.session is None or not read.is_ok:
        return []
    asked = VectorClock.fromDict(read.session)
    got = VectorClock.converge(VectorClock.fromDict(dict(pair.clock)) for pair in read.seen)
    if asked <= got:
        return []
    return [_finding("session", f"asked for {asked.asDict()} and got {got.asDict()}", read)]


def check_kept(operations, final):
    """The Findings of the rule `kept`, of one tea: each acknowledged write is in the final state, or dominated by what
    is; and nothing else is in it than what was asked for. `final`: Pairs, tombstones among them."""
    asked = {each.written for each in operations if each.what == WRITE and each.outcome != FAIL}
    may_be_deleted = any(each.what == DELETE and each.outcome != FAIL for each in operations)
    findings = []
    for pair in final:
        if pair not in asked and not (pair.rating is None and may_be_deleted):
            tea = operations[0].tea if operations else ""
            findings.append(Finding("kept", f"holds {pair} in the end, which nobody wrote", tea))
    for write in operations:
        if write.what != WRITE or not write.is_ok or write.written in final:
            continue
        if not any(pair.dominates(write.written) for pair in final):
            findings.append(_finding("kept", "was acknowledged, and is lost in the end", write))
    return findings


def _finding(rule, what, operation):
    return Finding(rule, f"the {_words(operation)} {what}", operation.tea, operation)


def _told(operation):
    return f"the {_words(operation)} {'wrote' if operation.what == WRITE else 'showed'}"


def _words(operation):
    what = {WRITE: f"write of {operation.written}", READ: "strong read", WEAK: "weak read"}[operation.what]
    return f"{what} by client {operation.client} at {operation.begin:.3f} to {operation.end:.3f} s"
