"""The command ./tea, as people type it: a cluster that comes up, is used, shows itself, and leaves nothing behind."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import psutil
import pytest
import redis
import requests
from asking import ask
from harness import eventually, is_alive
from teacommand import OPEN_S, TEA, Up, tea

import serverLB
from emporium import command, running
from emporium.environment import ROOT
from emporium.ports import Ports, is_free
from emporium.up import Logs

COMMANDS = ["up", "down", "test", "bench", "put", "get", "delete", "list", "status", "doctor"]
COMMANDS += ["backup", "restore", "recover", "watch", "trace", "logs"]


@pytest.fixture
def tea_here(capsys):
    """The same for a command that ends by itself, in this process, which spares a Python: (*words) -> as tea's."""

    def run(*words):
        capsys.readouterr()  # what was said before
        try:
            code = command.main([*map(str, words)])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def open_tea(tmp_path_factory):
    """A cluster for tests that only use it."""
    with Up(tmp_path_factory.mktemp("open") / "data") as up:
        yield up.wait_until_open()


# ---- up and down


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_cluster_told_to_stop_ends_with_0_and_leaves_no_process(number, tmp_path):
    with Up(tmp_path / "data") as up:
        up.wait_until_open()
        assert len(up.pids) == 6

        up.process.send_signal(number)

        assert up.process.wait(20) == 0
        assert up.all_are_gone()


def test_kill_9_of_the_command_leaves_no_process_even_when_one_is_stopped(tmp_path):
    with Up(tmp_path / "data") as up:
        up.wait_until_open()
        os.kill(up.pids[0], signal.SIGSTOP)

        up.process.kill()

        eventually(up.all_are_gone, "every process has ended")


def test_gossip_that_waits_outlives_a_cluster_that_is_killed(tmp_path):
    """It waits in the queue's files until the shard that it is for takes it."""
    base = Ports.find_free(2)
    with Up(tmp_path / "data", layout=base) as up:
        up.wait_until_open()
        rating = {"primary": "db1", "key": "persimmon", "rating": 3, "choices": [3], "clocks": [{"c0": 1}]}
        assert ask(base.q, "PUT", "/q/db1", json.dumps(rating)).body == {"channel": "db1", "length": 1}
        up.process.kill()
        eventually(up.all_are_gone, "every process has ended")

    with Up(tmp_path / "data", layout=base) as up:
        up.wait_until_open()
        eventually(
            lambda: ask(base.db(0), "GET", "/rating/persimmon").body.get("choices") == [3], "db0 has heard of it"
        )


def test_a_second_signal_ends_a_hanging_cluster_at_once(tmp_path):
    with Up(tmp_path / "data") as up:
        up.wait_until_open()
        for pid in up.pids:
            os.kill(pid, signal.SIGSTOP)

        up.process.send_signal(signal.SIGINT)
        eventually(lambda: "once more ends everything" in up.said(), "the first is heard")
        up.process.send_signal(signal.SIGINT)

        assert up.process.wait(20) == 0
        assert up.all_are_gone()


def test_up_says_where_everything_is_and_how_to_try_it(open_tea):
    said = open_tea.said()

    assert f"lb   http://127.0.0.1:{open_tea.layout.lb}" in said
    assert f"r1   redis://127.0.0.1:{open_tea.layout.redis(1)}" in said
    assert len(re.findall(r"^  curl ", said, re.MULTILINE)) == 3
    eventually(lambda: re.search(r"^ +q \| .* q listens on", open_tea.said(), re.MULTILINE), "q's log is shown")


def test_what_is_answered_is_on_the_disk(open_tea):
    with redis.Redis(port=open_tea.layout.redis(1), decode_responses=True) as by_hand:
        settings = by_hand.config_get("append*")
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")


def test_every_shard_is_told_to_keep_its_word_and_how_often_to_store_before_it_answers(tmp_path):
    with Up(tmp_path / "data", extra=["--durability", "2"]) as up:
        up.wait_until_open()
        shards = {service["name"]: service["pid"] for service in up.services() if service["name"].startswith("db")}

        for name, pid in shards.items():
            told = json.loads(psutil.Process(pid).cmdline()[-1])
            assert told["data-dir"] == str(tmp_path / "data" / name)
            assert (told["durability"], told["tombstones"], told["coalesce"], told["anti-entropy-s"]) == (2, 1, 1, 1)


def test_what_was_stored_is_there_again_after_the_next_up(tmp_path):
    ports = Ports.find_free(2)
    base = ["--port-base", ports.base]
    up = ["up", "--detach", "--ndb", 2, "--data", tmp_path / "data", *base]
    try:
        assert "The Tea Emporium is open" in tea(*up).stdout
        tea("put", "persimmon", 3, "--clock", "c0=5,c1=2", *base)
        assert tea("down", *base).returncode == 0

        assert tea(*up).returncode == 0

        assert tea("get", "persimmon", *base).stdout == "3\n  3 at c0=5,c1=2\n"
        assert tea("down", *base).returncode == 0
        assert tea(*up, "--fresh").returncode == 0
        assert "never rated" in tea("get", "persimmon", *base).stdout
    finally:
        tea("down", *base)


def test_a_folder_made_for_another_number_of_shards_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "cluster.json").write_text('{"format": 1, "ndb": 3}')

    done = tea("up", "--ndb", 2, "--data", tmp_path, "--port-base", Ports.find_free(2).base)

    assert done.returncode == 1
    assert "was made for 3 shards" in done.stderr
    assert "use --ndb 3, use another --data DIR, or --fresh" in done.stderr


def test_a_folder_of_another_format_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "cluster.json").write_text('{"format": 0, "ndb": 2}')

    done = tea("up", "--ndb", 2, "--data", tmp_path, "--port-base", Ports.find_free(2).base)

    assert done.returncode == 1
    assert "has format 0" in done.stderr
    assert "--fresh" in done.stderr


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_a_folder_of_someone_else_is_refused_and_left_as_it_is(fresh, tmp_path):
    (tmp_path / "r2").mkdir()
    (tmp_path / "r2" / "d2").write_text("beep")

    done = tea("up", "--ndb", 2, "--data", tmp_path, "--port-base", Ports.find_free(2).base, *fresh)

    assert done.returncode == 1
    assert "holds other things (r2)" in done.stderr
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["r2", "r2/d2"]


def test_fresh_throws_away_what_a_cluster_has_stored_and_nothing_else(tmp_path):
    with Up(tmp_path / "data") as up:
        up.wait_until_open()
    (tmp_path / "data" / "db1").mkdir(exist_ok=True)
    (tmp_path / "data" / "db1" / "identity").write_text("of a life before")
    (tmp_path / "data" / "r2d2").write_text("beep")

    with Up(tmp_path / "data", 1, extra=["--fresh"]) as up:
        up.wait_until_open()

    kept = ["cluster.json", "lock", "log", "q", "r0", "r2d2"]
    found = sorted(path.name for path in (tmp_path / "data").iterdir() if path.name != "db0")  # of the shard of now
    assert found == kept


def test_an_interrupted_detached_start_leaves_no_process(tmp_path):
    layout = Ports.find_free(2)
    words = ["up", "--detach", "--ndb", "2", "--data", str(tmp_path / "data"), "--port-base", str(layout.base)]
    with subprocess.Popen([*TEA, *words], stderr=subprocess.DEVNULL) as starting:
        eventually(lambda: (tmp_path / "data" / "log").exists(), "the start is under way")

        starting.send_signal(signal.SIGINT)

        assert starting.wait(20) == 130
    assert all(is_free(port) for port in layout.all(2).values())


def test_a_cluster_whose_output_nobody_reads_goes_on_and_stops_in_order(tmp_path):
    """As in `./tea up 2>&1 | head -3`, or when its terminal is closed."""
    reader, writer = os.pipe()
    with Up(tmp_path / "data", output=writer, extra=["--no-restart"]) as up:
        os.close(writer)
        os.close(reader)
        eventually(lambda: len(up.services()) == 6, "the cluster is open", OPEN_S)
        [shard] = [service["pid"] for service in up.services() if service["name"] == "db1"]
        os.kill(shard, signal.SIGKILL)
        eventually(lambda: not is_alive(shard), "the shard is dead")

        eventually(lambda: sum(service["up"] for service in up.services()) == 5, "the others serve")
        up.process.send_signal(signal.SIGTERM)

        assert up.process.wait(20) == 0
    assert "ready to exit, bye bye" in (tmp_path / "data" / "log" / "r0.log").read_text()


def test_a_folder_in_use_is_refused(open_tea):
    done = tea("up", "--ndb", 2, "--data", open_tea.data, "--port-base", Ports.find_free(2).base)

    assert done.returncode == 1
    assert "is in use by a running cluster" in done.stderr


def test_a_taken_port_is_named_with_its_holder_before_anything_starts(tmp_path):
    layout = Ports.find_free(2)
    with socket.create_server(("127.0.0.1", layout.db(1))):
        done = tea("up", "--ndb", 2, "--data", tmp_path / "data", "--port-base", layout.base)

    assert done.returncode == 1
    assert f"port {layout.db(1)} for db1 is taken: it is held by pid {os.getpid()}" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_service_that_does_not_come_up_is_named_with_the_end_of_its_log(tmp_path):
    broken = tmp_path / "data" / "r1" / "appendonlydir" / "appendonly.aof.manifest"
    broken.parent.mkdir(parents=True)
    broken.write_text("this is no manifest\n")
    (tmp_path / "data" / "cluster.json").write_text('{"format": 1, "ndb": 2}')

    done = tea("up", "--ndb", 2, "--data", tmp_path / "data", "--port-base", Ports.find_free(2).base)

    assert done.returncode == 1
    assert "r1 ended at once, with exit code 1; its log ends:" in done.stderr
    assert "manifest" in done.stderr


def test_a_detached_start_that_fails_says_why(tmp_path):
    (tmp_path / "cluster.json").write_text('{"format": 1, "ndb": 3}')

    done = tea("up", "--detach", "--ndb", 2, "--data", tmp_path, "--port-base", Ports.find_free(2).base)

    assert done.returncode == 1
    assert "was made for 3 shards" in done.stderr


def test_a_service_that_dies_without_restarts_is_named_and_the_others_go_on(tmp_path):
    with Up(tmp_path / "data", extra=["--no-restart"]) as up:
        up.wait_until_open()
        [shard] = [service for service in up.services() if service["name"] == "db1"]

        os.kill(shard["pid"], signal.SIGKILL)

        eventually(lambda: "db1 ended by SIGKILL" in up.said(), "the death is told")

        def those_up():
            return [service["name"] for service in up.services() if service["up"]]

        eventually(lambda: those_up() == ["r0", "r1", "q", "db0", "lb"], "the others serve")
        assert [service["pid"] for service in up.services() if service["name"] == "db1"] == [None]


def test_names_are_coloured_where_colour_is_wanted(tmp_path):
    with Up(tmp_path / "data", env={**os.environ, "FORCE_COLOR": "1"}) as up:
        up.wait_until_open()

        eventually(lambda: "\x1b[33m   q |\x1b[0m" in up.said(), "q's log is shown")


def test_logs_are_rotated(tmp_path, capsys):
    with Logs(tmp_path) as logs:
        take = logs.of("lb")
        for _ in range(6000):
            take("x" * 1000)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["lb.log", "lb.log.1", "up.log"]
    assert "  lb | xxx" in capsys.readouterr().out


# ---- using it


def test_put_get_list_and_delete(open_tea):
    base = open_tea.base
    assert tea("put", "oolong", 3, "--clock", "c0=5,c1=2", *base).stdout == "3  (stored)\n"
    assert tea("put", "oolong", 4.5, "--clock", "c2=1", *base).stdout == "3.75  (stored)\n"
    assert "stale" in tea("put", "oolong", 1, "--clock", "c0=1", *base).stdout
    assert "there already" in tea("put", "oolong", 4.5, "--clock", "c2=1", *base).stdout

    assert tea("get", "oolong", *base).stdout == "3.75\n  3 at c0=5,c1=2\n  4.5 at c2=1\n"
    assert re.search(r"3.75 +2 siblings +oolong", tea("list", *base).stdout)
    assert tea("delete", "oolong", *base).returncode == 0
    again = tea("delete", "oolong", *base)

    assert (again.returncode, again.stderr.count("\n")) == (3, 1)
    assert tea("get", "oolong", *base).stdout == "0.0  (never rated)\n"


def test_a_list_may_take_as_long_as_the_load_balancer_gives_itself(open_tea, tea_here, monkeypatch):
    asked = requests.request
    deadlines = []
    monkeypatch.setattr(
        requests, "request", lambda *words, **options: deadlines.append(options["timeout"]) or asked(*words, **options)
    )

    assert tea_here("list", *open_tea.base).returncode == 0

    assert deadlines[0] > serverLB.LIST_S


def test_a_name_is_taken_as_it_is_typed(open_tea, tea_here):
    name = "crème brûlée? 100% #1 +1 & more"

    tea_here("put", name, 2, "--clock", "c0=1", *open_tea.base)

    assert tea_here("get", name, *open_tea.base).stdout == "2\n  2 at c0=1\n"
    assert name in tea_here("list", *open_tea.base).stdout


def test_get_reads_weakly_or_from_a_shard(open_tea, tea_here):
    tea_here("put", "keemun", 3, "--clock", "c0=5", *open_tea.base)

    per_shard = [tea_here("get", "keemun", "--shard", shard, *open_tea.base).stdout for shard in range(2)]
    weak = tea_here("get", "keemun", "--weak", *open_tea.base).stdout

    assert "3\n  3 at c0=5\n" in per_shard
    assert weak in ("3\n  3 at c0=5\n", "0.0  (never rated)\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["put", "oolong", "3e9", "--clock", "c0=1"], "rating"),
        (["put", "oolong", "good", "--clock", "c0=1"], "rating"),
        (["put", "oolong", "inf", "--clock", "c0=1"], "rating"),
        (["put", "oolong", "3", "--clock", "c0"], "NODE=COUNT"),
        (["put", "oolong", "3"], "--clock"),
        (["get", "oolong", "--shard", "7"], "the shards are 0 to 1"),
        (["get", "oolong", "--weak", "--shard", "1"], "not allowed with"),
        (["put", "a/b", "3", "--clock", "c0=1"], "cannot name a tea"),
        (["put", "oolong", "3", "--clock", "c0=1,c0=2"], "c0 has two counts"),
        (["get", ""], "cannot name a tea"),
        (["recover", "db7", "--without", "db0"], "there is no shard db7; there are db0, db1"),
        (["recover", "lb", "--without", "db0"], "there is no shard lb"),
        (["recover", "db0", "--without", "db0"], "db0 waits for no db0; it can be told to do without db1, q"),
        (["recover", "db0", "--without", "q", "--without", "r1"], "waits for no r1"),
        (["recover", "db0"], "--without"),
        (["list", "--all"], "unrecognized arguments: --all"),
        (["brew"], "invalid choice"),
    ],
)
def test_wrong_use_is_told_and_returns_2(words, complaint, open_tea, tea_here):
    done = tea_here(*words, *(open_tea.base if words != ["brew"] else []))

    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_shard_that_cannot_be_reached_is_told_and_returns_4(tmp_path):
    with Up(tmp_path / "data", ndb=1, extra=["--no-restart"]) as up:
        up.wait_until_open()
        [shard] = [service["pid"] for service in up.services() if service["name"] == "db0"]
        os.kill(shard, signal.SIGKILL)
        eventually(lambda: not is_alive(shard), "the shard is dead")

        done = tea("get", "oolong", *up.base)

    assert done.returncode == 4
    assert "503" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def note_with_lb_at(monkeypatch):
    """(port) -> as if a cluster ran whose load balancer is there."""

    def note(port):
        lb = running.Started("lb", os.getpid(), port, f"http://127.0.0.1:{port}")
        monkeypatch.setattr(running, "find", lambda _base: running.Note(1, "now", port, 1, "var", [lb]))

    return note


def test_a_load_balancer_that_is_down_is_told_in_words_with_what_to_do(note_with_lb_at, capsys):
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # and does not listen
        note_with_lb_at(refusing.getsockname()[1])

        assert command.main(["get", "oolong"]) == 4

    said = capsys.readouterr().err
    assert re.fullmatch(r"tea: lb at http://127.0.0.1:\d+ is down, .*try again.* ./tea status .*\n", said)
    assert "HTTPConnectionPool" not in said


def test_a_load_balancer_that_does_not_answer_is_told_in_words(note_with_lb_at, monkeypatch, capsys):
    monkeypatch.setattr(command, "LIST_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        note_with_lb_at(silent.getsockname()[1])

        assert command.main(["list"]) == 4

    assert re.search(r"^tea: lb at \S+ did not answer within 0.2 s; ./tea status", capsys.readouterr().err)


def test_without_a_cluster_every_command_says_how_to_get_one(tea_here):
    base = ["--port-base", Ports.find_free(2).base]
    operators = (["backup", "x"], ["restore", "x"], ["recover", "db0", "--without", "db1"])
    users = (["list"], ["get", "x"], ["delete", "x"], ["put", "x", "1", "--clock", "a=1"])
    for words in (["down"], ["status"], *users, *operators):
        done = tea_here(*words, *base)

        assert done.returncode == 4
        assert "no cluster is running" in done.stderr


def test_what_follows_test_goes_to_pytest():
    done = tea("test", "test/test_stories.py", "--collect-only", "-q", "-k", "test_simple")

    assert done.returncode == 0
    assert "test/test_stories.py::test_simple\n" in done.stdout


@pytest.mark.parametrize(
    ("words", "lanes"), [([], 2), (["--full"], 2), (["test/test_wire.py"], 1), (["-k", "gossip"], 1)]
)
def test_all_tests_run_in_two_lanes_and_some_in_one(words, lanes, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "execv", lambda _program, words: asked.append(" ".join(words)))
    monkeypatch.setattr(subprocess, "run", lambda *_ruff, **_options: subprocess.CompletedProcess([], 0))
    monkeypatch.chdir(ROOT)

    command.main(["test", *words])

    [said] = asked
    assert said.endswith(" ".join(words))
    assert ("-n 2 " in f"{said} ") == (lanes == 2)


# ---- looking at it


def test_status_shows_every_service_in_a_table(open_tea):
    table = tea("status", *open_tea.base).stdout.splitlines()

    assert table[0].split()[:3] == ["service", "address", "pid"]
    assert [line.split()[0] for line in table[1:]] == ["r0", "r1", "q", "db0", "db1", "lb"]
    assert all(" up " in line for line in table[1:])
    assert "digest" in table[4]


def test_a_reader_who_has_read_enough_is_no_error(open_tea):
    line = f"{sys.executable} {ROOT / 'tea'} status {' '.join(open_tea.base)} | head -1; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_status_as_json_names_the_processes_that_serve(open_tea):
    services = {service["name"]: service for service in open_tea.status()}

    assert services["lb"]["url"] == f"http://127.0.0.1:{open_tea.layout.lb}"
    assert services["r0"]["url"] == f"redis://127.0.0.1:{open_tea.layout.redis(0)}"
    assert "serverDB.py" in psutil.Process(services["db0"]["pid"]).cmdline()[1]
    assert "redis-server" in psutil.Process(services["r1"]["pid"]).cmdline()[0]
    assert all(service["up"] for service in services.values())


def test_status_answers_while_services_hang(open_tea, tea_here, monkeypatch):
    """They are asked side by side: none waits until another one has answered, or has not."""
    by_name = {service["name"]: service["pid"] for service in open_tea.services()}
    hanging = [by_name["db0"], by_name["r1"], by_name["q"]]
    at_once, ask_one = threading.Barrier(len(by_name)), running._ask
    monkeypatch.setattr(running, "_ask", lambda service: at_once.wait(20) >= 0 and ask_one(service))
    monkeypatch.setattr(running, "ASK_S", 3.0)  # so that those that do not hang answer in time on a busy machine, too
    try:
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)

        said = tea_here("status", "--json", *open_tea.base).stdout

        services = {service["name"]: service for service in json.loads(said)["services"]}
        assert {name for name, service in services.items() if not service["up"]} == {"db0", "r1", "q"}
        assert services["db0"]["pid"] == by_name["db0"]
    finally:
        for pid in hanging:
            os.kill(pid, signal.SIGCONT)


def test_two_clusters_stand_side_by_side(open_tea, tmp_path, tea_here):
    with Up(tmp_path / "data") as other:
        other.wait_until_open()

        tea_here("put", "sencha", 1, "--clock", "c0=1", *other.base)

        assert "never rated" in tea_here("get", "sencha", *open_tea.base).stdout
        assert tea_here("get", "sencha", *other.base).stdout == "1\n  1 at c0=1\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name, tea_here):
    done = tea_here(name, "--help")

    assert done.returncode == 0
    assert f"example: ./tea {name}" in done.stdout


def test_doctor_works_on_a_machine_that_has_nothing_yet(tmp_path):
    """In a copy of the project without its environment, with nothing on PATH."""
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "emporium", copy / "emporium", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tea", "requirements.txt"):
        shutil.copy(ROOT / name, copy)

    done = subprocess.run(
        [sys.executable, "-S", copy / "tea", "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/nothing"},
    )

    assert done.returncode == 1
    for missing in ("environment", "libraries", "Redis", "setpriv"):
        assert re.search(rf"^MISS  {missing}", done.stdout, re.MULTILINE)
    assert done.stdout.count("mend it:") == 4
    assert not (copy / ".venv").exists()


def test_doctor_finds_everything_here():
    done = tea("doctor")

    assert done.returncode == 0, done.stdout
    assert re.search(r"^ok    Redis +\d+\.\d+\.\d+", done.stdout, re.MULTILINE)
    assert "flask 3.1.3" in done.stdout
