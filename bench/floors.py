"""The floors: what the parts can do that ours stands on, each by itself, with nothing of the store in it.

redis-benchmark shows what Redis gives with a sync before each answer; one hop, what a request costs that a server
of ours accepts and answers with fixed bytes, bare or through Flask.
"""

import csv
import json
import subprocess
import sys
from statistics import median

from bench import processes, wrk
from bench.clusters import started
from bench.report import progress
from emporium.cluster import accepts_connections, redis_service
from emporium.environment import SetupFailed
from emporium.service import Service
from emporium.settings import LBSettings

CLIENTS = (1, 32)
THREADS = (1, LBSettings().threads)
ROUNDS, RUN_S = 3, 2
FIRST_REQUESTS = 500  # of redis-benchmark, to see how many fill RUN_S


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes under a minute; `is_quick` takes seconds, and its figures are worth nothing."""
    tool, redis_benchmark = wrk.find_or_install(), wrk.find_or_install_redis_benchmark()
    rounds, run_s, numbers = (1, 1, THREADS[-1:]) if is_quick else (ROUNDS, RUN_S, THREADS)
    others = processes.Others()
    redis_run_s = 0 if is_quick else run_s  # at least FIRST_REQUESTS are sent
    rows = [*redis_rows(redis_benchmark, programs, rounds, redis_run_s), *hop_rows(tool, numbers, rounds, run_s)]
    columns = ["\n", "\nclients", "\n/s", "\np50 ms", "\np99 ms"]
    findings.add_table("The floors, each by itself:", columns, rows, "floors")
    findings.others_cores.append(others.cores())


# ---- Redis


def redis_rows(program, programs, rounds, run_s):
    with started(lambda layout, folder, log_of: redis_service(0, layout, folder, log_of, programs, True)) as service:
        for command in ("GET", "SET"):
            for clients in CLIENTS:
                progress(f"floors: redis-benchmark {command}, {clients} clients")
                made = [_redis_benchmark(program, service.port, command, clients, run_s) for _ in range(rounds)]
                yield [f"Redis {command}, synced", clients, *map(median, zip(*made, strict=True))]


def _redis_benchmark(program, port, command, clients, run_s):
    """(requests a second, p50 ms, p99 ms)."""
    rate_per_s, *_ = _redis_requests(program, port, command, clients, FIRST_REQUESTS)
    return _redis_requests(program, port, command, clients, max(FIRST_REQUESTS, int(rate_per_s * run_s)))


def _redis_requests(program, port, command, clients, number):
    words = [program, "-p", str(port), "-t", command.lower(), "-c", str(clients), "-n", str(number), "--csv"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise SetupFailed(f"redis-benchmark failed: {(done.stdout + done.stderr).strip()}")
    return parse(done.stdout)


def parse(said):
    """(requests a second, p50 ms, p99 ms) of the one command that redis-benchmark --csv tells of."""
    [told] = csv.DictReader(said.strip().splitlines())
    return float(told["rps"]), float(told["p50_latency_ms"]), float(told["p99_latency_ms"])


# ---- one hop


def hop_rows(tool, numbers, rounds, run_s):
    for is_flask in (False, True):
        for threads in numbers:
            what = f"one hop, {'with Flask' if is_flask else 'bare WSGI'}, {threads} thread{'s' if threads > 1 else ''}"
            with started(lambda *where, made=(is_flask, threads): _hop(*where, *made)) as service:
                for clients in CLIENTS:
                    progress(f"floors: {what}, {clients} clients")
                    loads = [wrk.run(tool, service.port, "strong", clients, run_s, wrk.Teas(1)) for _ in range(rounds)]
                    rates, p50s, p99s = zip(
                        *((each.rate_per_s, each.p50_ms, each.p99_ms) for each in loads), strict=True
                    )
                    yield [what, clients, median(rates), median(p50s), median(p99s)]


def _hop(layout, _folder, log_of, is_flask, threads):
    settings = {"port": layout.lb, "threads": threads, "flask": is_flask}
    command = [sys.executable, "-m", "bench.hop", json.dumps(settings)]
    return Service("hop", command, layout.lb, f"http://127.0.0.1:{layout.lb}", accepts_connections, log_of("hop"))
