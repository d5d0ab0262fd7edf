"""Systems that take turns, round by round, since what else runs on a small machine changes from second to second.

A figure is the median of its rounds, and a ratio the median of the ratios within the rounds.
"""

from statistics import median

from bench import processes
from bench.report import progress


def take(name, rounds, runs, findings):
    """{key: [what its run returned, one a round]}.

    runs  {key: () -> a figure}, in the order of the first round; each round has the opposite order of the one before
    """
    found = {key: [] for key in runs}
    order = list(runs.items())
    for number in range(rounds):
        progress(f"{name}, round {number + 1} of {rounds}")
        others = processes.Others()
        for key, run in order:
            found[key].append(run())
        findings.others_cores.append(others.cores())
        order.reverse()
    return found


def ratio(figures, others):
    """The median, over the rounds, of the one figure to the other."""
    return median(one / other for one, other in zip(figures, others, strict=True))
