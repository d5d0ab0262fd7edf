"""What `./tea bench` does: runs the benchmarks that are asked for, prints what they found, and judges it."""

import json
import signal
import sys
from pathlib import Path

from bench import commitlog, floors, growth, guarded, hostile, overload, queue, threads, throughput, view
from bench.report import Findings, exit_code, machine
from emporium import progress, redisbinary

MAIN = {"floors": floors.run, "throughput": throughput.run, "growth": growth.run}  # what runs when none is named
BENCHES = {
    **MAIN,
    "threads": threads.run,
    "overload": overload.run,
    "hostile": hostile.run,
    "log": commitlog.run,
    "queue": queue.run,
    "guarded": guarded.run,
    "view": view.run,
}
WRONG_USE = 2


def run(names, is_quick=False, json_file=None):
    """Run these of BENCHES, or those of MAIN. Returns the exit code: 0 all claims reached, 1 some not, 2 wrong use.

    Raises SetupFailed when a program that is needed cannot be had.
    """
    names = names or list(MAIN)
    if json_file:
        try:
            open(json_file, "w").close()  # now: to learn in the end that it cannot be written is too late
        except OSError as error:
            print(f"tea: --json: {error}", file=sys.stderr)
            return WRONG_USE
    # As Ctrl-C: the cluster is stopped and its files are removed before we end.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    programs = redisbinary.find_or_install()
    about = machine(programs)
    print(", ".join(f"{what} {which}" for what, which in about.items()), flush=True)
    findings = Findings()
    for i, name in enumerate(names):
        with progress.shown(f"bench {name}, {i + 1} of {len(names)}"):
            BENCHES[name](programs, findings, is_quick)
    findings.say("", *map(str, findings.claims), findings.caution())
    if json_file:
        claims = [claim._asdict() for claim in findings.claims]
        told = {"machine": about, **findings.figures, "claims": claims, "others' cores": findings.others_cores}
        Path(json_file).write_text(json.dumps(told, indent=1))
    return exit_code(findings.claims)
