"""What each service measures besides its requests, read from its parts when Prometheus asks: docs/operating.md.

A scrape must be answered when all else fails. What cannot be had is left out of it, and tea_up says so.
"""

import re

from emporium.commitlog.errors import LogError
from emporium.metrics import OTHER, counter, counters, gauge, gauges, histogram
from emporium.store import StoreDown

UP = "tea_up", "Whether the part that this service stands on answered this scrape.", "part"
BREAKERS = "tea_breaker_open", "Whether this peer is left alone for now, since it did not answer.", "peer"
OF_A_SHARD = re.compile(r"db[0-9]{1,3}", re.ASCII)  # the channels that have a label value of their own


def of_load_balancer(shards):
    """`shards`: the ShardPeers."""
    together = {(shard.name,): shard.together for shard in shards}
    yield histogram("tea_gather_operations", "Operations that travelled to a shard together.", ["shard"], together)
    waiting = {shard.name: shard.waiting for shard in shards}
    yield gauges("tea_shard_requests_waiting", "Requests that wait for this shard.", "shard", waiting)
    yield gauges(*BREAKERS, {shard.name: shard.trouble is not None for shard in shards})


def of_shard(shard, others):
    """`others`: the OtherShards that it calls."""
    tally, store = shard.tally, shard.store
    yield counter("tea_operations", "Operations of users that were carried out, alone or together.", tally.operations)
    records = {("told",): tally.told, ("heard",): tally.heard_count}
    yield counters("tea_gossip_records", "Gossip records told to the queue, and heard from it.", ["direction"], records)
    yield counters("tea_merges", "Merges, of what, and what they came to.", ["source", "outcome"], dict(tally.merges))
    what = "How many siblings a value had after a merge, tombstones included."
    yield histogram("tea_siblings", what, [], {(): tally.siblings})
    yield gauge("tea_gossip_lag_seconds", "For how long gossip has waited to be told; 0: none does.", shard.lag_s or 0)
    yield gauge("tea_turn_waiting_requests", "Requests that wait for their turn.", shard.turn.waiting)
    if store.is_guarded:
        yield gauge("tea_recovering", "Whether this shard takes back what its Redis lost.", bool(store.recovering))
        yield gauge("tea_fenced", "Whether another process has taken this shard's place.", bool(store.not_mine))
        if store.standing:
            yield gauge("tea_epoch", "Which life of the shard this is.", store.standing.epoch)
    breakers = {"queue": shard.queue_watch.trouble, **{other.name: other.trouble for other in others}}
    yield gauges(*BREAKERS, {peer: trouble is not None for peer, trouble in breakers.items()})
    try:
        counts = store.counts()
    except StoreDown:
        counts = {}
    yield gauges(*UP, {"redis": bool(counts)})
    if counts:
        yield from _in_redis(counts)


def _in_redis(counts):
    yield gauge("tea_stored_teas", "Teas that are stored here, deleted ones with a tombstone included.", counts["keys"])
    yield gauge("tea_digest_records", "Gossip records that wait for the digest to be full.", counts["digest"])
    yield gauge("tea_gossip_due_records", "Gossip records that wait to be told.", counts["due"])
    yield counter("tea_gossip_set_aside_records", "Gossip records that could not be merged.", counts["set-aside"])
    if "dropped" in counts:
        yield counter("tea_gossip_dropped_records", "Gossip that was due, and too much.", counts["dropped"])
        yield counter("tea_repaired_values", "Damaged values that were taken from the replicas.", counts["repaired"])


def of_queue(channels):
    """`channels`: the Channels. Those of shards have a label value each, all others one: their names are users'."""
    depths, ages = {OTHER: 0}, {OTHER: 0.0}
    dropped = 0
    for name, channel in channels.all().items():
        label = name if OF_A_SHARD.fullmatch(name) else OTHER
        try:
            info = channel.info()
        except LogError:  # it is being cleared, or its disk fails: tea_up tells
            continue
        depths[label] = depths.get(label, 0) + info["waiting"]
        ages[label] = max(ages.get(label, 0.0), info["oldest_age_s"] or 0.0 if info["waiting"] else 0.0)
        dropped += info["dropped"]
    yield gauges("tea_queue_depth", "Records that wait in the channel.", "channel", depths)
    yield gauges("tea_queue_oldest_age_seconds", "For how long the oldest of them has.", "channel", ages)
    yield gauge("tea_queue_channels", "Channels that there are.", len(channels.all()))
    yield gauge("tea_queue_dropped_records", "Records that were dropped from these, since too many waited.", dropped)
    yield gauges(*UP, {"log": channels.trouble() is None})


def of_log(log):
    """`log`: the commit log that is served."""
    yield gauge("tea_log_next_offset", "What the next record will get.", log.next_offset)
    yield gauge("tea_log_lowest_offset", "Of the oldest record that is still there.", log.lowest_offset)
    yield gauge("tea_log_bytes", "Bytes that the stores have.", log.size)
    yield gauge("tea_log_segments", "Segments that there are.", log.segments)
    yield gauges(*UP, {"log": log.failure is None})


def of_view(hub):
    """`hub`: the Hub that feeds the pages."""
    yield gauge("tea_view_pages", "Pages that are open.", hub.pages)
