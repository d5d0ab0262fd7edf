"""What a benchmark says: the machine, tables, and a line for each claim, whether it was reached or not."""

import os
import platform
import sys
from dataclasses import dataclass, field
from math import isnan
from typing import NamedTuple

QUIET_CORES = 0.2  # of other processes: as much as one measures beside our own


class Claim(NamedTuple):
    """One sentence that was promised, what was found, and whether that is enough."""

    asked: str
    found: str
    is_reached: bool

    def __str__(self):
        return f"{'ok         ' if self.is_reached else 'NOT REACHED'}  asked: {self.asked}; found: {self.found}"


@dataclass
class Findings:
    """What one benchmark found: tables, printed as soon as they are there, the claims, and figures for programs."""

    claims: list[Claim] = field(default_factory=list)
    figures: dict = field(default_factory=dict)
    others_cores: list[float] = field(default_factory=list)  # kept busy by other processes, part by part

    def say(self, *lines):
        print("\n".join(lines), flush=True)

    def add_table(self, title, columns, rows, name):
        """`columns`: their heads, each of two lines."""
        self.say(f"\n{title}", *table(columns, rows))
        names = [column.replace("\n", " ").strip() for column in columns]
        self.figures[name] = [dict(zip(names, map(_or_none, row), strict=True)) for row in rows]

    def caution(self):
        """A line on how far the figures can be trusted."""
        most = max(self.others_cores)
        doubt = "" if most < QUIET_CORES else "; what was not reached may be their doing: try again when it is quiet"
        return f"Meanwhile everything else on this machine kept {most:.2f} cores busy at most{doubt}."


def exit_code(claims):
    """0 when all were reached, else 1."""
    return 0 if all(claim.is_reached for claim in claims) else 1


def table(columns, rows):
    """The lines of a table, all set to the right. The head of a column may have two lines; all have as many."""
    heads = zip(*(column.split("\n") for column in columns), strict=True)
    cells = [*heads, *([shown(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def shown(value):
    """A number with as many digits as matter; '-' for none."""
    if not isinstance(value, float):
        return str(value)
    if isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def counted(counts):
    """{what: how many} in words."""
    return ", ".join(f"{number} x {what}" for what, number in counts.items()) or "none"


def machine(programs):
    """{what: which}, of this machine. "load before" is how many processes wanted to run in the last minute."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
        "redis": programs.version(),
        "load before": round(os.getloadavg()[0], 1),
    }


def progress(line):
    """Say what takes a while, on standard error: standard output is for results."""
    print(f"tea: bench: {line}", file=sys.stderr, flush=True)


def _or_none(value):
    # JSON knows no nan.
    return None if isinstance(value, float) and isnan(value) else value


def _cpu_model():
    with open("/proc/cpuinfo") as info:
        models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return models[0] if models else platform.machine()
