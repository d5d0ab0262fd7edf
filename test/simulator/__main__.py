"""Replay one seed: python test/simulator SEED.

Says that it passes, or prints the shortest trace that still fails in the same way. Exits 1 then.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from emporium import progress  # noqa: E402 - found by the paths above
from simulator.plan import plan_of  # noqa: E402 - found by the paths above
from simulator.run import run_plan  # noqa: E402
from simulator.shrink import shrink  # noqa: E402

MOST_SHOWN = 600  # characters of a line


def main(words):
    if len(words) != 1 or not words[0].isdecimal():
        print("one seed is expected, a whole number", file=sys.stderr)
        return 2
    plan = plan_of(int(words[0]))
    with progress.shown(f"seed {plan.seed}"):
        outcome = run_plan(plan, with_trace=True)
    print(f"seed {plan.seed}, trace {outcome.hash}: {outcome.summary}")
    print(plan.settings)
    if outcome.failure is None:
        print("passes")
        return 0
    print(f"fails: {outcome.failure}\nlooking for a shorter trace ...", flush=True)
    with progress.shown("looking for a shorter trace"):
        shorter = shrink(plan, outcome.rule)
    for step in shorter.steps:
        print(f"  {step}")
    for line in run_plan(shorter, with_trace=True).trace:
        print(line if len(line) < MOST_SHOWN else f"{line[:MOST_SHOWN]} ...")
    print(f"{len(shorter.steps)} of {len(plan.steps)} steps are left")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
