"""The benchmarks judge honestly: the load comes by the clock, waiting is counted, and what fails is called so.

Nothing here asserts how fast anything is.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from harness import eventually, is_alive

from bench import load, overload, stalling
from bench.load import NO_ANSWER, Asked, Connections, Measured, Target, closed_loop, get_request, open_loop, percentile
from bench.report import Claim, Findings, exit_code
from emporium.environment import ROOT

READ = get_request("/rating/persimmon")


class Server:
    """A tiny HTTP server. `answer(number)` is a coroutine: the status for request `number`, None to hang up."""

    def __init__(self, answer):
        self._answer = answer
        self.asked = 0
        self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return Target(*self._server.sockets[0].getsockname())

    async def __aexit__(self, *failure):
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                status = await self._answer(self.asked)
                if status is None:
                    break
                writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: 2\r\n\r\n{}" % status)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def test_the_open_loop_sends_by_the_clock_though_nothing_is_answered():
    """A server that answers only when all requests are there: a client that waits for answers would wait for ever."""
    all_are_there = asyncio.Event()

    async def answer(number):
        if number == 20:
            all_are_there.set()
        await all_are_there.wait()
        return 200

    async def story():
        async with Server(answer) as target:
            return await open_loop(target, lambda: READ, rate_per_s=100, duration_s=0.2)

    measured = asyncio.run(story())

    assert [measured.count(200), len(measured.asked), len(measured.lags_s)] == [20, 20, 20]
    # They were due 10 ms apart and answered together, so the first one waited for all of that time.
    first = min(measured.asked, key=lambda each: each.due_s)
    assert first.due_s == 0
    assert first.latency_s >= 19 * 0.01


def test_a_generator_that_is_late_counts_it_as_waiting():
    async def answer(_number):
        return 200

    def slow_request():
        time.sleep(0.02)  # the generator's own trouble: with 500 arrivals a second it falls behind more and more
        return READ

    async def story():
        async with Server(answer) as target:
            return await open_loop(target, slow_request, rate_per_s=500, duration_s=0.02)

    measured = asyncio.run(story())

    assert max(measured.lags_s) >= 9 * 0.02 - 0.02
    assert max(measured.latencies_s()) >= max(measured.lags_s)


def test_answers_are_counted_by_status():
    async def answer(number):
        return 503 if number % 4 == 0 else 504 if number == 1 else 200

    async def story():
        async with Server(answer) as target:
            return await open_loop(target, lambda: READ, rate_per_s=200, duration_s=0.1)

    measured = asyncio.run(story())

    assert [measured.count(200), measured.count(503)] == [14, 5]
    assert measured.others(200, 503) == {"504": 1}
    assert len(measured.latencies_s(503)) == 5


def test_a_closed_loop_has_one_request_a_client_on_its_way_and_keeps_its_connection(monkeypatch):
    looks = count()
    monkeypatch.setattr(load, "time", SimpleNamespace(monotonic=lambda: next(looks) / 1000))  # a look takes 1 ms
    on_their_way = []

    async def answer(_number):
        on_their_way.append(None)
        most.append(len(on_their_way))
        await asyncio.sleep(0.001)
        on_their_way.pop()
        return 200

    async def story():
        server = Server(answer)
        async with server as target:
            return server, await closed_loop(target, lambda: READ, clients=3, duration_s=0.1)

    most = []
    server, measured = asyncio.run(story())

    assert max(most) == server.connections == 3
    assert measured.count(200) == len(measured.asked) == server.asked > 3


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_request_that_is_never_answered_is_counted_and_says_why(monkeypatch, hangs_up):
    if not hangs_up:
        monkeypatch.setattr(load, "ANSWER_S", 0.1)

    async def answer(_number):
        return None if hangs_up else await asyncio.Event().wait()

    async def story():
        async with Server(answer) as target, Connections(target) as connections:
            return await connections.ask(READ)

    status, trouble = asyncio.run(story())

    assert status == NO_ANSWER
    assert ("ended without an answer" if hangs_up else "no answer in 0.1 s") in trouble


def test_what_is_answered_after_the_end_is_no_part_of_the_rate():
    measured = Measured(2, [Asked(200, 0.5, 0.6), Asked(200, 1.5, 1.9), Asked(200, 1.9, 2.3), Asked(503, 1, 1)])

    assert measured.between(0, 2).rate_per_s(200) == 1
    assert measured.between(1, 2).rate_per_s(200) == 1
    assert measured.share(200) == 0.75


def test_percentiles_are_values_that_were_measured():
    assert [percentile(range(1, 101), share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    assert percentile([7], 0.5) == 7
    assert str(percentile([], 0.99)) == "nan"


def test_those_that_stall_are_counted_while_the_server_holds_them():
    async def never(_number):
        await asyncio.Event().wait()

    async def story(stall, status):
        async def answer(number):
            return status if number not in (2, 3, 4) else await never(number)

        # A machine that has other things to do when the last one is to come.
        asyncio.get_running_loop().call_later(0.6, time.sleep, 0.6)
        async with Server(answer) as target, stall(target, 4) as stalling:
            return stalling.held()

    def bodies(target, number):
        return stalling.stalled_bodies(target, number, "/rating/persimmon")

    assert asyncio.run(story(stalling.silent, 200)) == 4
    assert asyncio.run(story(stalling.dribbling, 200)) == 4
    assert asyncio.run(story(bodies, 503)) == 3  # the fourth is refused, and refused again


# ---- what is said of it


def step(accepted, refused=0, latency_s=0.01, others=(), after_mb=(40.0, 40.0)):
    """A Step of two rounds, of one second each, in which so many were accepted and refused."""
    asked = [Asked(200, 0, latency_s)] * accepted + [Asked(503, 0, 0.001)] * refused
    asked += [Asked(status, 0, latency_s) for status in others]
    return overload.Step("100", [Measured(1.0, asked)] * 2, [{"lb": 40.0, "db0": mb} for mb in after_mb], [0.0, 0.0])


GOOD = {"before": step(20), "steps": [step(90), step(100, 900)], "after": step(20)}


def judged(**changed):
    return overload.claims_of("here", ["lb", "db0"], **{**GOOD, **changed})


def test_what_was_promised_and_found_is_ok():
    claims = judged()

    assert exit_code(claims) == 0
    assert all(str(claim).startswith("ok ") for claim in claims)


@pytest.mark.parametrize(
    ("which", "changed"),
    [
        ("80% of the peak", {"steps": [step(100), step(79, 900)]}),
        ("80% of the peak", {"steps": [step(0, 100), step(0, 900)]}),
        ("within 1 s", {"steps": [step(90), step(100, 900, others=[504], latency_s=1.001)]}),
        ("within 1 s", {"steps": [step(90), step(100, others=[NO_ANSWER], latency_s=5)]}),
        ("db0's memory", {"steps": [step(100), step(100, 900, after_mb=(60.0, 66.1))]}),
        ("as before", {"after": step(19, 1)}),
        ("as before", {"after": step(20, latency_s=0.021)}),
        ("as before", {"after": step(0)}),
    ],
)
def test_what_was_promised_and_not_found_is_not_reached(which, changed):
    claims = judged(**changed)

    [missed] = [claim for claim in claims if not claim.is_reached and which in claim.asked]
    assert str(missed).startswith("NOT REACHED")
    assert exit_code(claims) == 1


def test_one_claim_that_is_not_reached_is_enough_to_fail():
    assert exit_code([Claim("a", "b", True), Claim("c", "d", False)]) == 1
    assert exit_code([]) == 0


def test_a_table_has_a_line_for_each_row_under_its_heads(capsys):
    findings = Findings()

    findings.add_table("Teas:", ["tea\n", "rating\nmean"], [["oolong", 2.5], ["persimmon", float("nan")]], "teas")

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [[], ["Teas:"], ["tea", "rating"], ["mean"], ["oolong", "2.50"], ["persimmon", "-"]]
    assert findings.figures["teas"][1] == {"tea": "persimmon", "rating mean": None}


# ---- the command


def bench(*words):
    return [sys.executable, str(ROOT / "tea"), "bench", *words]


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(tmp_path):
    words = bench("--overload", "--json", str(tmp_path / "nowhere" / "file"))

    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "--json: " in done.stderr


@pytest.mark.full
def test_overload_runs_from_end_to_end(tmp_path):
    """Its figures are worth nothing, since --quick leaves no time for them; so nothing is asserted of them."""
    told = tmp_path / "told.json"

    done = subprocess.run(
        bench("--overload", "--quick", "--json", str(told)), capture_output=True, text=True, timeout=90, check=False
    )

    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr, done.stderr
    found = json.loads(told.read_text())
    assert done.stdout.startswith(f"cores {found['machine']['cores']}, cpu ")
    for where in ("through the load balancer", "straight at the shard"):
        rows = [row["arrivals /s"] for row in found[f"overload {where}"]]
        assert rows == ["before: 40", "100", "200", "500", "1000", "after: 40"]
    assert all(claim["asked"] in done.stdout for claim in found["claims"])
    assert (done.returncode == 1) == ("NOT REACHED" in done.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_process_and_no_file(number, tmp_path):
    with open(tmp_path / "said", "w") as said:
        running = subprocess.Popen(bench("--overload", "--quick"), stdout=said, stderr=said)
    try:
        eventually(lambda: "100 arrivals" in (tmp_path / "said").read_text(), "it is loading", within_s=30)
        services = psutil.Process(running.pid).children(recursive=True)
        assert len(services) == 10
        [folder] = {Path(service.cwd()).parent for service in services if service.name() == "redis-server"}
        assert folder.parent == ROOT / "var" / "bench"

        running.send_signal(number)

        assert running.wait(30) == 130
        assert not any(is_alive(service.pid) for service in services)
        assert not folder.exists()
    finally:
        running.kill()
        running.wait()
