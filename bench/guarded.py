"""What it costs that a shard survives what the course assumes away.

store       the same loads on a store as `./tea up` starts it, and on one whose shards have the course's settings alone
comparison  CPU of a shard for one comparison with the next, while many teas are equal
meeting     how long replicas need to meet again, once a shard that was away, or has lost its disk, is back
"""

import shutil
import time
from statistics import median

from bench import clusters, pair, processes, wrk
from bench.report import Claim, progress
from emporium import wire
from emporium.peers import Peer
from emporium.service import StartFailed

ON, OFF = "on", "off"
LEAST = {"strong": 0.8, "mix": 0.7}
TEAS, TEAS_QUICKLY = 100_000, 1_000
LOOKED_S, LOOKED_S_QUICKLY = 20, 2
MOST_ROUND_MS = 50
MET, MET_QUICKLY = 10_000, 500
MISSED = 0.1  # the part of them that is written while a shard is away
MOST_MEETING_S = 5
MOST_OF_DISK_S = 60  # until we give up; nothing is promised for a whole disk


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 5 minutes; `is_quick` takes half a minute, and its figures are worth nothing."""
    made = {ON: clusters.ours(programs), OFF: clusters.ours(programs, is_guarded=False)}
    pair.compare("The store with fault tolerance", "fault tolerance", made, LEAST, findings, is_quick)
    others = processes.Others()
    comparison(programs, findings, is_quick)
    meeting(programs, findings, is_quick)
    findings.others_cores.append(others.cores())


def comparison(programs, findings, is_quick):
    """Let a cluster of equal replicas idle: all that a shard does then is to compare, and to look over a page."""
    teas, looked_s = (TEAS_QUICKLY, LOOKED_S_QUICKLY) if is_quick else (TEAS, LOOKED_S)
    progress(f"a comparison of {teas:,} equal teas")
    with clusters.ours(programs) as on:
        on.store(wrk.Teas(teas))
        cost = processes.Cost(on.cluster.shards)
        time.sleep(looked_s)
        cpu_s = cost.cpu_s()
    rounds_ms = [1e3 * each / looked_s for each in cpu_s.values()]  # one round a second
    rows = [[f"{teas:,}", median(rounds_ms), max(rounds_ms)]]
    findings.add_table(
        "CPU of an idle shard for a round, one each second:", ["\nteas", "median\nms", "most\nms"], rows, "rounds"
    )
    asked = f"{teas:,} equal teas: a round costs a shard less than {MOST_ROUND_MS} ms of CPU"
    findings.claims.append(Claim(asked, f"{max(rounds_ms):.1f} ms", max(rounds_ms) < MOST_ROUND_MS))


def meeting(programs, findings, is_quick):
    """Let a shard be away while others write, and the queue lose what it had for it; then let one lose its disk."""
    number = MET_QUICKLY if is_quick else MET
    progress(f"meetings of {number:,} teas")
    with clusters.ours(programs) as on:
        on.store(wrk.Teas(number))
        names = wrk.Teas(number).names()
        missed = names[: int(number * MISSED)]
        away, its_redis = on.cluster.shards[2], on.cluster.redis[2]
        away.kill()
        written = write_all(on, missed)
        Peer("q", "127.0.0.1", on.cluster.queue.port, clusters.PATIENCE_S).call("DELETE", "/clear")
        away_s = seconds_until_met(on, [away], written)
        for service in (away, its_redis):
            service.kill()
        for folder in on.folders_of(2):
            shutil.rmtree(folder)
            folder.mkdir()
        lost_s = seconds_until_met(on, [its_redis, away], names)
    rows = [["was away", len(written), away_s], ["lost its disk", number, lost_s]]
    findings.add_table("A shard meets the others again:", ["\n", "teas that\ndiffer", "\ns"], rows, "meetings")
    asked = f"of {number:,} teas, a shard that was away meets the others within {MOST_MEETING_S} s"
    found = f"after {away_s:.1f} s, where {len(written):,} differ"
    findings.claims.append(Claim(asked, found, away_s <= MOST_MEETING_S))


def write_all(on, names):
    """Write these teas through the load balancer. Returns those whose primary is there: they are written."""
    peer = Peer("lb", "127.0.0.1", on.port, clusters.PATIENCE_S)
    body = wire.encode({"rating": 5, "clock": {"bench": 2}})
    return [name for name in names if peer.call("PUT", f"/rating/{name}", body).is_ok]


def seconds_until_met(on, services, names):
    """Start these services; how long after they answer the shards hold equal values of these teas."""
    on.cluster.start_these(services)
    began_s = time.monotonic()
    while not on.are_equal(names):
        if time.monotonic() - began_s > MOST_OF_DISK_S:
            raise StartFailed(f"the replicas do not meet within {MOST_OF_DISK_S} s")
        time.sleep(0.05)
    return time.monotonic() - began_s
