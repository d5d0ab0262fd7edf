"""nginx with deploy/nginx.conf before a real load balancer: nothing changes on the way, and slow clients cost nothing.

The file runs as it stands, on other ports. One small cluster serves all tests; every test has teas of its own.
"""

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPResponse

import nginxbinary
import psutil
import pytest
from asking import CHUNKED, Answer, ask, assert_answers, assert_problem, padded
from harness import CALL_S, START_S, UNRATED, Stage, deadline_in, gone, stopped
from sharing import or_skip

from emporium.cluster import accepts_connections
from emporium.environment import ROOT
from emporium.ports import Ports
from emporium.service import Service, stop_these
from emporium.settings import LBSettings
from serverLB import primary_of

CONF = ROOT / "deploy" / "nginx.conf"
NDB = 2
BODY_LIMIT_BYTES = 64 * 1024
RATED = '{"rating":3,"clock":{"c0":1}}'
RATED_BYTES = len(RATED)
SLOW = 200  # clients

PATHS = [
    "/rating/persimmon",
    "/rating/what%3F",
    "/rating/what%3Fconsistency=wek",
    "/rating/what?consistency=wek",
    "/rating/100%25",
    "/rating/100%2525",
    "/rating/c%2B%2B",
    "/rating/c++",
    "/rating/%23",
    "/rating/a;b=c&d",
    "/rating/earl%20grey",
    "/rating/caf%C3%A9",
    "/rating/cafe%CC%81",
    "/rating/%e8%8c%b6",
    "/rating/%ff",
    "/rating/%0A",
    "/rating/a%2Fb",
    "/rating/a%2F..%2Fb",
    "/rating/.",
    "/rating/..",
    "/rating/%2E%2E",
    "/rating/...",
    "/rating/x/..",
    "/rating/x/",
    "/rating//x",
    "//rating/x",
    "/rating/",
    "/rating",
    "/",
    "/ratings",
    "/ratings/",
    "/nothing/here",
    "/problem",
]


# ---- nginx and what is behind it


@pytest.fixture(scope="module")
def program():
    return or_skip(nginxbinary.find_or_unpack)


@pytest.fixture(scope="module")
def layout():
    return Ports.find_free(NDB + 1)  # nginx listens where a third shard would


@pytest.fixture(scope="module")
def cluster(program, layout, run_folder):
    folder = run_folder / "behind-nginx"
    folder.mkdir()
    with Stage(folder, NDB, layout) as stage:
        yield stage.begin(digest_length=1000).stage.cluster


@pytest.fixture(scope="module")
def nginx(program, layout, cluster, run_folder):
    folder = run_folder / "nginx"
    folder.mkdir()
    port = layout.db(NDB)
    conf = folder / "nginx.conf"
    conf.write_text(with_ports(CONF.read_text(), port, layout.lb))
    # One process: a worker would outlive a master that is killed.
    command = [program, "-p", str(folder), "-c", str(conf), "-g", "daemon off; master_process off;"]
    service = Service("nginx", command, port, f"http://127.0.0.1:{port}", accepts_connections, folder / "nginx.log")
    try:
        service.start()
        service.wait_until_it_answers(deadline_in(START_S))
        yield service
    finally:
        stop_these([service])


def with_ports(text, port, lb_port):
    """The file as it stands, but for where nginx listens and where the load balancer does."""
    for written, instead in (("127.0.0.1:2580", f"127.0.0.1:{port}"), ("127.0.0.1:2500", f"127.0.0.1:{lb_port}")):
        assert text.count(written) == 1, f"{written} in {CONF}"
        text = text.replace(written, instead)
    return text


@pytest.fixture(scope="module")
def never_done(nginx):
    """Clients who stall from the first test on, since it takes 10 s until they are cut."""
    begun = [b"", b"GET /rating/assam HT", b"GET /rating/assam HTTP/1.1\r\nHost: te", stalled_put("assam")]
    with connections_to(nginx, len(begun)) as connections:
        for connection, first in zip(connections, begun, strict=True):
            connection.sendall(first)
        yield connections


@pytest.fixture
def through(nginx, never_done):
    """through(method, path, ...) asks nginx."""
    return partial(ask, nginx.port)


@pytest.fixture
def straight(cluster):
    """straight(method, path, ...) asks the load balancer itself."""
    return partial(ask, cluster.load_balancer.port)


@contextmanager
def connections_to(service, count):
    with ExitStack() as opened:
        address = ("127.0.0.1", service.port)
        yield [opened.enter_context(socket.create_connection(address, timeout=CALL_S)) for _ in range(count)]


def stalled_put(tea, begun=RATED[:5], announced=RATED_BYTES):
    """A PUT that lacks the end of its body: it has begun, and announced so many bytes."""
    head = f"PUT /rating/{tea} HTTP/1.1\r\nHost: tea\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {announced}\r\n\r\n{begun}".encode()


def said_by(connection):
    """All that comes until the other side closes."""
    with connection.makefile("rb") as coming:
        return coming.read().decode()


def answer_on(connection):
    with HTTPResponse(connection) as response:
        response.begin()
        return Answer(response.status, response.headers, response.read().decode())


def connections_held_by(service):
    """How many clients are connected to the service."""
    of_it = psutil.Process(service.process.pid).net_connections(kind="tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == service.port for one in of_it)


def assert_serves(asking, tea, times):
    """Newer and newer ratings are stored and read, each as ever."""
    for number in times:
        rated, clock = {"rating": number}, {"c0": number}
        assert_answers(asking("PUT", f"/rating/{tea}", json.dumps({**rated, "clock": clock})), rated)
        assert_answers(asking("GET", f"/rating/{tea}"), {**rated, "choices": [number], "clocks": [clock]})


def test_nginx_accepts_the_file_as_it_stands(program, tmp_path):
    command = [program, "-t", "-p", str(tmp_path), "-c", str(CONF)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


# ---- nothing changes on the way


def test_what_is_written_through_nginx_is_read_through_it_and_without_it(through, straight):
    written = through("PUT", "/rating/sencha", RATED)

    assert_answers(written, {"rating": 3})
    assert through("GET", "/rating/sencha").text == straight("GET", "/rating/sencha").text
    assert straight("GET", "/rating/sencha").body["choices"] == [3]
    assert_answers(through("DELETE", "/rating/sencha"), {"rating": None})
    assert_answers(straight("GET", "/rating/sencha"), UNRATED)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_means_the_same_with_nginx_and_without(through, straight, path):
    unlike_any_other = f'{{"rating":5,"clock":{{"by-path-{PATHS.index(path)}":1}}}}'

    put, put_again = through("PUT", path, unlike_any_other), straight("PUT", path, unlike_any_other)
    read, read_again = through("GET", path), straight("GET", path)

    assert (put.status, put.text) == (put_again.status, put_again.text)
    assert (put.headers["X-Merge"], put_again.headers["X-Merge"]) in [("stored", "same"), (None, None)]
    assert (read.status, read.text) == (read_again.status, read_again.text)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "BREW"])
def test_a_method_passes_and_so_does_the_answer_to_it(through, straight, method):
    with_it, without = through(method, "/rating/bancha"), straight(method, "/rating/bancha")

    assert (with_it.status, with_it.text) == (without.status, without.text)
    for name in ("Allow", "Content-Type", "Content-Length"):
        assert with_it.headers[name] == without.headers[name]


def test_the_outcome_of_a_write_passes(through):
    writes = ['{"rating":3,"clock":{"c0":2}}', '{"rating":3,"clock":{"c0":2}}', RATED]

    assert [through("PUT", "/rating/matcha", body).headers["X-Merge"] for body in writes] == ["stored", "same", "stale"]


def test_a_failure_that_the_load_balancer_tells_passes_in_its_words(cluster, through, straight):
    lost = next(tea for tea in ("assam", "keemun") if primary_of(tea, NDB) == 1)

    with gone(cluster.shards[1]):
        with_it, without = through("PUT", f"/rating/{lost}", RATED), straight("PUT", f"/rating/{lost}", RATED)

    assert_problem(with_it, 503, "db1")
    assert with_it.text == without.text
    assert with_it.headers["Retry-After"] == without.headers["Retry-After"] == "1"


# ---- bodies


def test_a_body_may_have_64_kib(through):
    whole = padded(RATED, BODY_LIMIT_BYTES)

    assert_answers(through("PUT", "/rating/bodies", whole), {"rating": 3})
    assert_answers(through("PUT", "/rating/bodies", iter([whole]), CHUNKED), {"rating": 3})


def test_a_body_of_more_than_64_kib_is_refused_whether_or_not_it_tells_its_length(through, straight):
    answers = [
        through("PUT", "/rating/too-long", padded(RATED, BODY_LIMIT_BYTES + 1)),
        through("PUT", "/rating/too-long", iter([padded(RATED, BODY_LIMIT_BYTES + 1)]), CHUNKED),
        through("PUT", "/rating/too-long", iter([padded(RATED, BODY_LIMIT_BYTES), b" "]), CHUNKED),
    ]

    for answer in answers:
        assert_problem(answer, 413, "65536 bytes")
    assert_answers(straight("GET", "/rating/too-long"), UNRATED)


def test_a_body_that_would_be_too_long_is_refused_before_it_comes(nginx):
    with connections_to(nginx, 1) as [connection]:
        connection.sendall(stalled_put("too-long", announced=BODY_LIMIT_BYTES + 1))
        assert_problem(answer_on(connection), 413)


def test_a_body_that_is_cut_short_never_reaches_the_load_balancer(nginx, straight):
    with connections_to(nginx, 1) as [connection]:
        connection.sendall(stalled_put("cut"))
        connection.shutdown(socket.SHUT_WR)
        assert said_by(connection) == ""

    assert_answers(straight("GET", "/rating/cut"), UNRATED)


def test_a_client_that_has_said_all_and_closes_its_half_is_answered(nginx):
    with connections_to(nginx, 1) as [connection]:
        connection.sendall(stalled_put("half-closed", begun=RATED))
        connection.shutdown(socket.SHUT_WR)
        assert_answers(answer_on(connection), {"rating": 3})


# ---- clients that are slow


def test_bodies_that_stall_hold_no_thread_of_the_load_balancer(nginx, cluster, through):
    assert LBSettings().threads < SLOW

    with connections_to(nginx, SLOW) as stalled:
        for connection in stalled:
            connection.sendall(stalled_put("stalled"))
        assert_serves(through, "while-bodies-stall", range(1, 21))
        assert connections_held_by(cluster.load_balancer) < SLOW / 10

        stalled[-1].sendall(RATED[5:].encode())  # it was waited for all the time
        assert_answers(answer_on(stalled[-1]), {"rating": 3})


def test_headers_that_come_byte_by_byte_or_never_keep_nobody_waiting(nginx, cluster, through):
    with connections_to(nginx, SLOW) as slow:
        talking, silent = slow[::2], slow[1::2]
        for connection in talking:
            connection.sendall(b"GET /rating/slow HTTP/1.1\r\nHost: tea\r\nConnection: close\r\nX-Slow: ")
        for number in range(1, 6):
            for connection in talking:
                connection.sendall(b"w")
            assert_serves(through, "while-headers-come", [number])
        assert connections_held_by(cluster.load_balancer) < SLOW / 10

        talking[-1].sendall(b"\r\n\r\n")  # both were waited for all the time
        silent[-1].sendall(b"GET /rating/slow HTTP/1.1\r\nHost: tea\r\nConnection: close\r\n\r\n")
        for connection in (talking[-1], silent[-1]):
            assert_answers(answer_on(connection), UNRATED)


# ---- a load balancer that does not answer


def test_without_a_load_balancer_surely_nothing_is_done(cluster, through):
    with gone(cluster.load_balancer):
        answers = [through(method, "/rating/gone", RATED) for method in ("PUT", "GET", "DELETE")]
    back = through("GET", "/rating/gone")

    for answer in answers:
        assert_problem(answer, 503, "nothing was done")
        assert answer.headers["Retry-After"] == "1"
    assert_answers(back, UNRATED)  # at once: nginx does not go on believing that it is away


def test_a_write_that_is_not_answered_in_time_may_have_been_done(cluster, through):
    through = partial(through, within_s=START_S)
    with ThreadPoolExecutor() as pool:
        with stopped(cluster.load_balancer):
            listed = pool.submit(through, "GET", "/ratings")
            answers = list(pool.map(lambda method: through(method, "/rating/late", RATED), ("PUT", "DELETE", "GET")))
        assert listed.result().status == 200  # the list of all teas may take longer

    put, delete, get = answers
    assert_problem(put, 504, "may have been done", "safe to repeat")
    assert_problem(delete, 504, "may have been done")
    assert_problem(get, 503, "nothing was done")
    assert (put.headers["Retry-After"], get.headers["Retry-After"]) == (None, "1")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["nothing", "half-an-answer"])
def test_a_write_that_is_broken_off_may_have_been_done_and_is_not_tried_twice(cluster, through, said):
    address = ("127.0.0.1", cluster.load_balancer.port)
    with gone(cluster.load_balancer), socket.create_server(address) as in_its_place:
        put = ask_and_break_off(in_its_place, said, lambda: through("PUT", "/rating/broken", RATED))
        get = ask_and_break_off(in_its_place, said, lambda: through("GET", "/rating/broken"))

    assert_problem(put, 504, "may have been done")
    assert_problem(get, 503, "nothing was done")


def ask_and_break_off(listener, said, request):
    """The answer to the second of two requests, when who listens answers the first and breaks off at the second."""
    listener.settimeout(CALL_S)
    with ThreadPoolExecutor(max_workers=1) as pool:
        first = pool.submit(request)
        kept, _ = listener.accept()
        with kept:
            kept.settimeout(CALL_S)
            assert b"/rating/broken" in kept.recv(BODY_LIMIT_BYTES)
            kept.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            assert first.result().status == 200
            second = pool.submit(request)
            assert b"/rating/broken" in kept.recv(BODY_LIMIT_BYTES)
            kept.sendall(said)
        answer = second.result()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    return answer


# ---- errors of nginx's own


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET /rating/%zz HTTP/1.1", {"Host": "tea"}, 400),
        ("GET /rating/%00 HTTP/1.1", {"Host": "tea"}, 400),
        ("GET /rating/a b HTTP/1.1", {"Host": "tea"}, 400),
        ("GET /../up HTTP/1.1", {"Host": "tea"}, 400),
        ("GET /rating/assam HTTP/1.1", {}, 400),
        ("PUT /rating/assam HTTP/1.1", {"Host": "tea", "Content-Length": "-3"}, 400),
        ("\x16\x03\x01", {}, 400),
        ("TRACE /rating/assam HTTP/1.1", {"Host": "tea"}, 405),
        (f"GET /rating/{'a' * 9000} HTTP/1.1", {"Host": "tea"}, 414),
        ("GET /rating/assam HTTP/1.1", {"Host": "tea", "X-Long": "a" * 9000}, 431),
        ("PUT /rating/assam HTTP/1.1", {"Host": "tea", "Transfer-Encoding": "gzip"}, 501),
        ("GET /rating/assam HTTP/3.0", {"Host": "tea"}, 505),
    ],
)
def test_what_nginx_refuses_itself_is_told_in_the_form_of_all_errors(nginx, request_line, headers, status):
    lines = [request_line, *(f"{name}: {value}" for name, value in headers.items()), "Connection: close", "", ""]

    with connections_to(nginx, 1) as [connection]:
        connection.sendall("\r\n".join(lines).encode())
        answer = answer_on(connection)

    assert_problem(answer, status)
    assert answer.headers["Server"] == "nginx"  # and no version


# ---- when the 10 s are over


def test_clients_who_never_end_a_request_are_cut(never_done):
    for connection in never_done:
        connection.settimeout(10 + CALL_S)
        assert said_by(connection) == ""
