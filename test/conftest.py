"""Fixtures, and the options of the course's harness. `python test/run.py` is pytest with these."""

import json
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("harness")

import lanes
import prepared
from harness import CALL_S, MEMORY, Stage, course_ports_trouble, new_run_folder
from options import OPTIONS
from sharing import or_skip

from bench import wrk
from emporium import cluster, command, ports, redisconnection, store
from emporium.ports import Ports
from queueservice import Queue

STORIES = "test_stories.py"
LAST_WORDS = pytest.StashKey()  # lines to show when all is over


def pytest_addoption(parser):
    group = parser.getgroup("stories", "stories of the course")
    for flag, kind in OPTIONS.items():
        group.addoption(flag, **kind)
    parser.addoption("--full", action="store_true", help="in full size what is otherwise tried in part: the commit log")
    group.addoption("--course-ports", action="store_true", help="2500, 3000.., 5555.., 6000 instead of free ones")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: of a benchmark itself, and only with --full, since it takes long")
    # A shell ignores Ctrl-C for what it starts with &, and our children inherit that: some tests send it to them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--ndb") < 2:
        raise pytest.UsageError(
            "--ndb must be at least 2: stories of gossip need a neighbour (simpleOneDB has its own)"
        )
    if config.getoption("--course-ports") and (trouble := course_ports_trouble(config.getoption("--ndb"))):
        pytest.exit(trouble, returncode=1)
    if config.getoption("--key") is None:
        config.option.key = str(random.randrange(10**6))
    patient = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}  # on a machine that stalls
    hypothesis.settings.register_profile("laws", print_blob=True, **patient)
    hypothesis.settings.load_profile("laws")
    hypothesis.settings.register_profile("forms", max_examples=1000 if config.getoption("--full") else 200)
    config.pluginmanager.register(Results(config))
    config.stash[LAST_WORDS] = []
    if hasattr(config, "workerinput"):  # in a lane
        ports.FREE_BASES = lanes.bases_of(config.workerinput["workerid"])


def pytest_report_header(config):
    return f"seed of the stories: --key {config.getoption('--key')}"


def pytest_terminal_summary(terminalreporter, config):
    for words in config.stash[LAST_WORDS]:
        terminalreporter.write_line(words)


def pytest_xdist_make_scheduler(config, log):
    return lanes.Lanes(config, log)


def pytest_testnodedown(node):
    """A lane has ended: what it has to say is said by us."""
    node.config.stash[LAST_WORDS] += getattr(node, "workeroutput", {}).get("last words", [])


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # of a lane
        session.config.workeroutput["last words"] = session.config.stash[LAST_WORDS]


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        of_full = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=of_full)
        items[:] = [item for item in items if item not in of_full]
    if hasattr(config, "workerinput"):  # in a lane
        items.sort(key=lanes.turn_of)
    asked = config.getoption("--test")
    if not asked:
        return
    stories = [item for item in items if item.path.name == STORIES]
    known = {name for item in stories for name in names_of(item.name)}
    unknown = [name for name in asked if name not in known]
    if unknown:
        listed = "\n  ".join(dict.fromkeys(story_name(item.name) for item in stories))
        raise pytest.UsageError(f"no story is called {', '.join(unknown)}; these are known:\n  {listed}")
    wanted = [item for item in stories if set(names_of(item.name)) & set(asked)]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted


def story_name(test):
    """The course's name of a story: test_simple is 'simple', testGetGossip keeps its own."""
    return test.removeprefix("test_")


def names_of(test):
    """What `--test` may call it: with and without the parameter in brackets."""
    return [story_name(test), story_name(test).partition("[")[0]]


class Results:
    """One JSON object a story when it ends, as the course's harness writes them."""

    def __init__(self, config):
        self._seed = config.getoption("--key")
        self._file = config.getoption("--results")
        self._ended = None
        if self._file and self._file != "-":
            try:
                open(self._file, "w").close()  # a file of an earlier run is no result of this one
            except OSError as error:
                raise pytest.UsageError(f"--results: {error}") from error

    def pytest_runtest_logreport(self, report):
        is_story = f"{STORIES}::" in report.nodeid
        if not is_story or (report.when != "call" and report.outcome == "passed"):
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        self._ended = {
            "name": story_name(report.nodeid.partition("::")[2]),
            "outcome": report.outcome,
            "seconds": round(report.duration, 3),
            "seed": self._seed,
            "message": crash.message.splitlines()[0] if crash else "",
        }

    @pytest.hookimpl(trylast=True)  # when pytest has said its own word
    def pytest_runtest_logfinish(self):
        ended, self._ended = self._ended, None
        if not (self._file and ended):
            return
        if self._file == "-":
            print(f"\n{json.dumps(ended)}", end="", file=sys.__stdout__, flush=True)
            return
        with open(self._file, "a") as file:
            file.write(json.dumps(ended) + "\n")


@pytest.fixture(scope="session", autouse=True)
def prepared_servers():
    """Servers start as copies of one process, unless their test is about servers that are started by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "Service", prepared.Service)
        yield
    prepared.Copy.end()


@pytest.fixture(scope="session")
def run_folder(request):
    """Where this run keeps its logs and Redis files; its path is shown when something failed."""
    folder = new_run_folder()
    yield folder
    if request.session.testsfailed:
        request.config.stash[LAST_WORDS].append(f"logs of this run: {os.path.relpath(folder)}")


@pytest.fixture(scope="session")
def stage(request, run_folder):
    """The Redis servers and the queue of this run."""
    option = request.config.getoption
    as_in_course, leave_redis = option("--course-ports"), option("--leavedb")
    with Stage(
        run_folder,
        option("--ndb"),
        Ports() if as_in_course else None,
        leave_redis=leave_redis,
        patience_s=option("--wait"),
        always_restart=as_in_course,
    ) as made:
        yield made
        if leave_redis:
            request.config.stash[LAST_WORDS].append(made.how_to_look_inside())


@pytest.fixture
def course(request, stage):
    """A story's store: nothing in it, its servers fresh."""
    return stage.begin(**getattr(request.function, "settings", {}))


@pytest.fixture
def chance(request):
    """Random numbers that --key repeats."""
    return random.Random(f"{request.config.getoption('--key')} {request.node.name}")


@pytest.fixture
def quick_path():
    """A fresh folder, in memory where the system offers that: for tests of files that lose no power."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


# ---- the Redis servers and the queue of a ring of two, for the store and for single steps of a shard


@pytest.fixture(scope="module")
def ring(request, run_folder):
    """Two Redis servers and a queue; no shard yet."""
    folder = run_folder / request.module.__name__
    folder.mkdir()
    with Stage(folder, 2) as stage:
        yield stage


@pytest.fixture
def connections(monkeypatch):
    """Connections of Stores are closed with their test. They refer to themselves, so that they do not end with the
    Store: one that nobody closes is found open whenever the collector comes, and by somebody else's test.
    """
    made = []

    def connections_to(host, port):
        make = redisconnection.connections_to(host, port)

        def remembered():
            made.append(make())
            return made[-1]

        return remembered

    monkeypatch.setattr(store, "connections_to", connections_to)
    yield
    for connection in made:
        connection.disconnect()


@pytest.fixture
def ground(ring, connections):
    """The same, with nothing stored and nothing waiting."""
    for index in range(2):
        with ring.redis(index) as by_hand:
            by_hand.flushall()
    Queue(ring.layout.q, deadline_s=CALL_S).clear()
    return ring


@pytest.fixture
def redis_service(ground):
    """The process of the store's Redis."""
    return ground.cluster.redis[0]


@pytest.fixture
def by_hand(ground):
    """What someone with redis-cli sees and does."""
    with ground.redis(0) as client:
        yield client


# ---- the benchmarks


@pytest.fixture(scope="module")
def tool():
    """wrk, or the reason why what needs it is skipped."""
    return or_skip(wrk.find_or_install)


@pytest.fixture(scope="module")
def redis_benchmark():
    return or_skip(wrk.find_or_install_redis_benchmark)


@pytest.fixture
def bench(tmp_path, capsys):
    """Runs `./tea bench` with these words from end to end, and gives its figures; they are worth nothing.

    In this process, where servers start fast, and with --quick, so that there is no time for figures.
    """

    def run(*words):
        told = tmp_path / "told.json"
        code = command.main(["bench", *words, "--quick", "--json", str(told)])

        printed = capsys.readouterr().out
        found = json.loads(told.read_text())
        assert printed.startswith(f"cores {found['machine']['cores']}, cpu ")
        assert all(claim["asked"] in printed for claim in found["claims"])
        assert (code == 1) == ("NOT REACHED" in printed)
        assert code in (0, 1)
        return found

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
