"""Which clusters run on this machine, started from this folder, and how each of their services is.

Every `./tea up` leaves a note in var/running/ while it runs, whatever its --data. A note counts only as long as
the very process that wrote it lives: its pid and its start time tell.
"""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import redis

from emporium.environment import ROOT
from emporium.failures import PeerError
from emporium.peers import Peer
from emporium.ports import COURSE_BASE

NOTES = ROOT / "var" / "running"
LAB = ".lab"
ASK_S = 1.0
# Of GET /status: whether it serves or recovers, which life of it this is, for how long the oldest of its gossip waits
# to be sent, in seconds, and {peer: trouble} of those that it leaves alone for now.
TOLD_BY_SHARDS = ("state", "epoch", "lag-s", "breakers")


class NotRunning(Exception):
    """There is no such cluster. The message says how to get one."""


class Started(msgspec.Struct):
    """One service as it was started."""

    name: str
    pid: int
    port: int
    url: str


class Note(msgspec.Struct):
    """What `./tea up` notes of its cluster."""

    pid: int
    born: str  # when the launcher was, as born_of tells it
    port_base: int
    ndb: int
    data: str
    services: list[Started]
    lab: str | None = None  # the socket that takes the commands of a lab

    def url(self, name):
        return next(service.url for service in self.services if service.name == name)


def lab_path():
    """Where the socket of this process's lab is to be."""
    NOTES.mkdir(parents=True, exist_ok=True)
    return NOTES / f"{os.getpid()}{LAB}"


@contextmanager
def noted(cluster, data, lab=None):
    """Inside, others find this cluster. Gives a function that notes it anew, for when one of its processes is another.

    That function raises OSError, and the note from before stands then.
    """
    path = NOTES / f"{os.getpid()}.json"
    try:
        _write_note(path, cluster, data, lab)
        yield lambda: _write_note(path, cluster, data, lab)
    finally:
        path.unlink(missing_ok=True)


def _write_note(path, cluster, data, lab):
    note = Note(
        os.getpid(),
        born_of(os.getpid()),
        cluster.layout.base,
        cluster.ndb,
        str(data),
        [Started(service.name, service.process.pid, service.port, service.url) for service in cluster.services],
        lab,
    )
    NOTES.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode(note))
    os.replace(unfinished, path)


def find_all():
    """The Notes of all clusters that run; those of dead ones are removed."""
    notes = []
    for path in sorted(NOTES.glob("*.json")):
        try:
            note = msgspec.json.decode(path.read_bytes(), type=Note)
        except FileNotFoundError:
            continue  # its cluster has just ended
        except msgspec.DecodeError:
            note = None
        if note and _is_alive(note):
            notes.append(note)
        else:
            path.unlink(missing_ok=True)
            path.with_suffix(LAB).unlink(missing_ok=True)
    return notes


def find(port_base=None):
    """The Note of the cluster on this port base, or of the only one. Raises NotRunning."""
    notes = find_all()
    if not notes:
        raise NotRunning("no cluster is running; start one with: ./tea up")
    if port_base is None and len(notes) > 1:
        port_base = COURSE_BASE
    for note in notes:
        if port_base in (None, note.port_base):
            return note
    bases = ", ".join(str(note.port_base) for note in notes)
    raise NotRunning(f"no cluster is running on --port-base {port_base}; there is one on {bases}")


def ask_all(note):
    """How each service is, a dict each, in order: name, pid, url, up, slow, keys, gossip, and TOLD_BY_SHARDS.

    `up`: it answered; `slow`: it did not within a second, but refused nothing either, as one that is stopped. `pid` is
    that of the process that serves, or of the one that was started while that lives, else None. What a service does not
    tell is None. Answers within about a second.
    """
    with ThreadPoolExecutor(max_workers=len(note.services)) as pool:
        return list(pool.map(_ask, note.services))


def _ask(service):
    told, is_slow = _ask_redis(service) if service.url.startswith("redis:") else _ask_ours(service)
    is_up = told is not None
    told = told or {}
    return {
        "name": service.name,
        "pid": told.get("pid") or (service.pid if psutil.pid_exists(service.pid) else None),
        "url": service.url,
        "up": is_up,
        "slow": is_slow,
        "keys": told.get("keys"),
        "gossip": told.get("gossip"),
        **{field: told.get(field) for field in TOLD_BY_SHARDS},
    }


def _ask_redis(service):
    """(what it tells, None for nothing; whether it is slow), as of any service."""
    client = redis.Redis(port=service.port, socket_timeout=ASK_S, socket_connect_timeout=ASK_S, retry=None)
    try:
        with client:
            return {"pid": client.info("server")["process_id"], "keys": client.dbsize()}, False
    except redis.RedisError as error:
        return None, isinstance(error, redis.TimeoutError)


def _ask_ours(service):
    try:
        told = Peer(service.name, "127.0.0.1", service.port, ASK_S).call("GET", "/status").read()
    except PeerError as error:
        return None, error.is_timeout
    if not isinstance(told, dict):
        return {}, False
    if "channels" in told:
        told["gossip"] = ", ".join(f"{name} {waiting}" for name, waiting in sorted(told["channels"].items()))
    elif told.get("digest") is not None:
        told["gossip"] = f"digest {told['digest']}, due {told['due']}"
    return told, False


def _is_alive(note):
    return born_of(note.pid) == note.born


def born_of(pid):
    """When this process began, counted from the start of the machine; None for one that has ended.

    No time of day: that of a running process becomes another one when the clock of the machine is set.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if state in (b"Z", b"X") else f"{boot} {int(fields[18])}"


def wait_for_end(note, timeout_s):
    """True when the launcher of this cluster is gone within the time."""
    deadline = time.monotonic() + timeout_s
    while _is_alive(note):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def write_json(rows):
    """What `./tea status --json` prints."""
    return json.dumps({"services": rows})


def relative(path):
    """The path as a person here would write it."""
    return os.path.relpath(Path(path))
