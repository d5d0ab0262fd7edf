"""What a write would come to, step by step, before it is sent. Pure: the merge is that of emporium/siblings.py.

What a shard answers shows no tombstones, but the clock above all that it has seen. Where the living siblings do not
explain that clock, there is a tombstone among them; it is taken to have the entries that they do not.
"""

from emporium.shard import MOST_SIBLINGS
from emporium.siblings import Sibling, Value, merge
from emporium.view.compare import entries, relation
from emporium.wire import reading
from vectorclock import VectorClock


def preview(tea, replica, incoming):
    """The answer to POST /api/merge, from the Replica at the primary and the Sibling that is to be written."""
    before = with_tombstone(replica)
    after = merge(before, [incoming])
    if after is before:
        outcome = "same" if incoming in before.siblings else "stale"
    elif len(after.siblings) > MOST_SIBLINGS:
        outcome, after = "refused", before
    else:
        outcome = "stored"
    return {
        "tea": tea,
        "primary": replica.shard,
        "steps": [_step(incoming, stored) for stored in before.siblings],
        "outcome": outcome,
        "after": reading(after),
    }


def _step(incoming, stored):
    how = relation(incoming.clock, stored.clock)
    if how == "after":
        outcome = "dropped"
    elif how == "before" or (how == "equal" and stored.rating is None):
        outcome = "incoming is dropped"
    else:
        outcome = "kept"
    return {
        "rating": stored.rating,
        "clock": stored.clock.asDict(),
        "relation": how,
        "entries": entries(incoming.clock, stored.clock),
        "outcome": outcome,
    }


def with_tombstone(replica):
    """The Value at this Replica, with the tombstone that its clock tells of."""
    living = replica.value
    explained = VectorClock.converge(sibling.clock for sibling in living.siblings).clock
    buried = {
        node: count for node, count in replica.clock.clock.items() if node not in explained or count > explained[node]
    }
    if not buried:
        return living
    # By hand, and not by merge: the siblings of a tombstone that is only partly known must not fall to it.
    return Value(living.rating, (*living.siblings, Sibling(None, VectorClock.fromDict(buried))))
