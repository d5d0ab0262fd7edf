"""./tea watch, trace and logs: looking at a running cluster from a terminal; the options, and who does it.

Imports nothing at its top that must be installed, as command.py.
"""

import argparse
import re
import time
from datetime import datetime, timedelta

from emporium.command import WRONG, Refused

AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_to(command, tea, number, add_port_base):
    """Add them to the commands of ./tea. `command` makes one; the others read arguments, as command.py has them."""
    made = command("watch", run_watch, "watch the ring, a table that is drawn over itself; q ends it", "./tea watch")
    made.add_argument("--every", type=_seconds, metavar="S", help="look again after so many seconds (1)")
    made.add_argument("--count", type=number(1), metavar="N", help="end after so many looks")
    add_port_base(made)


def run_watch(asked):
    from emporium import watch

    return watch.watch(asked.port_base, asked.every, asked.count)


def _seconds(text):
    seconds = float(text)
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("must be 0.1 to 86400")
    return seconds


_seconds.__name__ = "number of seconds"  # what argparse says when it raises
