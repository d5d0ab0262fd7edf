"""`./tea up` and `./tea down`: a cluster for people, from this terminal or behind it.

It ends with Ctrl-C, SIGTERM, a closed terminal, `./tea down`, and even with kill -9: nothing stays behind.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from queue import Empty, SimpleQueue

from emporium import datafolder, progress, redisbinary, running, screen
from emporium.cluster import START_S, Cluster, guarded_options
from emporium.environment import PYTHON, ROOT, SetupFailed
from emporium.lab import Lab
from emporium.ports import COURSE_BASE, Ports, PortTaken
from emporium.service import StartFailed
from emporium.supervisor import Supervisor

DOWN_S = 30
WATCH_S = 0.05
KEPT_EVENTS = 4096  # of each service, for GET /trace
READY_S = 5.0  # for shards whose memory is whole to serve


def up(asked):
    """Run a cluster until we are told to stop. Returns the exit code: 0 stopped as asked, 1 it did not come up.

    `asked` has the options of `./tea up` as attributes (emporium/command.py).
    """
    told = Told()
    layout = Ports(asked.port_base)
    spoken = {"log-format": asked.log_format}
    try:
        programs = redisbinary.find_or_install()
        _require_free(layout, asked.ndb, asked.view)
        with (
            datafolder.opened(asked.data, asked.ndb, asked.fresh) as folder,
            Logs(folder / "log", asked.quiet) as logs,
            _lab(asked, logs) as lab,
        ):
            of_lab = {} if lab is None else {"lab": True}
            cluster = Cluster(
                layout,
                asked.ndb,
                asked.digest_length,
                folder,
                logs.of,
                programs,
                queue_options={
                    "data-dir": str(folder / "q"),
                    "fsync": "group",
                    "trace": KEPT_EVENTS,
                    **of_lab,
                    **spoken,
                },
                balancer_options={"trace": KEPT_EVENTS, **spoken},
                shard_options=lambda index: {
                    **guarded_options(folder / f"db{index}"),
                    "durability": asked.durability,
                    "trace": KEPT_EVENTS,
                    "gossip-ids": True,
                    **of_lab,
                    **spoken,
                },
                view_options={"lab-socket": lab and lab.path, **spoken} if asked.view else None,
            )
            cluster.is_cancelled = lambda: told.count > 0
            told.on_second = cluster.kill
            try:
                with progress.shown(f"starting {len(cluster.services)} services") as tell:
                    cluster.start()
                    tell("until all shards serve")
                    are_ready = cluster.wait_until_ready(READY_S)
                with running.noted(cluster, folder, lab and lab.path) as note_anew:
                    if not are_ready:
                        _say("tea: not all shards serve yet: ./tea status says why", sys.stderr)
                    _greet(cluster, folder)
                    _watch(cluster, told, logs.say, note_anew, asked.restart, lab)
            finally:
                if told.count == 1:
                    _say("tea: stopping; Ctrl-C once more ends everything at once", sys.stderr)
                with progress.shown("stopping the cluster"):
                    cluster.stop()
    except (PortTaken, StartFailed, SetupFailed, datafolder.DataRefused) as error:
        _say(f"tea: {error}", sys.stderr)
        return 0 if told.count else 1
    return 0


def up_detached(arguments, port_base):
    """Start `./tea up` behind this terminal and wait until its cluster answers. Returns the exit code.

    Raises SetupFailed. Interrupted before that, it leaves nothing behind either.
    """
    redisbinary.find_or_install()  # here, where it can be seen that this takes a while
    with tempfile.TemporaryFile() as said:
        launcher = subprocess.Popen(
            [str(PYTHON), str(ROOT / "tea"), "up", "--quiet", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            with progress.shown("starting the cluster"):
                _wait_for_note(launcher)
        except BaseException:
            launcher.terminate()
            try:
                launcher.wait(DOWN_S)
            except subprocess.TimeoutExpired:
                launcher.kill()  # and the kernel ends its services
            raise
        said.seek(0)
        lines = said.read().decode(errors="replace")
        if launcher.poll() is not None:
            print(lines.strip(), file=sys.stderr)
            return launcher.returncode or 1
    note = running.find(port_base)
    print(_addresses(note.services, note.port_base))
    base = "" if note.port_base == COURSE_BASE else f" --port-base {note.port_base}"
    print(f"It runs behind this terminal, logs in {running.relative(note.data)}/log. End it with: ./tea down{base}")
    return 0


def _wait_for_note(launcher):
    """Returns when the cluster of this launcher answers, or its launcher has ended."""
    deadline = time.monotonic() + 2 * START_S
    while launcher.poll() is None and not any(note.pid == launcher.pid for note in running.find_all()):
        if time.monotonic() > deadline:
            raise StartFailed(f"the cluster did not answer within {2 * START_S} s")
        time.sleep(0.02)


def down(port_base):
    """End a running cluster. Returns the exit code. Raises NotRunning."""
    note = running.find(port_base)
    with suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(note.pid, signal.SIGTERM)
    with progress.shown("waiting for the cluster to end"):
        is_down = running.wait_for_end(note, DOWN_S)
    if not is_down:
        print(f"tea: pid {note.pid} did not end within {DOWN_S} s: kill -9 {note.pid} ends it and all", file=sys.stderr)
        return 1
    print("The cluster is down; what was stored is in", running.relative(note.data))
    return 0


class Told:
    """Counts the requests to stop: the first ends the cluster in order, the second at once."""

    def __init__(self):
        self.count = 0
        self.on_second = None
        self._heard = SimpleQueue()  # unlike an Event, it may be used in a signal handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, _number, _frame):
        self.count += 1
        self._heard.put(None)
        if self.count > 1 and self.on_second:
            self.on_second()

    def wait(self, seconds):
        """True as soon as we are told to stop, False when the time is over."""
        try:
            self._heard.get(timeout=seconds)
        except Empty:
            return False
        return True


class Logs:
    """The log of each service: a rotated file, and this terminal with the service's name in front. And our own, up.log,
    since behind a terminal nobody reads us."""

    def __init__(self, folder, is_quiet=False):
        self._folder = folder
        self._is_quiet = is_quiet
        self._files = []
        self._own = self._rotated("up", "%(asctime)s %(message)s")

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        for file in self._files:
            file.close()

    def of(self, name):
        """What Service wants: a function that takes each line."""
        log = self._rotated(name)
        prefix = screen.painter(sys.stdout)(f"{name:>4} |", screen.colour_of(name))

        def take(line):
            log.info("%s", line)
            if not self._is_quiet:
                _say(f"{prefix} {line}")

        return take

    def say(self, text):
        """Tell it on standard error, and in our own log."""
        self._own.info("%s", text)
        _say(text, sys.stderr)

    def _rotated(self, name, form="%(message)s"):
        log = logging.Logger(name)
        file = RotatingFileHandler(self._folder / f"{name}.log", maxBytes=5_000_000, backupCount=2)
        file.setFormatter(logging.Formatter(form))
        log.addHandler(file)
        self._files.append(file)
        return log


def _require_free(layout, ndb, with_view):
    """Raises PortTaken, which also says when it is a cluster of ours that is in the way."""
    try:
        layout.require_free(ndb, with_view)
    except PortTaken as error:
        if any(note.port_base == layout.base for note in running.find_all()):
            base = "" if layout.base == COURSE_BASE else f" --port-base {layout.base}"
            hint = f"a cluster runs there already: end it with ./tea down{base}, or use another --port-base"
            raise PortTaken(f"{error}\n{hint}") from error
        if with_view and "for view" in str(error):
            raise PortTaken(f"{error}\n./tea up --no-view goes without it") from error
        raise


@contextmanager
def _lab(asked, logs):
    """The Lab of this cluster; None when none was asked for."""
    if not asked.lab:
        yield None
        return
    try:
        lab = Lab(running.lab_path(), logs.say)
    except OSError as error:
        raise SetupFailed(f"--lab: {running.lab_path()} cannot be listened on: {error}") from error
    try:
        yield lab
    finally:
        lab.close()


def _watch(cluster, told, say, note_anew, restarts, lab=None):
    """Returns when we are told to stop. A service that ends before that is named, and started again if `restarts`."""
    supervisor = Supervisor(cluster.services, say, is_stopping=lambda: told.count > 0, restarts=restarts)
    if lab:
        lab.open(cluster, supervisor)
    while not told.wait(WATCH_S):
        was_started = lab is not None and lab.attend()
        if not supervisor.look() and not was_started:
            continue
        try:
            note_anew()
        except OSError as error:
            say(f"tea: ./tea status may show pids from before, since they could not be noted: {error}")


def _greet(cluster, folder):
    _say(_addresses(cluster.services, cluster.layout.base))
    _say(f"Logs are in {running.relative(folder)}/log. Ctrl-C ends everything.")


def _say(text, stream=None):
    """Print in one write, so that lines never mix. When nobody reads us any more, go on without a word."""
    stream = stream or sys.stdout
    try:
        print(f"{text}\n", end="", file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _addresses(services, port_base):
    url = f"http://localhost:{port_base}/rating/persimmon"
    cli = redisbinary.find_or_install().cli_as_typed
    first_redis = next(service for service in services if service.name == "r0")
    rows = "\n".join(f"  {service.name:<4} {service.url}" for service in services)
    put = """curl -XPUT -H'Content-type: application/json' -d'{"rating": 1, "clock": {"c0":1}}'"""
    views = [f"\nSee it work: http://localhost:{service.port}/\n" for service in services if service.name == "view"]
    return (
        f"\nThe Tea Emporium is open:\n{rows}\n{''.join(views)}\n"
        f"Try:\n  {put} {url}\n  curl {url}\n  curl '{url}?consistency=weak'\n"
        f"and look inside with: {cli} -p {first_redis.port} keys '*'\n"
    )
