"""The same loads on two stores of ours that are alike but for one thing: what that costs."""

from contextlib import ExitStack
from functools import partial

from bench import turns, wrk
from bench.report import Claim, counted
from bench.throughput import NAMES, Door, errors_of, marked, median_cost, middle, one_run, p50, p99, rate, ratio

KINDS = ("mix", "strong")
CLIENTS = (1, 32)
TEAS = 4001
ROUNDS, RUN_S = 5, 2


def compare(title, what, made, least, findings, is_quick):
    """Add to the Findings how the first of two stores does beside the second.

    what   the thing in which they differ, in words
    made   {how it is there: a `with` that gives the Running}, the two
    least  {kind: the part of the second one's rate that the first must reach}
    """
    tool, teas = wrk.find_or_install(), wrk.Teas(TEAS)
    rounds, run_s = (1, 1) if is_quick else (ROUNDS, RUN_S)
    with ExitStack() as stack:
        runs = {}
        for how, cluster in made.items():
            on = stack.enter_context(cluster)
            on.store(teas)
            door = Door(how, on.port, on)
            one_run(tool, door, "mix", max(CLIENTS), 1, teas)  # to warm up
            for kind in KINDS:
                for clients in CLIENTS:
                    runs[how, kind, clients] = partial(one_run, tool, door, kind, clients, run_s, teas)
        runs = dict(sorted(runs.items(), key=lambda item: item[0][1:]))  # the two that are compared, next to each other
        runs = turns.take(f"the store, {what}", rounds, runs, findings)
    add_table(title, what, *made, runs, findings)
    findings.claims += claims(what, *made, runs, least)


def add_table(title, what, first, second, runs, findings):
    rows = []
    for kind in KINDS:
        for clients in CLIENTS:
            both = [runs[how, kind, clients] for how in (first, second)]
            row = [NAMES[kind], clients]
            for figure in (rate, p50, p99):
                row += [*(middle(each, figure) for each in both), ratio(*both, figure)]
            costs = [median_cost(each) for each in both]
            row += [*(cost["q"] for cost in costs), *(sum(cost.values()) for cost in costs)]
            rows.append([*row, *(marked(errors_of(each)) for each in both)])
    columns = ["\n", "\nclients"]
    columns += [f"{figure}\n{how}" for figure in ("/s", "p50 ms", "p99 ms") for how in (first, second, "ratio")]
    columns += [f"{of}\n{how}" for of in ("q CPU us", "all CPU us", "errors") for how in (first, second)]
    title = f"{title} {first} and {second}, medians of the rounds; ratios within a round:"
    findings.add_table(title, columns, rows, f"the store, {what}")


def claims(what, first, second, runs, least):
    """What was promised of the first one, and what these Runs show."""
    made = []
    for kind in KINDS:
        for clients in CLIENTS:
            found = ratio(runs[first, kind, clients], runs[second, kind, clients], rate)
            asked = f"{NAMES[kind]}, {clients} client{'s' if clients > 1 else ''}, {what} {first}:"
            asked += f" at least {least[kind]} of the rate with it {second}"
            made.append(Claim(asked, f"{found:.2f} of it", found >= least[kind]))
    errors = errors_of([each for (how, *_), ours in runs.items() for each in ours if how == first])
    return [*made, Claim(f"every request is served with {what} {first}", f"not served: {counted(errors)}", not errors)]
