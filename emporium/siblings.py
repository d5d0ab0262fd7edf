"""Merge of siblings: which ratings of a tea stand side by side, and what their mean is.

A *sibling* is one rating with its clock. The siblings of a tea are those of which none is dominated by another:
the maximal antichain of all that was ever written. The merge keeps it so, and it is commutative, associative
and idempotent: replicas that have seen the same pairs, in any order and however often, hold the same bytes.

    {c0: 1} then {c0: 2}      the later one stands alone
    {c0: 1} and  {c1: 1}      concurrent: both stand, and the rating is their mean
    4 and 5, both at {c0: 1}  both stand, since neither can claim to be newer

A *tombstone* is a sibling without a rating: what a delete leaves. It also dominates every rating at its own clock,
loses to newer clocks, and stands beside concurrent ones. Without it, a replica that has not heard of the delete would
bring the deleted rating back.

Pure: no Redis, no HTTP, no time.
"""

from math import fsum
from typing import NamedTuple

from vectorclock import VectorClock


class Sibling(NamedTuple):
    """One rating of a tea, in the form of `as_stored`, and the clock at which it was given; None: a tombstone."""

    rating: int | float | None
    clock: VectorClock


class Value(NamedTuple):
    """What is stored of a tea: its siblings in canonical order, and the mean of the living; None when none lives."""

    rating: int | float | None
    siblings: tuple[Sibling, ...]

    @property
    def living(self):
        """The siblings that are no tombstones."""
        return tuple(sibling for sibling in self.siblings if sibling.rating is not None)

    @property
    def is_buried(self):
        """Whether there is a tombstone among the siblings."""
        return any(sibling.rating is None for sibling in self.siblings)

    @property
    def clock(self):
        """The VectorClock that subsumes those of all siblings."""
        return VectorClock.converge(sibling.clock for sibling in self.siblings)


UNRATED = Value(0.0, ())


class Damaged(NamedTuple):
    """What is found in place of a Value when the stored text makes no sense: edited by hand, or a broken file."""

    reason: str


def merge(value, incoming):
    """The value with the incoming siblings merged in; the very same object when they change nothing.

    `incoming` is an iterable of Sibling in any order, with or without duplicates and dominated pairs among them.
    The rating of `value` is not read: a mean is derived, never merged.
    """
    known = {_canonical(sibling): sibling for sibling in value.siblings}
    new = {key: sibling for sibling in incoming if (key := _canonical(sibling)) not in known}
    if not new:  # most of gossip is known
        return value
    both = known | new
    maximal = _maximal(both)  # the value's own may have been edited by hand, and come out as an antichain all the same
    if new.keys().isdisjoint(maximal):
        return value
    merged = tuple(both[key] for key in maximal)
    return Value(mean(merged), merged)


def _maximal(siblings):
    """The keys of those that no other dominates, sorted. `siblings`: {canonical form: Sibling}.

    Whoever dominates a clock has all of its nodes. So only those are compared with it that have its rarest one, which
    for siblings of many clients are few: to compare each with each took most of the time of a step.
    """
    if len(siblings) == 1:
        return list(siblings)
    holders = {}
    for sibling in siblings.values():
        for node in sibling.clock.clock:
            holders.setdefault(node, []).append(sibling)
    return sorted(key for key, sibling in siblings.items() if not _is_dominated(sibling, holders, siblings))


def _is_dominated(sibling, holders, siblings):
    rivals = min((holders[node] for node in sibling.clock.clock), key=len, default=siblings.values())
    for rival in rivals:
        if sibling.clock < rival.clock:
            return True
        if rival.rating is None and sibling.rating is not None and sibling.clock == rival.clock:
            return True
    return False


def _canonical(sibling):
    return tuple(sorted(sibling.clock.clock.items())), sibling.rating


def tombstone(value):
    """The Sibling that a delete of this Value leaves: it dominates all that stands there, and nothing else."""
    return Sibling(None, value.clock)


def mean(siblings):
    """The mean rating of those that live: the exact sum, then one division, whole results as integers; None of none."""
    ratings = [sibling.rating for sibling in siblings if sibling.rating is not None]
    return as_stored(fsum(ratings) / len(ratings)) if ratings else None


def as_stored(rating):
    """A finite rating in the one form that we store and answer: whole numbers as integers, -0 as 0."""
    return int(rating) if rating == int(rating) else rating
