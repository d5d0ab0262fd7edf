"""What one dead shard costs, as clients see it: the rest goes on, its own teas are refused at once, and it comes back.

Only kills of one shard are judged during which nothing else was wrong, and had not been for a moment before. Pure.
"""

from math import ceil
from statistics import median
from typing import NamedTuple

from emporium.storm.checker import Finding
from emporium.storm.history import FAIL, WEAK
from emporium.storm.plan import KILL

SETTLE_S = 1.0  # after other faults: breakers that close, and waiting requests that run into their deadline
NOTICE_S = 0.3  # after a kill: what was on its way to the shard then has another fate
MOST_FAILED = 0.001  # of the operations on the teas of other shards
REFUSED_S = 0.05  # median
BACK_S = 5.0  # from the new start of the process to the first success on one of its teas


class Episode(NamedTuple):
    """One shard that was dead alone. `back_s`: None where other faults came before it could be told."""

    shard: int
    others: list  # operations that do not need the shard, while it was dead
    own: list  # those that do
    back_s: float | None


def episodes(happened, operations, primary_of):
    """The Episodes of a storm. `primary_of(tea)` is the index of its shard."""
    by_begin = sorted(operations, key=lambda each: each.begin)
    return [
        _episode(each, [other for other in happened if other is not each], by_begin, primary_of)
        for each in happened
        if _is_of_one_shard(each) and _is_alone(each, happened, each.ended_s)
    ]


def check(found):
    """The Findings of the rule `available`, of Episodes."""
    others = [operation for episode in found for operation in episode.others]
    failed = [operation for operation in others if not operation.is_ok]
    findings = []
    if len(failed) > ceil(MOST_FAILED * len(others)):
        words = f"with one shard dead, {len(failed)} of {len(others)} operations of the others failed"
        findings.append(Finding("available", words, failed[0].tea, failed[0]))
    for episode in found:
        odd = [each for each in episode.own if each.outcome != FAIL]
        if odd:
            words = (
                f"with db{episode.shard} dead, {len(odd)} of {len(episode.own)} operations on its teas were not refused"
            )
            findings.append(Finding("available", words, odd[0].tea, odd[0]))
        if episode.back_s is not None and episode.back_s > BACK_S:
            words = f"db{episode.shard} was back {episode.back_s:.1f} s after its start, allowed are {BACK_S} s"
            findings.append(Finding("available", words))
    refused = [each.end - each.begin for episode in found for each in episode.own]
    if refused and median(refused) > REFUSED_S:
        words = f"the teas of a dead shard were refused after {median(refused) * 1000:.0f} ms in the median"
        findings.append(Finding("available", words))
    return findings


def _is_of_one_shard(each):
    fault = each.fault
    return fault.what == KILL and each.has_hit and len(fault.targets) == 1 and fault.target.startswith("db")


def _is_alone(each, happened, until_s):
    """Whether nothing else was wrong from before its begin to this time."""
    return not any(
        other.began_s < until_s and _over_s(other) + SETTLE_S > each.began_s for other in happened if other is not each
    )


def _over_s(happened):
    """When a fault is over: what it killed answers again."""
    if happened.fault.what == KILL:
        return float("inf") if happened.back_s is None else happened.back_s
    return happened.ended_s


def _episode(each, others, by_begin, primary_of):
    shard = int(each.fault.target.removeprefix("db"))
    free, own = [], []
    back_s = None
    for operation in by_begin:
        if operation.begin < each.began_s + NOTICE_S:
            continue
        is_its = primary_of(operation.tea) == shard
        if operation.end < each.ended_s:
            if not is_its or (operation.what == WEAK and not operation.session):
                free.append(operation)
            elif operation.what != WEAK:
                own.append(operation)
        elif is_its and operation.is_ok and operation.what != WEAK and operation.begin > each.ended_s:
            back_s = operation.end - each.ended_s
            break
    if not _is_alone(each, others, each.ended_s + (BACK_S if back_s is None else min(back_s, BACK_S))):
        back_s = None
    elif back_s is None:
        back_s = float("inf")
    return Episode(shard, free, own, back_s)
