"""The tests' own ground: servers that are copies of a prepared process, and tests that run in two lanes."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import lanes
import pytest
from harness import eventually, is_alive
from prepared import Service
from xdist.remote import Producer

from emporium.environment import ROOT

WAITS = "import os, sys, time; print(os.getpid(), sys.argv[1:], os.environ.get('PORT'), flush=True); time.sleep(60)"
STARTS_ONE = """
import os, sys, time
from prepared import Service
service = Service("s", [sys.executable, sys.argv[1]], 0, "", None, sys.argv[2])
service.start()
print(service.process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def program(tmp_path):
    """(source) -> a Service that is a copy which becomes this program."""

    def make(source, *words):
        (tmp_path / "program.py").write_text(source)
        command = [sys.executable, str(tmp_path / "program.py"), *words]
        return Service("program", command, 0, "", None, tmp_path / "log")

    return make


def test_a_copy_is_the_program_that_was_asked_for(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PORT", "1")
    copy = program(WAITS, "a", "b")

    copy.start()
    pid = copy.process.pid
    eventually(lambda: (tmp_path / "log").read_text() == f"{pid} ['a', 'b'] None\n", "it has said who it is")

    assert os.getsid(pid) == pid
    copy.kill()
    assert copy.process.returncode == -signal.SIGKILL
    assert not is_alive(pid)


@pytest.mark.parametrize(("source", "code"), [("pass", 0), ("raise SystemExit(3)", 3), ("1 / 0", 1)])
def test_how_a_copy_ends_is_told(source, code, program):
    copy = program(source)

    copy.start()

    assert copy.wait_for_end(10)
    assert copy.process.returncode == code


def test_many_who_ask_at_once_are_told_the_same_end(program):
    """The end of a process can be had once: whoever asked once more would end copied.py, and so all copies."""
    copy = program(WAITS)

    for _ in range(20):
        copy.start()
        os.kill(copy.process.pid, signal.SIGKILL)
        with ThreadPoolExecutor(8) as pool:
            told = [pool.submit(copy.process.wait, 10) for _ in range(8)]

        assert {each.result() for each in told} == {-signal.SIGKILL}


def test_copies_die_with_the_process_that_asked_for_them(tmp_path):
    (tmp_path / "program.py").write_text(WAITS)
    command = [sys.executable, "-c", STARTS_ONE, str(tmp_path / "program.py"), str(tmp_path / "log")]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'test'}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as asker:
        pid = int(asker.stdout.readline())
        assert is_alive(pid)

        asker.kill()

    eventually(lambda: not is_alive(pid), "the copy is dead")


# ---- lanes


class Lane:
    """What the scheduler sees of one of the processes that run tests."""

    def __init__(self, names):
        self.gateway = SimpleNamespace(id="lane")
        self.names = names
        self.got = []
        self.shutting_down = False

    def send_runtest_some(self, indices):
        self.got += [self.names[index] for index in indices]

    def shutdown(self):
        self.shutting_down = True


def test_what_needs_quiet_is_given_out_when_the_other_lane_has_ended():
    quiet = lanes.QUIET[0]
    names = [f"test/test_a.py::test_{number}" for number in range(3)]
    names += [f"test/test_b.py::test_{number}" for number in range(3)] + [f"test/{quiet}::test_0"]
    option = SimpleNamespace(loadscopereorder=False)
    config = SimpleNamespace(option=option, getvalue=lambda _name: ["2*popen"])
    scheduler = lanes.Lanes(config, Producer("test", enabled=False))
    one, other = Lane(names), Lane(names)
    for lane in (one, other):
        scheduler.add_node(lane)
        scheduler.add_node_collection(lane, names)

    scheduler.schedule()
    for index in range(3):
        scheduler.mark_test_complete(one, index)
    for index in (3, 4):
        scheduler.mark_test_complete(other, index)
    assert (one.got, other.got) == (names[:3], names[3:6])
    assert other.shutting_down  # it may do its last one, and gets no more
    scheduler.mark_test_complete(other, 5)

    assert one.got == [*names[:3], names[6]]
