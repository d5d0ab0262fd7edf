"""The Python client of the store.

    from emporium.client import TeaStore

    with TeaStore("http://localhost:2500", node="anna") as store:
        store.observe("oolong", 4)           reads, advances anna's entry of the clock, writes
        store.get("oolong").rating           4

It speaks to the load balancer over HTTP, as anybody could, and imports nothing of the servers. docs/client.md tells how
to use it and what it promises; errors.py which exceptions there are.

    store.py     TeaStore: what one can do
    session.py   TeaSession: reads that never go back behind what was seen
    values.py    what is answered
    errors.py    what is raised
    names.py     how a tea is called in an address
    calls.py     one call: tries, waits between them, and its deadline
    pool.py      connections on which an answer has a deadline
"""

from emporium.client.errors import (
    BadAnswer,
    BadRequest,
    Conflict,
    NotRated,
    TeaError,
    TooManySiblings,
    Unavailable,
    Unsure,
)
from emporium.client.session import TeaSession
from emporium.client.store import TeaStore
from emporium.client.values import Listed, Listing, Reading, Sibling, Written
from vectorclock import VectorClock

__all__ = [
    "BadAnswer",
    "BadRequest",
    "Conflict",
    "Listed",
    "Listing",
    "NotRated",
    "Reading",
    "Sibling",
    "TeaError",
    "TeaSession",
    "TeaStore",
    "TooManySiblings",
    "Unavailable",
    "Unsure",
    "VectorClock",
    "Written",
]
