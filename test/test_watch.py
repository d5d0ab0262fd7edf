"""./tea watch: the ring as a table, drawn over itself on a terminal and plain elsewhere, whatever dies meanwhile."""

import os
import re
import signal

import psutil
import pytest
from harness import eventually
from teacommand import TEA, Up
from terminal import Terminal

from emporium import command, ringstate, watchtable
from emporium.ports import Ports

COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-7]m")


@pytest.fixture(scope="module")
def open_tea(tmp_path_factory):
    with Up(tmp_path_factory.mktemp("watch") / "data", extra=["--no-restart", "--no-view", "--quiet"]) as up:
        yield up.wait_until_open()


@pytest.fixture
def patient(monkeypatch):
    """What is looked at in this process is never slow, however busy the machine is."""
    monkeypatch.setattr("emporium.view.asked.SLOW_MS", 60_000)
    monkeypatch.setattr("emporium.view.ring.ASK_S", 30.0)


def watching(up, *words, **options):
    """`./tea watch` on a terminal."""
    return Terminal([*TEA, "watch", "--every", "0.2", *up.base, *words], **options)


# ---- elsewhere than on a terminal


def test_a_pipe_gets_one_plain_table(open_tea, capsys, patient):
    assert command.main(["watch", *open_tea.base]) == 0

    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["service", "state", "req/s"]
    assert [row.split()[:2] for row in rows] == [["lb", "up"], ["q", "up"], ["db0", "up"], ["db1", "up"]]
    assert all("0 of 2" in row for row in rows[2:])
    assert "\x1b" not in heading + "".join(rows)


def test_a_pipe_gets_as_many_tables_as_are_asked_for(open_tea, capsys, patient):
    assert command.main(["watch", "--every", "0.1", "--count", "3", *open_tea.base]) == 0

    said = capsys.readouterr().out
    assert said.count("service  state") == 3
    assert said.count("2 of 2 shards serve") == 3


def test_requests_a_second_are_told_from_the_second_look_on(open_tea, patient):
    look = ringstate.Looker(open_tea.note())
    look()

    rates = [shard["requests_per_s"] for shard in look()["shards"]]

    assert all(rate is not None and rate >= 0 for rate in rates)


def test_without_a_cluster_it_says_so():
    assert command.main(["watch", "--port-base", str(Ports.find_free(1).base)]) == command.UNREACHABLE


# ---- on a terminal


def test_ctrl_c_and_q_end_it_and_the_terminal_is_as_before(open_tea):
    for key in ("\x03", "q"):
        with watching(open_tea) as terminal:
            terminal.eventually("2 of 2 shards serve")

            terminal.press(key)

            assert terminal.process.wait(20) == 0
            eventually(terminal.is_as_before, "the terminal is as it was")
            assert b"\x1b[?1049h" in terminal.raw


def test_it_draws_over_itself_without_wiping_the_screen(open_tea):
    with watching(open_tea, "--count", "4") as terminal:
        assert terminal.wait_for_end() == 0
        eventually(terminal.is_as_before, "the terminal is as it was")

    assert b"\x1b[2J" not in terminal.raw
    assert COLOUR.search(terminal.raw)


def test_no_color_takes_the_colour_and_leaves_the_words(open_tea):
    with watching(open_tea, "--count", "2", NO_COLOR="1") as terminal:
        assert terminal.wait_for_end() == 0
        eventually(terminal.is_as_before, "the terminal is as it was")

    assert b"db1" in terminal.raw
    assert not COLOUR.search(terminal.raw)


def test_a_terminal_that_changes_its_size_shows_what_fits(open_tea):
    """At once, and whatever size a shell has exported at its beginning."""
    with watching(open_tea, "--every", "600", COLUMNS="120", LINES="24", columns=120) as terminal:
        assert "epoch" in terminal.eventually("service")

        terminal.resize(6, 50)

        eventually(lambda: "epoch" not in terminal.text, "the columns that say least are gone")
        assert "digest" in terminal.eventually("service")
        terminal.eventually("2 more: the window is too low")
        terminal.resize(24, 120)
        eventually(lambda: "epoch" in terminal.text and "more:" not in terminal.text, "all is shown again")
        assert terminal.process.poll() is None


def test_ctrl_z_puts_it_aside_and_gives_the_terminal_back(open_tea):
    with watching(open_tea) as terminal:
        terminal.eventually("2 of 2 shards serve")
        process = psutil.Process(terminal.process.pid)

        terminal.press("\x1a")

        eventually(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")
        eventually(terminal.is_as_before, "the terminal is as it was")
        before = len(terminal.raw)
        process.send_signal(signal.SIGCONT)
        eventually(lambda: b"\x1b[?1049h" in terminal.raw[before:], "it goes on")
        terminal.press("q")
        assert terminal.process.wait(20) == 0
        eventually(terminal.is_as_before, "the terminal is as it was")


def test_what_dies_while_one_watches_says_down_beside_its_name(tmp_path):
    """And what is stopped is slow. When all of it has ended it says so, and goes on looking."""
    extra = ["--no-restart", "--no-view"]
    with Up(tmp_path / "data", ndb=1, extra=extra) as up, watching(up.wait_until_open()) as terminal:
        terminal.eventually("1 of 1 shards serve")
        pids = {service.name: service.pid for service in up.note().services}

        os.kill(pids["r0"], signal.SIGKILL)
        os.kill(pids["q"], signal.SIGSTOP)

        eventually(lambda: re.search(r"^db0 +up .* down ", terminal.text, re.MULTILINE), "its Redis is down")
        eventually(lambda: re.search(r"^q +slow ", terminal.text, re.MULTILINE), "q is slow")
        terminal.eventually("1 of 1 shards serve; q slow; r0 down")
        os.kill(pids["db0"], signal.SIGKILL)
        eventually(lambda: re.search(r"^db0 +down .* cannot be reached", terminal.text, re.MULTILINE), "db0 is down")
        up.process.kill()
        terminal.eventually("the cluster has ended")
        assert terminal.process.poll() is None


# ---- the table


def state(shards=3, **of_db1):
    """A STATE in which all is well, but for what is said of db1."""
    well = {"state": "up", "note": None, "requests_per_s": None}
    rows = [
        {"name": f"db{index}", **well, "keys": 5, "digest": 1, "digest_length": 2, "due": 0, "lag_s": 0.04, "epoch": 7}
        for index in range(shards)
    ]
    rows[1] |= of_db1
    return {
        "lb": {"name": "lb", **well},
        "queue": {"name": "q", **well, "channels": [{"name": "db1", "depth": 3, "oldest_age_s": 0.25}]},
        "shards": rows,
        "redis": [{"name": f"r{index}", **well} for index in range(shards)],
    }


def cells_of(name, rows):
    return next(dict(zip(watchtable.HEADINGS, row, strict=True)) for row in rows if row[0] == name)


def test_a_shard_shows_its_digest_what_is_due_and_what_its_successor_has_not_heard():
    rows = watchtable.rows_of(state(requests_per_s=12.04, due=4, breakers={"db2": "refused"}))

    shown = cells_of("db1", rows)
    assert (shown["digest"], shown["due"], shown["lag (s)"], shown["req/s"]) == ("1 of 2", "4", "0.0", "12.0")
    assert shown["channel"] == "db2 hears 3, 0.2 s"
    assert shown["note"] == "leaves alone db2: refused"
    assert cells_of("q", rows)["channel"] == "3 in 1 channel"


def test_what_a_plain_server_does_not_tell_is_blank():
    nothing = dict.fromkeys(("keys", "digest", "digest_length", "due", "lag_s", "epoch", "breakers"))

    shown = cells_of("db1", watchtable.rows_of(state(**nothing)))

    assert {shown[heading] for heading in ("keys", "digest", "due", "lag (s)", "epoch", "note")} == {""}


def test_where_not_all_columns_fit_those_that_say_least_are_left_out():
    rows = watchtable.rows_of(state(note="it does not answer"))

    headings, _rows, _missing = watchtable.fitting(rows, 60, 20)

    assert [*headings] == ["service", "state", "digest", "due", "redis", "note"]
    assert [*watchtable.fitting(rows, 200, 20)[0]] == [*watchtable.HEADINGS]
    assert all(sum(map(len, row)) + 2 * (len(row) - 1) <= 60 for row in watchtable.fitting(rows, 60, 20)[1])


def test_where_not_all_rows_fit_those_in_trouble_stay():
    ill = state(shards=30, state="recovering", note="its Redis is not the one that it knew")

    _headings, rows, missing = watchtable.fitting(watchtable.rows_of(ill), 200, 4)

    assert [row[0].strip() for row in rows] == ["lb", "q", "db1"]
    assert missing == 29


def test_a_note_that_would_move_the_cursor_is_spelt_out():
    [line] = [line for line in watchtable.plain_lines(state(note="\x1b[2Jgone")) if line.startswith("db1")]

    assert "\\x1b[2Jgone" in line


def test_requests_are_counted_without_those_of_onlookers():
    metrics = (
        "# TYPE tea_http_requests_total counter\n"
        'tea_http_requests_total{method="GET",route="/rating/<tea>",status="200"} 7.0\n'
        'tea_http_requests_total{method="PUT",route="/rating/<tea>",status="200"} 3.0\n'
        'tea_http_requests_total{method="GET",route="/status",status="200"} 100.0\n'
    )

    assert ringstate.requests_in(metrics) == 10
    assert ringstate.requests_in("up 1\n") is None


def test_of_a_shard_operations_are_counted_and_not_what_shards_ask_each_other():
    assert ringstate.count_of(None, {"operations": 5}) == 5


def test_held_gossip_is_said_at_a_glance():
    assert watchtable.summary({**state(), "held": True}) == "3 of 3 shards serve; gossip is held"
    assert watchtable.summary(state()) == "3 of 3 shards serve"


def test_a_rate_needs_two_looks_at_the_same_life():
    assert ringstate.rate((10, 1.0), (30, 3.0)) == 10
    assert ringstate.rate((10, 1.0), (4, 3.0)) is None
    assert ringstate.rate(None, (4, 3.0)) is None
