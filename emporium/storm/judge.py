"""Valid and good, wrong, or invalid. Pure: what was planned, done and seen goes in, a Verdict comes out.

A storm whose faults did not hit, or in which too little was done or succeeded, proves nothing: it is invalid, not good.
What is wrong is wrong in an invalid storm, too.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from emporium.storm import availability, checker
from emporium.storm.checker import Finding
from emporium.storm.clients import is_deleted
from emporium.storm.faults import Happened
from emporium.storm.ground import pairs_of
from emporium.storm.history import OK, READ, WEAK, WRITE, Operation, by_tea
from emporium.storm.plan import Fault
from serverLB import primary_of

GOOD, WRONG, INVALID = range(3)  # the exit codes, too
MET_S = 5.0  # within this time after the last heal, without traffic, all replicas are equal
LEAST_FAULTS, LEAST_OPERATIONS, OF_MINUTES = 150, 60_000, 8
LEAST_HIT, LEAST_OK = 0.9, 0.7


@dataclass
class Evidence:
    """All that a storm leaves.

    replicas    of each shard at the end: {tea: (rating, choices, clocks) as bytes}
    met_s       how long after the last heal they were equal; None for never
    differing   the teas that were not equal by MET_S
    unanswered  the teas that could not be read at the end
    deaths      of processes that nobody killed, and services that did not come back, in words
    """

    minutes: float
    ndb: int
    plan: list[Fault]
    happened: list[Happened]
    operations: list[Operation]
    replicas: list[dict]
    met_s: float | None
    differing: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """`checked`: [(what was checked, how much of it, the Findings)]. `invalid`: why it proves nothing, in words."""

    checked: list = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)

    @property
    def findings(self):
        return [finding for _, _, findings in self.checked for finding in findings]

    @property
    def code(self):
        return WRONG if self.findings else INVALID if self.invalid else GOOD


def judge(evidence):
    operations = evidence.operations
    teas = by_tea(operations)
    registers = {tea: its for tea, its in teas.items() if not is_deleted(tea)}
    deleted = {tea: its for tea, its in teas.items() if is_deleted(tea)}
    states, damaged = _final_states(evidence.replicas)
    acknowledged = _count(operations, WRITE)
    sessions = [each for each in operations if each.session and each.is_ok]
    episodes = availability.episodes(evidence.happened, operations, partial(primary_of, ndb=evidence.ndb))
    verdict = Verdict(invalid=_why_invalid(evidence))

    def add(what, how_many, findings):
        verdict.checked.append((what, how_many, list(findings)))

    strong, weak = _count(chain(*registers.values()), READ), _count(chain(*registers.values()), WEAK)
    add(
        "strong operations are linearizable, and no weak read is ahead of them",
        f"{strong} strong and {weak} weak reads of {len(registers)} teas",
        chain.from_iterable(map(checker.check_registers, registers.values())),
    )
    add(
        "what was deleted stays deleted, and nothing else goes",
        f"{_count(chain(*deleted.values()), READ)} strong reads of {len(deleted)} teas that are also deleted",
        chain.from_iterable(map(checker.check_deletes, deleted.values())),
    )
    add(
        "no acknowledged write is lost",
        f"{acknowledged} acknowledged writes",
        chain(damaged, *(checker.check_kept(teas.get(tea, []), states.get(tea, set())) for tea in teas | states)),
    )
    add(
        "all replicas are equal within 5 s of the last heal",
        f"{evidence.ndb} replicas of {len(states)} teas, equal after {_seconds(evidence.met_s)}",
        _not_equal(evidence),
    )
    add(
        "a session never goes back in time",
        f"{len(sessions)} reads with a clock",
        chain.from_iterable(map(checker.check_session, sessions)),
    )
    add(
        "one dead shard costs its own teas only, and is back soon",
        f"{len(episodes)} kills of one shard alone, {sum(len(each.others) for each in episodes)} operations meanwhile",
        availability.check(episodes),
    )
    add(
        "every answer is a documented one, and nothing ends by itself",
        f"{len(operations)} operations",
        [
            *(Finding("answer", each.odd, each.tea, each) for each in operations if each.odd),
            *(Finding("alive", words) for words in evidence.deaths),
            *(Finding("alive", "cannot be read after everything healed", tea) for tea in evidence.unanswered),
        ],
    )
    return verdict


def _why_invalid(evidence):
    hits = sum(each.has_hit for each in evidence.happened)
    share = evidence.minutes / OF_MINUTES
    operations = len(evidence.operations)
    ok = sum(each.is_ok for each in evidence.operations)
    reasons = []
    if hits < LEAST_HIT * len(evidence.plan):
        reasons.append(f"only {hits} of the plan's {len(evidence.plan)} faults hit")
    if hits < LEAST_FAULTS * share:
        reasons.append(f"only {hits} faults hit, and {LEAST_FAULTS * share:.1f} are asked of this length")
    if operations < LEAST_OPERATIONS * share:
        reasons.append(f"only {operations} operations, and {LEAST_OPERATIONS * share:.0f} are asked of this length")
    if ok < LEAST_OK * operations:
        reasons.append(f"only {ok} of {operations} operations succeeded")
    return reasons


def _final_states(replicas):
    """({tea: the union of the Pairs in all replicas}, Findings of values that make no sense)."""
    states, damaged = {}, []
    for index, replica in enumerate(replicas):
        for tea, stored in replica.items():
            try:
                states.setdefault(tea, set()).update(pairs_of(stored))
            except (ValueError, TypeError, AttributeError) as error:
                damaged.append(Finding("kept", f"db{index} holds {stored!r}: {error}", tea))
    return states, damaged


def _not_equal(evidence):
    if evidence.met_s is not None and evidence.met_s <= MET_S:
        return []
    when = f"they were after {_seconds(evidence.met_s)}" if evidence.met_s is not None else "nor later"
    words = f"{len(evidence.differing)} teas were not equal on all replicas {MET_S:.0f} s after the last heal, {when}"
    return [Finding("equal", words, tea) for tea in evidence.differing[:1]]


def _count(operations, what):
    return sum(each.what == what and each.outcome == OK for each in operations)


def _seconds(met_s):
    return "no time that we waited" if met_s is None else f"{met_s:.1f} s"
