"""The lines that the services log: read from their files, rotated ones too, and merged by time.

    2026-11-21 12:01:03,120 INFO db0 listens on http://127.0.0.1:3000     ours
    {"at": "2026-11-21T12:01:03.120Z", "level": "INFO", "message": ...}    ours, as JSON
    4711:M 21 Nov 2026 12:01:03.120 * Ready to accept connections         of Redis

A line without a time, as of a traceback, belongs to the one before it.
"""

import heapq
import os
import re
import time
from collections import deque
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

ROTATED = (".2", ".1", "")  # the oldest first
OURS = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)[,.](\d{3,6})(Z|[+-]\d\d:?\d\d)? ?(.*)", re.DOTALL)
OF_REDIS = re.compile(r"\d+:[A-Z] (\d\d \w{3} \d{4} \d\d:\d\d:\d\d)\.(\d{3}) (.*)", re.DOTALL)
SHOWN = ("level", "request", "message")  # of a JSON line; the message tells in words what else is there


class Line(NamedTuple):
    at: float  # seconds since the epoch
    service: str
    text: str  # without the time; of several lines, where it has a traceback
    raw: str


def services_in(folder):
    """The names of the services that have logged there: ["db0", "lb", ...]."""
    return sorted({path.name.partition(".log")[0] for path in Path(folder).glob("*.log*")})


def last_lines(folder, services, since=None, most=None):
    """The Lines of these services, merged by time: those since then, at most the newest `most`."""
    newest = deque(heapq.merge(*(_of_one(folder, each, since, most) for each in services), key=_at), maxlen=most)
    return list(newest)


def parse(service, raw, at_before=0.0):
    """The Line that these characters are. Without a time of its own it has that of the line before."""
    if raw.startswith("{"):
        line = _of_json(service, raw)
        if line is not None:
            return line
    if found := OURS.fullmatch(raw):
        when, fraction, zone, text = found.groups()
        at = datetime.fromisoformat(f"{when}{(zone or '').replace('Z', '+00:00')}").timestamp()
        return Line(at + float(f"0.{fraction}"), service, text, raw)
    if found := OF_REDIS.fullmatch(raw):
        when, fraction, text = found.groups()
        try:
            at = datetime.strptime(when, "%d %b %Y %H:%M:%S").timestamp()
        except ValueError:  # months of another language
            return Line(at_before, service, raw, raw)
        return Line(at + float(f"0.{fraction}"), service, text, raw)
    return Line(at_before, service, raw, raw)


def _of_json(service, raw):
    """The Line of a JSON object with a time; None of anything else."""
    try:
        told = msgspec.json.decode(raw)
        at = datetime.fromisoformat(told["at"]).timestamp()
    except (ValueError, TypeError, KeyError):
        return None
    level, request, message = (told.get(name, "-") for name in SHOWN)
    text = f"{level} [{request}] {message}"  # as our lines of text have it
    return Line(at, service, f"{text}\n{told['traceback']}" if "traceback" in told else text, raw)


def _of_one(folder, service, since, most):
    """The Lines of one service, in the order of its files."""
    paths = [Path(folder) / f"{service}.log{end}" for end in ROTATED]
    texts = chain.from_iterable(_texts(path, since) for path in paths) if most is None else _last_texts(paths, most)
    at = 0.0
    for raw in texts:
        line = parse(service, raw, at)
        at = line.at
        if since is None or at >= since:
            yield line


def _last_texts(paths, most):
    """The last `most` lines of these files, the oldest first; older files are not read when newer ones have as many."""
    texts = []
    for path in reversed(paths):
        texts = [*deque(_texts(path), maxlen=most - len(texts)), *texts]
        if len(texts) == most:
            break
    return texts


def _texts(path, since=None):
    """The lines of a file; none of one that was not written since then, or is not there."""
    try:
        if since is not None and path.stat().st_mtime < since:
            return
        with open(path, errors="replace", newline="\n") as file:
            yield from (text.rstrip("\n") for text in file)
    except FileNotFoundError:
        return


class Tail:
    """What is written to the log of one service from now on, also when its file is rotated or begins anew."""

    def __init__(self, folder, service):
        self._path = Path(folder) / f"{service}.log"
        self._service = service
        self._file = None
        self._rest = ""
        self._at = time.time()
        self._open(is_first=True)

    def news(self):
        """The Lines that have come since the last look."""
        lines = self._read()
        if self._is_another():
            lines += self._read()  # what came between the two looks
            self._open()
            lines += self._read()
        return lines

    def close(self):
        if self._file:
            self._file.close()

    def _open(self, is_first=False):
        self.close()
        self._rest = ""
        try:
            self._file = open(self._path, errors="replace", newline="\n")  # noqa: SIM115  closed by `close`
        except FileNotFoundError:
            self._file = None
            return
        if is_first:
            self._file.seek(0, os.SEEK_END)

    def _is_another(self):
        """Whether the file under this name is not the one that we read."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        ours = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino) or there.st_size < self._file.tell()

    def _read(self):
        if self._file is None:
            return []
        *texts, self._rest = (self._rest + self._file.read()).split("\n")
        lines = []
        for text in texts:
            line = parse(self._service, text, self._at)
            self._at = line.at
            lines.append(line)
        return lines


def _at(line):
    return line.at
