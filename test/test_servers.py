"""The three servers as processes: how they start, with and without what they need, and how they stop."""

import ctypes
import http.client
import json
import signal
import subprocess
import sys
from contextlib import closing

import psutil
import pytest
import redis
import requests
from harness import CALL_S, JSON, UNRATED, Stage, deadline_in, eventually, ring_of
from sharing import only_one

from emporium import cluster, ports, redisbinary
from emporium.cluster import python_service, redis_service, shard_settings
from emporium.environment import ROOT
from emporium.ports import Ports
from emporium.service import Service, stop_these

NO_SERVER = 1  # a port on which nothing listens, ever
PROGRAMS = ["serverLB.py", "serverDB.py", "serverQ.py"]


@pytest.fixture(autouse=True)
def started_by_hand(monkeypatch):
    """How a server starts is what is tried here: each is a Python of its own from its first moment on."""
    monkeypatch.setattr(cluster, "Service", Service)


@pytest.fixture
def course_ports():
    """The ports that the course gives to a load balancer and a shard."""
    with only_one("course-ports"):
        taken = [port for port in (2500, 3000) if not ports.is_free(port)]
        if taken:
            pytest.skip(f"the course's ports {taken} are in use here")
        yield


@pytest.fixture
def started(tmp_path):
    """Starts services of one ring on free ports, as a test asks for them; ends them all."""
    with Started(tmp_path) as made:
        yield made


class Started:
    def __init__(self, folder, ndb=2):
        self.folder, self.ndb = folder, ndb
        self.layout = Ports.find_free(ndb)
        self.services = []

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        for service in self.services:
            service.signal(signal.SIGCONT)
        stop_these(self.services)

    def redis(self, index=0):
        return self._start(
            redis_service(index, self.layout, self.folder / f"r{index}", self._log_of, redisbinary.find(), True)
        )

    def queue(self):
        return self._start(python_service("q", "serverQ.py", self.layout.q, self._log_of, {"port": self.layout.q}))

    def shard(self, index=0, **settings):
        settings = {**shard_settings(index, self.layout, self.ndb, 1), **settings}
        port = settings["hostport"]
        return self._start(python_service(f"db{index}", "serverDB.py", port, self._log_of, settings))

    def load_balancer(self):
        settings = {"port": self.layout.lb, "ndb": self.ndb, "db-base-port": self.layout.db(0)}
        return self._start(python_service("lb", "serverLB.py", self.layout.lb, self._log_of, settings))

    def _start(self, service):
        self.services.append(service)
        service.start()
        service.wait_until_it_answers(deadline_in(20))
        return service

    def _log_of(self, name):
        return self.folder / f"{name}.log"


# ---- starting


def test_a_shard_starts_without_its_redis_and_works_when_it_comes(started):
    shard = started.shard(ndb=1)
    refused = put(shard, "persimmon")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"

    started.redis()

    assert put(shard, "persimmon").json() == {"rating": 1}


def test_a_shard_starts_without_the_queue_and_gossips_when_it_comes(started):
    started.redis(0), started.redis(1)
    first, second = started.shard(0), started.shard(1)
    assert put(first, "persimmon").json() == {"rating": 1}

    started.queue()

    def has_heard():
        return get(second, "persimmon").json()["choices"] == [1]

    eventually(has_heard, "the second shard has heard of the write that waited for the queue")


def test_a_queue_that_went_away_and_came_back_is_used_again(started):
    started.redis(0), started.redis(1)
    queue, first, second = started.queue(), started.shard(0), started.shard(1)
    put(first, "persimmon")
    stop_these([queue])
    assert put(first, "keemun").json() == {"rating": 1}

    started.queue()

    eventually(lambda: get(second, "keemun").json()["choices"] == [1], "what stayed due has been sent")


def test_a_load_balancer_starts_without_its_shards_and_works_when_they_come(started):
    load_balancer = started.load_balancer()
    assert put(load_balancer, "persimmon").status_code == 503
    assert requests.get(f"{load_balancer.url}/readyz", timeout=CALL_S).status_code == 503

    started.redis(0), started.redis(1), started.queue(), started.shard(0), started.shard(1)

    assert put(load_balancer, "persimmon").json() == {"rating": 1}
    assert requests.get(f"{load_balancer.url}/readyz", timeout=CALL_S).json()["ready"] is True


def test_a_shard_that_is_its_own_neighbour_needs_no_queue_and_keeps_no_digest(started):
    redis_server = started.redis()
    shard = started.shard(0, ndb=1, id=3, qport=NO_SERVER)

    put(shard, "persimmon")

    assert requests.get(f"{shard.url}/readyz", timeout=CALL_S).json()["ready"] is True
    with redis.Redis(port=redis_server.port, decode_responses=True) as client:
        assert client.keys() == ["/rating/persimmon"]


def test_without_arguments_the_servers_start_in_single_instance_mode(course_ports, tmp_path):
    """As the assignment's tip 4 has it: LB on 2500, shard on 3000, Redis on 6379, no queue."""
    layout = Ports(6379 - 3055)  # the layout whose Redis 0 is on 6379
    own_redis = redis_service(
        0, layout, tmp_path / "r0", lambda name: tmp_path / f"{name}.log", redisbinary.find(), True
    )
    shard = bare_service("serverDB.py", 3000, tmp_path)
    load_balancer = bare_service("serverLB.py", 2500, tmp_path)
    services = [shard, load_balancer] + ([own_redis] if ports.is_free(6379) else [])
    tea = "a-tea-of-the-single-instance-test"
    try:
        for service in services:
            service.start()
        for service in services:
            service.wait_until_it_answers(deadline_in(20))

        requests.delete(f"{load_balancer.url}/rating/{tea}", timeout=CALL_S)
        put(load_balancer, tea)
        put(load_balancer, tea, rating=3, clock={"c1": 1})

        assert get(load_balancer, tea).json() == {"rating": 2, "choices": [1, 3], "clocks": [{"c0": 1}, {"c1": 1}]}
        assert requests.delete(f"{load_balancer.url}/rating/{tea}", timeout=CALL_S).json() == {"rating": None}
        assert get(load_balancer, tea).json() == UNRATED
    finally:
        stop_these(services)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_port_in_the_environment_overrides_the_setting(program, started, tmp_path):
    port = started.layout.lb
    name = "hostport" if program == "serverDB.py" else "port"
    command = [sys.executable, str(ROOT / program), json.dumps({name: NO_SERVER})]

    with subprocess.Popen(command, env={"PORT": str(port)}, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: answers(port), f"{program} answers on {port}", within_s=20)
        finally:
            process.terminate()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ('{"ndb": 0}', "ndb: Expected `int` >= 1"),
        ('{"id": "one"}', "id: Expected `int`, got `str`"),
        ("{", "not valid JSON"),
        ("[]", "Expected `object`"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_line(program, argument, complaint):
    done = subprocess.run([sys.executable, ROOT / program, argument], capture_output=True, text=True, timeout=20)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert complaint in done.stderr


def test_an_unknown_setting_is_named_in_a_warning(started):
    shard = started.shard(ndb=1, colour="green")

    assert "unknown setting 'colour' is ignored" in shard.end_of_log()


def test_a_second_server_on_a_port_is_refused_and_told_who_holds_it(started):
    first = started.queue()

    second = subprocess.run(
        [*first.command[:2], json.dumps({"port": first.port})], capture_output=True, text=True, timeout=20
    )

    assert second.returncode == 1
    assert f"it is held by pid {first.process.pid}" in second.stderr
    assert answers(first.port)


def test_the_log_goes_to_a_file_too_when_asked(started, tmp_path):
    started.shard(ndb=1, logfile=str(tmp_path / "shard-0.log"))

    assert "db0 listens on" in (tmp_path / "shard-0.log").read_text()


def test_a_log_file_that_cannot_be_written_stops_the_start(tmp_path):
    settings = json.dumps({"logfile": str(tmp_path / "missing" / "log")})

    done = subprocess.run([sys.executable, ROOT / "serverDB.py", settings], capture_output=True, text=True, timeout=20)

    assert done.returncode == 2
    assert "logfile" in done.stderr


def test_a_service_listens_on_the_loopback_address_only(started):
    queue = started.queue()

    listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout

    bound = [line.split()[1] for line in listening.splitlines()[1:] if line.split()[3] == "0A"]
    assert [address.split(":")[0] for address in bound if int(address.split(":")[1], 16) == queue.port] == ["0100007F"]


# ---- stopping


@pytest.mark.parametrize("kind", ["load_balancer", "shard", "queue"])
def test_sigterm_ends_a_server_with_0_although_clients_hold_connections(kind, started):
    server = getattr(started, kind)()
    with requests.Session() as session:
        session.get(f"{server.url}/healthz", timeout=CALL_S)  # leaves its connection open

        server.signal(signal.SIGTERM)

        assert server.wait_for_end(CALL_S)
    assert server.process.returncode == 0


def test_sigterm_closes_the_listener_at_once_and_finishes_what_is_in_flight(started):
    """In flight is a message of which the second half has not come yet."""
    queue = started.queue()
    with closing(half_a_message(queue)) as connection:
        queue.signal(signal.SIGTERM)
        eventually(lambda: not answers(queue.port), "the listener is closed", within_s=4)
        assert queue.is_running

        connection.send(b'"whole"}')

        assert json.loads(connection.getresponse().read()) == {"channel": "db0", "length": 1}
    assert queue.wait_for_end(CALL_S)
    assert queue.process.returncode == 0


def test_sighup_ends_a_server_too_so_that_none_outlives_its_terminal(started):
    queue = started.queue()

    queue.signal(signal.SIGHUP)

    assert queue.wait_for_end(CALL_S)
    assert queue.process.returncode == 0


def test_many_signals_at_once_end_a_server_once(started):
    """A lock that a signal handler waits for is one that its own thread may hold."""
    for _ in range(10):
        queue = started.queue()

        for _ in range(50):
            queue.signal(signal.SIGTERM)

        assert queue.wait_for_end(5 + CALL_S)  # 5 s are there for what is in flight
        assert queue.process.returncode == 0


def test_a_signal_that_reaches_another_thread_ends_the_server(started):
    """The kernel may choose any thread, and what waits for a lock in the main one, where handlers run, hears nothing.

    A signal that comes to the main thread just before it waits is missed alike, but that cannot be brought about.
    """
    queue = started.queue()
    main = queue.process.pid
    other = next(thread.id for thread in psutil.Process(main).threads() if thread.id != main)

    assert ctypes.CDLL(None).tgkill(main, other, signal.SIGTERM) == 0

    assert queue.wait_for_end(5 + CALL_S)
    assert queue.process.returncode == 0


def test_sigterm_cuts_a_request_that_does_not_finish_within_5_s(started):
    """A client that announces a body and sends half of it would hold a server for ever."""
    queue = started.queue()
    with closing(half_a_message(queue)):
        queue.signal(signal.SIGTERM)

        assert queue.wait_for_end(5 + CALL_S)
    assert queue.process.returncode == 0


def half_a_message(queue):
    """A connection on which the first half of a message has arrived at the queue."""
    connection = http.client.HTTPConnection("127.0.0.1", queue.port, timeout=20)
    connection.putrequest("PUT", "/q/db0")
    for name, value in {**JSON, "Content-Length": "16"}.items():
        connection.putheader(name, value)
    connection.endheaders(b'{"half":')
    requests.get(f"{queue.url}/healthz", timeout=CALL_S)  # which came later, and is answered
    return connection


def test_a_killed_server_is_dead_and_frees_its_port(started):
    """One process is one service: no worker goes on serving when the process that was started is killed."""
    queue = started.queue()

    queue.kill()

    assert not answers(queue.port)
    assert ports.is_free(queue.port)
    assert started.queue().process.pid != queue.process.pid


def test_a_restarted_shard_keeps_what_was_in_its_digest(tmp_path):
    """The digest lives in Redis: what a shard had not sent when it was killed is sent all the same."""
    with Stage(tmp_path, ndb=2) as stage:
        course = stage.begin(digest_length=2)
        course.put_at(0, "persimmon", 5, {"c0": 1})

        stage.cluster.shards[0].kill()
        stage.cluster.start_these([stage.cluster.shards[0]])
        course.put_at(0, "keemun", 5, {"c0": 1})

        assert course.read_at(1, "persimmon")["choices"] == [5]


def test_a_running_shard_survives_a_flush_of_its_redis(tmp_path):
    """The course's harness flushes Redis under running servers."""
    with ring_of(2, tmp_path, digest_length=2) as course:
        course.put_at(0, "persimmon", 5, {"c0": 1})

        course.stage.redis(0).flushall()

        assert course.read_at(0, "persimmon") == UNRATED
        course.put_at(0, "persimmon", 3, {"c0": 1})
        course.put_at(0, "keemun", 4, {"c0": 1})
        assert course.read_at(1, "persimmon")["choices"] == [3]


# ---- in common


def bare_service(program, port, folder):
    """The server as `python serverX.py` starts it."""
    service = python_service(program, program, port, lambda name: folder / f"{name}.log", {})
    return Service(program, service.command[:-1], port, service.url, lambda _: answers(port), folder / f"{program}.log")


def put(service, tea, rating=1, clock=None):
    body = {"rating": rating, "clock": clock or {"c0": 1}}
    return requests.put(f"{service.url}/rating/{tea}", json=body, headers=JSON, timeout=CALL_S)


def get(service, tea):
    return requests.get(f"{service.url}/rating/{tea}", headers=JSON, timeout=CALL_S)


def answers(port):
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=CALL_S).status_code == 200
    except requests.ConnectionError:
        return False
