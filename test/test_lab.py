"""The lab: gossip held back and let through, services broken on purpose and mended, by command and by button."""

import os
import signal
import stat
import threading
from types import SimpleNamespace

import psutil
import pytest
import requests
from asking import ask, assert_problem
from harness import CALL_S, eventually
from teacommand import Up, tea
from test_restart import Watched

import serverQ
from emporium import command as tea_command
from emporium import lab, redisbinary, running
from emporium.channel import Limits
from emporium.channels import Channels
from emporium.cluster import START_S, Cluster, guarded_options
from emporium.lab import Command, Lab, LabGone, LabRefused
from emporium.ports import Ports
from emporium.settings import QSettings
from emporium.shelf import MemoryShelves
from emporium.supervisor import Supervisor
from emporium.upkeep import Upkeep

# ---- records held back


@pytest.fixture
def channels():
    made = Channels(MemoryShelves(), Limits())
    yield made
    made.close()


def numbered(*numbers):
    return [b'{"n":%d}' % number for number in numbers]


def test_what_is_held_is_given_to_nobody_and_waits_all_the_same(channels):
    channels.put("db0", numbered(1))
    channels.hold()
    channels.put("db0", numbered(2))
    channels.put("db1", numbered(3))

    channel = channels.find("db0")
    assert channel.take(None, 10) == ([], None, 0)
    assert channel.get(10) == []
    assert channel.lease(10, 30) == []
    assert (channel.waiting, channels.find("db1").waiting) == (2, 1)


def test_a_step_lets_through_the_record_that_waits_longest(channels):
    channels.hold()
    for name, number in (("db1", 1), ("db0", 2), ("db1", 3)):
        channels.put(name, numbered(number))

    stepped = [channels.step()[0] for _ in range(2)]

    assert stepped == ["db1", "db0"]
    assert channels.let_through == 2
    first, cursor, left = channels.find("db1").take(None, 10)
    assert (first, left) == (numbered(1), 0)
    assert channels.find("db1").take(cursor, 10)[0] == []
    assert channels.find("db0").get(10) == numbered(2)
    assert channels.step()[0] == "db1"
    assert channels.find("db1").get(10) == numbered(3)
    assert channels.step() is None


def test_a_reader_that_dies_gets_again_what_was_let_through(channels):
    channels.hold()
    channels.put("db0", numbered(1, 2))
    channels.step()
    channel = channels.find("db0")

    assert channel.take(None, 10)[0] == channel.take(None, 10)[0] == numbered(1)


def test_who_waits_gets_what_is_let_through_and_then_all(channels):
    channels.hold()
    channels.put("db0", numbered(1, 2))
    got = []
    waits = threading.Thread(target=lambda: got.extend(channels.serve("db0", lambda each, s: each.get(9, s), 20)))
    waits.start()

    channels.step()

    waits.join(10)
    assert got == numbered(1)
    channels.play()
    assert channels.find("db0").get(10) == numbered(2)


def test_a_channel_that_begins_anew_is_held_too(channels):
    channels.put("db0", numbered(1))
    channels.hold()
    channels.clear()

    channels.put("db0", numbered(2))

    assert channels.find("db0").get(10) == []


def test_to_hold_twice_takes_back_nothing(channels):
    channels.hold()
    channels.put("db0", numbered(1))
    channels.step()

    channels.hold()

    assert channels.find("db0").get(10) == numbered(1)


class Well:
    """What an Upkeep looks after, and nothing is to be done about it."""

    trouble = None

    def __getattr__(self, name):
        return lambda: None


@pytest.mark.parametrize("is_held", [False, True])
def test_a_shard_that_is_held_compares_nothing(is_held, monkeypatch):
    compared = []
    monkeypatch.setattr("emporium.upkeep.round_with", lambda other, replica: compared.append(other) or 0)
    upkeep = Upkeep(Well(), Well(), ["db1"], period_s=1)
    upkeep.is_held = is_held

    upkeep.round()

    assert compared == ([] if is_held else ["db1"])


# ---- over HTTP


def queue(**settings):
    return serverQ.create_app(QSettings(**settings)).test_client()


def test_without_the_setting_there_is_no_lab():
    client = queue()
    for what in ("hold", "play", "step"):
        assert client.post(f"/lab/{what}", json={}).status_code == 404
        assert client.open(f"/lab/{what}", method="TRACE").status_code == 405  # as the description has it
    client.put("/q/db0", json={"n": 1})
    assert client.get("/q/db0").get_json() == {"n": 1}
    assert "held" not in client.get("/status").get_json()


def test_a_queue_is_held_stepped_and_played():
    client = queue(lab=True)
    assert client.post("/lab/step", json={}).status_code == 409
    assert client.post("/lab/hold", json={}).get_json() == {"held": True, "let_through": 0}
    record = {"primary": "db0", "key": "oolong", "rating": 1, "choices": [1], "clocks": [{"c0": 1}]}
    assert client.put("/q/db0", json=record).get_json()["length"] == 1
    assert client.get("/q/db0").get_json() == {}

    stepped = client.post("/lab/step", json={}).get_json()

    assert stepped == {"channel": "db0", "tea": "oolong", "held": True, "let_through": 1}
    assert client.get("/q/db0").get_json() == record
    assert client.post("/lab/step", json={}).get_json()["channel"] is None
    assert client.post("/lab/play", json={}).get_json()["held"] is False
    assert client.get("/status").get_json()["held"] is False


def test_a_queue_may_begin_held():
    client = queue(lab="held")
    client.put("/q/db0", json={"n": 1})

    assert client.get("/q/db0").get_json() == {}


def test_no_form_of_a_stranger_holds_anything():
    assert queue(lab=True).post("/lab/hold", data="{}", content_type="text/plain").status_code == 415


# ---- the supervisor


def test_what_was_broken_on_purpose_stays_dead_until_it_is_mended():
    watched = Watched()
    service = watched.services[0]
    watched.supervisor.leave_dead(service)
    service.die()
    for _ in range(5):
        watched.clock.pass_by(10)
        watched.supervisor.look()
    assert (service.starts, watched.said) == (0, [])

    assert watched.supervisor.mend(service)

    assert service.starts == 1
    service.die()
    watched.supervisor.look()
    watched.clock.pass_by(10)
    assert watched.supervisor.look()


# ---- the launcher


class Broken:
    """A lab of two shards in this process, whose launcher attends to it on a thread of its own."""

    def __init__(self, folder):
        self.said = []
        self.cluster = Cluster(
            Ports.find_free(2),
            2,
            1,
            folder,
            lambda name: folder / f"{name}.log",
            redisbinary.find_or_install(),
            queue_options={"lab": True},
            shard_options=lambda index: {**guarded_options(folder / f"db{index}"), "lab": True},
            view_options={"lab-socket": str(folder / "lab")},
        )
        self.lab = Lab(folder / "lab", self.said.append)
        self.supervisor = Supervisor(self.cluster.services, self.said.append, is_stopping=lambda: False)
        self._is_over = threading.Event()

    def __enter__(self):
        self.cluster.start()
        self.lab.open(self.cluster, self.supervisor)
        self._thread = threading.Thread(target=self._attend)
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._is_over.set()
        self._thread.join()
        self.lab.close()
        self.cluster.stop()

    def _attend(self):
        while not self._is_over.wait(0.01):
            self.lab.attend()
            self.supervisor.look()

    def do(self, do, service=None):
        return lab.ask(self.lab.path, Command(do, service))

    def service(self, name):
        return next(each for each in self.cluster.services if each.name == name)

    def held(self):
        return self._status_of_queue()["held"]

    def waiting(self, channel):
        return self._status_of_queue()["channels"].get(channel)

    def _status_of_queue(self):
        return requests.get(f"{self.cluster.queue.url}/status", timeout=CALL_S).json()


@pytest.fixture(scope="module")
def broken(run_folder):
    folder = run_folder / "lab"
    folder.mkdir()
    with Broken(folder) as made:
        yield made


@pytest.mark.parametrize("name", ["db1", "r0", "q", "lb"])
def test_a_service_is_killed_and_started_again(broken, name):
    service = broken.service(name)

    assert broken.do("kill", name) == f"{name} is killed"
    assert not service.is_running
    assert broken.do("kill", name) == f"{name} was dead already, and stays so"
    with pytest.raises(LabRefused, match="dead"):
        broken.do("stop", name)

    assert broken.do("start", name) == f"{name} is started"
    eventually(service.answers, f"{name} serves again")


def test_a_service_is_stopped_and_goes_on(broken):
    service = broken.service("db0")
    process = psutil.Process(service.process.pid)

    assert "stopped" in broken.do("stop", "db0")
    eventually(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")

    assert broken.do("start", "db0") == "db0 goes on"
    eventually(service.answers, "it answers again")
    assert service.process.pid == process.pid


@pytest.mark.parametrize("name", ["db9", "view", "", None])
def test_what_is_not_there_cannot_be_broken(broken, name):
    with pytest.raises(LabRefused, match="db0, db1"):
        broken.do("kill", name)


def test_what_cannot_be_done_is_refused(broken):
    with pytest.raises(LabRefused, match="kill, stop, start"):
        broken.do("explode", "db0")
    with pytest.raises(LabRefused, match=r"\./tea hold"):
        broken.do("step")


def test_held_gossip_passes_record_by_record(broken, monkeypatch):
    monkeypatch.setattr(lab, "TELL_S", CALL_S)  # whoever hears of it late is told of as one that has not heard
    shards = broken.cluster.shards
    assert broken.cluster.wait_until_ready(START_S)
    assert broken.do("hold") == "gossip is held"
    try:
        put_at(shards[0], "chai", 3)
        eventually(lambda: broken.waiting("db0") == 1, "it waits in the queue")
        assert read_at(shards[1], "chai") == []

        assert broken.do("step") == "chai is let through on db0, to db1"

        assert stored_at(shards[1], "chai") == [3]
        assert broken.do("step") in ("nothing waits to be let through", "chai is let through on db1, to db0")
    finally:
        assert broken.do("play") == "gossip goes on"


def put_at(service, name, rating):
    body = {"rating": rating, "clock": {"c0": 1}}
    requests.put(f"{service.url}/rating/{name}", json=body, timeout=CALL_S).raise_for_status()


def read_at(service, name):
    return requests.get(f"{service.url}/rating/{name}", timeout=CALL_S).json()["choices"]


def stored_at(service, name):
    return requests.get(f"{service.url}/stored/{name}", timeout=CALL_S).json()["choices"]


def test_a_queue_that_was_killed_meanwhile_comes_back_held(broken, monkeypatch):
    monkeypatch.setattr(lab, "TELL_S", CALL_S)
    broken.do("kill", "q")
    try:
        assert "q will hear of it" in broken.do("hold")
        broken.do("start", "q")
        eventually(broken.service("q").answers, "the queue serves again")

        assert broken.held()
    finally:
        broken.do("play")
    assert not broken.held()


def test_a_queue_that_was_stopped_meanwhile_plays_on_with_the_others(broken):
    broken.do("hold")
    broken.do("stop", "q")
    assert "q will hear of it" in broken.do("play")

    broken.do("start", "q")

    eventually(lambda: not broken.held(), "the queue plays on")


def test_the_socket_is_the_users_alone(broken):
    mode = os.stat(broken.lab.path).st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_launcher_that_is_gone_is_said_to_be(tmp_path):
    with pytest.raises(LabGone, match="launcher"):
        lab.ask(str(tmp_path / "lab"), Command("hold"))


def test_a_button_does_what_the_command_does(broken):
    view, base = broken.cluster.view.port, broken.cluster.layout.base

    killed = ask(view, "POST", "/api/lab", '{"do": "kill", "service": "db1"}')
    assert killed.body == {"done": "db1 is killed", "command": f"./tea break db1 --port-base {base}"}
    states = {each["name"]: each["state"] for each in ask(view, "GET", "/api/state").body["shards"]}
    assert states["db1"] == "down"
    assert_problem(ask(view, "POST", "/api/lab", '{"do": "kill", "service": "db9"}'), 409, "db9")
    mended = ask(view, "POST", "/api/lab", '{"do": "start", "service": "db1"}')
    assert mended.body == {"done": "db1 is started", "command": f"./tea mend db1 --port-base {base}"}

    eventually(broken.service("db1").answers, "db1 serves again")


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        (Command("kill", "db2"), "./tea break db2"),
        (Command("stop", "q"), "./tea break q --stop"),
        (Command("start", "r0"), "./tea mend r0"),
        (Command("hold"), "./tea hold"),
        (Command("step"), "./tea step"),
        (Command("play"), "./tea play"),
    ],
)
def test_each_button_has_a_command(command, typed, monkeypatch):
    asked = []
    note = SimpleNamespace(lab="/the/socket")
    monkeypatch.setattr(running, "find", lambda port_base: note)
    monkeypatch.setattr(lab, "ask", lambda path, command: asked.append((path, command)) or "done")

    assert lab.typed(command) == typed
    assert tea_command.main(typed.split()[1:]) == 0
    assert asked == [("/the/socket", command)]


def test_a_view_that_dies_is_started_again(broken):
    view = broken.cluster.view
    pid = view.process.pid

    view.signal(signal.SIGKILL)

    eventually(lambda: view.answers() and view.process.pid != pid, "the view serves again")


# ---- ./tea


def test_what_a_lab_has_broken_ends_with_it(tmp_path):
    """One is killed, one is mended, two hang; then the launcher is told to end."""
    with Up(tmp_path / "data", with_view=True, extra=["--lab"]) as up:
        up.wait_until_open()
        assert f"http://localhost:{up.layout.view}/" in up.said()
        assert ask(up.layout.lb, "GET", "/").headers["Location"] == f"http://127.0.0.1:{up.layout.view}/"
        note = up.note()
        killed = tea("break", "db1", *up.base)
        assert (killed.returncode, killed.stdout) == (0, "db1 is killed\n")
        assert up.pid_of("db1") is None

        for do, name in (("start", "db1"), ("stop", "db0"), ("stop", "r0")):
            lab.ask(note.lab, Command(do, name))
        eventually(lambda: up.now("db1")["up"], "db1 serves again")
        eventually(lambda: up.noted_pid_of("db1") == up.pid_of("db1"), "its new pid is noted")

        up.pids = [service.pid for service in up.note().services]
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(20) == 0
        assert up.all_are_gone()
        assert not os.path.exists(note.lab)


def test_a_cluster_that_is_no_lab_says_how_to_get_one(monkeypatch, capsys):
    monkeypatch.setattr(running, "find", lambda port_base: SimpleNamespace(lab=None))

    assert tea_command.main(["break", "db0"]) == 2
    assert "./tea up --lab" in capsys.readouterr().err


def test_without_a_cluster_there_is_nothing_to_break(capsys):
    assert tea_command.main(["break", "db0", "--port-base", "59999"]) == 4
