"""The storm's plan, its judgement beyond single teas, its three outcomes, and its report."""

import re
from dataclasses import replace

import msgspec
import pytest
from storms import pair, read, weak, write

from emporium.storm import judge, plan, report
from emporium.storm.availability import check, episodes
from emporium.storm.faults import Happened
from emporium.storm.history import FAIL, OK, READ, UNKNOWN, WEAK, WRITE, History, Operation
from emporium.storm.history import read as read_history
from emporium.storm.judge import GOOD, INVALID, WRONG, Evidence
from emporium.storm.plan import KILL, STOP, Fault

MINUTES = 0.01
OLD, BESIDE = pair(1, c0=1), pair(2, c1=1)
STORED = {"storm-001": (b"1", b"[1]", b'[{"c0":1}]')}


# ---- the plan


@pytest.mark.parametrize("seed", [1, 7, 2024])
def test_eight_minutes_hold_enough_of_every_kind_of_fault(seed):
    faults = plan.draw(seed, 8, 4)
    kills = [fault for fault in faults if fault.what == KILL]

    def killed(kind):
        return sum(fault.target.rstrip("0123456789") == kind for fault in kills)

    assert len(faults) >= 150 / 0.9
    assert all(killed(kind) >= 15 for kind in ("lb", "db", "r", "q"))
    assert killed("all") >= 5
    assert sum("+" in fault.target for fault in kills) >= 10
    stops = [fault.for_s for fault in faults if fault.what == STOP]
    assert len(stops) >= 15
    assert all(0.4 < for_s <= 5 for for_s in stops)
    assert sum(fault.is_of_link for fault in faults) >= 15
    assert {fault.what for fault in faults if fault.is_of_link} == {"drop", "half-open", "reset", "delay"}
    assert all(fault.at_s > 0 and fault.at_s + fault.for_s < 480 for fault in faults)
    assert faults == sorted(faults, key=lambda fault: fault.at_s)


def test_a_plan_is_the_seeds_and_comes_back_from_its_file():
    faults = plan.draw(7, 0.5, 4)

    assert plan.draw(7, 0.5, 4) == faults != plan.draw(8, 0.5, 4)
    assert plan.from_json(plan.to_json(faults)) == faults
    with pytest.raises(msgspec.DecodeError):
        plan.from_json("[{}]")


# ---- the history


def test_a_history_comes_back_from_its_file(tmp_path):
    operations = [write(0, 1, OLD), read(2, 3, OLD, BESIDE), weak(4, 5, session={"c0": 1}), read(6, 7, outcome=UNKNOWN)]
    history = History(tmp_path / "history.jsonl")
    for operation in operations:
        history.add(operation)
    history.close()

    assert read_history(tmp_path / "history.jsonl") == history.operations == operations


# ---- three outcomes


def evidence(*operations, **more):
    """Of a storm in which enough was done, all of it good."""
    padding = [read(number / 1000, number / 1000 + 0.001, tea="storm-002") for number in range(100)]
    given = {
        "minutes": MINUTES,
        "ndb": 4,
        "plan": [Fault(0, 0.1, KILL, "q")],
        "happened": [Happened(Fault(0, 0.1, KILL, "q"), 0, 0.1, 0.2, has_hit=True)],
        "operations": [*operations, *padding],
        "replicas": [STORED] * 4,
        "met_s": 1.0,
    }
    return Evidence(**given | more)


STORM = evidence(write(0, 0.1, OLD), read(0.2, 0.3, OLD), weak(0.4, 0.5, OLD, session={"c0": 1}))


def test_a_storm_in_which_all_is_good_is_good():
    verdict = judge.judge(STORM)

    assert (verdict.code, verdict.findings, verdict.invalid) == (GOOD, [], [])


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("of the plan's 1 faults hit", {"happened": [Happened(Fault(0, 1, KILL, "q"), 0, 1, 2, has_hit=False)]}),
        ("only 1 of the plan's 2 faults hit", {"plan": [Fault(0, 0.1, KILL, "q")] * 2}),
        ("faults hit, and 150.0 are asked", {"minutes": 8.0}),
        ("of this length", {"minutes": 8.0}),
        ("operations succeeded", {"operations": [*STORM.operations, *[read(1, 2, outcome=FAIL)] * 60]}),
    ],
)
def test_a_storm_that_proves_nothing_is_invalid(reason, changes):
    verdict = judge.judge(replace(STORM, **changes))

    assert verdict.code == INVALID
    assert reason in " ".join(verdict.invalid)


def also(operation):
    return [*STORM.operations, operation]


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("b", {"operations": also(read(0.6, 0.7))}),
        ("kept", {"replicas": [{}] * 4}),
        ("kept", {"replicas": [{"storm-001": (b"1", b"[1", b"[]")}] * 4}),
        ("kept", {"replicas": [STORED | {"storm-003": STORED["storm-001"]}] * 4}),
        ("equal", {"met_s": None, "differing": ["storm-001"]}),
        ("equal", {"met_s": 5.1, "differing": ["storm-001"]}),
        ("session", {"operations": also(weak(0.6, 0.7, session={"c0": 1}))}),
        ("answer", {"operations": also(Operation(1, READ, "storm-001", 0.6, 0.7, UNKNOWN, odd="answered 500"))}),
        ("alive", {"deaths": ["db1 ended by SIGSEGV"]}),
        ("alive", {"unanswered": ["storm-001"]}),
    ],
)
def test_what_is_wrong_is_wrong_in_an_invalid_storm_too(rule, changes):
    for minutes in (MINUTES, 8.0):
        verdict = judge.judge(replace(STORM, minutes=minutes, **changes))

        assert verdict.code == WRONG
        assert rule in {finding.rule for finding in verdict.findings}


# ---- availability: shard 1 is dead from 10 to 12 s

DEAD = Happened(Fault(10, 2, KILL, "db1"), 10, 12, 13, has_hit=True)
AWAY, HERE = "1", "0"  # teas of shard 1 and of another


def ask(begin, tea, outcome=OK, what=READ, took_s=0.01, session=None):
    return Operation(0, what, tea, begin, begin + took_s, outcome, session=session)


def judged(*operations, happened=(DEAD,)):
    found = episodes(happened, operations, int)
    return found, check(found)


def test_one_dead_shard_may_refuse_its_own_teas_and_take_a_moment_to_come_back():
    found, findings = judged(
        ask(9, AWAY),
        ask(10.1, HERE, FAIL),  # on its way when the shard died
        *(ask(10.5 + number / 1000, HERE) for number in range(1000)),
        ask(11.6, HERE, FAIL),  # one in a thousand
        ask(10.5, AWAY, FAIL),
        ask(10.6, AWAY, what=WEAK),
        ask(10.7, AWAY, FAIL, WEAK, session={"c0": 1}),  # perhaps only the dead one has it
        ask(12.5, AWAY, FAIL),
        ask(13, AWAY),
    )

    [episode] = found
    assert findings == []
    assert (episode.shard, len(episode.others), len(episode.own)) == (1, 1002, 1)
    assert episode.back_s == pytest.approx(1.01)


@pytest.mark.parametrize(
    ("words", "operations"),
    [
        ("of the others failed", [ask(10.5, HERE, FAIL), ask(10.6, AWAY, UNKNOWN, WEAK), ask(13, AWAY)]),
        ("were not refused", [ask(10.5, AWAY, UNKNOWN, WRITE), ask(13, AWAY)]),
        ("were refused after 1000 ms", [ask(10.5, AWAY, FAIL, took_s=1), ask(13, AWAY)]),
        ("db1 was back 6.0 s after its start", [ask(15, AWAY, FAIL), ask(18, AWAY, took_s=0.001)]),
        ("db1 was back inf s", [ask(15, AWAY, FAIL)]),
    ],
)
def test_a_dead_shard_that_costs_more_is_found(words, operations):
    _, findings = judged(*operations)

    assert [words in finding.words for finding in findings] == [True]


def test_a_shard_that_did_not_die_alone_is_not_judged():
    stop = Fault(8, 1.5, STOP, "r0")
    before, meanwhile = Happened(stop, 8, 9.5, has_hit=True), Happened(stop, 11, 12.5, has_hit=True)
    never_back = Happened(Fault(2, 1, KILL, "lb"), 2, 3, None, has_hit=True)

    for other in (before, meanwhile, never_back):
        assert judged(ask(10.5, HERE, FAIL), happened=(other, DEAD)) == ([], [])

    over = Happened(stop, 7, 8.5, has_hit=True)
    assert len(judged(happened=(over, DEAD))[0]) == 1
    [episode], findings = judged(ask(12.6, AWAY, FAIL), happened=(DEAD, Happened(stop, 14, 15, has_hit=True)))
    assert (episode.back_s, findings) == (None, [])  # it was not back when something else went wrong


# ---- the report


def test_the_report_stands_alone_and_shows_what_is_wrong():
    wrong = replace(STORM, operations=also(read(0.6, 0.7)), deaths=["db1 ended: <Trouble & strife>"])

    text = report.write(wrong, judge.judge(wrong), 7)

    assert "seed 7" in text
    assert "<mark>" in text
    assert "misses what the write of 1 at c0=1" in text
    assert "&lt;Trouble &amp; strife&gt;" in text
    assert text.count("<svg") == 2
    assert not re.search(r"https?:|src=|<link|@import|<script", text)


def test_the_report_of_a_good_and_of_an_invalid_storm_says_so():
    invalid = replace(STORM, minutes=8.0)

    assert "<span class=good>good</span>" in report.write(STORM, judge.judge(STORM), 7)
    assert "<span class=invalid>invalid</span>" in report.write(invalid, judge.judge(invalid), 7)
