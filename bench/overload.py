"""Overload: a shard slowed to 100 operations a second, and arrivals by the clock at 1, 2, 5 and 10 times that.

Half of them are writes, half reads, all of that shard's teas; first through the load balancer, then straight at the
shard, which must stand alone, too. Before and 5 s after, a light load shows that all is as it was.

What else runs on a small machine changes from second to second. So the loads take turns, round by round, and what
was accepted is the median of the rounds of a load.
"""

import asyncio
from collections import Counter
from math import nan
from statistics import mean, median
from typing import NamedTuple

from bench import ground, processes
from bench.load import Measured, open_loop, percentile
from bench.report import Claim, counted, progress

SLOWED_TO_PER_S = 100
TIMES = (1, 2, 5, 10)
ROUNDS = 3
ROUND_S = 5  # some times as long as the largest batch, 0.7 s: one that is on its way at the end is not counted
LIGHT_PER_S = 40
LIGHT_S = 3
REST_S = 5  # by when all must be as before

LEAST_OF_PEAK = 0.8
ANSWER_WITHIN_S = 1.0
MOST_SLOWER = 2.0
MOST_GROWTH = 1.1

SERVED, REFUSED = 200, 503


class Step(NamedTuple):
    """One load by the clock, and what came of it, in one or more rounds.

    name       as the table shows it
    rounds     the latencies count from when each request was due
    after_mb   {service: its memory} after each round
    others     how many cores everything else on this machine kept busy, in each round
    """

    name: str
    rounds: list[Measured]
    after_mb: list[dict]
    others: list[float]

    def accepted_per_s(self):
        """How many were served a second while the load lasted, in each round."""
        return [measured.between(0, measured.duration_s).rate_per_s(SERVED) for measured in self.rounds]

    def latencies_s(self, status=None):
        return [latency_s for measured in self.rounds for latency_s in measured.latencies_s(status)]

    def lags_s(self):
        return [lag_s for measured in self.rounds for lag_s in measured.lags_s]


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 3 minutes; `is_quick` takes seconds, and its figures are worth nothing."""
    with ground.opened(programs, slowed_to={0: SLOWED_TO_PER_S}) as on:
        for door in (on.cluster.load_balancer, on.cluster.shards[0]):
            is_lb = door is on.cluster.load_balancer
            where = "through the load balancer" if is_lb else "straight at the shard"
            progress(f"overload {where}")
            before, steps, after = asyncio.run(drive(on, door, is_quick))
            rows = [row_of(step, peak_of(steps)) for step in (before, *steps, after)]
            title = f"Overload {where}; its shard is slowed to {SLOWED_TO_PER_S} operations/s:"
            findings.add_table(title, COLUMNS, rows, f"overload {where}")
            findings.claims += claims_of(where, ["lb", "db0"] if is_lb else ["db0"], before, steps, after)
            findings.others_cores += [mean(step.others) for step in (before, *steps, after)]


async def drive(on, door, is_quick):
    """(the light Step before, the Steps of the load, the light Step after)."""
    target, next_request = ground.target_of(door), on.half_and_half(0)
    rounds, round_s, light_s, rest_s = (1, 0.4, 0.4, 0.4) if is_quick else (ROUNDS, ROUND_S, LIGHT_S, REST_S)

    async def load(step, rate_per_s, duration_s):
        progress(f"{rate_per_s} arrivals/s for {duration_s} s")
        others = processes.Others()
        step.rounds.append(await open_loop(target, next_request, rate_per_s, duration_s))
        step.others.append(others.cores())
        step.after_mb.append(on.memory_mb())
        return step

    await load(Step("warm-up", [], [], []), LIGHT_PER_S, light_s)
    before = await load(Step(f"before: {LIGHT_PER_S}", [], [], []), LIGHT_PER_S, light_s)
    steps = {times * SLOWED_TO_PER_S: Step(f"{times * SLOWED_TO_PER_S}", [], [], []) for times in TIMES}
    for _ in range(rounds):
        for rate_per_s, step in steps.items():
            await load(step, rate_per_s, round_s)
    await asyncio.sleep(rest_s)
    after = await load(Step(f"after: {LIGHT_PER_S}", [], [], []), LIGHT_PER_S, light_s)
    return before, list(steps.values()), after


COLUMNS = [
    "arrivals\n/s",
    "accepted\n/s",
    "of peak\n%",
    "accepted/s\neach round",
    "refused\n/s",
    "other\nanswers",
    "accepted\np50 ms",
    "accepted\np99 ms",
    "accepted\nmax ms",
    "refused\np99 ms",
    "refused\nmax ms",
    "lb MB\nfirst round",
    "lb MB\nlast round",
    "db0 MB\nfirst round",
    "db0 MB\nlast round",
    "own lag\np99 ms",
    "others'\ncores",
]


def peak_of(steps):
    return max(median(step.accepted_per_s()) for step in steps)


def row_of(step, peak_per_s):
    accepted_per_s = median(step.accepted_per_s())
    accepted_ms, refused_ms, lags_ms = (
        [1000 * each for each in times_s]
        for times_s in (step.latencies_s(SERVED), step.latencies_s(REFUSED), step.lags_s())
    )
    return [
        step.name,
        accepted_per_s,
        100 * accepted_per_s / peak_per_s if peak_per_s else nan,
        " ".join(f"{each:.0f}" for each in step.accepted_per_s()),
        len(refused_ms) / sum(measured.duration_s for measured in step.rounds),
        counted(sum((measured.others(SERVED, REFUSED) for measured in step.rounds), Counter())),
        percentile(accepted_ms, 0.5),
        percentile(accepted_ms, 0.99),
        percentile(accepted_ms, 1),
        percentile(refused_ms, 0.99),
        percentile(refused_ms, 1),
        step.after_mb[0]["lb"],
        step.after_mb[-1]["lb"],
        step.after_mb[0]["db0"],
        step.after_mb[-1]["db0"],
        percentile(lags_ms, 0.99),
        mean(step.others),
    ]


def claims_of(where, services, before, steps, after):
    """What was promised of a slowed shard, and what these Steps show of it, and of these services' memory."""
    peak_per_s = peak_of(steps)
    lowest = min(steps, key=lambda step: median(step.accepted_per_s()))
    share = median(lowest.accepted_per_s()) / peak_per_s if peak_per_s else 0.0
    latencies_s = [latency_s for step in steps for latency_s in step.latencies_s()]
    late = sum(latency_s > ANSWER_WITHIN_S for latency_s in latencies_s)
    own_lag_s = percentile([lag_s for step in steps for lag_s in step.lags_s()], 1)
    served_before, served_after = (step.rounds[0].share(SERVED) for step in (before, after))
    p99_before_ms, p99_after_ms = (1000 * percentile(step.latencies_s(SERVED), 0.99) for step in (before, after))
    return [
        Claim(
            f"{where}: what is accepted stays at {LEAST_OF_PEAK:.0%} of the peak or better",
            f"{share:.0%} at {lowest.name} arrivals/s, of a peak of {peak_per_s:.0f}/s",
            share >= LEAST_OF_PEAK,
        ),
        Claim(
            f"{where}: answers or refusals come within {ANSWER_WITHIN_S:g} s",
            f"the slowest after {percentile(latencies_s, 1):.3f} s, {late} of {len(latencies_s)} too late;"
            f" we ourselves sent up to {own_lag_s:.3f} s late",
            late == 0,
        ),
        *(memory_claim(where, service, before, steps[-1]) for service in services),
        Claim(
            f"{where}: all is as before {REST_S} s after the load ends (all served, p99 at most doubled)",
            f"{served_after:.0%} served, p99 {p99_after_ms:.1f} ms; before {served_before:.0%}, {p99_before_ms:.1f} ms",
            served_after == 1 and p99_after_ms <= MOST_SLOWER * p99_before_ms,
        ),
    ]


def memory_claim(where, service, before, greatest):
    """Whether the greatest load leaves the memory, in the second half of its rounds, as it was after the first half.

    Threads and buffers come into being as they are first needed; what grows after that leaks.
    """
    halfway = (len(greatest.after_mb) - 1) // 2
    looks = before.after_mb[0], greatest.after_mb[halfway], greatest.after_mb[-1]
    none_mb, halfway_mb, last_mb = (look[service] for look in looks)
    return Claim(
        f"{where}: {service}'s memory stays flat: the second half of the load adds at most {MOST_GROWTH - 1:.0%}",
        f"{halfway_mb:.1f} MB halfway, {last_mb:.1f} MB at the end, {none_mb:.1f} MB before all load",
        last_mb <= MOST_GROWTH * halfway_mb,
    )
