"""One process after the other is stopped under load: it costs what needs it, for as long as it is away, and no more.

A stopped process (SIGSTOP) is the worst kind of away: it takes connections and requests, and never answers.
"""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from itertools import count
from statistics import median
from typing import NamedTuple

import pytest
from asking import ask
from harness import CALL_S, JSON, Stage, eventually, gone, stopped

from serverLB import primary_of

NDB = 4
CLIENTS_OF_A_SHARD = 2
ALL_S = 2.0  # within which the load balancer has an answer, whatever happens
SLACK_S = 2.5  # for a machine that has other things to do: with it, still less than CALL_S

tea_numbers = count()


def tea_of(shard, ndb=NDB):
    """A name that no other test uses, whose primary is this shard."""
    return next(tea for number in tea_numbers if primary_of(tea := f"tea-{number}", ndb) == shard)


class Asked(NamedTuple):
    method: str
    status: int
    took_s: float


class Client(threading.Thread):
    """Writes and reads one tea in turn, as fast as it is answered, each write newer than the one before."""

    def __init__(self, port, shard):
        super().__init__(name=f"client of db{shard}")
        self.shard = shard
        self.tea = tea_of(shard)
        self.asked = []
        self.newest_answered = 0
        self._port = port
        self._is_over = threading.Event()

    def run(self):
        connection = HTTPConnection("127.0.0.1", self._port, timeout=CALL_S)
        for number in count(1):
            if self._is_over.is_set():
                break
            body = json.dumps({"rating": number % 5, "clock": {self.name.replace(" ", "-"): number}})
            for method, text in (("PUT", body), ("GET", None)):
                began = time.monotonic()
                try:
                    connection.request(method, f"/rating/{self.tea}", text, JSON)
                    answer = connection.getresponse()
                    answer.read()
                    status = answer.status
                except (OSError, HTTPException):  # the load balancer itself is away
                    connection.close()
                    status = 0
                self.asked.append(Asked(method, status, time.monotonic() - began))
                if method == "PUT" and status == 200:
                    self.newest_answered = number
        connection.close()

    def end(self):
        self._is_over.set()
        self.join(CALL_S * 2)
        assert not self.is_alive()


class Load:
    """Clients of all shards. `since()` is what each shard's clients were answered since the last `mark()`."""

    def __init__(self, course):
        self.clients = [
            Client(course.stage.layout.lb, shard) for shard in range(NDB) for _ in range(CLIENTS_OF_A_SHARD)
        ]
        self._marks = {}

    def __enter__(self):
        self.mark()
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *failure):
        for client in self.clients:
            client.end()

    def mark(self):
        # What is on its way now began before the mark.
        self._marks = {client: len(client.asked) + 1 for client in self.clients}

    def since(self, shard):
        return [
            each for client in self.clients if client.shard == shard for each in client.asked[self._marks[client] :]
        ]

    def wait_for(self, answers, shards, status=200):
        """Until the clients of each of these shards got so many answers of this status since the last mark."""

        def got():
            return {shard: sum(each.status == status for each in self.since(shard)) for shard in shards}

        eventually(
            lambda: all(number >= answers for number in got().values()),
            f"{answers} answers {status} from each of {shards}",
            within_s=30,
        )


@pytest.fixture(scope="module")
def course(run_folder):
    folder = run_folder / "hung"
    folder.mkdir()
    with Stage(folder, NDB) as stage:
        yield stage.begin(digest_length=2)


def wait_until_ready(course):
    for port in (course.stage.layout.lb, *map(course.stage.layout.db, range(NDB))):
        eventually(lambda port=port: ask(port, "GET", "/readyz").status == 200, f"{port} is ready again")


def assert_nothing_is_lost(course, load):
    """Each tea reads the newest write of its client that was answered, or one that came after it."""
    for client in load.clients:
        [clock] = read_when_it_can(course.stage.layout.lb, client.tea)["clocks"]
        assert clock[client.name.replace(" ", "-")] >= client.newest_answered


def read_when_it_can(port, tea):
    """The answer to a read, asked again where a disk was slow just then."""
    answer = eventually(lambda: (given := ask(port, "GET", f"/rating/{tea}")).status == 200 and given, "it is read")
    return answer.body


def slowest_s(asked):
    return max(each.took_s for each in asked)


@pytest.mark.parametrize("what", ["shard", "redis"])
def test_a_shard_that_hangs_costs_its_own_teas_only(course, what):
    cluster, layout = course.stage.cluster, course.stage.layout
    hung, others = 1, [0, 2, 3]
    with Load(course) as load:
        load.wait_for(20, [hung, *others])

        with stopped((cluster.shards if what == "shard" else cluster.redis)[hung]):
            load.mark()
            load.wait_for(100, others)
            load.wait_for(20, [hung], status=503)
            alive = [ask(port, "GET", "/healthz") for port in (layout.lb, *map(layout.db, others), layout.q)]
            weak = [ask(layout.lb, "GET", f"/rating/{load.clients[0].tea}?consistency=weak") for _ in range(20)]
            of_others = {shard: load.since(shard) for shard in others}
            of_hung = load.since(hung)
            load.mark()

        load.wait_for(20, [hung])

    assert {each.status for asked in of_others.values() for each in asked} == {200}
    assert max(map(slowest_s, of_others.values())) < ALL_S + SLACK_S
    assert {answer.status for answer in alive + weak} == {200}
    assert {each.status for each in of_hung} <= {503, 504}
    assert {each.status for each in of_hung if each.method == "GET"} == {503}
    assert slowest_s(of_hung) < ALL_S + SLACK_S
    assert_nothing_is_lost(course, load)
    wait_until_ready(course)


def test_a_queue_that_hangs_costs_nobody_anything(course):
    with Load(course) as load:
        load.wait_for(20, range(NDB))

        with stopped(course.stage.cluster.queue):
            load.mark()
            load.wait_for(100, range(NDB))
            told = [load.since(shard) for shard in range(NDB)]
            is_ready = ask(course.stage.layout.db(0), "GET", "/readyz")
            load.mark()

        load.wait_for(20, range(NDB))

    assert {each.status for asked in told for each in asked} == {200}
    assert max(map(slowest_s, told)) < ALL_S + SLACK_S
    assert (is_ready.status, is_ready.body["checks"]["redis"]) == (503, "ok")
    assert_nothing_is_lost(course, load)
    wait_until_ready(course)
    eventually(lambda: all(course.status_of(shard)["due"] == 0 for shard in range(NDB)), "all that was due is told")


def test_a_load_balancer_that_hangs_goes_on_where_it_was(course):
    with Load(course) as load:
        load.wait_for(20, range(NDB))

        with stopped(course.stage.cluster.load_balancer):
            load.mark()
            served = [ask(course.stage.layout.db(shard), "GET", "/healthz").status for shard in range(NDB)]

        load.wait_for(20, range(NDB))
        answered = {each.status for shard in range(NDB) for each in load.since(shard)}

    assert served == [200] * NDB
    assert answered <= {200, 503, 504}
    assert_nothing_is_lost(course, load)


def test_a_shard_with_everything_around_it_hung_still_says_so_in_time(course):
    """Its Redis and the queue: each asker has an answer within the deadline of the load balancer, however many ask."""
    cluster, port = course.stage.cluster, course.stage.layout.db(1)

    def ask_once(_number):
        began = time.monotonic()
        return ask(port, "GET", f"/rating/{tea_of(1)}"), time.monotonic() - began

    with ExitStack() as away, ThreadPoolExecutor(40) as pool:
        away.enter_context(stopped(cluster.queue))
        away.enter_context(stopped(cluster.redis[1]))
        answers = list(pool.map(ask_once, range(200)))
        alive = ask(port, "GET", "/healthz")

    assert {(answer.status, answer.headers["Retry-After"]) for answer, _ in answers} == {(503, "1")}
    assert median(took_s for _, took_s in answers) < ALL_S
    assert max(took_s for _, took_s in answers) < ALL_S + SLACK_S
    assert alive.status == 200
    wait_until_ready(course)


# ---- what 503 and 504 promise


def test_a_write_answered_503_is_in_no_replica_and_one_answered_504_may_be(run_folder):
    """Through every kind of away: stopped, killed, without Redis, overrun. Each write is of a tea of its own."""
    folder = run_folder / "counted"
    folder.mkdir()
    ndb, came_to = 2, {}

    with Stage(folder, ndb, slowed={1: 100}) as stage, ThreadPoolExecutor(100) as pool:
        course, lb = stage.begin(digest_length=1), stage.layout.lb
        cluster = stage.cluster

        def write(tea):
            came_to[tea] = ask(lb, "PUT", f"/rating/{tea}", '{"rating":3,"clock":{"c0":1}}').status

        def write_some(number):
            list(pool.map(write, [tea_of(1, ndb) for _ in range(number)]))

        for away, service in (
            (stopped, cluster.shards[1]),
            (stopped, cluster.redis[1]),
            (gone, cluster.shards[1]),
            (gone, cluster.redis[1]),
        ):
            with away(service):
                write_some(30)
                write_some(10)  # when it is known to be away
            eventually(lambda: ask(lb, "GET", "/readyz").status == 200, f"ready again after {service.name}")
        write_some(200)  # 2 s of work at once
        with ExitStack() as rounds:  # in the middle of work
            asked = [pool.submit(write, tea_of(1, ndb)) for _ in range(60)]
            eventually(lambda: len(came_to) > 370, "some are answered")
            rounds.enter_context(stopped(cluster.redis[1]))
            for each in asked:
                each.result()
        eventually(lambda: ask(lb, "GET", "/readyz").status == 200, "ready again")

        def is_told_to_all():
            for shard in (0, 1):
                read_when_it_can(stage.layout.db(shard), "any-tea-takes-the-gossip")
            return not any(course.waiting().values()) and not any(course.status_of(s)["due"] for s in (0, 1))

        eventually(is_told_to_all, "all gossip has arrived", within_s=30)
        replicas = {tea: [course.is_stored(shard, tea) for shard in (0, 1)] for tea in came_to}

    def where(status):
        return [replicas[tea] for tea, answered in came_to.items() if answered == status]

    assert set(came_to.values()) == {200, 503, 504}
    assert all(stored == [True, True] for stored in where(200))
    assert not any(any(stored) for stored in where(503))
    assert any(stored == [True, True] for stored in where(504))  # those that the stopped shard found on waking up
    assert len(where(503)) >= 100
