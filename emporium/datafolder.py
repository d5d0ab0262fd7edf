"""The folder in which a cluster keeps what it must not forget: for which number of shards, and in which format.

    cluster.json    {"format": 1, "ndb": 4}
    r0/ r1/ ...     the files of each Redis
    db0/ db1/ ...   what each shard must know when its Redis has forgotten
    q/              the channels of the queue (emporium/shelf.py)
    log/            one log a service, rotated

A folder belongs to one number of shards, since with another one the teas would have other primaries. One that holds
other things and no cluster.json is not ours, and is left alone.
"""

import fcntl
import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

FORMAT = 1
NOT_STORED = {"lock", "environment.lock", "running", "runs", "cluster.json.new"}  # what else is in var/


class DataRefused(Exception):
    """This folder cannot be used as asked. The message says why and what to do."""


@contextmanager
def opened(folder, ndb, is_fresh):
    """The folder's path, made if need be, and ours alone inside the `with`. Raises DataRefused.

    `is_fresh` throws away what a cluster has stored there, logs included.
    """
    folder = Path(folder).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_ours(folder)
        lock = open(folder / "lock", "w")  # noqa: SIM115  closed below; the lock goes with it
    except OSError as error:
        raise DataRefused(f"{folder} cannot be used: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataRefused(f"{folder} is in use by a running cluster: end it with ./tea down") from error
        if is_fresh:
            _throw_away(folder)
        _claim(folder, ndb)
        (folder / "log").mkdir(exist_ok=True)
        yield folder


def describe(folder):
    """{"format", "ndb"} of the folder; None when nothing is stored there yet. Raises DataRefused."""
    try:
        found = json.loads((Path(folder) / "cluster.json").read_text())
        return {"format": found["format"], "ndb": found["ndb"]}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataRefused(
            f"{folder}/cluster.json cannot be read ({error}): mend it, such as "
            '{"format": 1, "ndb": 4} where there are r0 to r3, or use another --data DIR'
        ) from error


def _require_ours(folder):
    others = sorted(path.name for path in folder.iterdir() if path.name not in NOT_STORED)
    if others and "cluster.json" not in others:
        raise DataRefused(f"{folder} holds other things ({', '.join(others[:3])}): use an empty folder, or a new one")


def _claim(folder, ndb):
    """Note for how many shards the folder is, or see that it is for so many."""
    found = describe(folder)
    if found is None:
        unfinished = folder / "cluster.json.new"
        unfinished.write_text(json.dumps({"format": FORMAT, "ndb": ndb}) + "\n")
        os.replace(unfinished, folder / "cluster.json")  # in one step, so that a crash leaves no half of a note
        return
    ways_out = "use another --data DIR, or --fresh to throw away what is stored there"
    if found["format"] != FORMAT:
        raise DataRefused(f"{folder} has format {found['format']}, and this version reads format {FORMAT}: {ways_out}")
    if found["ndb"] != ndb:
        raise DataRefused(
            f"{folder} was made for {found['ndb']} shards, and with {ndb} the teas would move: "
            f"use --ndb {found['ndb']}, {ways_out}"
        )


def _throw_away(folder):
    """The note goes last: a crash in between leaves a folder that is still known as ours."""
    for path in folder.iterdir():
        if path.name in ("log", "q") or re.fullmatch(r"(r|db)\d+", path.name):
            shutil.rmtree(path)
    (folder / "cluster.json").unlink(missing_ok=True)
