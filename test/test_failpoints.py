"""Processes die between any two effects, and the store keeps its word: P-7.

All failpoints of emporium/failpoints.py on a cluster of real processes with all that `./tea up` switches on. A hit is a
process that died there by SIGKILL while clients wrote, deleted and read; each is started again at once, with the next
point, so that it also takes up there what the last one left. A service has a lane of its own, so that two may be down
at the same moment, but never two of which one must be heard by the other.
"""

import ast
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import chain

import pytest
import redis
from conftest import LAST_WORDS
from harness import deadline_in, eventually
from ledgerclients import Client, Ledger

from emporium import failpoints, redisbinary, wire
from emporium.cluster import START_S, Cluster, guarded_options
from emporium.environment import ROOT
from emporium.failures import PeerError
from emporium.peers import Peer
from emporium.ports import Ports
from queueservice import Queue
from serverLB import primary_of

NDB = 3
DIGEST_LENGTH = 5
SEGMENT_BYTES = 64 * 1024
HIT_S = 60  # a process that has not come to its point by then never will
HITS, FULL_HITS = 2, 20
JUNK = 20_000  # records: twice of what may be due
COLD = [f"cold-{i}" for i in range(30)]  # written once, at the beginning
SHARED = [f"shared-{i}" for i in range(6)]

STEP = ("step-begun", "step-loaded", "write-unstored", "gossip-unstored", "exec-unsent", "exec-answered")
SENDING = ("exec-noted", "write-stored", "gossip-stored", "tell-unsent", "told", "answer-unsent")
CLAIM = ("claim-unsent", "claim-stored", "claim-noted")
END = ("end-begun", "end-due", "end-told")
MUCH = ("much-due", "much-dropped")
RECOVERY = (
    "recovery-heard-queue",
    "recovery-merged-queue",
    "recovery-heard-other",
    "recovery-unended",
    "recovery-ended",
)
REPAIR = ("repair-unstored", "repair-stored")
ABSORB = ("absorb-unstored", "absorb-stored")
PUT = ("queue-put-unstored", "queue-put-stored", "queue-taken", "log-unsynced", "log-synced")
PROGRESS = ("progress-unsaved", "progress-saved")
CHANNEL = ("channel-unnamed", "channel-named")
LOG = ("roll-sealed", "roll-created", "roll-noted", "log-start-noted")

# While db1 has lost its memory it must hear the queue and db2, so those do not die then.
PHASES = (
    {"db0": STEP + CLAIM + END + MUCH, "db1": (*RECOVERY, *REPAIR, *ABSORB, "own-told"), "lb": ("balancer-answered",)},
    {"db2": ("exchange-given", *SENDING), "q": PUT + PROGRESS + CHANNEL + LOG},
)
OFTEN = {*STEP, *SENDING, *PUT, "balancer-answered"}  # reached many times a second


def test_the_listed_points_are_those_in_the_source_and_each_is_tried():
    programs = chain(ROOT.glob("*.py"), ROOT.glob("emporium/**/*.py"))
    called = Counter(name for path in programs for name in names_in(path))

    assert set(called) == set(failpoints.POINTS)
    assert set(called.values()) == {1}
    tried = Counter(name for phase in PHASES for names in phase.values() for name in names)
    assert tried == called


def names_in(path):
    """The names with which this file calls failpoints.hit()."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.hit":
            [what] = node.args
            branches = [what.body, what.orelse] if isinstance(what, ast.IfExp) else [what]
            yield from (branch.value for branch in branches)


def test_a_process_dies_at_the_hit_that_was_asked_for():
    ended = hitting("told:3", "told", "told", "step-begun")
    assert (ended.returncode, ended.stdout) == (0, "alive\n")

    ended = hitting("told:3", "told", "step-begun", "told", "told")
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "")


def test_a_point_that_nobody_knows_stops_the_start():
    ended = hitting("tolt", "told")

    assert ended.returncode == 1
    assert "no failpoint is called 'tolt'" in ended.stderr


def hitting(armed, *names):
    """How a process ended that came to these points, one after the other."""
    program = f"from emporium import failpoints\nfor name in {names}: failpoints.hit(name)\nprint('alive')"
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"TEA_FAILPOINT": armed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HIT_S,
        check=False,
    )


# ---- on a cluster


class Arena:
    """A guarded cluster, clients at work on it, and what makes a service come to its point."""

    def __init__(self, folder):
        self.folder = folder
        self.layout = Ports.find_free(NDB)
        queue = {"data-dir": str(folder / "q"), "segment-bytes": SEGMENT_BYTES}
        self.cluster = Cluster(
            self.layout,
            NDB,
            DIGEST_LENGTH,
            folder,
            lambda name: folder / f"{name}.log",
            redisbinary.find_or_install(),
            queue_options=queue,
            shard_options=self._options,
        )
        self.ledger = Ledger()
        self.lb = Peer("lb", "127.0.0.1", self.layout.lb, 3.0)
        self.queue = Queue(self.layout.q, deadline_s=1.0)
        self.clients = []
        self._probe_cursor = None
        self._probes = 0

    def _options(self, index):
        # What db1 has acknowledged must be elsewhere, too, when its Redis is emptied.
        return {
            **guarded_options(self.folder / f"db{index}"),
            "anti-entropy-s": 0.3,
            "durability": 1 if index == 0 else 2,
        }

    def begin(self):
        writer = Client(9, self.layout.lb, [], [], self.ledger)
        for tea in COLD:
            eventually(lambda tea=tea: writer.write(tea), f"{tea} is written")
        self.replicas_meet()
        self.clients = [
            Client(i, self.layout.lb, [f"own-{i}-{j}" for j in range(12)], SHARED, self.ledger) for i in range(3)
        ]
        for client in self.clients:
            client.start()

    def service(self, name):
        return next(each for each in self.cluster.services if each.name == name)

    def redis(self, index):
        return redis.Redis(port=self.layout.redis(index), decode_responses=True, socket_timeout=5)

    def check_clients(self):
        for client in self.clients:
            if client.failure:
                raise client.failure

    def end_clients(self):
        for client in self.clients:
            client.end()
        self.check_clients()

    def replicas_meet(self):
        def differing():
            stored = [self.stored(index) for index in range(NDB)]
            teas = set().union(*stored)
            return [tea for tea in teas if len({str(each.get(tea)) for each in stored}) > 1]

        eventually(lambda: not differing(), "all replicas hold the same", 30)

    def stored(self, index):
        with self.redis(index) as client:
            teas = sorted(client.scan_iter("/rating/*", count=1000))
            pipeline = client.pipeline(transaction=False)
            for tea in teas:
                pipeline.hgetall(tea)
            return dict(zip(teas, pipeline.execute(), strict=True))

    # ---- before a service starts with its point, and while it runs

    def prepare(self, name, point):
        if point in RECOVERY:
            with self.redis(1) as client:
                client.flushall()
        elif point in (*ABSORB, "exchange-given"):  # what is missing is compared, wanted and merged
            index = int(name[2:])
            with self.redis(index) as client:
                gone = [tea for tea in COLD if primary_of(tea, NDB) != index]
                client.delete(*(f"/rating/{tea}" for tea in gone))
        elif point in MUCH:
            self._have_due(0, JUNK)
        elif point == "own-told":
            self._have_due(1, JUNK // 3)

    def _have_due(self, index, count):
        """So many records, at which the successor stops since they bear its own name."""
        home = f"db{(index + 1) % NDB}"
        record = {"primary": home, "rating": 1, "choices": [1], "clocks": [{"c0": 1}]}
        with self.redis(index) as client:
            missing = count - client.llen("due")
            if missing > 0:
                client.rpush("due", *(wire.encode({**record, "key": f"junk-{i}"}) for i in range(missing)))

    def urge(self, name, point):
        """Do what brings this service to its point. May be called again; raises PeerError when it is not there yet."""
        if point in END:
            port = self.service(name).port
            rated = wire.encode({"rating": 1, "clock": {"end": 1}})
            if Peer(name, "127.0.0.1", port, 1.0).call("PUT", "/rating/end", rated).is_ok:
                self.service(name).signal(signal.SIGTERM)
        elif point in REPAIR:
            tea = next(tea for tea in COLD if primary_of(tea, NDB) == int(name[2:]))
            with self.redis(int(name[2:])) as client:
                client.hset(f"/rating/{tea}", "choices", "[77]")
            self.lb.call("GET", f"/rating/{tea}")
        elif point in CHANNEL:
            self._probes += 1
            self.queue.put(f"probe-{self._probes}", {"probe": 1})
        elif point in (*LOG, *PROGRESS):
            self.queue.put_many("probe", [{"probe": "x" * 200}] * 100)
            self._probe_cursor = self.queue.take("probe", self._probe_cursor).cursor


class Lane:
    """One service, which dies at one point after the other."""

    def __init__(self, arena, service, points, hits):
        self._arena, self._service = arena, service
        self._left = [(point, number) for number in range(hits) for point in points]
        self.died = Counter()
        self._go_on()

    def _go_on(self):
        """Have it run with the next point, or without one when all are done."""
        self._service.kill()
        if self._left:
            self._arena.prepare(self._service.name, self._left[0][0])
        self._start()
        self._until, self._urged_at = deadline_in(HIT_S), 0

    def _start(self):
        with pytest.MonkeyPatch.context() as patch:
            for point, number in self._left[:1]:
                patch.setenv("TEA_FAILPOINT", f"{point}:{1 + number % 5 if point in OFTEN else 1}")
            self._service.start()

    @property
    def is_over(self):
        return not self._left

    def look(self):
        if self.is_over:
            return
        point, _ = self._left[0]
        name, process = self._service.name, self._service.process
        if not self._service.is_running:
            if point in END and process.returncode == 0:  # there was nothing to tell just then
                self._start()
                return
            assert process.returncode == -signal.SIGKILL, f"{name} at {point}: {self._service.end_of_log()}"
            self.died[point] += 1
            self._left.pop(0)
            self._go_on()
        elif time.monotonic() > self._until:
            pytest.fail(f"{name} did not come to {point} within {HIT_S} s; its log ends:\n{self._service.end_of_log()}")
        elif time.monotonic() > self._urged_at + 0.1:
            with suppress(PeerError):  # it does not serve yet, or has just died
                self._arena.urge(name, point)
            self._urged_at = time.monotonic()


@pytest.fixture(scope="module")
def arena(run_folder):
    folder = run_folder / "failpoints"
    folder.mkdir()
    arena = Arena(folder)
    with arena.cluster:
        try:
            arena.begin()
            yield arena
        finally:
            arena.end_clients()


def test_what_was_acknowledged_survives_a_death_between_any_two_effects(arena, request):
    hits = FULL_HITS if request.config.getoption("--full") else HITS
    died = Counter()

    for phase in PHASES:
        lanes = [Lane(arena, arena.service(name), points, hits) for name, points in phase.items()]
        while not all(lane.is_over for lane in lanes):
            for lane in lanes:
                lane.look()
            arena.check_clients()
            time.sleep(0.01)  # between two looks; each point has its deadline
        for name in phase:
            arena.service(name).wait_until_it_answers(deadline_in(START_S))
        died += sum((lane.died for lane in lanes), Counter())
    arena.end_clients()

    reader = arena.clients[0]
    for tea in chain(COLD, SHARED, *(client.own for client in arena.clients)):
        eventually(lambda tea=tea: reader.read(tea), f"{tea} is read")
    arena.replicas_meet()
    assert died == dict.fromkeys(failpoints.POINTS, hits)
    listed = ", ".join(f"{point} {count}" for point, count in died.items())
    request.config.stash[LAST_WORDS].append(
        f"failpoints: {died.total()} deaths at {len(died)} points, {arena.ledger.acknowledged} acknowledged writes "
        f"and deletes: {listed}"
    )
