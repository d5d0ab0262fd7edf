"""What takes long says so, on standard error and on a terminal only; and colour is given and taken as is asked for."""

import os
import re
import signal
import subprocess
import sys

import msgspec
import pytest
from teacommand import TEA
from terminal import Terminal

from emporium import command, datafolder, environment, running, screen, statustable
from emporium.environment import ROOT
from emporium.ports import Ports
from emporium.up import Logs

COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-7]m")
AT_WORK = """
import sys, time
from emporium import progress
progress.APPEARS_S = progress.EVERY_S = 0.01
with progress.shown("steeping") as told:
    told("1 of 3 cups")
    sys.stdin.readline()
    print("a result")
    with progress.shown("pouring"):
        sys.stdin.readline()
    told("3 of 3 cups")
    sys.stdin.readline()
print("the end")
"""


def at_work(**options):
    return Terminal([sys.executable, "-c", AT_WORK], echoes=False, **options)


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_a_terminal_shows_what_goes_on_and_for_how_long_until_it_is_done():
    with at_work() as terminal:
        assert re.fullmatch(r"tea: steeping: 1 of 3 cups, \d+ s", terminal.eventually("steeping"))

        terminal.press("\n")
        terminal.eventually("tea: pouring, ")
        terminal.press("\n")
        terminal.eventually("tea: steeping: 3 of 3 cups, ")
        terminal.press("\n")

        assert terminal.process.wait(10) == 0
        terminal.eventually("the end")
        assert [line for line in terminal.lines if line] == ["a result", "the end"]


def test_a_line_is_never_wider_than_the_terminal():
    with at_work(columns=20) as terminal:
        assert terminal.eventually("steeping") == "tea: steeping: 1 of"
        terminal.press("\n\n\n")
        assert terminal.process.wait(10) == 0


@pytest.mark.parametrize("environ", [{}, {"FORCE_COLOR": "1"}])
def test_a_pipe_gets_the_results_alone(environ):
    done = subprocess.run(
        [sys.executable, "-c", AT_WORK],
        input="\n\n\n",
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={**os.environ, **environ},
    )

    assert (done.stdout, done.stderr) == ("a result\nthe end\n", "")


def test_a_terminal_that_cannot_move_its_cursor_gets_the_results_alone():
    with at_work(TERM="dumb") as terminal:
        terminal.press("\n\n\n")
        assert terminal.process.wait(10) == 0
        terminal.eventually("the end")

    assert b"steeping" not in terminal.raw


def test_a_cluster_that_takes_its_time_to_end_is_waited_for_before_everybodys_eyes(tmp_path):
    base = Ports.find_free(1).base
    launcher = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    note = running.NOTES / f"{launcher.pid}.json"
    try:
        launcher.send_signal(signal.SIGSTOP)
        born = running.born(launcher.pid)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_bytes(msgspec.json.encode(running.Note(launcher.pid, born, base, 1, str(tmp_path), [])))
        with Terminal([*TEA, "down", "--port-base", str(base)]) as terminal:
            terminal.eventually("tea: waiting for the cluster to end, ")

            launcher.send_signal(signal.SIGCONT)

            assert terminal.process.wait(20) == 0
            terminal.eventually("The cluster is down")
            assert "waiting" not in terminal.text
    finally:
        launcher.kill()
        launcher.communicate()
        note.unlink(missing_ok=True)


def test_making_the_environment_says_how_far_it_is(tmp_path):
    """There is no library yet: the standard library has to do, and pip is one that takes its time."""
    trying = f"""
import subprocess, sys, time
from pathlib import Path
from emporium import environment, progress
progress.APPEARS_S = progress.EVERY_S = 0.01
environment.ROOT = Path({str(tmp_path)!r})
environment.VENV = environment.ROOT / ".venv"
environment.STAMP = environment.VENV / "made-for"
environment._make_venv = lambda: environment.VENV.mkdir()
environment.install = lambda what: sys.stdin.readline()
environment.make()
print("made")
"""
    python = [sys.executable, "-S", "-I", "-c", f"import sys; sys.path.append({str(ROOT)!r}){trying}"]
    with Terminal(python) as terminal:
        terminal.eventually("tea: making .venv: installing requirements.txt into it, ")
        terminal.press("\n")
        assert terminal.process.wait(10) == 0
        terminal.eventually("made")
    assert environment.is_made()  # ours, which was left alone


# ---- colour


class Stream:
    def __init__(self, is_terminal):
        self.isatty = lambda: is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "environ", "has_colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),  # as no-color.org has it
        (False, {"FORCE_COLOR": "1"}, True),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_and_for_who_asks_and_never_with_no_color(
    is_terminal, environ, has_colour, monkeypatch
):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environ}.items():
        monkeypatch.setenv(name, value)

    assert screen.has_colour(Stream(is_terminal)) is has_colour
    assert ("\x1b" in screen.painter(Stream(is_terminal))("tea", "green")) is has_colour


ROW = {"name": "db0", "url": "http://127.0.0.1:3000", "pid": 1, "up": True, "keys": 1, "gossip": None}
ROW |= dict.fromkeys(running.TOLD_BY_SHARDS)


def of_status(_tmp_path, capsys):
    print("\n".join(statustable.lines_of([ROW], screen.painter(sys.stdout))))
    return capsys.readouterr().out


def of_up(tmp_path, capsys):
    with datafolder.opened(tmp_path / "data", 1, False) as folder, Logs(folder / "log") as logs:
        logs.of("db0")("hello")
        logs.of("view")("hello")
    return capsys.readouterr().out


def of_logs(tmp_path, capsys):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "db0.log").write_text("2026-11-20 10:00:01,000 INFO hello\n")
    assert command.main(["logs", "--data", str(tmp_path)]) == 0
    return capsys.readouterr().out


def of_trace(tmp_path, capsys):
    file = tmp_path / "run.json"
    file.write_text('{"events": [{"at": 1.0, "service": "db0", "event": "due"}]}')
    assert command.main(["trace", "--open", str(file)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shown", [of_status, of_up, of_logs, of_trace])
@pytest.mark.parametrize(
    ("environ", "has_colour"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_every_command_that_colours_obeys(shown, environ, has_colour, tmp_path, capsys, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    said = shown(tmp_path, capsys)

    assert "db0" in said
    assert bool(COLOUR.search(said.encode())) is has_colour
