"""The log as JSON: every line an object, every event documented, whatever happens to a service."""

import ast
import io
import json
import logging
import re
import sys
from pathlib import Path

import pytest
from asking import ask
from harness import eventually
from teacommand import Up

from emporium import jsonlog, serving, web, wire
from emporium.cluster import python_service
from emporium.environment import ROOT
from emporium.jsonlog import JsonLines, Printed
from emporium.ports import Ports
from emporium.service import stop_these

LEVELS = ("debug", "info", "warning", "error", "critical", "exception", "log")
AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
OF_THE_LAUNCHER = {"up.py", "supervisor.py", "lab.py"}
STANDARD = {"at", "level", "service", "event", "request", "message", "traceback"}
DOCUMENT = (ROOT / "docs" / "events.md").read_text()


# ---- the names


def calls():
    """(where, its node, the dict of its `extra` or None) of each call of a log in the servers and below them."""
    files = [*ROOT.glob("server*.py"), ROOT / "queueservice.py", *(ROOT / "emporium").rglob("*.py")]
    for file in files:
        if file.name in OF_THE_LAUNCHER or file.parent.name == "storm":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if is_call_of_log(node):
                extra = next((keyword.value for keyword in node.keywords if keyword.arg == "extra"), None)
                yield f"{file.name}:{node.lineno}", node, extra


def is_call_of_log(node):
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return node.func.attr in LEVELS and ast.unparse(node.func.value) in ("log", "logging", "self._log")


def levels_of(node):
    if node.func.attr == "log":
        return {name.attr for name in ast.walk(node.args[0]) if isinstance(name, ast.Attribute)}
    return {{"exception": "ERROR"}.get(node.func.attr, node.func.attr.upper())}


def events_in_code():
    """{event: (levels, members)}."""
    found = {}
    for where, node, extra in calls():
        assert isinstance(extra, ast.Dict), f"{where} does not say which event it is"
        members = {key.value: value for key, value in zip(extra.keys, extra.values, strict=True)}
        event = members.pop("event").value
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", event), f"{where}: {event}"
        assert not members.keys() & STANDARD, where
        levels, names = found.setdefault(event, (set(), set()))
        levels.update(levels_of(node))
        names.update(members)
    assert len(found) > 30
    return found


def test_every_call_of_a_log_says_which_event_it_is_and_the_document_has_just_these():
    rows = re.findall(r"^\| `([a-z-]+)` \| ([A-Z, ]+|any) \|([^|]*)\| \S.*\|$", DOCUMENT, re.MULTILINE)
    documented = {event: (set(levels.split(", ")), set(re.findall(r"`(\w+)`", names))) for event, levels, names in rows}
    assert len(rows) == len(documented), "an event is there twice"

    of_none = {jsonlog.LIBRARY: ({"any"}, {"logger"}), jsonlog.PRINTED: ({"WARNING"}, set())}
    assert documented == events_in_code() | of_none


# ---- a line


def line_of(level=logging.WARNING, message="%s answers again", arguments=("db1",), exc_info=None, **extra):
    record = logging.LogRecord("emporium.guard", level, "guard.py", 1, message, arguments, exc_info)
    record.__dict__.update(extra)
    text = JsonLines("db2").format(record)
    assert "\n" not in text
    assert text.isascii()
    return wire.decode(text)  # strictly


def test_a_line_says_when_who_what_and_for_which_request():
    told = line_of(event="peer-back", request="ab12", peer="db1")

    assert AT.fullmatch(told.pop("at"))
    assert told == {
        "level": "WARNING",
        "service": "db2",
        "event": "peer-back",
        "request": "ab12",
        "message": "db1 answers again",
        "peer": "db1",
    }


def test_a_line_outside_of_a_request_has_no_id():
    assert "request" not in line_of(event="peer-back", request="-")


def test_the_time_is_utc_to_the_millisecond():
    assert jsonlog.at(0.0014) == "1970-01-01T00:00:00.001Z"
    assert jsonlog.at(1763760000) == "2025-11-21T21:20:00.000Z"


def test_what_cannot_stand_in_json_is_told_as_text():
    told = line_of(
        message="%r\n\u2028%s", arguments=(b"\xff", "\ud800"), event="x", where=Path("/"), why=OSError("full")
    )

    assert told["message"] == "b'\\xff'\n\u2028?"
    assert (told["where"], told["why"]) == ("/", "full")


def test_an_error_brings_its_traceback():
    try:
        raise ValueError("no\nsense")
    except ValueError:
        told = line_of(event="request-failed", exc_info=sys.exc_info())

    assert told["traceback"].startswith("Traceback (most recent call last):\n")
    assert told["traceback"].endswith("ValueError: no\nsense")


def test_what_a_library_logs_is_told_with_its_name():
    told = line_of(message="odd", arguments=())

    assert (told["event"], told["logger"]) == ("library", "emporium.guard")


def test_what_is_printed_becomes_lines_too():
    stream = io.StringIO()
    printed = Printed("q", stream)

    print("one", "two", file=printed)
    print("a\n\nb", end="", file=printed)
    print(file=printed)

    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["message"] for each in told] == ["one two", "a", "b"]
    assert {(each["event"], each["service"]) for each in told} == {("printed", "q")}


def test_what_is_logged_during_a_request_has_its_id():
    app = web.create_app_for("q", 8, checks=dict, status=dict)

    @app.get("/fails")
    def fail():
        raise RuntimeError("on purpose")

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    serving.dress(handler, "json", "q")
    logging.getLogger("emporium.web").addHandler(handler)
    try:
        answer = app.test_client().get("/fails", headers={"X-Request-ID": "ab-12"})
    finally:
        logging.getLogger("emporium.web").removeHandler(handler)

    told = json.loads(stream.getvalue())
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "ab-12")
    assert (told["event"], told["request"], told["message"]) == ("request-failed", "ab-12", "GET /fails failed")
    assert "RuntimeError: on purpose" in told["traceback"]


# ---- real services


def lines_in(file):
    """Its lines, each of which must be JSON as it is documented."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        assert list(line)[:4] == ["at", "level", "service", "event"]
        assert AT.fullmatch(line["at"])
        assert f"| `{line['event']}` |" in DOCUMENT
    return lines


PROGRAMS = {
    "lb": ("serverLB.py", "port"),
    "db3": ("serverDB.py", "hostport"),
    "q": ("serverQ.py", "port"),
    "log": ("serverLog.py", "port"),
    "view": ("serverView.py", "port"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_that_a_service_says_from_start_to_end_is_json(name, tmp_path):
    program, port_name = PROGRAMS[name]
    port = Ports.find_free(1).lb
    given = {"id": 3, port_name: port, "log-format": "json", "logfile": str(tmp_path / "own.log"), "misspelt": 1}
    given |= {"data-dir": str(tmp_path / "log")} if name == "log" else {}
    service = python_service(name, program, port, lambda _: tmp_path / "said.log", given)

    service.start()
    eventually(lambda: service.answers(), "it answers")
    stop_these([service])

    said = lines_in(tmp_path / "said.log")
    events = {line["event"]: line for line in said}
    assert {line["service"] for line in said} == {name}
    assert "misspelt" in events["printed"]["message"]
    assert events["listening"]["port"] == port
    assert events["listening"]["level"] == "INFO"
    # Two threads that log at once may come to the one file in this order, and to the other one in that.
    logged = [line for line in said if line["event"] != "printed"]
    assert sorted(logged, key=json.dumps) == sorted(lines_in(tmp_path / "own.log"), key=json.dumps)


def test_why_a_service_does_not_start_is_json_too(tmp_path):
    given = {"log-format": "json", "data-dir": "/proc/none"}
    service = python_service("log", "serverLog.py", 1, lambda _: tmp_path / "said.log", given)

    service.start()
    assert service.wait_for_end(20)

    [line] = lines_in(tmp_path / "said.log")
    assert (line["event"], line["service"]) == ("printed", "log")
    assert "/proc/none" in line["message"]


def test_a_cluster_that_logs_json_keeps_pure_files_and_prefixes_on_the_terminal(tmp_path):
    with Up(tmp_path / "data", extra=("--log-format", "json")) as up:
        up.wait_until_open()
        logs = tmp_path / "data" / "log"
        ask(up.layout.lb, "GET", "/rating/assam")
        up.process.terminate()
        assert up.process.wait(20) == 0

        for name in ("lb", "q", "db0", "db1"):
            assert [line for line in lines_in(logs / f"{name}.log") if line["event"] == "listening"], name
        assert re.search(r'^ db1 \| \{"at": .*"event": "listening"', up.said(), re.MULTILINE)
