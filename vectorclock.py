"""A vector clock: what a rating's writer had seen, and whether one clock is newer than another.

    c = VectorClock().update("c0", 1).update("c1", 3)        {"c0": 1, "c1": 3}

A clock maps the ids of nodes to counts. It says *before*, *after* or neither:

    a <= b    every entry of a is in b, with the same or a higher count
    a <  b    a <= b, and they differ: b dominates a
    neither   a and b are concurrent: nobody can say which is newer

An entry that is present is newer than one that is absent, even at count 0: {} < {"c0": 0} < {"c0": 1}.
A clock is equal to itself and therefore never less than itself.

Source: the assignment's "clock" of a rating; Lamport-style vector clocks as in the Dynamo paper, section 4.4.
"""

from collections.abc import Iterable, Mapping


class VectorClock:
    """One clock. `update` changes it in place, as in the course; everything else leaves its inputs alone."""

    __slots__ = ("clock",)

    def __init__(self) -> None:
        self.clock: dict[str, int] = {}

    # ---- in and out

    @classmethod
    def fromDict(cls, entries: Mapping[str, int]) -> "VectorClock":
        """A clock with a copy of these entries, unchecked: `isValidClock` tells whether they make sense."""
        made = cls()
        made.clock = dict(entries)
        return made

    def asDict(self) -> dict[str, int]:
        """A copy of the entries, sorted by node id, so that equal clocks give equal text."""
        return dict(sorted(self.clock.items()))

    def isValidClock(self) -> bool:
        """True when every id is non-empty text and every count a whole number of at least 0."""
        return all(
            isinstance(node, str) and node != "" and type(count) is int and count >= 0
            for node, count in self.clock.items()
        )

    # ---- ticking

    def update(self, node: str, count: int) -> "VectorClock":
        """Add or raise the entry of `node`, and give this clock back, so that calls can be chained.

        Raises ValueError when the count is no whole number, is negative, or is lower than the present one.
        """
        if type(count) is not int or count < 0:
            raise ValueError(f"the count of {node!r} must be a whole number of at least 0, not {count!r}")
        if count < self.clock.get(node, 0):
            raise ValueError(f"the clock of {node!r} stands at {self.clock[node]} and cannot go back to {count}")
        self.clock[node] = count
        return self

    # ---- causal order

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VectorClock):
            return NotImplemented
        return self.clock == other.clock

    # A clock can change, so it must not be a key of a dict or a member of a set.
    __hash__ = None  # type: ignore[assignment]

    def __le__(self, other: object) -> bool:
        if not isinstance(other, VectorClock):
            return NotImplemented
        theirs = other.clock
        # A loop, and no `all(...)`: a merge compares every sibling with every other one.
        for node, count in self.clock.items():  # noqa: SIM110
            if node not in theirs or count > theirs[node]:
                return False
        return True

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, VectorClock):
            return NotImplemented
        return len(self.clock) <= len(other.clock) and self <= other and self.clock != other.clock

    # a > b and a >= b need no code: Python asks b < a and b <= a.

    # ---- many clocks

    @staticmethod
    def coalesce(clocks: "Iterable[VectorClock]") -> "list[VectorClock]":
        """The clocks that no other one dominates, in their order, equal ones once."""
        kept: list[VectorClock] = []
        for clock in clocks:
            if any(clock <= other for other in kept):
                continue
            kept = [other for other in kept if not other < clock]
            kept.append(clock)
        return kept

    @staticmethod
    def converge(clocks: "Iterable[VectorClock]") -> "VectorClock":
        """One new clock that subsumes all: each entry at its highest count. No clocks: the empty clock."""
        highest: dict[str, int] = {}
        for clock in clocks:
            for node, count in clock.clock.items():
                highest[node] = max(count, highest.get(node, count))
        return VectorClock.fromDict(highest)

    def __repr__(self) -> str:
        return f"VectorClock({self.asDict()})"
