"""Parts of the cluster that are stopped, under load: what that costs the others.

A stopped process (SIGSTOP) is there and never answers, which is worse than one that is gone.
"""

import asyncio
from collections import Counter
from math import nan
from statistics import median

from bench import ground
from bench.load import closed_loop, get_request, open_loop, percentile
from bench.report import Claim, counted, progress

CLIENTS = 4
SERVED = 200
PROBES_PER_S = 20  # of /healthz and of weak reads, while a part is stopped
DOWN = 1  # the shard that is stopped, or its Redis
OTHERS = [index for index in range(ground.NDB) if index != DOWN]

LEAST_WITHOUT_QUEUE = 0.95
LEAST_OF_OTHERS = 0.8
HEALTHZ_WITHIN_S = 0.05


async def queue_stopped(on, findings, is_quick):
    """The rate of a shard's operations with its queue, and without it after the first second."""
    rounds, round_s = (1, 1) if is_quick else (5, 2)
    shard, queue = on.cluster.shards[0], on.cluster.queue
    target, next_request = ground.target_of(shard), on.half_and_half(0)
    rates = []
    for number in range(rounds):
        progress(f"stopped queue, round {number + 1} of {rounds}")
        running = await closed_loop(target, next_request, CLIENTS, 1 + round_s)
        with on.stopped(queue):
            stopped = await closed_loop(target, next_request, CLIENTS, 1 + round_s)
        rates.append([measured.between(1, 1 + round_s).rate_per_s(SERVED) for measured in (running, stopped)])
        on.wait_until(lambda: _has_caught_up(on, shard), "the shard has told what stayed due")
    ratio = median(stopped / running for running, stopped in rates)
    rows = [[index + 1, running, stopped, stopped / running] for index, (running, stopped) in enumerate(rates)]
    title = f"Operations at a shard, {CLIENTS} clients, half writes, after the first second:"
    findings.add_table(title, ["\nround", "queue\nruns, /s", "queue\nstopped, /s", "\nratio"], rows, "stopped queue")
    findings.claims.append(
        Claim(
            "a shard whose queue is stopped is at most 5 % slower after the first second",
            f"{ratio:.2f} of its rate (median of {rounds} rounds)",
            ratio >= LEAST_WITHOUT_QUEUE,
        )
    )


async def shard_stopped(on, findings, is_quick):
    await _one_stopped(on, findings, is_quick, on.cluster.shards[DOWN], "a shard stopped")


async def shard_stopped_restless(on, findings, is_quick):
    """The same with clients that ask again at once: those of the stopped shard take what CPU they can get."""
    await _one_stopped(on, findings, is_quick, on.cluster.shards[DOWN], "a shard stopped, restless clients", pause_s=0)


async def redis_stopped(on, findings, is_quick):
    await _one_stopped(on, findings, is_quick, on.cluster.redis[DOWN], "a shard's Redis stopped")


async def _one_stopped(on, findings, is_quick, service, what, pause_s=1.0):
    """Rates of the clients of each shard before, while and after `service` of one shard is stopped under their load.

    `pause_s`: how long a client waits after it was refused; a 503 says `Retry-After: 1`.
    """
    stretch_s, rest_s = (1, 1) if is_quick else (5, 3)
    stops_s = 1 + stretch_s
    goes_on_s = stops_s + stretch_s
    ends_s = goes_on_s + rest_s + stretch_s
    progress(f"{what}: {ends_s} s")
    target = ground.target_of(on.cluster.load_balancer)

    async def stop_and_go_on():
        await asyncio.sleep(stops_s)
        with on.stopped(service):
            await asyncio.sleep(stretch_s)

    *by_shard, healthz, weak, _nothing = await asyncio.gather(
        *(closed_loop(target, on.half_and_half(shard), 2, ends_s, pause_s) for shard in range(ground.NDB)),
        open_loop(target, lambda: get_request("/healthz"), PROBES_PER_S, ends_s),
        open_loop(target, on.reads(OTHERS[0], "?consistency=weak"), PROBES_PER_S, ends_s),
        stop_and_go_on(),
    )
    stretches = (1, stops_s), (stops_s, goes_on_s), (goes_on_s + rest_s, ends_s)
    rows, kept = rates_of_shards([[measured.between(*each) for each in stretches] for measured in by_shard])
    columns = [
        "clients\nof",
        "before\nserved/s",
        "while\nserved/s",
        "after\nserved/s",
        "\nratio",
        "while\nmax ms",
        "while\nnot served",
    ]
    title = f"{what[0].upper()}{what[1:]} (db{DOWN}), two clients for each shard's teas, half writes:"
    findings.add_table(title, columns, rows, what)

    lag_ms = 1000 * percentile(healthz.lags_s, 1)
    healthz, weak = (measured.between(stops_s, goes_on_s) for measured in (healthz, weak))
    p50_ms, p99_ms, most_ms = (1000 * percentile(healthz.latencies_s(), share) for share in (0.5, 0.99, 1))
    findings.say(
        f"Meanwhile: /healthz p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms, max {most_ms:.1f} ms;"
        f" weak reads {weak.share(SERVED):.0%} served, not served: {counted(weak.others(SERVED))}"
    )
    findings.figures[f"{what}, probes"] = {
        "healthz p50 ms": p50_ms,
        "healthz p99 ms": p99_ms,
        "healthz max ms": most_ms,
        "weak reads served": weak.share(SERVED),
    }
    worst = min(OTHERS, key=lambda shard: kept[shard])
    findings.claims += [
        Claim(
            f"{what}: the other shards keep at least {LEAST_OF_OTHERS:.0%} of their rate",
            f"{kept['others']:.2f} together, {kept[worst]:.2f} at the slowest of them, db{worst}",
            kept["others"] >= LEAST_OF_OTHERS,
        ),
        Claim(
            f"{what}: /healthz answers within {1000 * HEALTHZ_WITHIN_S:g} ms",
            f"the slowest of {len(healthz.asked)} after {most_ms:.1f} ms, p99 {p99_ms:.1f} ms;"
            f" we ourselves sent up to {lag_ms:.1f} ms late",
            most_ms <= 1000 * HEALTHZ_WITHIN_S,
        ),
    ]


def rates_of_shards(by_shard):
    """(rows, {shard or "others": its rate while one is stopped, of that before and after}).

    by_shard: of each shard's clients, what was Measured before, while and after.
    """
    rows, kept = [], {}
    rates = {shard: [part.rate_per_s(SERVED) for part in parts] for shard, parts in enumerate(by_shard)}
    rates["others"] = [sum(stretch) for stretch in zip(*(rates[shard] for shard in OTHERS), strict=True)]
    for who, (before, during, after) in rates.items():
        kept[who] = during / ((before + after) / 2) if before + after else nan
        parts = [by_shard[shard][1] for shard in (OTHERS if who == "others" else [who])]
        slowest_ms = 1000 * max(percentile(part.latencies_s(), 1) for part in parts)
        not_served = counted(sum((part.others(SERVED) for part in parts), Counter()))
        name = who if who == "others" else f"db{who}"
        rows.append([name, before, during, after, kept[who], slowest_ms, not_served])
    return rows, kept


PARTS = (queue_stopped, shard_stopped, shard_stopped_restless, redis_stopped)


def _has_caught_up(on, shard):
    status = on.status_of(shard)
    return status["queue"] == "ok" and status["due"] == 0
