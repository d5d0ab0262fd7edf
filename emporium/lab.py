"""The lab: a cluster that can be broken on purpose, by buttons of the view and by commands.

    ./tea break db2, the view  --{"do": "kill", "service": "db2"}-->  Unix socket  [ ./tea up --lab ]  --SIGKILL--> db2

Only the launcher can do it, since the processes are its own: what it has killed it leaves dead until that is mended.
The socket is nobody's but the user's (mode 0600), and there is none without --lab. One JSON object a line goes in, one
comes out: {"done": "db2 is killed"}, or {"refused": "there is no db9"}.

Gossip is held by the queue, which gives out nothing but what is let through; meanwhile shards compare nothing, since
their comparisons would bring the same news another way.
"""

import json
import logging
import os
import signal
import socket
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from urllib.parse import quote

import msgspec

from emporium import wire
from emporium.failures import BadAnswer, PeerError
from emporium.peers import Peer
from emporium.ports import COURSE_BASE

log = logging.getLogger(__name__)

ASK_S = 10.0  # for a command, from end to end
LINE_S = 2.0  # for whoever connects, to say what is wanted
TELL_S = 1.0  # for a service that is told to hold or to play
LINE_BYTES = 4096
KINDS = ("kill", "stop", "start", "hold", "step", "play")
OF_ONE = ("kill", "stop", "start")  # services that the command is about


class LabRefused(Exception):
    """It was not done. The message says why."""


class LabGone(Exception):
    """The launcher does not answer."""


class Command(msgspec.Struct):
    """What is to be done. `service`: of OF_ONE only."""

    do: str
    service: str | None = None


def typed(command, port_base=COURSE_BASE):
    """The command line that does the same to the cluster on this port base."""
    match command.do:
        case "kill":
            line = f"./tea break {command.service}"
        case "stop":
            line = f"./tea break {command.service} --stop"
        case "start":
            line = f"./tea mend {command.service}"
        case _:
            line = f"./tea {command.do}"
    return line if port_base == COURSE_BASE else f"{line} --port-base {port_base}"


def ask(path, command):
    """What was done, in words. `path` is that of the launcher's socket. Raises LabRefused or LabGone."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ASK_S)
            connection.connect(path)
            connection.sendall(msgspec.json.encode(command) + b"\n")
            told = wire.decode(_line(connection), dict)
    except (OSError, ValueError) as error:
        raise LabGone(f"the launcher of the cluster does not answer: {error}") from error
    if "done" not in told:
        raise LabRefused(str(told.get("refused")))
    return told["done"]


class Lab:
    """The launcher's side. Make it before the cluster starts, so that the view finds the socket.

    What starts processes is done by `attend`, on the thread that calls it: the kernel ends them together with that one.
    """

    def __init__(self, path, say):
        """say  what is done is told to, as text"""
        self.path = str(path)
        self._say = say
        self._asked = SimpleQueue()  # (Command, SimpleQueue of its answer)
        self._cluster = self._supervisor = None
        self._listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)  # the socket is nobody else's from its first moment on
        try:
            self._listener.bind(self.path)
        finally:
            os.umask(before)
        self._listener.listen(8)

    def open(self, cluster, supervisor):
        """From now on commands are taken, for this cluster."""
        self._cluster, self._supervisor = cluster, supervisor
        threading.Thread(target=self._accept, name="lab", daemon=True).start()

    def close(self):
        self._listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def attend(self):
        """Do what has been asked for, and does not wait for anybody. True when a process was started."""
        has_started = False
        while True:
            try:
                command, answer = self._asked.get_nowait()
            except Empty:
                return has_started
            try:
                started, done = self._do(command)
                has_started |= started
                answer.put({"done": done})
            except LabRefused as refusal:
                answer.put({"refused": str(refusal)})

    # ---- on the thread of the launcher

    def _do(self, command):
        """(whether a process was started, what was done)."""
        service = self._find(command.service)
        name, was_running = service.name, service.is_running
        if command.do == "kill":
            self._supervisor.leave_dead(service)
            service.kill()
            return False, f"{name} is killed" if was_running else f"{name} was dead already, and stays so"
        if command.do == "stop":
            if not was_running:
                raise LabRefused(f"{name} is dead: {self._typed('start', name)} starts it")
            service.signal(signal.SIGSTOP)
            return False, f"{name} is stopped: it accepts connections, and does not answer"
        if was_running:
            self._supervisor.mend(service)
            service.signal(signal.SIGCONT)
            return False, f"{name} goes on"
        if not self._supervisor.mend(service):
            raise LabRefused(f"{name} could not be started; it is tried again")
        return True, f"{name} is started"

    def _find(self, name):
        breakable = [service for service in self._cluster.services if service is not self._cluster.view]
        for service in breakable:
            if service.name == name:
                return service
        raise LabRefused(f"there is no {name} to break or mend; there are {', '.join(each.name for each in breakable)}")

    def _typed(self, do, service=None):
        return typed(Command(do, service), self._cluster.layout.base)

    # ---- on threads of their own

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the cluster ends
                return
            threading.Thread(target=self._answer, args=(connection,), name="lab-answer", daemon=True).start()

    def _answer(self, connection):
        with connection:
            connection.settimeout(LINE_S)
            try:
                told = self._carry_out(wire.decode(_line(connection), Command))
                connection.sendall(json.dumps(told).encode() + b"\n")
            except ValueError as error:
                with suppress(OSError):  # who has gone away wants no answer
                    connection.sendall(json.dumps({"refused": str(error)}).encode() + b"\n")
            except OSError as error:
                log.warning("a command of the lab was not answered: %s", error)

    def _carry_out(self, command):
        if command.do not in KINDS:
            return {"refused": f"do: it is one of {', '.join(KINDS)}, not {command.do[:100]!r}"}
        try:
            told = self._of_one(command) if command.do in OF_ONE else {"done": self._of_gossip(command.do)}
        except LabRefused as refusal:
            return {"refused": str(refusal)}
        if done := told.get("done"):
            self._say(f"tea: lab: {done}  ({self._typed(command.do, command.service)})")
        return told

    def _of_one(self, command):
        answer = SimpleQueue()
        self._asked.put((command, answer))
        try:
            told = answer.get(timeout=ASK_S - LINE_S)
        except Empty:
            raise LabRefused("the launcher is busy: it starts or ends a process") from None
        if command.do == "start" and "done" in told:
            self._remind(self._find(command.service))
        return told

    def _of_gossip(self, do):
        """What was done, in words."""
        if do == "step":
            return self._step()
        self._set_held(do == "hold")
        told = [self._tell(service, do) for service in self._holders]
        silent = [service.name for service, answer in zip(self._holders, told, strict=True) if answer is None]
        done = "gossip is held" if do == "hold" else "gossip goes on"
        return f"{done}; {', '.join(silent)} will hear of it when it is back" if silent else done

    @property
    def _holders(self):
        return [self._cluster.queue, *self._cluster.shards]

    @property
    def is_held(self):
        return json.loads(self._cluster.queue.command[-1])["lab"] == "held"

    def _set_held(self, is_held):
        """So that whoever is started from now on begins so."""
        for service in self._holders:
            settings = json.loads(service.command[-1])
            service.command[-1] = json.dumps({**settings, "lab": "held" if is_held else True})

    def _remind(self, service):
        """One that was stopped may have missed what the others were told."""
        if service in self._holders:
            self._tell(service, "hold" if self.is_held else "play")

    def _step(self):
        if not self.is_held:
            raise LabRefused(f"gossip is not held: {self._typed('hold')} comes first")
        told = self._tell(self._cluster.queue, "step")
        if told is None:
            raise LabRefused(f"the queue does not answer: {self._typed('start', 'q')} starts it")
        channel, tea = told.get("channel"), told.get("tea")
        if channel is None:
            return "nothing waits to be let through"
        hearer = self._hearer_of(channel)
        if hearer is None:
            return f"a record on {channel} is let through"
        # A shard takes its gossip when it is asked for something, and says that it has it when it takes the next.
        about = f"/rating/{quote(tea or 'anything', safe='')}"
        is_heard = self._call(hearer, "GET", about) is not None and self._call(hearer, "GET", about) is not None
        end = f"to {hearer.name}" if is_heard else f"and waits for {hearer.name}, which does not answer"
        return f"{tea or 'a record'} is let through on {channel}, {end}"

    def _hearer_of(self, channel):
        """The shard that takes from this channel."""
        shards = self._cluster.shards
        for index, service in enumerate(shards):
            if service.name == channel:
                return shards[(index + 1) % len(shards)]
        return None

    def _tell(self, service, what):
        """What the service answers to POST /lab/<what>, a dict; None when it cannot be told."""
        return self._call(service, "POST", f"/lab/{what}", b"{}")

    def _call(self, service, method, path, body=None):
        try:
            answer = Peer(service.name, "127.0.0.1", service.port, TELL_S).call(method, path, body)
            if not answer.is_ok:
                raise BadAnswer(f"it answered {answer.status}")
            return answer.read(wire.decode_object)
        except PeerError as error:
            log.info("lab: %s: %s", service.name, error)
            return None


def _line(connection):
    """The one line, or what there is of it when the other side has said all. Raises OSError."""
    said = b""
    while not said.endswith(b"\n") and len(said) < LINE_BYTES and (piece := connection.recv(LINE_BYTES - len(said))):
        said += piece
    return said
