"""A cluster as the course's harness runs it, and words to tell stories with.

Redis and the queue live through a whole run; before each story every Redis is flushed, the queue cleared, and
shards and load balancer are started anew with the story's settings.
"""

import json
import os
import shutil
import signal
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
import redis
import requests

from emporium import redisbinary
from emporium.cluster import START_S, Cluster, accepts_connections, python_service, shard_settings
from emporium.environment import ROOT
from emporium.ports import Ports, PortTaken
from emporium.service import stop_these

RUNS = ROOT / "var" / "runs"
KEPT_RUNS = 10
LEFT = RUNS / "leftdb.json"
CALL_S = 5
JSON = {"Accept": "application/json", "Content-type": "application/json"}
# Nobody pulls a plug here, and a Redis that is killed has given its file to the system, which keeps it. A disk that
# others keep busy can make a sync last longer than the 0.5 s that a shard waits, and no story is about that.
REDIS_OPTIONS = {"appendfsync": "no"}
# Where even that may not be, since a guarded shard asks for each sync: files that no plug is pulled under.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
UNRATED = {"rating": 0.0, "choices": [], "clocks": []}
TEAS = (ROOT / "test" / "entities.txt").read_text().split()


def new_run_folder():
    """A directory for the logs and Redis files of one run. Only the newest ten are kept."""
    RUNS.mkdir(parents=True, exist_ok=True)
    ended = (folder for folder in RUNS.glob("*-*") if not is_alive(int(folder.name.rpartition("-")[2])))
    old = sorted(ended)
    for folder in old[: -KEPT_RUNS + 1] if end_of_left() is None else []:
        shutil.rmtree(folder, ignore_errors=True)
    folder = RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    return folder


def end_of_left():
    """The command that ends the Redis servers which an earlier --leavedb left; None when none is left."""
    pids = json.loads(LEFT.read_text()) if LEFT.exists() else []
    left = [pid for pid in pids if is_alive(pid, "redis-server")]
    return f"kill {' '.join(map(str, left))}" if left else None


def course_ports_trouble(ndb):
    """Why the course's ports cannot be used now, and what to do; None when they can."""
    if end := end_of_left():
        return f"Redis servers that an earlier --leavedb left are still running; end them: {end}"
    try:
        Ports().require_free(ndb)
    except PortTaken as error:
        return f"{error}\nIf that is a cluster of ./tea up: ./tea down ends it."
    return None


def is_alive(pid, name=None):
    """Whether the process, of this name if one is given, runs; one that has ended and waits to be reaped does not."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and name in (None, process.name())
    except psutil.NoSuchProcess:
        return False


def deadline_in(seconds):
    return time.monotonic() + seconds


def eventually(condition, what, within_s=10):
    """condition(), as soon as it is true. Fails after `within_s`, and shows what it last was."""
    deadline = deadline_in(within_s)
    while True:
        state = condition()
        if state:
            return state
        assert time.monotonic() < deadline, f"after {within_s} s still not: {what}; last seen: {state!r}"
        time.sleep(0.01)  # between two looks at the condition, with a deadline


@contextmanager
def stopped(service):
    """Inside, the process is there and does nothing: it accepts connections and never answers."""
    service.signal(signal.SIGSTOP)
    try:
        process = psutil.Process(service.process.pid)
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, f"{service.name} is stopped")
        yield
    finally:
        service.signal(signal.SIGCONT)


def unread_bytes(service):
    """How many bytes others have sent to the service that it has not taken yet: what a stopped one was asked."""
    port, established = f":{service.port:04X}", "01"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(port) and row[3] == established)


@contextmanager
def gone(service):
    """Inside, the process is killed; afterwards it serves again."""
    service.kill()
    try:
        yield
    finally:
        start(service)


def start(service):
    service.start()
    service.wait_until_it_answers(deadline_in(START_S))


class Stage:
    """The Redis servers and the queue of a run, and the shards and load balancer of its present story.

    plain           the roles that a stranger's plain server plays: any of "lb", "db" (every second shard), "q"
    leave_redis     whether the Redis servers outlive the run
    patience_s      how long servers may take to answer
    always_restart  whether each story gets new servers, as in the course, or only one that needs other settings
    slowed          {shard: how many teas it loads in a second, at most}
    """

    def __init__(
        self,
        folder,
        ndb=4,
        layout=None,
        plain=(),
        leave_redis=False,
        patience_s=START_S,
        always_restart=True,
        slowed=None,
    ):
        self.folder = Path(folder)
        self.ndb = ndb
        self.plain = plain
        self.leave_redis = leave_redis
        self.slowed = slowed or {}
        self.always_restart = always_restart or "db" in plain  # a plain shard keeps its digest in memory
        self._running = None  # the settings of the shards and load balancer that run now
        self.layout = layout or Ports.find_free(ndb)
        self._programs = redisbinary.find_or_install()
        self.cluster = Cluster(
            self.layout, ndb, 2, self.folder, self._log_of, self._programs, not leave_redis, REDIS_OPTIONS
        )
        self.cluster.patience_s = patience_s
        if "q" in plain:
            self.cluster.queue = self._plain("q", "plainQ.py", self.layout.q, {"port": self.layout.q, "ndb": ndb})

    def __enter__(self):
        self.layout.require_free(self.ndb)
        self.cluster.start_these([*self.cluster.redis, self.cluster.queue])
        if self.leave_redis:  # noted at once, since a run that is killed leaves them, too
            unfinished = LEFT.with_suffix(".new")
            unfinished.write_text(json.dumps([service.process.pid for service in self.cluster.redis]))
            unfinished.replace(LEFT)  # whole, for another run that looks just then
        return self

    def __exit__(self, *failure):
        self._end_story()
        stop_these([self.cluster.queue])
        if self.leave_redis:
            for service in self.cluster.redis:
                service.let_go()
        else:
            stop_these(self.cluster.redis)

    def begin(self, digest_length=2, ring=None):
        """A new story: nothing stored, nothing waiting, fresh servers. `ring`: the ndb that they are told."""
        ring = ring or self.ndb
        keeps_servers = not self.always_restart and self._running == (digest_length, ring)
        if not keeps_servers:
            self._end_story()
        for index in range(self.ndb):
            self.redis(index).flushall()
        requests.delete(f"{self.cluster.queue.url}/clear", timeout=CALL_S).raise_for_status()
        if not keeps_servers:
            self.cluster.shards = [self._shard(index, digest_length, ring) for index in range(self.ndb)]
            self.cluster.load_balancer = self._load_balancer(ring)
            self.cluster.start_these([*self.cluster.shards, self.cluster.load_balancer])
            self._running = (digest_length, ring)
        return Course(self, digest_length)

    def replace_queue(self):
        """Put our own queue in the place of the present one, empty."""
        stop_these([self.cluster.queue])
        settings = {"port": self.layout.q, "ndb": self.ndb}
        self.cluster.queue = python_service("q", "serverQ.py", self.layout.q, self._log_of, settings)
        self.cluster.start_these([self.cluster.queue])

    def how_to_look_inside(self):
        """The lines that open each Redis that was left, and the one that ends them all. The next run says so, too."""
        cli = self._programs.cli_as_typed
        lines = [f"  {cli} -p {service.port} keys '*'" for service in self.cluster.redis]
        return "\n".join(["Redis is left running. Look inside:", *lines, "End it:", f"  {end_of_left()}"])

    def redis(self, index):
        return redis.Redis(port=self.layout.redis(index), decode_responses=True, socket_timeout=CALL_S)

    def _end_story(self):
        self._running = None
        stop_these([self.cluster.load_balancer])
        stop_these(self.cluster.shards)

    def _shard(self, index, digest_length, ring):
        settings = shard_settings(index, self.layout, ring, digest_length)
        if index in self.slowed:
            settings["slowed-to"] = self.slowed[index]
        if "db" in self.plain and index % 2 == 1:
            return self._plain(f"db{index}", "plainDB.py", self.layout.db(index), settings)
        return python_service(f"db{index}", "serverDB.py", self.layout.db(index), self._log_of, settings)

    def _load_balancer(self, ring):
        settings = {"port": self.layout.lb, "ndb": ring, "db-base-port": self.layout.db(0)}
        if "lb" in self.plain:
            return self._plain("lb", "plainLB.py", self.layout.lb, settings)
        return python_service("lb", "serverLB.py", self.layout.lb, self._log_of, settings)

    def _plain(self, name, program, port, settings):
        return python_service(name, f"test/plain/{program}", port, self._log_of, settings, accepts_connections)

    def _log_of(self, name):
        return self.folder / f"{name}.log"


class Course:
    """What a story does to the store, through the load balancer and straight at shards, queue and Redis."""

    def __init__(self, stage, digest_length):
        self.stage = stage
        self.ndb = stage.ndb
        self.digest_length = digest_length
        self.volume = 1000  # operations of highVolume
        self._session = requests.Session()

    # ---- through the load balancer

    def put_rating(self, tea, rating, clock):
        return self._call("PUT", self._at_lb(tea), {"rating": rating, "clock": clock})

    def strong_read(self, tea):
        return self._call("GET", self._at_lb(tea))

    def weak_read(self, tea):
        return self._call("GET", self._at_lb(tea) + "?consistency=weak")

    def delete(self, tea):
        return self._session.delete(self._at_lb(tea), headers=JSON, timeout=CALL_S)

    # ---- straight at a shard

    def put_at(self, shard, tea, rating, clock):
        return self._call("PUT", self._at_shard(shard, tea), {"rating": rating, "clock": clock})

    def read_at(self, shard, tea):
        return self._call("GET", self._at_shard(shard, tea))

    # ---- underneath

    def is_stored(self, shard, tea):
        """Whether the shard's Redis holds the tea; the shard does not notice the question."""
        return bool(self.stage.redis(shard).exists(f"/rating/{tea}"))

    def primary_of(self, tea):
        """The shard that took the only write to this tea, as Redis tells it."""
        [primary] = [shard for shard in range(self.ndb) if self.is_stored(shard, tea)]
        return primary

    def status_of(self, shard):
        return self._call("GET", f"http://localhost:{self.stage.layout.db(shard)}/status")

    def waiting(self):
        """{channel: how many records wait}, of our own queue."""
        return self._call("GET", f"{self.stage.cluster.queue.url}/status")["channels"]

    def next_to(self, shard, hops=1):
        """The shard so many hops further round the ring."""
        return (shard + hops) % self.ndb

    def _at_lb(self, tea):
        return f"http://localhost:{self.stage.layout.lb}/rating/{tea}"

    def _at_shard(self, shard, tea):
        return f"http://localhost:{self.stage.layout.db(shard)}/rating/{tea}"

    def _call(self, method, url, body=None):
        data = None if body is None else json.dumps(body)
        answer = self._session.request(method, url, data=data, headers=JSON, timeout=CALL_S)
        assert answer.status_code == 200, f"{method} {url}: {answer.status_code} {answer.text}"
        return answer.json()


@contextmanager
def ring_of(ndb, folder, digest_length=1):
    """A Course on a cluster of its own with this many shards."""
    with Stage(folder, ndb) as stage:
        yield stage.begin(digest_length)


def assert_reads(answer, choices, clocks):
    """The answer holds these siblings, in any order, and their mean."""
    expected = sorted(zip(choices, map(sorted_entries, clocks), strict=True))
    found = sorted(zip(answer["choices"], map(sorted_entries, answer["clocks"]), strict=True))
    assert found == expected
    mean = sum(choices) / len(choices) if choices else 0
    assert abs(answer["rating"] - mean) < 1e-9


def sorted_entries(clock):
    return sorted(clock.items())
