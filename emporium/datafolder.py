"""The folder in which a cluster keeps what it must not forget: for which number of shards, and in which format.

    cluster.json    {"format": 1, "ndb": 4}
    r0/ r1/ ...     the files of each Redis
    log/            one log a service, rotated

A folder belongs to one number of shards, since with another one the teas would have other primaries.
"""

import fcntl
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

FORMAT = 1


class DataRefused(Exception):
    """This folder cannot be used as asked. The message says why and what to do."""


@contextmanager
def opened(folder, ndb, is_fresh):
    """The folder's path, made if need be, and ours alone inside the `with`. Raises DataRefused.

    `is_fresh` throws away what is stored there, logs included, and nothing that is not ours.
    """
    folder = Path(folder).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
        _require_same(folder, ndb)
        (folder / "cluster.json").write_text(json.dumps({"format": FORMAT, "ndb": ndb}) + "\n")
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
            f"{folder}/cluster.json cannot be read ({error}): use another --data DIR, or --fresh to begin anew"
        ) from error


def _require_same(folder, ndb):
    found = describe(folder)
    if found is None:
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
    (folder / "cluster.json").unlink(missing_ok=True)
    for ours in [folder / "log", *folder.glob("r[0-9]*")]:
        if ours.is_dir():
            shutil.rmtree(ours)
