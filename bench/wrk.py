"""wrk, the load generator: found or installed, run with bench/teas.lua, and what it found.

Each of its clients has one connection, and sends its next request when its last one was answered.
"""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass

from bench.load import ANSWER_S
from bench.report import counted
from emporium.environment import ROOT, SetupFailed, apt_install

SCRIPT = ROOT / "bench" / "teas.lua"
KINDS = ("strong", "weak", "write", "mix")
US_PER_S, US_PER_MS = 1e6, 1e3


@dataclass(frozen=True)
class Teas:
    """The teas that a load goes round: `<prefix>-0` to `<prefix>-<number - 1>`."""

    number: int
    prefix: str = "bench"

    def names(self):
        return [f"{self.prefix}-{index}" for index in range(self.number)]


@dataclass(frozen=True)
class Load:
    """What wrk found in one run.

    requests     how many were answered, whatever the answer
    errors       {what: how many}: answers of 400 and above, none within 5 s, and connections that failed
    """

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    errors: dict

    @property
    def rate_per_s(self):
        """How many were served a second; an error is not."""
        return (self.requests - self.errors.get("4xx or 5xx", 0)) / self.duration_s

    def __str__(self):
        return f"{self.rate_per_s:.0f}/s, p99 {self.p99_ms:.1f} ms, errors: {counted(self.errors)}"


def find_or_install():
    """The path of wrk. Raises SetupFailed, with what to do, when it cannot be had."""
    return _found_or_from_apt("wrk", "wrk")


def find_or_install_redis_benchmark():
    """The path of redis-benchmark. Raises SetupFailed."""
    return _found_or_from_apt("redis-benchmark", "redis-tools")


def run(wrk, port, kind, clients, duration_s, teas):
    """The Load of so many clients on the server at this port, for whole seconds. Blocks so long."""
    first_count = time.time_ns() // 1000  # above all counts of earlier runs: no server takes a write a microsecond
    command = [wrk, "-t1", f"-c{clients}", f"-d{duration_s}s", f"--timeout={ANSWER_S:g}s", "-s", str(SCRIPT)]
    command += [f"http://127.0.0.1:{port}", kind, str(teas.number), teas.prefix, str(first_count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=duration_s + 30, check=False)
    if done.returncode != 0:
        raise SetupFailed(f"wrk failed: {(done.stdout + done.stderr).strip()}")
    return parse(done.stdout)


def parse(said):
    """The Load in what wrk said with bench/teas.lua: its last line is JSON."""
    told = json.loads(said.strip().splitlines()[-1])
    errors = {
        "4xx or 5xx": told["status"],
        "timeout": told["timeout"],
        "failed connection": told["connect"] + told["read"] + told["write"],
    }
    return Load(
        told["requests"],
        told["duration_us"] / US_PER_S,
        told["p50_us"] / US_PER_MS,
        told["p99_us"] / US_PER_MS,
        {what: number for what, number in errors.items() if number},
    )


def _found_or_from_apt(program, package):
    trouble = None
    if not shutil.which(program):
        trouble = apt_install(package)
    found = shutil.which(program)
    if not found:
        raise SetupFailed(f"the benchmark needs {program}: apt install {package} ({trouble})")
    return found
