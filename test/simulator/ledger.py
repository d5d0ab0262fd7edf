"""What clients asked for and were told, and what follows from it: no read, and no replica, may contradict it.

A sibling is written here as (clock, rating), the clock as a sorted tuple of its entries, and its order is computed
here, by the definition, so that no mistake of the store's own merge hides itself. A rating of None is a tombstone.

    floor     of a tea: what was acknowledged or read, without what is dominated; every strong read that begins now must
              show each of it, or something that dominates it
    possible  of a tea: how often each sibling was asked for and not surely refused; nothing else may ever be seen
"""

from collections import Counter, defaultdict

from simulator.world import Violation


def sibling_of(clock, rating):
    return tuple(sorted(clock.items())), rating


def is_dominated(sibling, by):
    """Whether the clock of `by` is newer, or the same and a tombstone's."""
    if sibling[0] == by[0]:
        return by[1] is None and sibling[1] is not None
    other = dict(by[0])
    return all(node in other and count <= other[node] for node, count in sibling[0])


def join(siblings):
    """The clock that subsumes theirs."""
    clock = {}
    for entries, _ in siblings:
        for node, count in entries:
            clock[node] = max(count, clock.get(node, 0))
    return tuple(sorted(clock.items()))


def is_covered(sibling, siblings):
    """Whether it is one of them, or dominated by one."""
    return sibling in siblings or any(is_dominated(sibling, each) for each in siblings)


def maximal(siblings):
    """Those that no other dominates, as a frozen set."""
    return frozenset(each for each in siblings if not any(is_dominated(each, other) for other in siblings))


class Ledger:
    def __init__(self):
        self.floor = defaultdict(frozenset)  # {tea: siblings}
        self.answered = defaultdict(set)  # {tea: siblings whose writes were acknowledged}
        self.possible = defaultdict(Counter)  # {tea: {sibling: how often}}
        self.seen = {}  # {(client, tea): clocks, as last read}
        self.last = {}  # {tea: the sibling written last}
        self.lost = defaultdict(set)  # {tea: siblings that went with the only disk that had them}
        self.deletes = Counter()  # {tea: how many were asked for and not surely refused}
        self.counts = Counter()  # of outcomes

    # ---- writes

    def sibling_for(self, put):
        """(clock, rating) of what this client writes now.

        next   at its own count, knowing nothing of others        after  at a clock that subsumes what it has read
        same   at the clock of the last write, another rating     again  the last write once more
        old    at a count of its own that may be long gone
        """
        last = self.last.get(put.tea)
        if put.style == "again" and last:
            return last
        if put.style == "same" and last:
            return last[0], put.rating
        clock = {}
        if put.style == "after":
            for entries in self.seen.get((put.client, put.tea), ()):
                for node, count in entries:
                    clock[node] = max(count, clock.get(node, 0))
        clock[put.client] = put.count // 4 if put.style == "old" else put.count
        return sibling_of(clock, put.rating)

    def asked(self, tea, sibling):
        self.possible[tea][sibling] += 1
        self.last[tea] = sibling

    def acknowledged(self, tea, sibling):
        self.counts["acknowledged"] += 1
        self.answered[tea].add(sibling)
        self.raise_floor(tea, [sibling])

    def refused(self, tea, sibling):
        """Surely not carried out: this write, or a delete (None)."""
        self.counts["refused"] += 1
        if sibling is None:
            self.deletes[tea] -= 1
        else:
            self.possible[tea][sibling] -= 1

    def unknown(self):
        self.counts["unknown"] += 1

    def deleted(self, tea, floor):
        """A delete was acknowledged that began when the floor was this."""
        self.counts["deleted"] += 1
        if floor:
            self.raise_floor(tea, [(join(floor), None)])

    def lower_floor(self, tea, surviving):
        """Of this tea there is nothing left anywhere but these. Returns what of the floor is lost by that."""
        gone = {each for each in self.floor[tea] if not is_covered(each, surviving)}
        self.floor[tea] -= gone
        self.lost[tea] |= gone
        return gone

    def raise_floor(self, tea, siblings):
        floor = self.floor[tea]
        if not floor.issuperset(siblings):
            self.floor[tea] = maximal(floor.union(siblings))

    # ---- reads

    def check_possible(self, tea, siblings, where):
        for sibling in siblings:
            is_possible = self.deletes[tea] if sibling[1] is None else self.possible[tea][sibling]
            if is_possible <= 0:
                raise Violation("never written", f"{where} shows {sibling} of {tea!r}")
        for sibling in siblings:
            if any(is_dominated(sibling, other) for other in siblings):
                raise Violation("dominated sibling", f"{where} shows {sibling} of {tea!r} beside {siblings}")

    def check_floor(self, tea, floor, siblings, where):
        """That each of the `floor` is there or dominated."""
        for sibling in floor:
            if sibling not in siblings and not is_covered(sibling, siblings) and sibling not in self.lost[tea]:
                raise Violation("acknowledged and lost", f"{where} shows {set(siblings)} of {tea!r}, not {sibling}")

    def read(self, client, tea, siblings, buried, floor=None):
        """A client was shown these, and a clock that subsumes all if some were deleted (`buried`, else None).

        floor  as it stood when a strong read began; None for a weak read
        """
        where = f"a {'weak' if floor is None else 'strong'} read"
        self.check_possible(tea, siblings, where)
        self.seen[client, tea] = [clock for clock, _ in siblings] + ([buried] if buried else [])
        if floor is not None:
            self.counts["strong"] += 1
            self.check_floor(tea, floor, siblings + (((buried, None),) if buried else ()), where)
            for sibling in siblings:
                if any(is_dominated(sibling, each) and each not in self.lost[tea] for each in floor):
                    raise Violation("came back", f"{where} shows {sibling} of {tea!r}, and there was {set(floor)}")
            self.raise_floor(tea, siblings)
        else:
            self.counts["weak"] += 1
