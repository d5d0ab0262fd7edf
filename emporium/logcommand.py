"""./tea log serve, append and read: a log as a service (serverLog.py), from the command line.

Imports nothing at its top that must be installed, as command.py.
"""

import json
import os
import signal
import sys
from base64 import b64decode, b64encode
from contextlib import suppress

from emporium.command import DONE, NOTHING, UNREACHABLE, WRONG, Refused
from emporium.environment import ROOT

PORT = 8080
MOST_RECORDS = 1000  # in one call, either way
MOST_BYTES = 2**20  # of values in one call: as base64 they are well within what serverLog.py takes
PIECE_BYTES = 64 * 1024
WAIT_S = 20  # one look at the tail; then we ask again
PATIENCE_S = 30  # for an answer, beyond what it may wait for records


def add_to(commands, number):
    """Add them to the commands of ./tea log. `number(least, most)` makes the reader of an argument."""
    made = commands.add_parser("serve", help="serve a log over HTTP; Ctrl-C ends it")
    _add_port(made, number, default=None)
    made.add_argument("--data-dir", metavar="DIR", help="where to keep it (var/log-service)")
    made.add_argument("--fsync", choices=("group", "always", "interval", "never"), help="when a record is safe (group)")
    made.set_defaults(run=run_serve)

    made = commands.add_parser("append", help="append records to a log that is served, and print their offsets")
    made.add_argument("text", nargs="+", metavar="TEXT", help="a record; - alone: each line of standard input is one")
    _add_port(made, number)
    made.set_defaults(run=run_append)

    made = commands.add_parser("read", help="print the records of a log that is served, one a line; base64 if no UTF-8")
    _add_port(made, number)
    made.add_argument("--offset", type=number(0), metavar="N", help="from this offset on (the lowest)")
    made.add_argument("--max", type=number(0), metavar="M", help="at most so many")
    made.add_argument("--follow", action="store_true", help="then wait for those that come; Ctrl-C ends it")
    made.set_defaults(run=run_read)


def _add_port(made, number, default=PORT):
    made.add_argument("--port", type=number(1, 65535), default=default, metavar="P", help=f"where it listens ({PORT})")


def run_serve(asked):
    """Become the server."""
    given = {"port": asked.port, "data-dir": asked.data_dir, "fsync": asked.fsync}
    settings = {name: value for name, value in given.items() if value is not None}
    os.execv(sys.executable, [sys.executable, str(ROOT / "serverLog.py"), json.dumps(settings)])
    return DONE


def run_append(asked):
    service = _Service(asked.port)
    values = [[os.fsencode(text) for text in asked.text]] if asked.text != ["-"] else _lines(sys.stdin.buffer)
    for some in values:
        for batch in _batches(some):
            first = service.append(batch)
            print("\n".join(map(str, range(first, first + len(batch)))), flush=True)
    return DONE


def run_read(asked):
    if asked.follow:
        signal.signal(signal.SIGINT, _end_well)
    _print_records(_Service(asked.port), asked)
    return DONE


def _end_well(_number, _frame):
    """Ctrl-C is how it ends. A KeyboardInterrupt could come where the pool of connections holds its lock, for ever."""
    with suppress(RuntimeError, OSError):  # in the middle of a print: what came before it is out
        sys.stdout.flush()
    os._exit(DONE)


def _print_records(service, asked):
    offset = service.status()["lowest"] if asked.offset is None else asked.offset
    left = asked.max
    while left != 0:
        records = service.read(offset, MOST_RECORDS if left is None else min(left, MOST_RECORDS), asked.follow)
        if not records and not asked.follow:
            return
        for record in records:
            _show(b64decode(record["value"]))
            offset = record["offset"] + 1
        sys.stdout.flush()
        left = None if left is None else left - len(records)


class _Service:
    """The log as a service at this port. Every method raises Refused."""

    def __init__(self, port):
        import requests

        self._requests = requests
        self._port = port
        self._session = requests.Session()

    def append(self, values):
        """The offset of the first of these, bytes; all are stored, or none."""
        records = [{"value": b64encode(value).decode()} for value in values]
        return self._call("POST", "/batch", json={"records": records})["offset"]

    def read(self, offset, most, is_waiting):
        """The records from this offset on: [{"value", "offset"}]."""
        asked = {"offset": offset, "max": most, "wait": WAIT_S if is_waiting else 0}
        return self._call("GET", "/", params=asked)["records"]

    def status(self):
        return self._call("GET", "/status")

    def _call(self, method, path, **what):
        try:
            answer = self._session.request(
                method, f"http://127.0.0.1:{self._port}{path}", timeout=WAIT_S + PATIENCE_S, **what
            )
            given = answer.json()
        except self._requests.Timeout as error:
            raise Refused(UNREACHABLE, f"the log on port {self._port} does not answer; it may be done yet") from error
        except self._requests.RequestException as error:
            raise Refused(
                UNREACHABLE, f"no log answers on port {self._port}; ./tea log serve --port {self._port} serves one"
            ) from error
        if answer.ok:
            return given
        code = NOTHING if answer.status_code == 404 else UNREACHABLE if answer.status_code >= 500 else WRONG
        raise Refused(code, f"{answer.status_code} {given.get('title', '')}: {given.get('detail', '')}")


def _lines(file):
    """The lines that have come, in lists, without their ends. Raises Refused for one that is too long."""
    rest = b""
    while piece := file.read1(PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        if lines:
            yield lines
        if len(rest) > MOST_BYTES:
            raise Refused(WRONG, f"a line of standard input may have {MOST_BYTES} bytes")
    if rest:
        yield [rest]


def _batches(values):
    """The values in lists that one call carries."""
    batch, size = [], 0
    for value in values:
        if batch and (len(batch) == MOST_RECORDS or size + len(value) > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(value)
        size += len(value)
    if batch:
        yield batch


def _show(value):
    """The text and the end of a line, unless the text brings one."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = b64encode(value).decode()
    print(text, end="" if text.endswith("\n") else "\n")
