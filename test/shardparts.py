"""Siblings, values and stores, in the words of the tests of a shard's parts."""

from emporium.siblings import UNRATED, Sibling, merge
from emporium.store import Store
from vectorclock import VectorClock


def store_of(ring, shard=0, kind=Store):
    return kind("localhost", ring.layout.redis(shard))


def sibling(rating, **entries):
    return Sibling(rating, VectorClock.fromDict(entries))


def value_of(*siblings):
    return merge(UNRATED, siblings)


def stored(store, tea):
    return store.load([tea]).values[tea]
