"""Anti-entropy: two replicas compare what they hold, and exchange what differs, until nothing does.

Gossip tells what happened; this finds what it did not tell: to a shard that was away, through a queue that lost its
channels, or of a write after which nothing more happened. Each shard compares with the next one that answers, so that
all are connected whoever is away. What a round costs depends on what differs: two that hold the same compare 8 kB.

Source: the Dynamo paper, section 4.7, with two levels in place of a Merkle tree.
"""

from emporium import failpoints, wire
from emporium.replica import differences


def round_with(other, replica, skips_news=True):
    """Make what the Replica and the OtherShard hold equal, in both directions. Returns how many teas that changed.

    skips_news  whether teas that gossip is just telling are left to it
    Raises PeerError, NotYet, and what the Replica raises.
    """
    replica.require_known()
    changed, first = 0, 0
    while first is not None:
        compared = other.compare(replica.fingerprints.sums(), first)
        skipped = replica.fingerprints.news().union(compared.news) if skips_news else ()
        changed += _exchange(other, replica, *differences(replica.fingerprints, compared.buckets, skipped))
        first = compared.next
    return changed


def _exchange(other, replica, give, want):
    """Returns how many teas this changed, there and here."""
    changed = 0
    while give or want:
        records = replica.values(give[: wire.MOST_RECORDS])
        fitting = wire.one_call([wire.encode_record(record) for record in records])
        exchanged = other.exchange(records[:fitting], want[: wire.MOST_RECORDS])
        failpoints.hit("exchange-given")
        changed += exchanged.changed + replica.absorb(exchanged.records)
        give = [record.key for record in records[fitting:]] + give[wire.MOST_RECORDS :]
        want = want[wire.MOST_RECORDS :]
    return changed
