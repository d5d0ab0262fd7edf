"""The other shards, as one shard sees them: asked outside its steps, each with a deadline and a breaker of its own.

A shard that did not answer in time is left alone until it does. Nobody waits for it twice.
"""

from emporium import wire
from emporium.failures import BadAnswer
from emporium.guard import Guarded
from emporium.peers import Peer

ANSWER_S = 1.0


class OtherShard:
    """Shard `name`, which `guarded`, a Guarded, reaches. Raises PeerError.

    is_recovering  whether it said, when it was last asked, that it has lost its memory
    """

    def __init__(self, name, guarded, ndb):
        self.name = name
        self.is_recovering = False
        self._ndb = ndb
        self._guarded = guarded

    @property
    def trouble(self):
        """Why it is left alone, in words; None while it is not."""
        return self._guarded.trouble

    def compare(self, sums, first):
        """The wire.Compared of what it holds with what I hold."""
        body = wire.encode(wire.Sums(sums, self._ndb, first))
        compared = self._post("/replica/compare", body).read(lambda text: wire.decode(text, wire.Compared))
        self.is_recovering = compared.recovering
        return compared

    def exchange(self, records, teas):
        """(Records of these teas, how many of those that I gave changed something there)."""
        exchanged = self._post("/replica/exchange", wire.encode_given(records, teas)).read(wire.decode_exchanged)
        self.is_recovering = exchanged.recovering
        return exchanged

    def _post(self, path, body):
        answer = self._guarded.call("POST", path, body)
        if not answer.is_ok:
            raise BadAnswer(f"{self.name} answered {answer.status}: {answer.body[:200].decode(errors='replace')}")
        return answer


def others_of(place, reach):
    """The OtherShards of this Place, its successor first. `reach` (index) makes the Guarded that reaches one."""
    following = [(place.shard_id + i) % place.ndb for i in range(1, place.ndb)]
    return [OtherShard(f"db{i}", reach(i), place.ndb) for i in following]


def on_this_machine(base_port):
    """(index) -> the Guarded of that shard."""
    return lambda index: Guarded(Peer(f"db{index}", "127.0.0.1", base_port + index, ANSWER_S))
