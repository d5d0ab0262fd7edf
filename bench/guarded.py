"""What it costs that a shard survives what the course assumes away.

store       the same loads on a store as `./tea up` starts it, and on one whose shards have the course's settings alone
comparison  CPU of a shard for one comparison with the next, while many teas are equal
"""

import time
from statistics import median

from bench import clusters, pair, processes, wrk
from bench.report import Claim, progress

ON, OFF = "on", "off"
LEAST = {"strong": 0.8, "mix": 0.7}
TEAS, TEAS_QUICKLY = 100_000, 1_000
LOOKED_S, LOOKED_S_QUICKLY = 20, 2
MOST_ROUND_MS = 50


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 3 minutes; `is_quick` takes half a minute, and its figures are worth nothing."""
    made = {ON: clusters.ours(programs), OFF: clusters.ours(programs, is_guarded=False)}
    pair.compare("The store with fault tolerance", "fault tolerance", made, LEAST, findings, is_quick)
    others = processes.Others()
    comparison(programs, findings, is_quick)
    findings.others_cores.append(others.cores())


def comparison(programs, findings, is_quick):
    """Let a cluster of equal replicas idle: all that a shard does then is to compare, and to look over a page."""
    teas, looked_s = (TEAS_QUICKLY, LOOKED_S_QUICKLY) if is_quick else (TEAS, LOOKED_S)
    progress(f"a comparison of {teas:,} equal teas")
    with clusters.ours(programs) as on:
        on.store(wrk.Teas(teas))
        for service in on.cluster.shards:  # a new process looks over all that is stored before it compares
            service.kill()
        on.cluster.start_these(on.cluster.shards)
        on.wait_until_it_compares()
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
