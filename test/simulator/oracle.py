"""What must be true of the replicas: while things go wrong, and when all is well again."""

import json
from collections import defaultdict

from emporium.recordcheck import without_check
from simulator.ledger import is_covered, sibling_of
from simulator.world import Violation

PREFIX = b"/rating/"


def siblings_in(fields):
    """The siblings of a hash as it stands in Redis, as a tuple; None for no hash at all."""
    if fields is None:
        return None
    clocks, choices = json.loads(fields[b"clocks"]), json.loads(fields[b"choices"])
    return tuple(map(sibling_of, clocks, choices))


class Replica:
    """What one shard's Redis holds, followed from change to change: it may grow, and never go back."""

    def __init__(self, node, ledger):
        self._node, self._ledger = node, ledger
        self._held = {}
        node.redis.on_change = self.changed

    def has_lost(self):
        """Its memory went back."""
        self._held.clear()

    def changed(self, names):
        """These keys were touched. Raises Violation when a tea lost what it had."""
        for name in names:
            if not name.startswith(PREFIX):
                continue
            now = siblings_in(self._node.redis.keys.get(name)) or ()
            before = self._held.get(name, ())
            for sibling in before:
                if sibling not in now and not is_covered(sibling, now):
                    what = f"{self._node.name} held {before} of {name.decode()} and now {now}"
                    raise Violation("replica went back", what)
            self._held[name] = now


def differing(nodes, teas):
    """The teas of which the shards do not all hold the same bytes."""
    return [tea for tea in teas if len({_bytes_of(node, tea) for node in nodes}) > 1]


def _bytes_of(node, tea):
    fields = node.redis.keys.get(PREFIX + tea.encode())
    return None if fields is None else tuple(sorted(fields.items()))


def check_replicas(nodes, teas, ledger):
    """That all hold the same, and in it all that was acknowledged, and nothing that was never written."""
    if apart := differing(nodes, teas):
        held = {node.name: siblings_in(node.redis.keys.get(PREFIX + apart[0].encode())) for node in nodes}
        raise Violation("replicas apart", f"{apart[0]!r}: {held}")
    for tea in teas:
        siblings = siblings_in(nodes[0].redis.keys.get(PREFIX + tea.encode())) or ()
        ledger.check_possible(tea, siblings, "a replica")
        ledger.check_floor(tea, ledger.floor[tea], siblings, "a replica")


# ---- what is left when a memory is lost


def surviving(nodes, shelves):
    """{tea: siblings} of all that is stored, waits to be told, or is in a channel's log, done with or not."""
    found = defaultdict(set)
    for node in nodes:
        for name, value in node.redis.keys.items():
            if name.startswith(PREFIX):
                if node.damaged.get(name) == value:
                    continue
                found[name[len(PREFIX) :].decode()].update(siblings_in(value))
            elif name in (b"digest", b"due"):
                _add(found, map(without_check, value))
    for shelf in shelves:
        _add(found, [record.value for record in shelf.log.read_many(shelf.log.lowest_offset, 10**9, 10**12)])
    return found


def _add(found, records):
    for record in map(json.loads, records):
        found[record["key"]].update(map(sibling_of, record["clocks"], record["choices"]))
