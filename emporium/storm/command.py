"""./tea storm: raise a cluster, let the storm go over it, judge what the clients saw, and write it all down.

    var/storms/<time>-<seed>/   plan.json, history.jsonl, report.html, log/ of each service, and what the cluster stored

Exit codes: 0 valid and all good; 1 something is wrong; 2 invalid, since faults did not hit or too little was done.
"""

import shutil
import sys
import time
from datetime import datetime
from pathlib import Path

import msgspec

from emporium import progress
from emporium.environment import ROOT
from emporium.service import StartFailed
from emporium.storm import clients, ground, judge, plan, report
from emporium.storm.faults import Faults
from emporium.storm.history import History
from emporium.storm.links import ProxyFailed

NDB = 4
STORMS = ROOT / "var" / "storms"
KEPT = 10
LOOK_S = 0.1  # at the replicas, after the storm
MET_AT_MOST_S = 20.0  # for how long we look, to tell late from never
READ_S = 20.0  # for all the teas, at the end
VERDICTS = {judge.GOOD: "valid, and all is good", judge.WRONG: "something is WRONG", judge.INVALID: "invalid"}


def run(minutes, seed, plan_file=None):
    """The exit code of a storm. `plan_file`: a plan to follow instead of drawing one; "-" prints the one drawn."""
    faults = plan.draw(seed, minutes, NDB)
    if plan_file == "-":
        print(plan.to_json(faults), end="")
        return 0
    if plan_file:
        try:
            faults = plan.from_json(Path(plan_file).read_text())
        except (OSError, msgspec.DecodeError) as error:
            print(f"tea: the plan {plan_file} cannot be read: {error}", file=sys.stderr)
            return 2
    folder = _new_folder(seed)
    (folder / "plan.json").write_text(plan.to_json(faults))
    _say(f"seed {seed}, {len(faults)} faults in {minutes:g} minutes; everything is in {folder}")
    try:
        with progress.shown(f"a storm of {minutes:g} minutes") as told:
            evidence = weather(folder, faults, minutes, seed, told)
    except (ProxyFailed, StartFailed) as error:
        _say(f"invalid: {error}")
        return judge.INVALID
    _say("judging")
    with progress.shown("judging"):
        verdict = judge.judge(evidence)
        (folder / "report.html").write_text(report.write(evidence, verdict, seed))
    _print(evidence, verdict)
    print(f"{VERDICTS[verdict.code]}; see {folder / 'report.html'}")
    return verdict.code


def weather(folder, faults, minutes, seed, told=lambda _how_far: None):
    """The Evidence that a storm over a new cluster leaves. Raises StartFailed or ProxyFailed."""
    history = History(folder / "history.jsonl")
    try:
        with ground.Ground(folder, NDB) as place:
            began = time.monotonic()

            def now():
                return time.monotonic() - began

            carrier = Faults(faults, place, now, lambda line: _say(f"{now():7.2f} s  {line}"))
            port = place.links.layout.lb
            with clients.at_work(port, seed, history, now):
                told("clients are at work")
                carrier.carry_out(minutes * 60)
            told("healing")
            troubles = carrier.heal()
            _say(f"{now():7.2f} s  healed; {len(history.operations)} operations")
            told("until the replicas are equal")
            met_s, differing, replicas = _meet(place)
            told("reading all teas")
            unanswered = clients.read_all(port, history, now, READ_S)
    finally:
        history.close()
    return judge.Evidence(
        minutes=minutes,
        ndb=NDB,
        plan=faults,
        happened=carrier.happened,
        operations=history.operations,
        replicas=replicas,
        met_s=met_s,
        differing=differing,
        unanswered=unanswered,
        deaths=carrier.deaths + troubles,
    )


def _meet(place):
    """(after how many seconds all replicas were equal, or None; which teas were not by then; what all held at last)."""
    healed = time.monotonic()
    differing = []
    while True:
        asked_s = time.monotonic() - healed
        replicas = place.replicas()
        unequal = ground.differing(replicas)
        if not unequal:
            return asked_s, differing, replicas
        if asked_s <= judge.MET_S or not differing:
            differing = unequal
        if asked_s > MET_AT_MOST_S:
            return None, differing, replicas
        time.sleep(LOOK_S)


def _new_folder(seed):
    """A folder for one storm. Only the newest are kept."""
    STORMS.mkdir(parents=True, exist_ok=True)
    for old in sorted(STORMS.iterdir())[: -KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    folder = STORMS / f"{datetime.now():%Y%m%d-%H%M%S}-{seed}"
    folder.mkdir()
    return folder


def _print(evidence, verdict):
    for what, how_many, findings in verdict.checked:
        print(f"{'WRONG' if findings else 'good '}  {what}: {how_many}")
        for finding in findings[:3]:
            print(f"       ({finding.rule}) {finding.tea} {finding.words}")
        if len(findings) > 3:
            print(f"       ... {len(findings)} findings in all")
    hits = sum(each.has_hit for each in evidence.happened)
    ok = sum(each.is_ok for each in evidence.operations)
    print(f"{hits} of {len(evidence.plan)} faults hit; {ok} of {len(evidence.operations)} operations succeeded")
    for reason in verdict.invalid:
        print(f"invalid: {reason}")


def _say(line):
    print(f"storm: {line}", file=sys.stderr, flush=True)
