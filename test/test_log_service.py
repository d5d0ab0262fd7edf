"""The log as a service: records at offsets over HTTP, told on real processes.

One process serves most of the file; whoever ends, fills or damages a log starts one of its own.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO

import psutil
import pytest
from asking import Answer, ask, padded
from harness import CALL_S, eventually
from harness import start as wait_until_it_serves
from werkzeug.test import Client

import serverLog
from emporium import command, logproblems
from emporium.cluster import python_service
from emporium.commitlog import Config, Log, tools
from emporium.commitlog.errors import Closed, Damaged, NotStored, ReadOnly, TooLarge, Unsure
from emporium.environment import ROOT
from emporium.ports import Ports
from emporium.service import stop_these
from emporium.settings import LogSettings, read

LIMIT_BYTES = 2 * 2**20
MOST_RECORDS = 1000
END_S = 20  # for a process to come to its end
FORM = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl -d says

# As they stand in the source.
LINES = """
curl -X POST localhost:8080 -d \\
'{"record": {"value": "TGV0J3MgR28gIzEK"}}'
curl -X POST localhost:8080 -d \\
'{"record": {"value": "TGV0J3MgR28gIzIK"}}'
curl -X POST localhost:8080 -d \\
'{"record": {"value": "TGV0J3MgR28gIzMK"}}'
curl -X GET localhost:8080 -d '{"offset": 0}'
curl -X GET localhost:8080 -d '{"offset": 1}'
curl -X GET localhost:8080 -d '{"offset": 2}'
"""


class Served:
    """A log in a folder, with the process that serves it. What it answers is checked only where a test does."""

    def __init__(self, folder, program="serverLog.py", **settings):
        self.folder = folder
        self.port = Ports.find_free(1).q
        given = {"port": self.port, "data-dir": str(folder), **settings}
        self.said = folder.parent / f"{folder.name}.out"
        self.service = python_service("log", program, self.port, lambda name: self.said, given)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        stop_these([self.service])

    def start(self):
        wait_until_it_serves(self.service)

    def kill(self):
        self.service.kill()

    def end(self):
        """Tell it to end. Returns its exit code."""
        self.service.signal(signal.SIGTERM)
        return self.ending()

    def ending(self):
        """Its exit code, when it has ended."""
        assert self.service.wait_for_end(END_S)
        return self.service.process.returncode

    def ask(self, method, path, body=None, headers=FORM):
        return ask(self.port, method, path, body, headers)

    def post(self, value):
        return self.ask("POST", "/", json.dumps({"record": encoded(value)}))

    def append(self, value):
        """The offset of this value, bytes."""
        return done(self.post(value))["offset"]

    def append_all(self, values):
        return done(self.ask("POST", "/batch", json.dumps({"records": [encoded(value) for value in values]})))

    def read(self, offset):
        """The value at this offset."""
        record = done(self.ask("GET", f"/?offset={offset}"))["record"]
        assert record["offset"] == offset
        return b64decode(record["value"], validate=True)

    def read_many(self, offset, most=MOST_RECORDS, wait=0):
        """[(offset, value)]."""
        found = done(self.ask("GET", f"/?offset={offset}&max={most}&wait={wait}"))["records"]
        return [(record["offset"], b64decode(record["value"], validate=True)) for record in found]

    def read_all(self):
        """[(offset, value)] of all that it has."""
        status, found = self.status(), []
        offset = status["lowest"]
        while some := self.read_many(offset):
            found += some
            offset = some[-1][0] + 1
        assert offset == status["next"]
        return found

    def status(self):
        return done(self.ask("GET", "/status"))

    @property
    def next(self):
        return self.status()["next"]


class Inside(Served):
    """The same without a process, for folders that were prepared."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self._settings, _ = read(LogSettings, json.dumps({"data-dir": str(folder), **settings}), environ={})

    def __enter__(self):
        self._app = serverLog.create_app(self._settings)
        return self

    def __exit__(self, *failure):
        self._app.at_end()

    def ask(self, method, path, body=None, headers=FORM):
        answer = Client(self._app).open(path, method=method, data=body, headers=headers)
        return Answer(answer.status_code, answer.headers, answer.text)


def encoded(value):
    return {"value": b64encode(value).decode()}


def done(answer):
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json"), answer.text
    return answer.body


def assert_problem(answer, status, *words):
    """As everywhere; an answer 404 has two members more."""
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= set(answer.body)
    for word in words:
        assert word in answer.body["detail"]


def numbered(*numbers):
    return [b"%d" % number for number in numbers]


@pytest.fixture(scope="module")
def log(run_folder):
    """A log that is never empty, for tests that only append and read."""
    with Served(run_folder / "log-service") as served:
        served.append(b"first")
        yield served


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "log"


# ---- appending and reading


def test_the_lines_of_the_source_work_as_they_stand(folder):
    """curl says that its JSON is a form, and sends a body with a GET."""
    with Served(folder) as log:
        lines = LINES.replace(":8080", f":{log.port}").replace("curl ", "curl -sS ")
        lines = re.sub(r"(})'$", r"\1'; echo", lines, flags=re.MULTILINE)
        said = subprocess.run(["bash", "-ec", lines], capture_output=True, text=True, timeout=20, check=True).stdout

    assert said.splitlines() == [
        '{"offset":0}',
        '{"offset":1}',
        '{"offset":2}',
        '{"record":{"value":"TGV0J3MgR28gIzEK","offset":0}}',
        '{"record":{"value":"TGV0J3MgR28gIzIK","offset":1}}',
        '{"record":{"value":"TGV0J3MgR28gIzMK","offset":2}}',
    ]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00",
        b"a",
        b"ab",
        b"abc",
        bytes(range(256)),
        b"\xfb\xff\xfe",
        "茶 ☕\n".encode(),
        bytes(range(256)) * 6000,
    ],
    ids=lambda value: f"{len(value)} bytes",
)
def test_a_value_comes_back_byte_for_byte(log, value):
    offset = log.append(value)

    assert log.read(offset) == value
    assert log.read_many(offset) == [(offset, value)]
    assert done(log.ask("GET", "/", json.dumps({"offset": offset})))["record"] == {**encoded(value), "offset": offset}


@pytest.mark.parametrize("headers", [{}, FORM, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}])
def test_a_body_is_read_whatever_it_says_it_is(log, headers):
    offset = done(log.ask("POST", "/", '{"record": {"value": "QQ=="}}', headers))["offset"]
    assert done(log.ask("POST", "/batch", '{"records": [{"value": "QQ=="}]}', headers))["count"] == 1

    for body, path in [(json.dumps({"offset": offset}), "/"), (None, f"/?offset={offset}")]:
        assert done(log.ask("GET", path, body, headers)) == {"record": {"value": "QQ==", "offset": offset}}


def test_a_body_of_unknown_length_is_read(log):
    answer = log.ask("POST", "/", [b'{"record": ', b'{"value": "QQ=="}}'], {"Transfer-Encoding": "chunked"})

    assert log.read(done(answer)["offset"]) == b"A"


def test_a_record_as_it_was_read_can_be_appended_again(log):
    read_before = done(log.ask("GET", "/?offset=0"))

    offset = done(log.ask("POST", "/", json.dumps(read_before)))["offset"]

    assert offset > 0
    assert log.read(offset) == b"first"


def test_a_batch_follows_one_another(log):
    before = log.next

    answered = log.append_all(numbered(*range(5)))

    assert answered == {"offset": before, "count": 5}
    assert log.read_many(before) == list(enumerate(numbered(*range(5)), before))


def test_many_are_read_up_to_max(log):
    first = log.append_all(numbered(*range(10)))["offset"]

    assert [offset for offset, _ in log.read_many(first, 3)] == [first, first + 1, first + 2]
    assert done(log.ask("GET", "/", json.dumps({"offset": first, "max": 2, "wait": 0.5})))["records"] == [
        {**encoded(b"0"), "offset": first},
        {**encoded(b"1"), "offset": first + 1},
    ]
    assert log.read_many(first + 10) == []


def test_an_answer_has_a_mebibyte_of_values_or_one_record(log):
    first = log.append(bytes(1_200_000))
    log.append(bytes(600_000))
    log.append(bytes(600_000))

    assert [len(value) for _, value in log.read_many(first)] == [1_200_000]
    assert [len(value) for _, value in log.read_many(first + 1)] == [600_000]


def test_many_writers_at_once_have_offsets_of_their_own(log):
    before = log.next

    def write(writer):
        return [(log.append(b"%d-%d" % (writer, turn)), b"%d-%d" % (writer, turn)) for turn in range(20)]

    with ThreadPoolExecutor(8) as pool:
        of_each = list(pool.map(write, range(8)))

    written = sorted(record for records in of_each for record in records)
    assert [offset for offset, _ in written] == list(range(before, before + 160))
    assert log.read_many(before) == written
    for records in of_each:
        assert records == sorted(records)  # what one writer appends later comes later


def test_batches_at_once_do_not_mix(log):
    def write(writer):
        return log.append_all([b"%d" % writer] * 20)["offset"], b"%d" % writer

    with ThreadPoolExecutor(6) as pool:
        batches = list(pool.map(write, range(6)))

    for first, value in batches:
        assert log.read_many(first, 20) == [(first + i, value) for i in range(20)]


# ---- what is not there


@pytest.mark.parametrize("beyond", [0, 1, 1000])
def test_past_the_end_there_is_nothing_and_the_answer_says_where_the_end_is(log, beyond):
    next_offset = log.next
    offset = next_offset + beyond

    for path, body in [(f"/?offset={offset}", None), ("/", json.dumps({"offset": offset}))]:
        answer = log.ask("GET", path, body)

        assert_problem(answer, 404, f"offset out of range: {offset};")
        assert (answer.body["lowest"], answer.body["next"]) == (0, next_offset)


def test_the_last_offset_of_all_is_only_not_there(log):
    assert_problem(log.ask("GET", f"/?offset={2**64 - 1}"), 404)
    assert_problem(log.ask("GET", "/", json.dumps({"offset": 2**64 - 1})), 404)


def test_an_empty_log_has_nothing_at_0(folder):
    with Inside(folder) as log:
        answer = log.ask("GET", "/", '{"offset": 0}')

        assert_problem(answer, 404)
        assert (answer.body["lowest"], answer.body["next"]) == (0, 0)
        assert log.read_many(0) == []


def test_a_reader_beyond_the_end_is_told_so_at_once(log):
    """It has read another log: waiting, longer than `ask` does, would give it records as if nothing had happened."""
    assert_problem(log.ask("GET", f"/?offset={log.next + 1}&max=5&wait=20"), 404)
    assert_problem(log.ask("GET", f"/?offset={log.next + 1}&wait=20"), 404)


def test_what_was_truncated_is_no_longer_there(folder):
    with Log(folder, Config(segment_bytes=1)) as made:
        made.append_many(numbered(0, 1, 2))
        made.append_many(numbered(3, 4))
        made.truncate(2)

    with Inside(folder) as log:
        answers = [
            log.ask("GET", "/?offset=2"),
            log.ask("GET", "/?offset=0&max=5"),
            log.ask("GET", "/?offset=1&wait=9"),
        ]

        for answer in answers:
            assert_problem(answer, 404)
            assert (answer.body["lowest"], answer.body["next"]) == (3, 5)
        assert log.read_all() == [(3, b"3"), (4, b"4")]


# ---- what is refused


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "record=QQ==",
        "{}",
        "[]",
        "null",
        '"QQ=="',
        '{"value": "QQ=="}',
        '{"record": null}',
        '{"record": "QQ=="}',
        '{"record": {}}',
        '{"record": {"value": null}}',
        '{"record": {"value": 5}}',
        '{"record": {"value": ["QQ=="]}}',
        '{"record": {"value": "QQ"}}',
        '{"record": {"value": "QQ="}}',
        '{"record": {"value": "Q"}}',
        '{"record": {"value": "===="}}',
        '{"record": {"value": "QR=="}}',
        '{"record": {"value": "QQ==QQ=="}}',
        '{"record": {"value": "QQ==\\n"}}',
        '{"record": {"value": " QQ=="}}',
        '{"record": {"value": "-_8="}}',
        '{"record": {"value": "QQ==茶"}}',
        '{"record": {"value": "QQ==", "vlaue": "QQ=="}}',
        '{"record": {"value": "QQ=="}, "records": []}',
        '{"record": {"value": "QQ=="}} {}',
        b'{"record": {"value": "\xff"}}',
        '{"record": {"value": "QQ=="}}'.encode("utf-16"),
        "[" * 30_000,
        "\x00" * 1000,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_what_is_no_record_is_refused_and_nothing_is_stored(log, body):
    before = log.next

    answer = log.ask("POST", "/", body.encode() if isinstance(body, str) else body)

    assert_problem(answer, 400)
    assert log.next == before


@pytest.mark.parametrize(
    ("records", "field"),
    [
        ([], "records"),
        ([encoded(b"1"), {}], "records[1]"),
        ([encoded(b"1"), encoded(b"2"), {"value": "QQ"}], "records[2].value"),
        ([encoded(b"1"), "QQ=="], "records[1]"),
        ([encoded(b"1")] * (MOST_RECORDS + 1), "records"),
        ("QQ==", "records"),
        (None, "records"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_batch_is_refused_whole_and_the_answer_says_where_it_is_wrong(log, records, field):
    before = log.next

    assert_problem(log.ask("POST", "/batch", json.dumps({"records": records})), 400, f"{field}: ")
    assert log.next == before


def test_a_batch_may_have_a_thousand_records(log):
    assert log.append_all([b""] * MOST_RECORDS)["count"] == MOST_RECORDS


@pytest.mark.parametrize(
    "offset", ["-1", "1.0", "1e0", "true", '"0"', "null", "[0]", "18446744073709551616", "9" * 5000]
)
def test_what_is_no_offset_is_refused_in_a_body(log, offset):
    assert_problem(log.ask("GET", "/", f'{{"offset": {offset}}}'), 400, "offset: ")


@pytest.mark.parametrize(
    "offset", ["", "-1", "+1", "1.0", "1e0", "true", "0x1", "%C2%B2", "%201", "1_0", str(2**64), "9" * 5000]
)
def test_what_is_no_offset_is_refused_in_a_query(log, offset):
    assert_problem(log.ask("GET", f"/?offset={offset}"), 400, "offset must be")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", None),
        ("/?max=5", None),
        ("/?ofset=0", None),
        ("/", "{}"),
        ("/", "{"),
        ("/", "0"),
        ("/", '{"offset": 0, "most": 5}'),
        ("/", '{"offset": 0, "max": 0}'),
        ("/", '{"offset": 0, "max": 1001}'),
        ("/", '{"offset": 0, "wait": 31}'),
        ("/", '{"offset": 0, "wait": "1"}'),
        ("/?offset=0&max=0", None),
        ("/?offset=0&max=1001", None),
        ("/?offset=0&max=x", None),
        ("/?offset=0&wait=-1", None),
        ("/?offset=0&wait=30.1", None),
        ("/?offset=0&wait=nan", None),
        ("/?offset=0&wait=1e2", None),
        ("/?offset=0&wait=1e999", None),
        ("/?offset=0&wait=", None),
        ("/?offset=0", '{"offset": 0}'),
        ("/?max=5", '{"offset": 0}'),
    ],
)
def test_a_read_that_does_not_say_what_is_refused(log, path, body):
    assert_problem(log.ask("GET", path, body), 400)


@pytest.mark.parametrize("wait", ["-0.0", "1e-05", "0.12345678901234567", "1e1"])
def test_seconds_to_wait_may_be_written_as_any_number_is(log, wait):
    done(log.ask("POST", "/", '{"record": {"value": "QQ=="}}'))

    assert done(log.ask("GET", f"/?offset={log.next - 1}&wait={wait}"))["record"]["value"] == "QQ=="


def test_a_body_beyond_the_limit_is_refused(log):
    record = '{"record": {"value": "QQ=="}}'
    assert done(log.ask("POST", "/", padded(record, LIMIT_BYTES)))["offset"] == log.next - 1
    before = log.next

    assert_problem(log.ask("POST", "/", padded(record, LIMIT_BYTES + 1)), 413, str(LIMIT_BYTES))
    assert_problem(log.ask("POST", "/batch", padded('{"records": []}', LIMIT_BYTES + 1)), 413)
    chunked = log.ask("POST", "/", [padded(record, LIMIT_BYTES + 1)], {"Transfer-Encoding": "chunked"})
    assert_problem(chunked, 413)
    assert_problem(log.ask("GET", "/", padded('{"offset": 0}', 64 * 1024 + 1)), 413)
    assert log.next == before


@pytest.mark.parametrize("size_bytes", [LIMIT_BYTES + 1, 4 * LIMIT_BYTES])
def test_who_says_all_before_it_listens_hears_that_it_was_too_much(log, size_bytes):
    for _ in range(3):
        assert_problem(log.ask("POST", "/", bytes(size_bytes)), 413)
        assert_problem(log.ask("POST", "/", [bytes(size_bytes)], {"Transfer-Encoding": "chunked"}), 413)


def test_a_compressed_body_is_refused(log):
    assert_problem(log.ask("POST", "/", "x", {"Content-Encoding": "gzip"}), 415)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("/batch", {"POST", "OPTIONS"}),
        ("/status", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_methods_are_those_that_allow_names(log, path, allowed):
    for method in {"PUT", "DELETE", "PATCH", "POST", "GET"} - allowed:
        answer = log.ask(method, path, "{}")
        assert_problem(answer, 405)
        assert set(answer.headers["Allow"].split(", ")) == allowed
    options = log.ask("OPTIONS", path)
    assert (options.status, options.text) == (204, "")
    assert set(options.headers["Allow"].split(", ")) == allowed


def test_head_answers_as_get_without_the_body(log):
    head, get = log.ask("HEAD", "/?offset=0"), log.ask("GET", "/?offset=0")

    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    assert log.ask("HEAD", f"/?offset={2**63}").status == 404


def test_another_path_or_kind_of_answer_is_refused(log):
    assert_problem(log.ask("GET", "/0"), 404)
    assert_problem(log.ask("GET", "//?offset=0"), 404)
    assert_problem(log.ask("GET", "/?offset=0", None, {"Accept": "text/html"}), 406)


def test_it_says_how_it_is(log):
    before = log.status()
    log.append(b"x" * 100)
    after = log.status()

    assert done(log.ask("GET", "/healthz")) == {"service": "log", "pid": log.service.process.pid}
    assert done(log.ask("GET", "/readyz")) == {"ready": True, "checks": {"append": "ok"}}
    assert (after["lowest"], after["next"], after["segments"]) == (0, before["next"] + 1, 1)
    assert after["bytes"] >= before["bytes"] + 100
    assert (after["fsync"], after["failure"], after["data-dir"]) == ("group", None, str(log.folder))
    assert re.fullmatch("[0-9a-f]{32}", after["identity"])


# ---- following the tail


def test_a_reader_at_the_end_is_woken_by_what_comes(log):
    offset = log.next
    with ThreadPoolExecutor(2) as pool:
        many = pool.submit(log.read_many, offset, 10, 20)
        one = pool.submit(log.ask, "GET", f"/?offset={offset}&wait=20")
        wait_until_they_wait(log, 2)

        log.append(b"news")

        assert many.result(CALL_S) == [(offset, b"news")]  # long before the 20 s are over
        assert done(one.result(CALL_S)) == {"record": {**encoded(b"news"), "offset": offset}}


def wait_until_they_wait(log, number):
    """Until so many requests are in flight, and all that there is to do for them at once is done."""
    process = psutil.Process(log.service.process.pid)
    in_flight = f"\ntea_http_requests_in_flight {number}.0\n"
    eventually(lambda: in_flight in log.ask("GET", "/metrics").text, f"{number} are in flight")
    eventually(lambda: process.cpu_percent(0.1) == 0, "it does nothing any more")


@pytest.mark.parametrize("wait", ["0.3", "1"])
def test_without_news_the_wait_ends_with_nothing(log, wait):
    offset = log.next
    began = time.monotonic()

    assert log.read_many(offset, 10, wait) == []
    assert float(wait) <= time.monotonic() - began


def test_who_waits_for_one_record_in_vain_is_told_that_it_is_not_there(log):
    began = time.monotonic()

    assert_problem(log.ask("GET", f"/?offset={log.next}&wait=0.3"), 404)
    assert time.monotonic() - began >= 0.3


def test_who_has_something_to_read_does_not_wait(log):
    """Nor does `ask`, for so long."""
    assert log.read_many(0, 1, 20) == [(0, b"first")]
    assert done(log.ask("GET", "/?offset=0&wait=20"))


def test_waiting_costs_next_to_nothing(log):
    process = psutil.Process(log.service.process.pid)
    offset = log.next
    before, began = sum(process.cpu_times()[:2]), time.monotonic()

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda _: log.read_many(offset, 10, 2), range(10))) == [[]] * 10

    used_s, took_s = sum(process.cpu_times()[:2]) - before, time.monotonic() - began
    assert used_s < 0.2 * took_s


def test_records_that_were_lost_do_not_make_a_reader_spin(folder):
    """It asks for the offset of a lost one again and again, and must not be answered at once each time."""
    with Log(folder) as made:
        for value in numbered(0, 1, 2):
            made.append(value)
        in_the_second = made.size // 2
    flip(folder / "0.store", in_the_second)
    assert tools.repair(folder, say=lambda line: None) == 0
    with Log(folder) as made:
        made.truncate_back(2)

    with Inside(folder) as log, ThreadPoolExecutor(1) as pool:
        assert_problem(log.ask("GET", "/?offset=1"), 500, "was lost")
        began = time.monotonic()
        assert log.read_many(1, 10, 0.3) == []
        assert time.monotonic() - began >= 0.3

        waiting = pool.submit(log.read_many, 1, 10, 20)
        log.append(b"after")
        assert waiting.result(CALL_S) == [(2, b"after")]


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_those_who_wait_leave_threads_for_the_others(folder):
    with Served(folder, threads=8) as log, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(log.read_many, 0, 10, 20) for _ in range(2)]
        wait_until_they_wait(log, 2)

        assert_problem(log.ask("GET", "/?offset=0&max=1&wait=20"), 503, "wait for records")
        assert_problem(log.ask("GET", "/?offset=0&wait=20"), 503)
        assert log.read_many(0) == []
        assert log.append(b"0") == 0
        assert [each.result(CALL_S) for each in waiting] == [[(0, b"0")]] * 2


def test_told_to_end_it_ends_though_somebody_waits(folder):
    with Served(folder) as log, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(log.read_many, 0, 10, 30)
        wait_until_they_wait(log, 1)

        assert log.end() == 0
        assert waiting.result(CALL_S) == []  # what still waited after the 5 s of grace would have been cut


# ---- what is kept


def test_kill_9_takes_nothing_that_was_acknowledged(folder):
    acknowledged, sent = {}, set()
    with Served(folder, **{"segment-bytes": 2000}) as log:
        for round_ in range(3):
            with ThreadPoolExecutor(4) as pool:
                is_over = threading.Event()

                def write(writer, round_=round_, is_over=is_over):
                    for turn in range(10_000):
                        values = [b"%d-%d-%d-%d" % (round_, writer, turn, i) for i in range(1 + turn % 3)]
                        sent.update(values)
                        with suppress(OSError):
                            acknowledged.update(enumerate(values, log.append_all(values)["offset"]))
                            continue
                        if is_over.is_set():
                            return

                writers = [pool.submit(write, writer) for writer in range(4)]
                enough = len(acknowledged) + 100
                eventually(lambda enough=enough: len(acknowledged) > enough, "enough was written")
                is_over.set()
                log.kill()
                for writer in writers:
                    writer.result(CALL_S)
            log.start()

        found = dict(log.read_all())

    assert list(found) == list(range(len(found)))  # no gap
    assert {offset: found.get(offset) for offset in acknowledged} == acknowledged
    assert set(found.values()) <= sent
    assert len(set(found.values())) == len(found)


def test_a_new_start_goes_on_where_the_old_one_ended(folder):
    with Served(folder, **{"segment-bytes": 100}) as log:
        for value in numbered(*range(6)):
            log.append(value)
        before = log.status()
        assert before["segments"] > 2
        assert log.end() == 0

        log.start()

        after = log.status()
        assert {name: after[name] for name in ("lowest", "next", "identity")} == {
            name: before[name] for name in ("lowest", "next", "identity")
        }
        assert log.append(b"6") == 6
        assert log.read_all() == list(enumerate(numbered(*range(7))))


def test_a_second_server_on_the_folder_is_refused_with_the_pid_of_the_first(log):
    code, said = run_server({"port": Ports.find_free(1).q, "data-dir": str(log.folder)})

    assert code == 1
    assert re.fullmatch(rf"log: [^\n]*{log.folder} is in use by the process {log.service.process.pid}\n", said)
    assert log.append(b"still")


def run_server(settings, **environ):
    """(exit code, standard error) of a server that is not expected to come up."""
    argument = settings if isinstance(settings, str) else json.dumps(settings)
    ended = subprocess.run(
        [sys.executable, ROOT / "serverLog.py", argument],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return ended.returncode, ended.stderr


def test_a_damaged_record_is_named_and_the_others_are_read(folder):
    """One that is not the last of its segment: the start finds those."""
    with Log(folder, Config(segment_bytes=100)) as made:
        for value in numbered(*range(5)):
            made.append(value)
        assert made.segments == 3
    flip(folder / "0.store", 20)

    with Inside(folder) as log:
        assert_problem(log.ask("GET", "/?offset=0"), 500, "0.store is damaged at position 0", "./tea log verify")
        assert_problem(log.ask("GET", "/?offset=0&max=5"), 500)
        assert log.read(1) == b"1"
        assert log.read_many(1) == [(1, b"1"), (2, b"2"), (3, b"3"), (4, b"4")]


@pytest.mark.parametrize("trouble", ["damaged", "a file", "no rights"])
def test_a_folder_that_cannot_be_used_stops_the_start_with_one_line(folder, trouble):
    if trouble == "a file":
        folder.write_text("")
    elif trouble == "no rights":
        folder = "/proc/log"
    else:
        with Log(folder) as made:
            made.append(b"0")
        (folder / "log.json").write_text("{")

    code, said = run_server({"port": Ports.find_free(1).q, "data-dir": str(folder)})

    assert code == 1
    assert re.fullmatch(rf"log: [^\n]*{folder}[^\n]*\n", said)


# ---- a disk that fails


class Ill(Served):
    """A log on a disk that can fall ill (illdisk.py)."""

    def __init__(self, folder, **settings):
        super().__init__(folder, "test/illdisk.py", **settings)
        self._note = folder.parent / f"{folder.name}.ill"

    def falls_ill(self, how):
        written = self._note.with_suffix(".new")
        written.write_text(how)
        written.replace(self._note)  # whole at once: it may just be looked at

    def is_well(self):
        self._note.unlink()


def test_a_disk_that_refuses_is_told_and_then_it_goes_on(folder):
    with Ill(folder) as log:
        log.append(b"0")

        log.falls_ill("write ENOSPC")
        assert_problem(log.post(b"1"), 507, "disk is full")
        assert log.read(0) == b"0"
        log.falls_ill("write EIO")
        refused = log.post(b"1")
        log.is_well()

        assert_problem(refused, 503, "not stored")
        assert refused.headers["Retry-After"] == "1"
        assert log.append(b"2") == 1
        assert log.read_all() == [(0, b"0"), (1, b"2")]


def test_a_sync_that_fails_ends_the_process_and_nothing_acknowledged_is_lost(folder):
    with Ill(folder) as log:
        log.append(b"0")

        log.falls_ill("sync EIO")
        assert_problem(log.post(b"1"), 504, "may be stored")

        assert log.ending() == 1
        log.is_well()
        log.start()
        assert log.read(0) == b"0"
        assert log.append(b"2") == log.next - 1


def test_a_log_that_is_read_only_is_not_ready_and_says_why(folder):
    """With the policy interval the sync is nobody's request; the next one to append ends the process."""
    with Ill(folder, fsync="interval") as log:
        log.falls_ill("sync EIO")
        log.append(b"0")
        eventually(lambda: log.ask("GET", "/readyz").status == 503, "it is not ready")

        checks = log.ask("GET", "/readyz").body
        assert checks["ready"] is False
        assert "could not be synced" in checks["checks"]["append"]
        assert log.status()["failure"] == checks["checks"]["append"]
        assert log.read(0) == b"0"
        assert_problem(log.post(b"1"), 503, "could not be synced")
        assert log.ending() == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooLarge("too large"), 413),
        (NotStored("no room", is_full=True), 507),
        (NotStored("no luck"), 503),
        (ReadOnly("a sync failed"), 503),
        (Closed(), 503),
        (Unsure("this sync failed"), 504),
        (Damaged("0.store", 5, "garbage"), 500),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, Exception) else None,
)
def test_each_error_of_a_log_has_one_answer(error, status):
    problem = logproblems.problem_of(error)

    assert problem.status == status
    assert str(error) in problem.detail


# ---- settings


def test_its_settings_reach_the_log():
    settings, warnings = read(
        LogSettings,
        '{"fsync": "never", "segment-bytes": 5, "retention-bytes": 6, "retention-s": 7}',
        environ={},
    )

    config = serverLog.config_of(settings)

    assert (config.fsync, config.segment_bytes, config.retention_bytes, config.retention_s) == ("never", 5, 6, 7)
    assert warnings == []


def test_without_settings_it_is_where_the_source_has_it_and_keeps_what_it_gets():
    settings, _ = read(LogSettings, None, environ={})

    assert (settings.port, settings.host, settings.fsync, settings.segment_bytes) == (8080, "127.0.0.1", "group", 2**26)
    assert settings.folder == str(ROOT / "var" / "log-service")
    config = serverLog.config_of(settings)
    assert (config.retention_bytes, config.retention_s) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"fsync": "sometimes"}', "fsync: Invalid enum value 'sometimes'"),
        ('{"segment-bytes": 0}', "segment-bytes: Expected `int` >= 1"),
        ('{"segment-bytes": 1' + "0" * 25 + "}", "segment-bytes: Expected `int` <= 1152921504606846976"),
        ('{"retention-s": 0}', "retention-s: Expected `float` > 0.0"),
        ('{"retention-bytes": 1.5}', "retention-bytes: Expected `int | null`, got `float`"),
        ('{"data-dir": ""}', "data-dir: Expected `str` of length >= 1"),
        ('{"data-dir": 5}', "data-dir: Expected `str | null`, got `int`"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_says_which_and_why(text, message):
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}\Z"):
        read(LogSettings, text, environ={})


def test_a_bad_value_stops_the_start(folder):
    code, said = run_server({"data-dir": str(folder), "fsync": 5})

    assert code == 2
    assert re.fullmatch(r"[^\n]*serverLog.py: bad settings: fsync: [^\n]*\n", said)
    assert not folder.exists()


def test_an_unknown_setting_is_named_and_port_in_the_environment_counts(folder, log):
    code, said = run_server({"data-dir": str(log.folder), "data_dir": "x"}, PORT=str(log.port))

    assert code == 1
    assert "unknown setting 'data_dir' is ignored; known are id, port" in said


# ---- ./tea log


def tea_log(*words):
    """(exit code, standard output, standard error) of ./tea log, without a process."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = command.main(["log", *map(str, words)])
    return code, out.getvalue(), err.getvalue()


@contextmanager
def process_of_tea_log(*words, **options):
    """The process, which is gone afterwards."""
    with subprocess.Popen([sys.executable, ROOT / "tea", "log", *map(str, words)], text=True, **options) as tea:
        try:
            yield tea
        finally:
            tea.kill()


def test_tea_log_appends_and_reads(log):
    first = log.next

    appended = tea_log("append", "--port", log.port, "oolong", "two\nlines\n", "", "-")
    offset = log.append(b"\xff")

    assert appended == (0, "".join(f"{first + i}\n" for i in range(4)), "")
    assert tea_log("read", "--port", log.port, "--offset", first) == (0, "oolong\ntwo\nlines\n\n-\n/w==\n", "")
    assert tea_log("read", "--port", log.port, "--offset", first + 1, "--max", 1) == (0, "two\nlines\n", "")
    assert tea_log("read", "--port", log.port, "--max", 1) == (0, "first\n", "")
    code, out, err = tea_log("read", "--port", log.port, "--offset", offset + 5)
    assert (code, out) == (3, "")
    assert err.startswith(f"tea: 404 Not Found: offset out of range: {offset + 5}; the log holds 0 to below")


def test_tea_log_appends_each_line_it_is_given(log):
    """More than one call holds, an empty line among them, and the last one without an end."""
    lines = ["", *map(str, range(2500)), "茶"]
    first = log.next

    with process_of_tea_log("append", "--port", log.port, "-", stdin=-1, stdout=-1) as tea:
        offsets, _ = tea.communicate("\n".join(lines), END_S)

    assert tea.returncode == 0
    assert offsets.split() == [str(offset) for offset in range(first, first + len(lines))]
    assert tea_log("read", "--port", log.port, "--offset", first) == (0, "\n".join(lines) + "\n", "")


def test_tea_log_appends_a_line_as_soon_as_it_comes(log):
    first = log.next

    with process_of_tea_log("append", "--port", log.port, "-", stdin=-1, stdout=-1) as tea:
        tea.stdin.write("one\n")
        tea.stdin.flush()
        assert tea.stdout.readline() == f"{first}\n"
        assert log.read(first) == b"one"
        tea.stdin.close()
        assert tea.wait(END_S) == 0


def test_tea_log_follows_until_ctrl_c(log):
    offset = log.append(b"before")
    words = ["read", "--port", log.port, "--offset", offset, "--follow"]
    with process_of_tea_log(*words, stdout=-1, stderr=-1) as tea:
        assert tea.stdout.readline() == "before\n"
        log.append(b"after")
        assert tea.stdout.readline() == "after\n"

        tea.send_signal(signal.SIGINT)

        assert tea.wait(END_S) == 0
        assert (tea.stdout.read(), tea.stderr.read()) == ("", "")


@pytest.mark.parametrize("words", [["append", "x"], ["read"], ["read", "--follow", "--offset", 3]])
def test_tea_log_says_that_no_log_is_served(words):
    port = Ports.find_free(1).q

    line = f"tea: no log answers on port {port}; ./tea log serve --port {port} serves one\n"
    assert tea_log(*words, "--port", port) == (4, "", line)


def test_tea_log_serves_until_ctrl_c(folder):
    port = Ports.find_free(1).q
    words = ["serve", "--port", port, "--data-dir", folder, "--fsync", "never"]
    with process_of_tea_log(*words, stderr=subprocess.DEVNULL) as tea:
        eventually(lambda: is_served(port), "the log is served")
        status = ask(port, "GET", "/status").body

        tea.send_signal(signal.SIGINT)

        assert tea.wait(END_S) == 0
    assert (status["fsync"], status["data-dir"]) == ("never", str(folder))


def is_served(port):
    with suppress(OSError):
        return ask(port, "GET", "/readyz").status == 200
    return False
