"""The main benchmark: it counts what came, divides the right things, and compares with a store that works.

Nothing here asserts how fast anything is.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from harness import MEMORY, Course, assert_reads, eventually, is_alive
from test_stories import COURSE_STORIES

from bench import clusters, floors, growth, processes, threads, throughput, wrk
from bench.report import exit_code
from bench.throughput import ALONE, BASELINE, CLIENTS, FEW, MANY, OURS, Run
from bench.wrk import KINDS, Load, Teas
from emporium import ports, redisbinary
from emporium.environment import ROOT, SetupFailed
from emporium.service import stop_these

SAID_BY_WRK = """Running 1s test @ http://127.0.0.1:2500
  1 threads and 8 connections
  300 requests in 1.50s, 60.00KB read
  Non-2xx or 3xx responses: 30

{"requests": 300, "duration_us": 1500000, "p50_us": 8100, "p99_us": 29500, "max_us": 31000, "connect": 0, "read": 2, \
"write": 1, "status": 30, "timeout": 4}
"""


@pytest.fixture(scope="module", autouse=True)
def in_memory():
    """No figure counts here, and a disk that others keep busy makes requests fail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "new_folder", new_folder)
        yield


@contextmanager
def new_folder():
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def baseline():
    with clusters.baseline(redisbinary.find_or_install()) as running:
        yield running


@pytest.fixture(scope="module")
def ours():
    with clusters.ours(redisbinary.find_or_install()) as running:
        yield running


# ---- what wrk and redis-benchmark say


def test_what_wrk_says_is_read():
    load = wrk.parse(SAID_BY_WRK)

    assert (load.p50_ms, load.p99_ms, load.duration_s) == (8.1, 29.5, 1.5)
    assert load.errors == {"4xx or 5xx": 30, "timeout": 4, "failed connection": 3}


def test_an_error_is_not_counted_as_served():
    assert wrk.parse(SAID_BY_WRK).rate_per_s == (300 - 30) / 1.5


def test_without_errors_there_is_none_to_show():
    quiet = SAID_BY_WRK
    for what in ('"read": 2', '"write": 1', '"status": 30', '"timeout": 4'):
        quiet = quiet.replace(what, what.partition(":")[0] + ": 0")

    assert wrk.parse(quiet).errors == {}


def test_what_redis_benchmark_says_is_read():
    said = (
        '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms",'
        '"max_latency_ms"\n"GET","51419.34","0.412","0.080","0.399","0.615","0.743","1.207"\n'
    )

    assert floors.parse(said) == (51419.34, 0.399, 0.743)


@pytest.mark.parametrize("find", [wrk.find_or_install, wrk.find_or_install_redis_benchmark])
def test_a_program_that_cannot_be_had_is_named_with_what_mends_it(find, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    monkeypatch.setattr(wrk, "apt_install", lambda _package: "not root")

    with pytest.raises(SetupFailed, match=r"needs (wrk|redis-benchmark): apt install .*not root"):
        find()


# ---- figures and claims


def load(rate_per_s=100, p99_ms=10.0, errors=None):
    return Load(rate_per_s, 1.0, p99_ms / 2, p99_ms, errors or {})


def all_runs(ours, baseline, rounds=3):
    """Runs of all cells, as these two Loads in each round."""
    return {
        (name, kind, clients): [Run(each, {"lb": 0.01, "db0": 0.02})] * rounds
        for name, each in ((OURS, ours), (BASELINE, baseline))
        for kind in KINDS
        for clients in CLIENTS
    }


def judged(**changed):
    """What is claimed of 20 times the baseline's rate and a tenth of its p99, but for what is `changed`."""
    ours = load(**{"rate_per_s": 2000, "p99_ms": 1.0, **changed})
    return throughput.claims_of(all_runs(ours, load()))


def test_a_ratio_is_the_median_of_those_within_the_rounds():
    """A round in which the machine was busy with other things slows both, and must not count as ours."""
    ours = [Run(load(each), {}) for each in (800, 80, 900)]
    baseline = [Run(load(each), {}) for each in (100, 10, 300)]

    assert throughput.ratio(ours, baseline, throughput.rate) == 8


def test_what_was_reached_is_ok():
    claims = judged()

    assert [claim for claim in claims if not claim.is_reached] == []
    assert exit_code(claims) == 0


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"rate_per_s": 1150}, ["half and half, 32 clients: at least 12 times"]),
        ({"rate_per_s": 599}, ["strong reads, 32 clients: at least 6 times", "half and half, 32 clients"]),
        ({"p99_ms": 3.4}, [f"{throughput.NAMES[kind]}, 32 clients: p99" for kind in KINDS]),
        ({"rate_per_s": 2001, "errors": {"4xx or 5xx": 1}}, ["every request to ours is served"]),
        ({"errors": {"timeout": 1}}, ["every request to ours is served"]),
    ],
)
def test_what_was_not_reached_is_said(changed, missed):
    claims = judged(**changed)

    found = [claim.asked for claim in claims if not claim.is_reached]
    assert len(found) == len(missed)
    assert all(asked.startswith(start) for asked, start in zip(found, missed, strict=True))
    assert exit_code(claims) == 1


@pytest.mark.parametrize(("slowest_per_s", "is_reached"), [(2100, True), (2200, False)])
def test_one_operation_that_gathering_slows_is_enough(slowest_per_s, is_reached):
    runs = all_runs(load(2000), load())
    runs |= {(ALONE, kind, FEW): [Run(load(2000), {})] * 3 for kind in KINDS}
    runs[ALONE, "weak", FEW] = [Run(load(slowest_per_s), {})] * 3

    [claim] = [each for each in throughput.claims_of(runs) if "without gathering" in each.asked]

    assert claim.is_reached is is_reached


def test_a_run_with_errors_is_marked():
    runs = all_runs(load(errors={"timeout": 2}), load())

    *_, of_ours, of_baseline = throughput.row_of(runs, "strong", MANY)

    assert (of_ours, of_baseline) == ("! 6 x timeout", "none")


def test_cpu_is_told_by_process_and_operation():
    runs = [Run(load(rate_per_s=100), {"lb": cpu_s, "db0": 0.03}) for cpu_s in (0.01, 0.5, 0.02)]

    assert throughput.median_cost(runs) == {"lb": pytest.approx(200), "db0": pytest.approx(300)}


# ---- the baseline is the course's store


def test_the_lines_of_the_course_work_with_the_baseline(baseline):
    url = f"http://localhost:{baseline.port}/rating/curled"

    assert requests.get(url, timeout=5).json() == {"rating": 0.0, "choices": [], "clocks": []}
    assert put(url, 1, {"c0": 1}) == {"rating": 1}
    assert requests.get(url, timeout=5).json() == {"rating": 1, "choices": [1], "clocks": [{"c0": 1}]}
    assert put(url, 4, {"c1": 1}) == {"rating": 2.5}
    assert_reads(requests.get(url, timeout=5).json(), [1, 4], [{"c0": 1}, {"c1": 1}])
    assert put(url, 3, {"c0": 1, "c1": 2}) == {"rating": 3}
    assert put(url, 5, {"c0": 1}) == {"rating": 3}  # older than what stands


def test_the_queue_of_the_baseline_is_the_courses(baseline):
    url = f"{baseline.cluster.queue.url}/q/spare"
    record = {"primary": "db0", "key": "white-tea", "rating": 1, "choices": [2, 3], "clocks": [{"c0": 1}, {"c1": 3}]}

    assert requests.put(url, json=record, timeout=5).json() == {"channel": "spare", "length": 1}
    assert requests.get(url, timeout=5).json() == record
    assert requests.get(url, timeout=5).json() == {}


class BaselineStage:
    """What a Course needs of its stage, with the baseline on it."""

    def __init__(self, running):
        self.cluster, self.layout, self.ndb = running.cluster, running.cluster.layout, running.cluster.ndb

    def redis(self, index):
        return clusters.redis_of(self.cluster.redis[index])


@pytest.fixture
def course(baseline):
    """A story's store: nothing in it, and shards that remember nothing, for they keep their digest in memory."""
    stop_these(baseline.cluster.shards)
    for service in baseline.cluster.redis:
        with clusters.redis_of(service) as client:
            client.flushall()
    requests.delete(f"{baseline.cluster.queue.url}/clear", timeout=5)
    baseline.cluster.start_these(baseline.cluster.shards)
    made = Course(BaselineStage(baseline), clusters.DIGEST_LENGTH)
    made.volume = 100  # a plain server opens a connection for each call
    return made


@pytest.mark.parametrize(
    "story", [each for each in COURSE_STORIES if not hasattr(each, "settings")], ids=lambda story: story.__name__
)
def test_the_story_holds_with_the_baseline(story, course):
    wants_chance = "chance" in story.__code__.co_varnames[: story.__code__.co_argcount]

    story(course, random.Random(story.__name__)) if wants_chance else story(course)


def put(url, rating, clock):
    answer = requests.put(url, json={"rating": rating, "clock": clock}, timeout=5)
    assert answer.status_code == 200, answer.text
    return answer.json()


# ---- what wrk sends


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ours", "baseline"])
def test_all_that_wrk_asks_for_is_served(request, tool, name, kind):
    running, teas = request.getfixturevalue(name), Teas(41, "asked")
    running.store(teas)

    found = wrk.run(tool, running.port, kind, 8, 1, teas)

    assert found.errors == {}
    assert found.requests > 0
    assert 0 < found.p50_ms <= found.p99_ms


@pytest.mark.parametrize("siblings", [1, 5])
@pytest.mark.parametrize("name", ["ours", "baseline"])
def test_writes_are_stored_and_leave_as_many_siblings(request, tool, name, siblings):
    running, teas = request.getfixturevalue(name), Teas(11, f"of-{siblings}")
    running.store(teas, siblings)

    wrk.run(tool, running.port, "write", 2, 1, teas)

    for tea in teas.names():
        answer = requests.get(f"http://localhost:{running.port}/rating/{tea}", timeout=5).json()
        assert len(answer["clocks"]) == siblings
        assert max(clock.get("bench", 0) for clock in answer["clocks"]) > 1, "the last write stands"


def test_what_is_not_served_is_counted(tool, ours):
    found = wrk.run(tool, ours.cluster.queue.port, "strong", 1, 1, Teas(1))  # the queue has no teas: 404

    assert found.errors == {"4xx or 5xx": found.requests}
    assert found.rate_per_s == 0


# ---- processes


def test_cpu_and_memory_are_told_of_each_service(tool, ours):
    cost = processes.Cost(ours.services)

    wrk.run(tool, ours.port, "strong", 8, 1, Teas(41, "asked"))

    names = {service.name for service in ours.services}
    assert cost.cpu_s().keys() == processes.memory_mb(ours.services).keys() == names
    assert cost.cpu_s()["lb"] > 0
    assert all(each > 0 for each in processes.memory_mb(ours.services).values())


def test_what_our_own_children_do_is_not_the_doing_of_others():
    before_s = processes.own_cpu_s()

    subprocess.run([sys.executable, "-c", "for _ in range(3_000_000): pass"], check=True)

    assert processes.own_cpu_s() - before_s >= 0.05


def test_another_load_balancer_leads_to_the_same_shards(ours):
    with clusters.another_load_balancer(ours, {"threads": 16}) as another:
        put(f"{another.url}/rating/shared", 2, {"c0": 1})

        answer = requests.get(f"http://localhost:{ours.port}/rating/shared", timeout=5).json()

    assert answer["choices"] == [2]
    assert not another.is_running


# ---- the command


COMMAND = [sys.executable, str(ROOT / "tea"), "bench"]
# A process that finds its own ports might find one of the other lane's, whose server has just been killed there.
ON_PORTS_OF_OURS = "import sys; from emporium import command, ports; ports.FREE_BASES = "


def test_floors_run_from_end_to_end(tool, redis_benchmark, bench):
    found = bench("--only", "floors")

    assert found["claims"] == []
    assert all(row["/s"] > 0 for row in found["floors"])
    assert {row["clients"] for row in found["floors"]} == set(floors.CLIENTS)


@pytest.mark.full
def test_each_number_of_threads_is_measured_on_a_cluster_of_its_own(tool, bench):
    found = bench("--only", "threads")

    assert found["claims"] == []
    rows = found["threads"]
    assert [row["threads of each service"] for row in rows] == list(threads.NUMBERS[:2])
    assert all(row["half and half /s"] > 0 for row in rows)


def test_without_wrk_it_says_so_and_fails(tmp_path):
    """With a PATH that has all but wrk, and a user for whom apt installs nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("redis-server", "redis-cli", "redis-benchmark", "setpriv"):
        (programs / name).symlink_to(shutil.which(name) or "/nowhere")

    done = subprocess.run(
        [*COMMAND, "--only", "throughput", "--quick"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": str(programs)},
    )

    assert done.returncode == 1
    assert "needs wrk: apt install wrk (no" in done.stderr


def test_interrupted_it_leaves_no_process(tool, tmp_path):
    with open(tmp_path / "said", "w") as said:
        command = [sys.executable, "-c", f"{ON_PORTS_OF_OURS}{ports.FREE_BASES}; sys.exit(command.main())", "bench"]
        command += ["--only", "throughput", "--quick"]
        running = subprocess.Popen(command, stdout=said, stderr=said, cwd=ROOT)
    try:
        eventually(lambda: "warming up" in (tmp_path / "said").read_text(), "it is loading", within_s=60)
        services = psutil.Process(running.pid).children(recursive=True)
        assert len(services) >= 20

        running.send_signal(signal.SIGTERM)

        assert running.wait(30) == 130
        eventually(lambda: not any(is_alive(service.pid) for service in services), "all have ended")
    finally:
        running.kill()
        running.wait()


def test_the_queue_by_itself_keeps_as_many_waiting():
    """Each GET and take is followed by a put, so that the channel is as long for the last call as for the first."""
    with growth.queue_by_itself() as queue:
        queue.fill(growth.WAITING[0])

        for _ in range(3):
            queue.timed_get(growth.WAITING[0])
            queue.timed_take(growth.WAITING[0])

        queue.timed("GET", "/status")
        assert queue.answer["channels"] == {"GET-10": 10, "take-10": 20}  # the ten taken last, and ten behind them
