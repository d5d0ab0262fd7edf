"""Hostile clients and stopped parts: what they cost the others, in one run, as ratios.

Single figures are noisy on a small machine. So the rounds alternate, alone and disturbed, and medians are compared.
"""

import asyncio
from itertools import cycle
from statistics import median

from bench import ground, processes, stalling, stopped
from bench.load import closed_loop, get_request, percentile
from bench.report import Claim, progress
from emporium.settings import DBSettings, LBSettings, QSettings

CLIENTS = 4
SERVED = 200
STALLED_CONNECTIONS = 200
MOST_SLOWER = 2.0


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes under 4 minutes; `is_quick` takes seconds, and its figures are worth nothing."""
    for part in (slow_headers, stalled_bodies, *stopped.PARTS):
        with ground.opened(programs) as on:  # a new one: gossip that waits after one part would slow the next
            others = processes.Others()
            asyncio.run(part(on, findings, is_quick))
            findings.others_cores.append(others.cores())


async def slow_headers(on, findings, is_quick):
    """p99 of strong reads alone, beside silent connections, and beside connections that dribble their headers."""
    rounds, round_s = (1, 1) if is_quick else (7, 2)
    target, next_read = ground.target_of(on.cluster.load_balancer), _reads_of_all(on)
    p99s_ms = {"alone": [], "silent": [], "dribbling": []}
    served = dict.fromkeys(p99s_ms, 1.0)
    for number in range(rounds):
        progress(f"slow headers, round {number + 1} of {rounds}")
        for name, disturb in (("alone", None), ("silent", stalling.silent), ("dribbling", stalling.dribbling)):
            if disturb is None:
                measured = await closed_loop(target, next_read, CLIENTS, round_s)
            else:
                async with disturb(target, STALLED_CONNECTIONS):
                    measured = await closed_loop(target, next_read, CLIENTS, round_s)
            p99s_ms[name].append(1000 * percentile(measured.latencies_s(), 0.99))
            served[name] = min(served[name], measured.share(SERVED))
    # Of each round with the same round alone: what else runs here changes from one round to the next.
    ratios = {
        name: median(p99 / alone for p99, alone in zip(each, p99s_ms["alone"], strict=True))
        for name, each in p99s_ms.items()
    }
    rows = [
        [name, median(each), ratios[name], 100 * served[name], " ".join(f"{p99:.1f}" for p99 in each)]
        for name, each in p99s_ms.items()
    ]
    columns = [
        f"{STALLED_CONNECTIONS}\nconnections",
        "median\np99 ms",
        "median\nof alone",
        "served\n%",
        "p99 of each\nround, ms",
    ]
    title = f"Strong reads through the load balancer, {CLIENTS} clients, beside slow connections:"
    findings.add_table(title, columns, rows, "slow headers")
    for name in ("silent", "dribbling"):
        findings.claims.append(
            Claim(
                f"{STALLED_CONNECTIONS} {name} connections cost the others at most {MOST_SLOWER:g} x their p99",
                f"{ratios[name]:.2f} x (median of {rounds} rounds), and {served[name]:.1%} are served",
                ratios[name] <= MOST_SLOWER and served[name] == 1,
            )
        )


async def stalled_bodies(on, findings, is_quick):
    """Reads at each service alone, and beside stalled bodies: half as many again as it has threads."""
    rounds, round_s = (1, 1) if is_quick else (2, 2)
    tea = ground.path_of(ground.teas_of(0)[0])
    places = [
        (on.cluster.load_balancer, LBSettings().threads, tea, _reads_of_all(on)),
        (on.cluster.shards[0], DBSettings().threads, tea, on.reads(0)),
        (on.cluster.queue, QSettings().threads, "/q/bench", lambda: get_request("/q/bench")),
    ]
    rows = []
    for service, threads, path, next_read in places:
        progress(f"stalled bodies at {service.name}")
        target, number = ground.target_of(service), threads * 3 // 2
        alone, beside, held = [], [], []
        for _ in range(rounds):
            alone.append(await closed_loop(target, next_read, CLIENTS, round_s))
            async with stalling.stalled_bodies(target, number, path) as stalled:
                beside.append(await closed_loop(target, next_read, CLIENTS, round_s))
                held.append(stalled.held())
        p99_alone_ms, p99_beside_ms = (
            median(1000 * percentile(measured.latencies_s(), 0.99) for measured in each) for each in (alone, beside)
        )
        served = min(measured.share(SERVED) for measured in beside)
        rate_alone, rate_beside = (median(measured.rate_per_s(SERVED) for measured in each) for each in (alone, beside))
        rows.append(
            [
                service.name,
                threads,
                number,
                max(held),
                rate_alone,
                rate_beside,
                p99_alone_ms,
                p99_beside_ms,
                100 * served,
            ]
        )
        findings.claims += [
            Claim(
                f"at {service.name}, bodies that stall take at most half of the {threads} threads",
                f"{max(held)} of {number} were held, the others refused",
                max(held) <= threads // 2,
            ),
            Claim(
                f"at {service.name}, reads go on while bodies stall",
                f"{served:.1%} of them served, p99 {p99_beside_ms:.1f} ms; alone {p99_alone_ms:.1f} ms",
                served == 1,
            ),
        ]
    columns = [
        "at\n",
        "\nthreads",
        "bodies\nstalled",
        "held\nat most",
        "reads/s\nalone",
        "reads/s\nbeside",
        "p99 ms\nalone",
        "p99 ms\nbeside",
        "served\n%",
    ]
    findings.add_table(f"Reads, {CLIENTS} clients, beside stalled bodies:", columns, rows, "stalled bodies")


def _reads_of_all(on):
    """Strong reads of the teas of all shards, in turn."""
    turns = cycle([on.reads(shard) for shard in range(ground.NDB)])
    return lambda: next(turns)()
