"""Ours beside the baseline under the same load: operations a second, latencies, CPU by process, memory, start-up.

What else runs on a small machine changes from second to second. So the systems take turns, run by run, in rounds; a
figure is the median of its rounds, and a ratio the median of the ratios within the rounds.
"""

from collections import Counter
from contextlib import ExitStack, nullcontext
from statistics import mean, median
from typing import NamedTuple

from bench import clusters, processes, wrk
from bench.report import Claim, counted, progress
from emporium.settings import LBSettings, names_of

CLIENTS = (1, 8, 32)
FEW, MANY = min(CLIENTS), max(CLIENTS)
NAMES = {"strong": "strong reads", "weak": "weak reads", "write": "writes", "mix": "half and half"}
OURS, BASELINE, ALONE = "ours", "baseline", "ours without gathering"
COSTED = ("strong", "mix")  # the loads whose CPU is told, at MANY clients
TEAS = 4001
ROUNDS, RUN_S = 5, 2

LEAST_RATE = {("strong", MANY): (6, 8), ("mix", MANY): (12, 15), ("strong", FEW): (3, 3), ("mix", FEW): (3, 3)}
MOST_OF_P99 = 1 / 3
LEAST_OF_ALONE = 0.95  # two runs of the same differ by as much
MOST_MEMORY_MB = 600

US = 1e6


class Run(NamedTuple):
    """One run of wrk: its Load, and the CPU seconds of each process meanwhile."""

    load: wrk.Load
    cpu_s: dict

    def cpu_us(self):
        """{process: CPU microseconds an operation}."""
        return {name: US * cpu_s / max(1, self.load.requests) for name, cpu_s in self.cpu_s.items()}


class Door(NamedTuple):
    """Where a system is asked."""

    name: str
    port: int
    running: clusters.Running


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 5 minutes; `is_quick` takes half a minute, and its figures are worth nothing."""
    tool = wrk.find_or_install()
    teas = wrk.Teas(TEAS)
    with clusters.ours(programs) as ours, ExitStack() as beside:
        baseline = beside.enter_context(clusters.baseline(programs))
        doors = [Door(OURS, ours.port, ours), Door(BASELINE, baseline.port, baseline)]
        another = beside.enter_context(_load_balancer_alone(ours))
        if another:
            doors.append(Door(ALONE, another.port, ours))
        for system in (ours, baseline):
            system.store(teas)
        runs = drive(tool, doors, teas, findings, is_quick)
        add_table(runs, findings)
        findings.say(fairness(runs))
        if another:
            add_alone_table(runs, findings)
        add_cpu_table(runs, findings)
        findings.claims += claims_of(runs)
        findings.say(f"\nFrom the first process until all shards serve: {startup(ours)}; {startup(baseline)}")
        findings.figures["start-up s"] = {system.name: system.start_s for system in (ours, baseline)}
        beside.close()  # what processes of theirs share with ours must not make ours look smaller
        add_memory(ours, findings)


def startup(system):
    return f"{system.name} {system.start_s:.2f} s"


def _load_balancer_alone(ours):
    """Another load balancer for our shards, which gathers nothing; of no use where it cannot be told so."""
    if "gather" not in names_of(LBSettings):
        return nullcontext()
    return clusters.another_load_balancer(ours, {"gather": False})


def drive(tool, doors, teas, findings, is_quick):
    """{(name of the door, kind, clients): its Runs, one a round}."""
    rounds, run_s, numbers = (1, 1, (FEW, MANY)) if is_quick else (ROUNDS, RUN_S, CLIENTS)
    runs = {}
    for door in doors:
        progress(f"warming up {door.name}")
        wrk.run(tool, door.port, "mix", MANY, 1, teas)
        door.running.settle()
    for number in range(rounds):
        others = processes.Others()
        for clients in numbers:
            for kind in wrk.KINDS:
                progress(f"throughput, round {number + 1} of {rounds}: {NAMES[kind]}, {clients} clients")
                for door in doors if number % 2 else reversed(doors):  # to be the first in a row may cost something
                    if door.name != ALONE or clients == FEW:
                        made = one_run(tool, door, kind, clients, run_s, teas)
                        runs.setdefault((door.name, kind, clients), []).append(made)
        findings.others_cores.append(others.cores())
    return runs


def one_run(tool, door, kind, clients, run_s, teas):
    cost = processes.Cost(door.running.services)
    load = wrk.run(tool, door.port, kind, clients, run_s, teas)
    made = Run(load, cost.cpu_s())
    door.running.settle()
    return made


# ---- figures


def middle(runs, figure):
    """The median of figure(Load)."""
    return median(figure(each.load) for each in runs)


def ratio(runs, others, figure):
    """The median, over the rounds, of figure(Load) of the one to that of the other."""
    return median(figure(one.load) / max(figure(other.load), 1e-9) for one, other in zip(runs, others, strict=True))


def rate(load):
    return load.rate_per_s


def p50(load):
    return load.p50_ms


def p99(load):
    return load.p99_ms


def errors_of(runs):
    return sum((Counter(each.load.errors) for each in runs), Counter())


# ---- tables


def add_table(runs, findings):
    columns = ["\n", "\nclients"]
    columns += ["ours\n/s", "base-\nline /s", "\nratio", "ours\np50 ms", "base-\nline", "\nratio"]
    columns += ["ours\np99 ms", "base-\nline", "\nratio", "errors\nours", "errors\nbaseline"]
    title = "Ours beside the baseline, medians of the rounds; ratios within a round (! where there were errors):"
    findings.add_table(title, columns, [row_of(runs, *each) for each in cells(runs)], "throughput")


def cells(runs):
    """(kind, clients) of all that was run, as the table shows them."""
    wanted = ((kind, clients) for kind in wrk.KINDS for clients in CLIENTS)
    return [each for each in wanted if (OURS, *each) in runs]


def row_of(runs, kind, clients):
    ours, baseline = (runs[name, kind, clients] for name in (OURS, BASELINE))
    row = [NAMES[kind], clients]
    for figure in (rate, p50, p99):
        row += [middle(ours, figure), middle(baseline, figure), ratio(ours, baseline, figure)]
    return [*row, *(marked(errors_of(each)) for each in (ours, baseline))]


def marked(errors):
    return f"! {counted(errors)}" if errors else "none"


def fairness(runs):
    """A line on whether the baseline is a fair stand-in for plain versions."""
    strong, mix = (middle(runs[BASELINE, kind, MANY], rate) for kind in ("strong", "mix"))
    return (
        f"The baseline: {strong:.0f} strong reads/s and {mix:.0f} mixed operations/s at {MANY} clients. Plain versions"
        " known to us do 250 to 390 and 90 to 160 on two cores that do nothing else."
    )


def add_alone_table(runs, findings):
    columns = ["\n", "gathering\n/s", "not\n/s", "\nratio", "gathering\np50 ms", "not\np50 ms", "not:\nerrors"]
    rows = []
    for kind in wrk.KINDS:
        ours, alone = (runs[name, kind, FEW] for name in (OURS, ALONE))
        row = [NAMES[kind], middle(ours, rate), middle(alone, rate), ratio(ours, alone, rate)]
        rows.append([*row, middle(ours, p50), middle(alone, p50), marked(errors_of(alone))])
    findings.add_table(f"Ours with gathering and without, {FEW} client:", columns, rows, "gathering")


def add_cpu_table(runs, findings):
    wanted = [(kind, name) for kind in COSTED for name in (OURS, BASELINE)]
    costs = [median_cost(runs[name, kind, MANY]) for kind, name in wanted]
    rows = [[process, *(cost[process] for cost in costs)] for process in costs[0]]
    rows.append(["all", *(sum(cost.values()) for cost in costs)])
    columns = ["\n", *(f"{NAMES[kind]}\n{name}" for kind, name in wanted)]
    findings.add_table(f"CPU by process, microseconds an operation, {MANY} clients:", columns, rows, "cpu")


def median_cost(runs):
    """{process: the median of its CPU microseconds an operation}."""
    each = [one.cpu_us() for one in runs]
    return {name: median(cost[name] for cost in each) for name in each[0]}


def add_memory(ours, findings):
    memory_mb = processes.memory_mb(ours.services)
    shards, stores = ([each.name for each in group] for group in (ours.cluster.shards, ours.cluster.redis))
    rows = [
        ["load balancer", 1, memory_mb["lb"]],
        ["a shard, on average", len(shards), mean(memory_mb[name] for name in shards)],
        ["the queue", 1, memory_mb["q"]],
        ["a Redis, on average", len(stores), mean(memory_mb[name] for name in stores)],
        ["all", len(memory_mb), sum(memory_mb.values())],
    ]
    title = "Memory after the run, proportional set size:"
    findings.add_table(title, ["\n", "\nnumber", "\nMB"], rows, "memory")
    whole_mb = sum(memory_mb.values())
    findings.claims.append(
        Claim(
            f"a cluster of {len(shards)} shards takes less than {MOST_MEMORY_MB} MB after the run",
            f"{whole_mb:.0f} MB",
            whole_mb < MOST_MEMORY_MB,
        )
    )


# ---- claims


def claims_of(runs):
    """What was promised of the Runs, and what they show."""
    claims = [rate_claim(runs, *cell, *asked) for cell, asked in LEAST_RATE.items()]
    claims += [p99_claim(runs, kind) for kind in wrk.KINDS]
    if (ALONE, wrk.KINDS[0], FEW) in runs:
        claims.append(alone_claim(runs))
    return [*claims, served_claim(runs)]


def rate_claim(runs, kind, clients, least, aim):
    found = ratio(runs[OURS, kind, clients], runs[BASELINE, kind, clients], rate)
    aimed = f" (the aim: {aim})" if aim > least else ""
    asked = f"{NAMES[kind]}, {_clients(clients)}: at least {least} times the baseline's rate{aimed}"
    return Claim(asked, f"{found:.2f} times", found >= least)


def p99_claim(runs, kind):
    found = ratio(runs[OURS, kind, MANY], runs[BASELINE, kind, MANY], p99)
    asked = f"{NAMES[kind]}, {_clients(MANY)}: p99 below a third of the baseline's"
    return Claim(asked, f"{found:.3f} of it", found < MOST_OF_P99)


def alone_claim(runs):
    found = {kind: ratio(runs[OURS, kind, FEW], runs[ALONE, kind, FEW], rate) for kind in wrk.KINDS}
    told = ", ".join(f"{NAMES[kind]} {each:.2f}" for kind, each in found.items())
    asked = f"{_clients(FEW)}: no operation slower than without gathering (at least {LEAST_OF_ALONE} of its rate)"
    return Claim(asked, told, min(found.values()) >= LEAST_OF_ALONE)


def served_claim(runs):
    errors = sum((errors_of(each) for (name, *_), each in runs.items() if name != BASELINE), Counter())
    return Claim("every request to ours is served", f"not served: {counted(errors)}", not errors)


def _clients(number):
    return f"{number} client{'s' if number > 1 else ''}"
