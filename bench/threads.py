"""How many threads each service should have: the same loads on clusters whose services all have so many.

A request holds a thread until it is answered, so that fewer threads than clients refuse some; more of them take turns
at the interpreter, and memory.
"""

from collections import Counter
from contextlib import ExitStack

from bench import clusters, processes, wrk
from bench.report import progress
from bench.throughput import MANY, NAMES, Door, errors_of, marked, median_cost, middle, one_run, p99, rate

NUMBERS = (16, 48, 144, 256)
KINDS = ("strong", "mix")
TEAS = 4001
ROUNDS, RUN_S = 5, 2


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 3 minutes; `is_quick` takes half a minute, and its figures are worth nothing."""
    tool, teas = wrk.find_or_install(), wrk.Teas(TEAS)
    rounds, run_s, numbers = (1, 1, NUMBERS[:2]) if is_quick else (ROUNDS, RUN_S, NUMBERS)
    runs = {}
    with ExitStack() as stack:
        doors = []
        for number in numbers:
            on = stack.enter_context(clusters.ours(programs, more_settings={"threads": number}))
            on.store(teas)
            wrk.run(tool, on.port, "mix", MANY, 1, teas)
            doors.append((number, Door(f"{number} threads", on.port, on)))
        for round_number in range(rounds):
            others = processes.Others()
            progress(f"threads, round {round_number + 1} of {rounds}")
            for number, door in doors:
                for kind in KINDS:
                    runs.setdefault((number, kind), []).append(one_run(tool, door, kind, MANY, run_s, teas))
            findings.others_cores.append(others.cores())
        memory_mb = {number: sum(processes.memory_mb(door.running.services).values()) for number, door in doors}
    rows = [[number, *figures_of(runs, number), memory_mb[number]] for number in numbers]
    columns = ["threads of\neach service"]
    columns += [f"{NAMES[kind]}\n{figure}" for kind in KINDS for figure in ("/s", "p99 ms", "CPU us", "errors")]
    findings.add_table(f"Threads, {MANY} clients:", [*columns, "memory\nMB"], rows, "threads")


def figures_of(runs, number):
    for kind in KINDS:
        made = runs[number, kind]
        yield middle(made, rate)
        yield middle(made, p99)
        yield sum(median_cost(made).values())
        yield marked(Counter(errors_of(made)))
