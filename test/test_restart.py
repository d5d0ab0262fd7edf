"""./tea up starts again what died: when, what it says of it, and when it does not."""

import os
import re
import signal
import threading
import time

import psutil
import pytest
from asking import ask
from harness import eventually, is_alive
from teacommand import Up, tea

from emporium.service import Service, StartFailed
from emporium.supervisor import Backoff, Supervisor


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s

    def pass_by(self, seconds):
        self.now_s += seconds


class FakeService:
    """One that dies when it is told to, and starts when it can."""

    def __init__(self, name):
        self.name = name
        self.is_running = True
        self.starts = 0
        self.trouble = None

    def die(self):
        self.is_running = False

    def ending(self):
        return "by SIGKILL"

    def end_of_log(self, lines):
        return f"the last words of {self.name}"

    def start(self):
        if self.trouble:
            raise self.trouble
        self.starts += 1
        self.is_running = True


class Watched:
    """A Supervisor of two fakes, with a clock of its own and what it said."""

    def __init__(self, restarts=True):
        self.clock = Clock()
        self.said = []
        self.is_stopping = False
        self.services = [FakeService("db0"), FakeService("q")]
        self.supervisor = Supervisor(
            self.services, self.said.append, lambda: self.is_stopping, restarts=restarts, now=self.clock
        )

    def look_after(self, seconds):
        self.clock.pass_by(seconds)
        return self.supervisor.look()


# ---- when


def test_who_dies_at_once_again_and_again_waits_twice_as_long_each_time_and_never_more_than_2_s():
    backoff = Backoff(Clock())

    assert [backoff.died() for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_after_10_healthy_seconds_the_waiting_begins_anew():
    clock = Clock()
    backoff = Backoff(clock)
    waits = []
    for healthy_s in (0, 9.9, 10, 3, 11):
        clock.pass_by(healthy_s)
        waits.append(backoff.died())
        clock.pass_by(waits[-1])
        backoff.started()

    assert waits == [0.1, 0.2, 0.1, 0.2, 0.1]


def test_the_time_that_it_was_dead_is_no_healthy_time():
    clock = Clock()
    backoff = Backoff(clock)
    backoff.died()

    clock.pass_by(60)
    backoff.started()

    assert backoff.died() == 0.2


# ---- what is done


def test_a_death_is_told_once_and_the_service_starts_when_its_time_has_come():
    watched = Watched()
    shard = watched.services[0]
    shard.die()

    assert not watched.look_after(0)
    assert not watched.look_after(0.05)
    assert shard.starts == 0
    assert watched.look_after(0.06)

    assert (shard.starts, watched.services[1].starts) == (1, 0)
    assert watched.said == [
        "tea: db0 ended by SIGKILL, and starts again in 0.1 s; its log ends:\nthe last words of db0"
    ]
    assert not watched.look_after(0)


def test_each_service_has_a_waiting_of_its_own():
    watched = Watched()
    shard, queue = watched.services
    for _ in range(3):
        shard.die()
        watched.look_after(0)
        watched.look_after(2)
    shard.die()
    queue.die()
    watched.look_after(0)

    watched.look_after(0.1)

    assert (shard.is_running, queue.is_running) == (False, True)


def test_one_that_cannot_be_started_is_told_and_tried_again():
    watched = Watched()
    shard = watched.services[0]
    for trouble in (OSError("no process left"), StartFailed("setpriv is missing")):
        shard.trouble = trouble
        shard.die()
        watched.look_after(0)
        assert not watched.look_after(2)

        assert watched.said[-1].startswith(f"tea: db0 could not be started: {trouble}, and starts again in ")
        shard.trouble = None
        assert watched.look_after(2)


def test_nothing_is_started_while_the_cluster_stops():
    watched = Watched()
    watched.services[0].die()
    watched.look_after(0)

    watched.is_stopping = True

    assert not watched.look_after(10)
    assert watched.services[0].starts == 0


def test_without_restarts_a_death_is_told_and_nothing_else():
    watched = Watched(restarts=False)
    watched.services[0].die()

    started = [watched.look_after(seconds) for seconds in (0, 10, 100_000)]

    assert not any(started)
    assert watched.said == ["tea: db0 ended by SIGKILL; its log ends:\nthe last words of db0"]


# ---- on real processes


def test_what_an_earlier_life_left_behind_does_not_cut_the_log_of_the_next(tmp_path):
    """A child that the first one left still holds its output, and lets go of it when the second one runs."""
    script = tmp_path / "service.sh"
    script.write_text(
        f"cd {tmp_path}\n"
        "wait_for() { until [ -e $1 ]; do sleep 0.02; done; }\n"
        "if [ -e second ]; then wait_for go-on; echo the second is heard; wait_for end; exit; fi\n"
        "touch second; (wait_for let-go; echo the child is heard) &\n"
    )
    heard = []
    service = Service("s", ["bash", str(script)], 0, "", lambda _service: True, heard.append)
    service.start()
    eventually(lambda: not service.is_running, "the first life is over")

    service.start()
    (tmp_path / "let-go").touch()
    eventually(lambda: "the child is heard" in heard, "the child lets go")
    eventually(
        lambda: [thread.name for thread in threading.enumerate()].count("log-s") == 1,
        "the reader of the first life has ended",
    )
    (tmp_path / "go-on").touch()

    eventually(lambda: "the second is heard" in heard, "the second one goes on")
    assert service.end_of_log() == "the second is heard"
    (tmp_path / "end").touch()
    assert service.wait_for_end(20)


def test_what_a_dead_service_has_said_is_told_though_it_is_read_late():
    """By a thread that shares a busy machine with others."""
    service = Service(
        "s", ["printf", "one\\ntwo\\nthree\\n"], 0, "", lambda _service: True, lambda _line: time.sleep(0.6)
    )
    service.start()
    eventually(lambda: not service.is_running, "it has ended")

    assert service.end_of_log() == "one\ntwo\nthree"


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with Up(tmp_path_factory.mktemp("restart") / "data") as made:
        yield made.wait_until_open()


def test_what_is_killed_serves_again_with_what_it_had_stored_and_others_find_it(up):
    tea("put", "assam", 3, "--clock", "c0=1", *up.base)
    killed = {name: up.pid_of(name) for name in ("r0", "r1", "q", "db1", "lb")}

    said_before = up.said()

    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)

    for name, pid in killed.items():
        eventually(lambda name=name, pid=pid: up.serves_again(name, pid), f"{name} serves again")
        eventually(lambda name=name: up.noted_pid_of(name) == up.pid_of(name), f"the new pid of {name} is noted")
        death = f"tea: {name} ended by SIGKILL, and starts again in "
        assert up.said().count(death) == said_before.count(death) + 1
    stored = {"rating": 3, "choices": [3], "clocks": [{"c0": 1}]}
    eventually(lambda: ask(up.layout.lb, "GET", "/rating/assam").body == stored, "what was stored is answered")


def test_a_death_is_told_with_the_end_of_the_log_of_that_life(up):
    died = up.pid_of("db0")
    os.kill(died, signal.SIGTERM)  # it says goodbye, and ends

    eventually(lambda: "db0 ended with exit code 0" in up.said(), "the death is told")
    told = up.said().partition("tea: db0 ended with exit code 0")[2]
    assert told.startswith(", and starts again in 0.")
    first, quoted, *_ = told.splitlines()
    assert first.endswith("; its log ends:")
    eventually(lambda: up.serves_again("db0", died), "it serves again")
    of_that_life = (up.data / "log" / "db0.log").read_text().partition(f"pid {up.pid_of('db0')}")[0]
    assert quoted in of_that_life.splitlines()  # it may have said more than is quoted
    kept = (up.data / "log" / "up.log").read_text()
    assert re.search(r"^\S+ \S+ tea: db0 ended with exit code 0, and starts again in 0\.", kept, re.MULTILINE)


def test_one_that_is_stopped_is_not_dead_and_gets_no_second_beside_it(up):
    stopped = up.pid_of("db1")
    told = up.said().count("db1 ended")
    os.kill(stopped, signal.SIGSTOP)
    try:
        killed = up.pid_of("lb")
        os.kill(killed, signal.SIGKILL)  # when this one is back, the other one has been looked at, too
        eventually(lambda: up.serves_again("lb", killed), "the load balancer serves again")

        assert up.noted_pid_of("db1") == stopped
        assert up.said().count("db1 ended") == told
        assert shards_of(up) == 2
    finally:
        os.kill(stopped, signal.SIGCONT)
    eventually(lambda: up.now("db1")["up"], "it goes on")
    assert up.pid_of("db1") == stopped


def test_a_cluster_with_a_restarted_service_leaves_no_process_when_its_launcher_is_killed(tmp_path):
    """The kernel ends a process with the thread that started it: that must be the main thread, also at a restart."""
    with Up(tmp_path / "data", ndb=1) as up:
        up.wait_until_open()
        killed = up.pid_of("db0")
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: up.serves_again("db0", killed), "it serves again")
        up.pids = [service["pid"] for service in up.status()]
        assert all(is_alive(pid) for pid in up.pids)
        assert up.said().count("db0 ended") == 1

        up.process.kill()

        eventually(up.all_are_gone, "every process has ended")


def test_a_cluster_told_to_stop_right_after_a_death_stops_and_starts_nothing(tmp_path):
    with Up(tmp_path / "data", ndb=1) as up:
        up.wait_until_open()
        children = psutil.Process(up.process.pid).children(recursive=True)
        os.kill(up.pid_of("db0"), signal.SIGKILL)

        up.process.send_signal(signal.SIGTERM)

        assert up.process.wait(20) == 0
        assert not any(is_alive(child.pid) for child in children)
        # Who notices the death first quotes the end of the log, which says it once more.
        assert len(re.findall(r"^ *db0 \|.* db0 listens on", up.said(), re.MULTILINE)) == 1


def shards_of(up):
    children = psutil.Process(up.process.pid).children()
    return len([child for child in children if "serverDB.py" in " ".join(child.cmdline())])
