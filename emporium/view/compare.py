"""Replicas and siblings of a tea beside each other, clock by clock. Pure.

before, after, equal, concurrent      how one clock stands to another
larger                                which of two has the higher entry for a node; one that is there beats none
"""

from itertools import combinations
from typing import NamedTuple

from emporium.siblings import Sibling
from emporium.wire import reading
from vectorclock import VectorClock

MOST_COMPARED = 20  # siblings: each is compared with each


class Replica(NamedTuple):
    """What one shard holds of a tea.

    shard    its name
    value    the Value of the living siblings; None when it is not known
    clock    the VectorClock above all that it has seen of the tea, deletions included
    trouble  why it is not known, in words
    """

    shard: str
    value: object = None
    clock: VectorClock = None
    trouble: str | None = None


def relation(one, other):
    """How the one VectorClock stands to the other."""
    if one == other:
        return "equal"
    if one < other:
        return "before"
    return "after" if other < one else "concurrent"


def entries(a, b):
    """The entries of two VectorClocks beside each other, each with which of them is the larger."""
    nodes = sorted(a.clock.keys() | b.clock.keys())
    return [_entry(node, a.clock.get(node), b.clock.get(node)) for node in nodes]


def _entry(node, a, b):
    counts = {"a": -1 if a is None else a, "b": -1 if b is None else b}
    larger = "neither" if a == b else max(counts, key=counts.get)
    return {"id": node, "a": a, "b": b, "larger": larger}


def tea_page(tea, primary, replicas):
    """The answer to GET /api/tea/<tea>, from the name of its primary and all Replicas."""
    at_primary = next(each for each in replicas if each.shard == primary)
    return {
        "tea": tea,
        "primary": primary,
        "replicas": [_beside(each, at_primary) for each in replicas],
        "siblings": compared(replicas),
    }


def _beside(replica, primary):
    if replica.value is None:
        nothing = dict.fromkeys(("rating", "choices", "clocks", "clock", "relation", "behind"))
        return {"shard": replica.shard, **nothing, "trouble": replica.trouble}
    row = {"shard": replica.shard, **reading(replica.value), "clock": replica.clock.asDict() or None, "trouble": None}
    if primary.value is None:
        return {**row, "relation": None, "behind": None}
    return {**row, "relation": relation(replica.clock, primary.clock), "behind": is_behind(replica, primary)}


def is_behind(replica, primary):
    """Whether the primary holds something that this replica has not heard of."""
    if replica.clock == primary.clock:  # at one clock there may be two ratings
        return set(map(_key, primary.value.siblings)) > set(map(_key, replica.value.siblings))
    return not primary.clock <= replica.clock


def compared(replicas):
    """All siblings that any shard holds, and how each two of them stand to each other."""
    holders = {}
    for replica in replicas:
        for sibling in replica.value.siblings if replica.value else ():
            holders.setdefault(_key(sibling), (sibling, []))[1].append(replica.shard)
    found = [holders[key] for key in sorted(holders)]
    values = [
        {"rating": sibling.rating, "clock": sibling.clock.asDict(), "shards": shards} for sibling, shards in found
    ]
    numbered = [(number, sibling.clock) for number, (sibling, _) in enumerate(found[:MOST_COMPARED])]
    pairs = [
        {"a": a, "b": b, "relation": relation(one, other), "entries": entries(one, other)}
        for (a, one), (b, other) in combinations(numbered, 2)
    ]
    return {"values": values, "pairs": pairs}


def _key(sibling: Sibling):
    return tuple(sorted(sibling.clock.clock.items())), sibling.rating
