"""The log of a service as JSON, one object a line, for programs; docs/events.md lists the events.

    {"at": "2026-11-21T18:00:00.123Z", "level": "WARNING", "service": "db2", "event": "peer-left-alone",
     "request": "7f3a90c2d41b55e8", "message": "db3 did not answer; left alone until it answers again", "peer": "db3"}

Each place in our code that logs says which event it is, which never changes, while the words of the message may. What
it says beside that is in the line, too:

    log.warning("%s answers again", name, extra={"event": "peer-back", "peer": name})

What a library logs is the event `library`, and what is printed to standard error `printed`: each line is JSON, but for
what the interpreter writes when it crashes. A line is ASCII, whatever is in it.
"""

import io
import json
import logging
import sys
import threading
import time
from datetime import UTC, datetime

LIBRARY, PRINTED = "library", "printed"
OUTSIDE = "-"  # the request of a line that belongs to none

# What every record has, and is no member of an event.
_USUAL = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "event", "request", "taskName"}

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """One line for each record of this service."""

    def __init__(self, service):
        super().__init__()
        self._service = service

    def format(self, record):
        members = {name: value for name, value in record.__dict__.items() if name not in _USUAL}
        event = getattr(record, "event", None)
        if event is None:
            event, members = LIBRARY, {"logger": record.name}
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        request = getattr(record, "request", OUTSIDE)
        return line_of(record.created, record.levelname, self._service, event, request, record.getMessage(), members)


def line_of(seconds, level, service, event, request, message, members):
    """The line of this event, `seconds` since 1970. A member that JSON does not know is told as text."""
    told = {"at": at(seconds), "level": level, "service": service, "event": event}
    if request != OUTSIDE:
        told["request"] = request
    told["message"] = message
    told = {name: _sound(value) for name, value in (told | members | told).items()}
    return json.dumps(told, default=lambda value: _sound(str(value)))


def _sound(value):
    """The value; a text without halves of characters, as a file's name may hold, which strict readers refuse."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def at(seconds):
    """These seconds since 1970 as RFC 3339 has them, to the millisecond, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Printed(io.TextIOBase):
    """Standard error of a service whose log is JSON: each line that is printed there becomes an event.

    What it prints is not logged: a log that cannot be written says so on standard error.
    """

    def __init__(self, service, stream):
        self._service, self._stream = service, stream
        self._lock = threading.Lock()
        self._unfinished = ""

    def write(self, text):
        with self._lock:
            *lines, self._unfinished = (self._unfinished + text).split("\n")
            for line in filter(None, map(str.rstrip, lines)):
                told = line_of(time.time(), "WARNING", self._service, PRINTED, OUTSIDE, line, {})
                self._stream.write(told + "\n")
            self._stream.flush()
        return len(text)

    def fileno(self):
        return self._stream.fileno()


def take_over(service):
    """From now on all that this process says on standard error is JSON lines."""
    sys.stderr = Printed(service, sys.__stderr__)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed


def _thread_crashed(failed):
    if failed.exc_type is not SystemExit:  # which ends a thread without a word
        _crashed(failed.exc_type, failed.exc_value, failed.exc_traceback)


def _crashed(kind, error, traceback):
    log.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, traceback), extra={"event": "crashed"})
