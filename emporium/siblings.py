"""Merge of siblings: which ratings of a tea stand side by side, and what their mean is.

A *sibling* is one rating with its clock. The siblings of a tea are those of which none is dominated by another:
the maximal antichain of all that was ever written. The merge keeps it so, and it is commutative, associative
and idempotent: replicas that have seen the same pairs, in any order and however often, hold the same bytes.

    {c0: 1} then {c0: 2}      the later one stands alone
    {c0: 1} and  {c1: 1}      concurrent: both stand, and the rating is their mean
    4 and 5, both at {c0: 1}  both stand, since neither can claim to be newer

Pure: no Redis, no HTTP, no time.
"""

from functools import reduce
from math import fsum
from typing import NamedTuple

from vectorclock import VectorClock


class Sibling(NamedTuple):
    """One rating of a tea, in the form of `as_stored`, and the clock at which it was given."""

    rating: int | float
    clock: VectorClock


class Value(NamedTuple):
    """What is stored of a tea: its siblings in canonical order, and their mean."""

    rating: int | float
    siblings: tuple[Sibling, ...]


UNRATED = Value(0.0, ())


class Damaged(NamedTuple):
    """What is found in place of a Value when the stored text makes no sense: edited by hand, or a broken file."""

    reason: str


def merge(value, incoming):
    """The value with the incoming siblings merged in; the very same object when they change nothing.

    `incoming` is an iterable of Sibling in any order, with or without duplicates and dominated pairs among them.
    The rating of `value` is not read: a mean is derived, never merged.
    """
    merged = value.siblings
    for sibling in incoming:
        if sibling not in value.siblings:  # most of gossip is known, and this is much the cheaper question
            merged = _add(merged, sibling)
    if merged is value.siblings:
        return value
    if value.siblings:  # they may have been edited by hand, and must come out as an antichain all the same
        merged = reduce(_add, merged, ())
    merged = tuple(sorted(merged, key=_canonical))
    return Value(mean(merged), merged)


def _add(siblings, new):
    if any(new.clock < old.clock or new == old for old in siblings):
        return siblings
    return (*(old for old in siblings if not old.clock < new.clock), new)


def _canonical(sibling):
    return sorted(sibling.clock.clock.items()), sibling.rating


def mean(siblings):
    """The mean rating of at least one sibling: the exact sum, then one division, whole results as integers."""
    return as_stored(fsum(sibling.rating for sibling in siblings) / len(siblings))


def as_stored(rating):
    """A finite rating in the one form that we store and answer: whole numbers as integers, -0 as 0."""
    return int(rating) if rating == int(rating) else rating
