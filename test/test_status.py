"""What ./tea status makes of what the services tell of themselves, whoever wrote them."""

import json
import os
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

from emporium import running, statustable
from emporium.ports import Ports


@contextmanager
def server_that_tells(status):
    """A Started service whose GET /status answers this."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(status).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            """Not to the terminal of the tests."""

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running.Started("db0", 1, server.server_port, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


def row_of(status):
    """The row of a shard that tells this."""
    with server_that_tells(status) as service:
        [row] = running.ask_all(running.Note(1, "long ago", 2500, 1, "var", [service]))
    return row


def cells_of(row):
    """{heading: cell} of the row in the table, as it is cut at the headings."""
    heading, line = statustable.lines_of([row])
    starts = [heading.index(name) for name in LEFT_ALIGNED]
    parts = [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return dict(zip(LEFT_ALIGNED, parts, strict=True))


LEFT_ALIGNED = ("service", "recovery", "waiting gossip", "breakers")
GUARDED = {
    "pid": 4711,
    "keys": 120,
    "digest": 1,
    "due": 4,
    "state": "recovering: its Redis is not the one that it knew",
    "epoch": 7,
    "lag-s": 12.04,
    "breakers": {"q": "it did not answer within 0.2 s", "db3": "refused"},
}


def test_recovery_epoch_lag_and_open_breakers_are_shown(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    [heading, line] = statustable.lines_of([row_of(GUARDED)])

    assert heading.split("  ")[0] == "service"
    assert "  up     " in line
    assert "  recovering: its Redis is not the one that it knew      7     12.0  digest 1, due 4" in line
    assert line.endswith("  q: it did not answer within 0.2 s; db3: refused")


def test_what_accepts_connections_and_does_not_answer_is_slow_and_what_refuses_them_is_down(monkeypatch):
    """As in ./tea watch, and in the view."""
    monkeypatch.setattr(running, "ASK_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # and does not listen
        started = [
            running.Started(name, os.getpid(), port, f"{scheme}://127.0.0.1:{port}")
            for name, scheme, port in (
                ("db0", "http", silent.getsockname()[1]),
                ("r0", "redis", silent.getsockname()[1]),
                ("db1", "http", refusing.getsockname()[1]),
                ("r1", "redis", refusing.getsockname()[1]),
            )
        ]
        rows = running.ask_all(running.Note(1, "long ago", 2500, 2, "var", started))

    assert not any(row["up"] for row in rows)
    states = [line.split()[3] for line in statustable.lines_of(rows)[1:]]
    assert states == ["slow", "slow", "down", "down"]


def test_programs_get_what_the_shard_told_as_it_is():
    row = row_of(GUARDED)

    assert {name: row[name] for name in running.TOLD_BY_SHARDS} == {
        name: GUARDED[name] for name in running.TOLD_BY_SHARDS
    }
    assert json.loads(running.write_json([row])) == {"services": [row]}


def test_what_a_plain_server_does_not_tell_is_blank():
    for status in ({}, [], {"keys": 3}, {"epoch": None, "lag-s": None, "state": None, "breakers": {}}):
        row = row_of(status)

        cells = cells_of(row)

        assert (cells["recovery"], cells["breakers"]) == ("", "")
        assert row["up"]


def test_a_service_that_tells_something_else_under_these_names_spoils_no_table():
    told = {"state": ["a\nb"], "epoch": "first", "lag-s": "long", "breakers": ["q"]}

    lines = statustable.lines_of([row_of(told), row_of(GUARDED)])

    assert len(lines) == 3
    assert all("\n" not in line for line in lines)
    assert "first" in lines[1]
    assert "long" in lines[1]


def test_a_cluster_is_found_though_the_clock_of_the_machine_was_set(monkeypatch, tmp_path):
    """Of a process the system knows the time since the machine was started, and all else by the clock."""
    monkeypatch.setattr(running, "NOTES", tmp_path)
    cluster = SimpleNamespace(layout=Ports(2500), ndb=1, services=[])

    with running.noted(cluster, tmp_path):
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 0.0)

        assert running.find(2500).pid == os.getpid()
