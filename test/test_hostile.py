"""Clients that mean harm, at each of the three servers: what they are told, and whether the others are served.

Load balancer, shard and queue are processes with their default settings. How much slower the others are served is for
./tea bench to say. Here they are served at all, and nothing is left behind.
"""

import gzip
import json
import resource
import selectors
import socket
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import count

import psutil
import pytest
from asking import ask, assert_answers, assert_problem, padded
from harness import JSON, UNRATED, Stage, eventually
from rawclient import (
    CLOSED,
    PATIENCE_S,
    Request,
    connect,
    converse,
    crowd,
    is_closed,
    memory_mb,
    read_answers,
    served,
    warm_up,
)

from emporium.settings import DBSettings, LBSettings, QSettings

NDB = 2
MANY = 200
LIMIT_BYTES = 64 * 1024
MOST_GROWN_MB = 30
AT_ONCE_S = 1.0
RATED = b'{"rating": 3, "clock": {"c0": 1}}'
HEALTHZ = Request(b"GET", b"/healthz")

fresh_number = count()


class Server:
    """One of the three, and what can be put there and got back."""

    def __init__(self, service, settings):
        self.name, self.port, self.pid = service.name, service.port, service.process.pid
        self.threads = settings.threads
        self.most_bodies = (
            self.threads // 2 - self.threads // 8
        )  # waited for at a time; our own services have an eighth
        self.ask = partial(ask, self.port)

    def new_path(self):
        """Where no other test has put anything."""
        return f"{self.above}hostile-{next(fresh_number)}"

    def put(self, path=None, number=1):
        return Request(b"PUT", (path or self.new_path()).encode(), self.body(number))

    def get(self, path=None):
        return Request(b"GET", (path or self.new_path()).encode())

    def assert_serves(self):
        self.assert_serves_reads()
        assert served(self.port, "PUT", self.new_path(), self.body(1)).status == 200

    def assert_serves_reads(self):
        self.assert_nothing_at(self.new_path())
        assert_answers(self.ask("GET", "/healthz"), {"service": self.name, "pid": self.pid})

    def assert_nothing_at(self, path):
        assert_answers(served(self.port, "GET", path), self.empty)

    def open_files(self):
        return psutil.Process(self.pid).num_fds()


class Store(Server):
    """The load balancer, or a shard."""

    above, empty = "/rating/", UNRATED

    def body(self, number):
        return b'{"rating":%d,"clock":{"c0":1}}' % number

    def read_back(self, number):
        return {"rating": number, "choices": [number], "clocks": [{"c0": 1}]}


class Queue(Server):
    above, empty = "/q/", {}

    def body(self, number):
        return b'{"n":%d}' % number

    def read_back(self, number):
        return {"n": number}


@contextmanager
def files_allowed(number):
    """Inside, this process, and each that it starts, may have so many files open, unless it asks for more."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < number:
        pytest.skip(f"no process may open {number} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


@pytest.fixture(scope="module")
def course(run_folder):
    folder = run_folder / "hostile"
    folder.mkdir()
    with ExitStack() as left:
        with files_allowed(1024):  # as on many systems: a server must ask for more
            stage = left.enter_context(Stage(folder, NDB))
            begun = stage.begin(digest_length=1000)
        yield begun


@pytest.fixture(scope="module")
def servers(course):
    cluster = course.stage.cluster
    return {
        "lb": Store(cluster.load_balancer, LBSettings()),
        "shard": Store(cluster.shards[0], DBSettings()),
        "queue": Queue(cluster.queue, QSettings()),
    }


@pytest.fixture(params=["lb", "shard", "queue"])
def server(request, servers):
    return servers[request.param]


@pytest.fixture
def connection(server):
    with connect(server.port) as made:
        yield made


# ---- connections that say nothing, or not enough


def test_silent_and_dribbling_connections_hold_up_nobody(server):
    with crowd(server.port, MANY), crowd(server.port, MANY) as dribbling:
        for byte in server.get().raw()[:20]:
            for connection in dribbling:
                say(connection, bytes([byte]))

            server.assert_serves()


def test_a_connection_without_a_whole_request_is_closed_after_10_s(servers):
    """It says nothing, or stops in its headers, or has them go on for ever, or is kept after an answer."""
    beginnings = [b"", b"GET /healthz HTTP/1.1\r\nHos", b"GET /healthz HTTP/1.1\r\nEndless: ", HEALTHZ.raw()]
    began = time.monotonic()
    with ExitStack() as left:
        silent, stopped, endless, kept = (
            [left.enter_context(crowd(server.port, 1, said))[0] for server in servers.values()] for said in beginnings
        )
        for connection in kept:
            assert [answer.status for answer in read_answers(connection, 1)] == [200]
        still_open = {*silent, *stopped, *endless, *kept}
        for connection in still_open:
            connection.settimeout(0.001)

        def all_are_closed():
            for connection in still_open & {*endless}:
                say(connection, b"x")
            still_open.difference_update([each for each in still_open if has_been_closed(each)])
            return not still_open

        eventually(all_are_closed, "the server has closed the connections", within_s=30)
        assert time.monotonic() - began > 8


def say(connection, said):
    """Say it, if anybody still listens."""
    with suppress(ConnectionError):
        connection.sendall(said)


def has_been_closed(connection):
    try:
        return is_closed(connection)
    except TimeoutError:
        return False


def test_1500_idle_connections_hold_up_nobody(server):
    before = server.open_files()

    with files_allowed(4096), crowd(server.port, 1500):
        server.assert_serves()
        assert server.open_files() >= before + 1500

    eventually(lambda: server.open_files() < before + 20, "the server has closed its side")


def test_thousands_of_connections_leave_nothing_behind(server):
    beginnings = [b"", b"GET /hea", server.get().raw(), server.put().raw()[:-3], HEALTHZ.raw() * 3]
    before = server.open_files()

    for said in beginnings * 600:
        with connect(server.port) as connection:
            connection.sendall(said)

    kept = NDB * server.threads // 2 if server.name == "lb" else 0  # to the shards
    eventually(lambda: server.open_files() < before + kept + 20, "the server has closed its side")
    server.assert_serves()


# ---- bodies that do not come


@pytest.mark.parametrize(
    ("framing", "begun"),
    [(b"Content-Length: 60\r\n", b'{"ra'), (b"Transfer-Encoding: chunked\r\n", b'20\r\n{"ra')],
    ids=["announced", "in chunks"],
)
def test_bodies_that_stall_take_at_most_half_of_the_threads_and_leave_the_others_to_reads(server, framing, begun):
    stalled = server.put()._replace(body=begun, framing=framing).raw()

    beyond = server.threads - server.most_bodies

    with crowd(server.port, server.threads, stalled) as stalling:
        refused = eventually(lambda: at_least(beyond, answered(stalling)), "the others are refused")
        for _ in range(20):
            server.assert_serves_reads()
        write = server.ask("PUT", server.new_path(), server.body(1))
        assert len(answered(stalling)) == beyond

        for connection in refused:
            [answer] = read_answers(connection, 1)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert_problem(write, 503, "bodies")
        assert write.headers["Retry-After"] == "1"

    server.assert_serves()


def answered(connections):
    """Those on which something has come."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(timeout=0)]


def at_least(number, things):
    return things if len(things) >= number else None


def test_bodies_that_nobody_asked_for_take_no_thread(server):
    announced = {"body": b"{", "framing": b"Content-Length: 60\r\n"}
    stalled = {
        200: HEALTHZ._replace(**announced),
        404: Request(b"PUT", b"/nowhere", **announced),
        405: Request(b"POST", b"/healthz", **announced),
    }

    with ExitStack() as left:
        for status, request in [*stalled.items()] * server.threads:
            connection = left.enter_context(connect(server.port))
            connection.sendall(request.raw())
            assert [answer.status for answer in read_answers(connection, 1)] == [status]

        server.assert_serves()


# ---- bodies that are too long, or announced


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"], ids=["unasked", "asked"])
def test_a_body_that_is_announced_too_long_is_refused_before_it_is_sent(server, connection, expects):
    announced = b"Content-Length: %d\r\n" % (LIMIT_BYTES + 1)

    connection.sendall(server.put()._replace(body=b"", framing=announced + expects).raw())

    [answer] = read_answers(connection, 1)
    assert_raw_problem(answer, 413, "65536 bytes")
    say(connection, b" " * (LIMIT_BYTES + 1) + HEALTHZ.raw())
    assert [answer.status for answer in read_answers(connection, 1)] in ([], [200])
    server.assert_serves()


def test_a_body_that_has_no_end_is_refused_when_it_is_too_long(server, connection):
    connection.sendall(server.put()._replace(body=b"", framing=b"Transfer-Encoding: chunked\r\n").raw())

    for _ in range(1000):
        if answered([connection]):
            break
        say(connection, b"1000\r\n" + b" " * 0x1000 + b"\r\n")

    [answer] = read_answers(connection, 1)
    assert_raw_problem(answer, 413, "65536 bytes")
    server.assert_serves()


def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on(server, connection):
    request = server.put()
    announced = b"Content-Length: %d\r\nExpect: 100-continue\r\n" % len(request.body)

    connection.sendall(request._replace(body=b"", framing=announced).raw())

    assert [answer.status for answer in read_answers(connection, 1)] == [100]
    connection.sendall(request.body)
    assert [answer.status for answer in read_answers(connection, 1)] == [200]


def assert_raw_problem(answer, status, words):
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json["detail"]


# ---- what is no JSON, or JSON to choke on


DEEP = 30_000


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (RATED.decode().encode("utf-16"), JSON, 400, "JSON"),
        (RATED.decode().encode("utf-16-le"), {"Content-Type": "application/json; charset=utf-16"}, 400, "JSON"),
        (RATED.decode().encode("utf-32"), JSON, 400, "JSON"),
        (gzip.compress(RATED), JSON, 400, "JSON"),
        (gzip.compress(RATED), {**JSON, "Content-Encoding": "gzip"}, 415, "gzip"),
        (RATED, {**JSON, "Content-Encoding": "identity"}, 415, "identity"),
        (b"[" * DEEP, JSON, 400, "nested"),
        (b"[" * DEEP + b"]" * DEEP, JSON, 400, "nested"),
        (b'{"rating":' * (DEEP // 6) + b"1" + b"}" * (DEEP // 6), JSON, 400, "nested"),
        (b'{"clock":' + b"[" * DEEP, JSON, 400, "nested"),
        (b'{"records":[' + b"[" * DEEP, JSON, 400, "nested"),
    ],
    ids=[
        *("utf-16", "utf-16 that says so", "utf-32", "gzip", "gzip that says so", "identity"),
        *("brackets", "closed brackets", "braces", "deep in a clock", "deep in records"),
    ],
)
def test_a_body_to_choke_on_is_refused(servers, body, headers, status, words):
    for server, method, path in [
        *((server, "PUT", server.new_path()) for server in servers.values()),
        (servers["queue"], "POST", "/channel/hostile/put"),
        (servers["queue"], "POST", "/channel/hostile/take"),
    ]:
        assert_problem(server.ask(method, path, body, headers), status, words)
        if method == "PUT":
            server.assert_nothing_at(path)


# ---- what is costly to read


# Parsing a header and composing a name take the square of their length. Of both sizes, our code meets the smaller one.
COSTLY_BYTES = [30_000, 60_000]


@pytest.mark.parametrize("size_bytes", COSTLY_BYTES)
def test_an_accept_header_that_is_costly_to_read_holds_up_nobody(servers, size_bytes):
    costly = Request(b"GET", b"/readyz", headers=((b"Accept", b"a" + b" " * size_bytes + b"b"),))

    assert_answers_at_once(servers["queue"], costly)


@pytest.mark.parametrize("size_bytes", COSTLY_BYTES)
def test_a_name_that_is_costly_to_compose_holds_up_nobody(servers, size_bytes):
    marks = size_bytes // 4  # of each kind, of 2 bytes each
    name = "a" + "\N{COMBINING ACUTE ACCENT}" * marks + "\N{COMBINING DOT BELOW}" * marks

    assert_answers_at_once(servers["lb"], Request(b"GET", f"/rating/{name}".encode()))


def assert_answers_at_once(server, costly):
    """It takes no time to read. A machine that is busy may need some for anything, but not again and again."""

    def took_s():
        with crowd(server.port, 1, costly.raw()) as asking:
            began = time.monotonic()
            eventually(lambda: answered(asking), "it is answered", within_s=60)
            return time.monotonic() - began

    eventually(lambda: took_s() < AT_ONCE_S, f"it is answered within {AT_ONCE_S} s")


# ---- many requests on one connection, and requests in requests


def test_requests_that_are_sent_at_once_are_answered_in_their_order(server, connection):
    paths = [server.new_path() for _ in range(20)]
    said = [
        request.raw()
        for number, path in enumerate(paths)
        for request in (server.put(path, number), Request(b"PUT", b"/nowhere"), server.get(path))
    ]

    connection.sendall(b"".join(said))

    answers = read_answers(connection, len(said))
    assert [answer.status for answer in answers] == [200, 404, 200] * len(paths)
    assert [answer.json for answer in answers[2::3]] == [server.read_back(number) for number in range(len(paths))]


# (headers, body): to one reader the hidden request is in the body, to another one it is behind it.
FRAMINGS = {
    "a length and chunks": (b"Content-Length: %(all)d\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n%(hidden)b"),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\nContent-Length: %(all)d\r\n", b"0\r\n\r\n%(hidden)b"),
    "chunks and no length": (
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        b"%(size)x\r\n%(hidden)b\r\n0\r\n\r\n",
    ),
    "two lengths": (b"Content-Length: 2\r\nContent-Length: %(all)d\r\n", b"{}%(hidden)b"),
    "two lengths, the longer one first": (b"Content-Length: %(all)d\r\nContent-Length: 2\r\n", b"{}%(hidden)b"),
    "a list of lengths": (b"Content-Length: 2, %(all)d\r\n", b"{}%(hidden)b"),
    "a length with a sign": (b"Content-Length: +2\r\n", b"{}%(hidden)b"),
    "a negative length": (b"Content-Length: -2\r\n", b"{}%(hidden)b"),
    "a hexadecimal length": (b"Content-Length: 0x2\r\n", b"{}%(hidden)b"),
    "a length beyond 64 bits": (b"Content-Length: 18446744073709551618\r\n", b"{}%(hidden)b"),
    "chunks that are coded again": (
        b"Transfer-Encoding: chunked, identity\r\nContent-Length: %(all)d\r\n",
        b"0\r\n\r\n%(hidden)b",
    ),
    "an unknown coding": (b"Transfer-Encoding: xchunked\r\nContent-Length: %(all)d\r\n", b"0\r\n\r\n%(hidden)b"),
    "a vertical tab": (b"Transfer-Encoding:\x0bchunked\r\nContent-Length: %(all)d\r\n", b"0\r\n\r\n%(hidden)b"),
    "a NUL": (b"Transfer-Encoding: chunked\0\r\nContent-Length: %(all)d\r\n", b"0\r\n\r\n%(hidden)b"),
    "a space before a colon": (b"Content-Length : 0\r\nContent-Length: %(all)d\r\n", b"0\r\n\r\n%(hidden)b"),
    "a folded header": (b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: %(all)d\r\n", b"0\r\n\r\n%(hidden)b"),
    "a chunk beyond 64 bits": (b"Transfer-Encoding: chunked\r\n", b"10000000000000002\r\n{}\r\n0\r\n\r\n%(hidden)b"),
    "a chunk with a sign": (b"Transfer-Encoding: chunked\r\n", b"+2\r\n{}\r\n0\r\n\r\n%(hidden)b"),
    "a chunk longer than it says": (b"Transfer-Encoding: chunked\r\n", b"1\r\n{}\r\n0\r\n\r\n%(hidden)b"),
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_request_that_hides_in_another_is_not_answered(server, framing):
    """There is one answer, to the first request, and the connection is closed: nobody can take it for two."""
    path = server.new_path()
    hidden = server.put(path).raw()
    headers, body = FRAMINGS[framing]
    body %= {b"hidden": hidden, b"size": len(hidden)}

    said = server.put()._replace(body=body, framing=headers % {b"all": len(body)}).raw()
    heard = converse(server.port, said, quiet_s=PATIENCE_S)

    assert heard.ending == CLOSED
    assert [answer.status for answer in heard.answers] == [400]
    server.assert_nothing_at(path)


def test_an_upgrade_that_nobody_offers_is_ignored(server, connection):
    offer = (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")

    connection.sendall(server.get()._replace(headers=offer).raw())

    assert [answer.status for answer in read_answers(connection, 1)] == [200]


# ---- a client that never reads its answers


def test_a_client_that_never_reads_its_answers_holds_up_nobody_and_takes_no_memory(server, course):
    large = large_answer(course, server)
    warm_up(server.port, large, rounds=2)
    before_mb = memory_mb(server.pid)

    with ExitStack() as left:
        for _ in range(20):
            connection = left.enter_context(closing(socket.socket()))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(large.raw() * 2000)
        most_mb = 0
        for _ in range(30):
            server.assert_serves()
            most_mb = max(most_mb, memory_mb(server.pid))

    assert most_mb < before_mb + MOST_GROWN_MB


def large_answer(course, server):
    """A request that is answered with some 60 KB."""
    path = server.new_path()
    if isinstance(server, Queue):
        for _ in range(4):
            server.ask("PUT", path, padded('{"n":1}', 16_000))
        return Request(b"POST", path.replace("/q/", "/channel/").encode() + b"/take", b"{}")
    clocks = [{f"{sibling}-{'i' * 50}-{entry}": 1 for entry in range(10)} for sibling in range(100)]
    siblings = {"rating": 1, "choices": json.dumps([1] * len(clocks)), "clocks": json.dumps(clocks)}
    for shard in range(NDB):
        course.stage.redis(shard).hset(path, mapping=siblings)
    return server.get(path)


# ---- gossip that a stranger puts on a channel


def test_what_the_queue_takes_from_anybody_does_not_stop_the_gossip(servers, course):
    """The deepest record that the queue takes, and behind it gossip that makes sense."""
    queue, shard = servers["queue"], servers["shard"]
    tea = "hostile-gossip"
    told = {"primary": "db1", "key": tea, "rating": 3, "choices": [3], "clocks": [{"c0": 1}]}
    deepest = max(depth for depth in range(1, 1000) if queue.ask("PUT", "/q/probe", nested(depth)).status == 200)

    try:
        assert queue.ask("PUT", "/q/db1", nested(deepest)).status == 200
        assert queue.ask("PUT", "/q/db1", json.dumps(told)).status == 200

        eventually(lambda: shard.ask("GET", f"/rating/{tea}").body == shard.read_back(3), "the gossip is heard")
    finally:
        queue.ask("DELETE", "/clear")


def test_bodies_that_stall_at_the_queue_do_not_keep_shards_from_it(servers):
    queue, shard = servers["queue"], servers["shard"]
    tea = "gossip-beside-stalled-bodies"
    told = {"primary": "db1", "key": tea, "rating": 3, "choices": [3], "clocks": [{"c0": 1}]}
    stalled = queue.put()._replace(body=b"{", framing=b"Content-Length: 60\r\n").raw()

    try:
        assert queue.ask("PUT", "/q/db1", json.dumps(told)).status == 200
        with crowd(queue.port, queue.threads, stalled) as stalling:
            beyond = queue.threads - queue.most_bodies
            eventually(lambda: at_least(beyond, answered(stalling)), "the others are refused")

            eventually(lambda: shard.ask("GET", f"/rating/{tea}").body == shard.read_back(3), "the gossip is heard")
    finally:
        queue.ask("DELETE", "/clear")


def nested(depth):
    return '{"n":' + "[" * depth + "]" * depth + "}"
