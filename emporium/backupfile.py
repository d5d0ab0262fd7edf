"""The file of `./tea backup`: all teas with their siblings, JSON a line, in gzip when its name ends in .gz.

    {"format": 1, "ndb": 4, "made": "2026-11-21T18:00:00+00:00", "teas": 2}
    {"primary": "db3", "key": "assam", "rating": 3, "choices": [3], "clocks": [{"c0": 1}]}
    {"primary": "db0", "key": "chai", "rating": null, "choices": [null], "clocks": [{"c0": 2}]}    deleted
    {"teas": 2, "sha256": "..."}

The lines between are gossip records, sorted by key. The last one has the number of teas and the sum of all lines before
it, so that a file which was cut, or changed anywhere, is known as such before anything is done with it.

A file appears under its name when all of it is on the disk, or not at all.
"""

import gzip
import hashlib
import os
import unicodedata
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from emporium import wire
from emporium.siblings import UNRATED, merge

FORMAT = 1
GZIP_MAGIC = b"\x1f\x8b"
HowMany = Annotated[int, Meta(ge=0)]


class BackupRefused(Exception):
    """The file cannot be written, or is no whole backup. The message says what is wrong, and in which line."""


class Header(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[1]
    ndb: Annotated[int, Meta(ge=1)]  # of the cluster that it was made of
    made: str
    teas: HowMany


class Footer(msgspec.Struct, forbid_unknown_fields=True):
    teas: HowMany
    sha256: str  # of all lines before this one, with their ends


class HeldBody(msgspec.Struct):
    """A tea with its siblings, whoever is its primary; the mean is derived, never taken over."""

    key: wire.Text
    choices: wire.Choices
    clocks: wire.Clocks

    def __post_init__(self):
        if len(self.key.encode()) > wire.NAME_LIMIT_BYTES or "/" in self.key:
            raise ValueError(f"key must name a tea: at most {wire.NAME_LIMIT_BYTES} bytes, and no slash")
        if max(map(len, self.clocks), default=0) > wire.MOST_ENTRIES:
            raise ValueError(f"one of the clocks has more than {wire.MOST_ENTRIES} entries")


class Backup(NamedTuple):
    header: Header
    values: list  # of (tea, Value)


def decode_held(text):
    """(tea, its Value) of a gossip record, whatever the number of its siblings. Raises wire.BadJSON or BadShape."""
    body = wire.decode(text, HeldBody)
    value = merge(UNRATED, wire.siblings_of(body.choices, body.clocks))
    return unicodedata.normalize("NFC", body.key), value


# ---- writing


def require_writable(path):
    """Raises BackupRefused when a backup cannot be put there; better now than after it was gathered."""
    path = Path(path)
    if not path.parent.is_dir():
        raise BackupRefused(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise BackupRefused(f"{path} cannot be written: it is there, and no file")


def write(path, ndb, made, records):
    """Put these wire.Records there, in place of what is there. Raises BackupRefused, and leaves that as it is."""
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with open(unfinished, "wb") as file:
            with _packed(file) if path.suffix == ".gz" else _as_it_is(file) as lines:
                _write_lines(lines, ndb, made, records)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise BackupRefused(f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _write_lines(file, ndb, made, records):
    digest = hashlib.sha256()

    def put(line):
        digest.update(line + b"\n")
        file.write(line + b"\n")

    put(wire.encode(Header(FORMAT, ndb, made, len(records))))
    for record in records:
        put(wire.encode_record(record))
    put(wire.encode(Footer(len(records), digest.hexdigest())))


def _packed(file):
    return gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6)


@contextmanager
def _as_it_is(file):
    yield file


def _sync_folder(folder):
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# ---- reading


def read(path):
    """The Backup in this file, all of it checked. Raises BackupRefused."""
    try:
        with open(path, "rb") as file:
            is_packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if is_packed else _as_it_is(file) as lines:
                return _read_lines(path, lines)
    except OSError as error:
        raise BackupRefused(f"{path} cannot be read: {error}") from error


def _read_lines(path, file):
    digest = hashlib.sha256()
    lines = _numbered(path, file)
    number, line = next(lines, (1, b""))
    header = _decoded(path, number, line, _header)
    digest.update(line)
    values = []
    number, line = next(lines, (2, b""))
    for next_number, next_line in lines:
        values.append(_decoded(path, number, line, decode_held))
        digest.update(line)
        number, line = next_number, next_line
    try:
        footer = wire.decode(line, Footer)
    except ValueError as error:
        raise BackupRefused(
            f"{path}, line {number}: this is where a whole backup tells that it is whole, and it does not: "
            "the file was cut, or more was added to it"
        ) from error
    if not len(values) == footer.teas == header.teas or digest.hexdigest() != footer.sha256:
        raise BackupRefused(f"{path}, line {number}: the lines before it are not those that were written")
    return Backup(header, values)


def _numbered(path, file):
    """(number from 1 on, line with its end) of each line."""
    number = 0
    try:
        for number, line in enumerate(file, 1):
            yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BackupRefused(f"{path}, after line {number}: its gzip is cut short or damaged: {error}") from error


def _header(text):
    try:
        return wire.decode(text, Header)
    except ValueError as error:
        raise wire.BadShape(f"no backup of ./tea backup in format {FORMAT} begins so: {error}") from error


def _decoded(path, number, line, decode):
    try:
        return decode(line)
    except ValueError as error:
        raise BackupRefused(f"{path}, line {number}: {error}") from error
