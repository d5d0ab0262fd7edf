"""./tea watch, trace and logs: looking at a running cluster from a terminal; the options, and who does it.

Imports nothing at its top that must be installed, as command.py.
"""

import argparse
import re
import time
import unicodedata
from datetime import datetime

from emporium.command import WRONG, Refused

AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_to(command, tea, number, add_port_base):
    """Add them to the commands of ./tea. `command` makes one; the others read arguments, as command.py has them."""
    made = command("watch", run_watch, "watch the ring, a table that is drawn over itself; q ends it", "./tea watch")
    made.add_argument("--every", type=_seconds, metavar="S", help="look again after so many seconds (1)")
    made.add_argument("--count", type=number(1), metavar="N", help="end after so many looks")
    add_port_base(made)

    made = command(
        "trace",
        run_trace,
        "follow the writes of a tea through the store: what is kept, then what comes; Ctrl-C ends it",
        "./tea trace oolong",
    )
    made.add_argument("tea", type=tea, nargs="?", metavar="TEA", help="not with --open")
    made.add_argument("--request", metavar="ID", help="this request alone, by its X-Request-ID")
    made.add_argument("--last", action="store_true", help="the newest write that is kept, and no more")
    made.add_argument("--for", dest="seconds", type=_seconds, metavar="S", help="end after so many seconds")
    where = made.add_mutually_exclusive_group()
    where.add_argument("--save", metavar="FILE", help="write what was shown to a file, which the view opens, too")
    where.add_argument("--open", metavar="FILE", help="show such a file; no cluster is needed")
    add_port_base(made)

    made = command(
        "logs", run_logs, "show what the services have logged, merged by time", "./tea logs --columns --key oolong"
    )
    made.add_argument("--columns", action="store_true", help="a column for each process")
    made.add_argument("--key", type=tea, metavar="TEA", help="what concerns this tea, and its trace events")
    made.add_argument("--request", metavar="ID", help="what concerns this request, by its X-Request-ID")
    made.add_argument("--service", type=_names, metavar="NAME[,...]", help="these alone, such as db0,q")
    made.add_argument("--since", type=_when, metavar="WHEN", help="from then on: 5m (ago), 12:01, 2026-11-21T12:01:03")
    made.add_argument(
        "--lines", type=number(0), metavar="N", help="the newest N; 0 for all (200, or all with --key or --since)"
    )
    made.add_argument("--follow", action="store_true", help="then wait for what comes; Ctrl-C ends it")
    made.add_argument(
        "--data", metavar="DIR", help="logs of a cluster that kept everything there (that of the running)"
    )
    add_port_base(made)


def run_watch(asked):
    from emporium import watch

    return watch.watch(asked.port_base, asked.every, asked.count)


def run_trace(asked):
    from emporium import tracecommand

    is_named = asked.tea is not None or asked.request is not None
    if is_named == (asked.open is not None):
        raise Refused(WRONG, "name a tea or a --request, or a recorded run with --open FILE")
    try:
        if asked.open:
            return tracecommand.open_recorded(asked.open)
        asked.tea = asked.tea and unicodedata.normalize("NFC", asked.tea)
        return tracecommand.trace(asked)
    except (tracecommand.Unreadable, tracecommand.Unwritable) as error:
        raise Refused(WRONG, str(error)) from error


def run_logs(asked):
    from emporium import logscommand

    if asked.key is not None:
        asked.key = unicodedata.normalize("NFC", asked.key)
    if asked.lines is None and not (asked.key or asked.request or asked.since):
        asked.lines = logscommand.MOST_LINES
    asked.lines = asked.lines or None
    try:
        return logscommand.logs(asked)
    except logscommand.Unknown as error:
        raise Refused(WRONG, str(error)) from error


def _names(text):
    return text.split(",")


def _when(text):
    """A time as seconds since the epoch: so long ago, a time of today, or a date with or without a time."""
    if found := AGO.fullmatch(text):
        return time.time() - float(found[1]) * UNITS[found[2]]
    try:
        clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") > 1 else "%H:%M").time()
    except ValueError:
        return datetime.fromisoformat(text).timestamp()
    return datetime.combine(datetime.now(), clock).timestamp()


_when.__name__ = "time"  # what argparse says when it raises


def _seconds(text):
    seconds = float(text)
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("must be 0.1 to 86400")
    return seconds


_seconds.__name__ = "number of seconds"  # what argparse says when it raises
