"""./tea trace: the writes of a tea, event after event, as the services of a real cluster tell of them."""

import json
import os
import re
import signal
import sys
import time
from urllib.parse import parse_qsl, urlsplit

import pytest
from asking import JSON, ask
from harness import eventually
from teacommand import TEA, Up
from terminal import Terminal

from emporium import command
from emporium.failures import NotReached
from emporium.peers import Answer
from emporium.ports import Ports
from emporium.tracecommand import Teller
from emporium.tracesources import Source, Sources
from emporium.tracewords import Writes, by_write, missing_from, words_of


@pytest.fixture(scope="module")
def open_tea(tmp_path_factory):
    extra = ["--no-restart", "--no-view", "--quiet", "--digest-length", "1"]
    with Up(tmp_path_factory.mktemp("trace") / "data", extra=extra) as up:
        yield up.wait_until_open()


@pytest.fixture
def trace(open_tea, capsys):
    """(*words) -> (exit code, lines on standard output, standard error) of ./tea trace."""

    def run(*words):
        capsys.readouterr()
        code = command.main(["trace", *map(str, words), *open_tea.base])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return run


def put(up, tea, rating, **clock):
    body = json.dumps({"rating": rating, "clock": clock})
    assert ask(up.layout.lb, "PUT", f"/rating/{tea}", body).status == 200


def told_of(lines):
    """[(service, what)] of printed events."""
    found = (re.fullmatch(r" *[+-]?[\d.?]+ ms +(\w+) \| (.*?)(?:  <- \w+, [\d.]+ ms before)?", line) for line in lines)
    return [match.groups() for match in found if match]


def test_the_last_write_is_told_from_its_arrival_to_its_answer(open_tea, trace):
    put(open_tea, "assam", 3, c0=1)
    put(open_tea, "assam", 4, c0=2)

    code, lines, _said = trace("assam", "--last")

    assert code == 0
    assert re.fullmatch(r"write \w+ of assam, \d\d:\d\d:\d\d\.\d{3}", lines[0])
    assert lines[1].lstrip() == "+0.000 ms  lb | received PUT 4 at c0=2"
    told = told_of(lines)
    [primary] = [what.removeprefix("sent to ") for name, what in told if what.startswith("sent to")]
    for event in (
        (primary, "arrived PUT 4 at c0=2"),
        (primary, "merged: stored; 4 at c0=2"),
        (primary, f"stored in r{primary[2:]}"),
        ("lb", "answered 200, stored"),
    ):
        assert event in told
    [arrived] = [line for line in lines if "arrived PUT" in line]
    assert re.search(r"  <- lb, \d+\.\d ms before$", arrived)
    assert not any("3 at c0=1" in what for _, what in told)


def test_gossip_is_followed_to_the_neighbour(open_tea, trace):
    put(open_tea, "bancha", 5, c0=1)
    told = told_of(trace("bancha", "--last")[1])
    [primary] = [what.removeprefix("sent to ") for _, what in told if what.startswith("sent to")]
    neighbour = 1 - int(primary[2:])

    def heard():
        ask(open_tea.layout.db(neighbour), "GET", "/rating/bancha")  # it takes the gossip that waits for it
        return [what for name, what in told_of(trace("bancha", "--last")[1]) if name == f"db{neighbour}"]

    eventually(lambda: any(f"heard on channel {primary}" in what for what in heard()), "the neighbour has heard of it")
    assert ("q", f"taken from channel {primary}") in told_of(trace("bancha", "--last")[1])


def test_what_comes_is_told_as_it_comes_and_reads_are_not(open_tea):
    put(open_tea, "chai", 1, c0=1)
    command_line = [*TEA, "trace", "chai", *open_tea.base]
    with Terminal(command_line, rows=60, columns=150) as terminal:
        heading = terminal.eventually("time")
        assert heading.split() == ["time", "lb", "db0", "db1", "q"]
        terminal.eventually("received PUT 1 at c0=1")

        ask(open_tea.layout.lb, "GET", "/rating/chai")
        put(open_tea, "chai", 2, c0=2)

        line = terminal.eventually("received PUT 2 at c0=2")
        assert line.index("received") == heading.index("lb")
        terminal.eventually("merged: stored; 2 at c0=2")
        assert "GET" not in terminal.text
        terminal.press("\x03")
        assert terminal.process.wait(20) == 0
        eventually(terminal.is_as_before, "the terminal is as it was")


def test_a_narrow_terminal_gets_lines(open_tea):
    put(open_tea, "darjeeling", 1, c0=1)

    with Terminal([*TEA, "trace", "darjeeling", "--last", *open_tea.base], columns=60) as terminal:
        terminal.eventually("lb | received PUT 1 at c0=1")
        assert terminal.process.wait(20) == 0


def test_a_run_that_was_saved_is_shown_without_a_cluster_and_is_a_trace_of_the_view(open_tea, trace, tmp_path, capsys):
    put(open_tea, "earl-grey", 1, c0=1)
    file = tmp_path / "run.json"
    code, lines, _said = trace("earl-grey", "--last", "--save", file)
    assert code == 0

    assert command.main(["trace", "--open", str(file)]) == 0

    assert told_of(capsys.readouterr().out.splitlines()) == told_of(lines)
    saved = json.loads(file.read_text())
    assert saved["tea"] == "earl-grey"
    assert saved["lanes"] == ["lb", "db0", "r0", "db1", "r1", "q"]
    assert saved["request"] in lines[0]
    ways = [(saved["events"][each["from"]], saved["events"][each["to"]]) for each in saved["arrows"]]
    assert ("sent", "arrived") in [(begin["event"], end["event"]) for begin, end in ways]


def test_the_logs_show_a_tea_on_its_way_from_process_to_process_side_by_side(open_tea, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "150")
    put(open_tea, "fannings", 3, c0=5)
    put(open_tea, "gunpowder", 3, c0=5)

    def shown():
        for index in range(2):
            ask(open_tea.layout.db(index), "GET", "/rating/fannings")  # the other one takes the gossip
        capsys.readouterr()
        names = "lb,db0,db1,q"
        assert command.main(["logs", "--columns", "--key", "fannings", "--service", names, *open_tea.base]) == 0
        return capsys.readouterr().out

    eventually(lambda: "> heard on" in shown(), "the gossip is heard of")
    heading, *lines = shown().splitlines()
    places = {name: heading.index(name) for name in ("lb", "db0", "db1", "q")}
    [received] = [line for line in lines if "> received PUT 3" in line]
    assert received.index(">") == places["lb"]
    [arrived] = [line for line in lines if "> arrived PUT" in line]
    heard = {line.index(">") for line in lines if "> heard on" in line}
    assert arrived.index(">") in (places["db0"], places["db1"])
    assert heard | {arrived.index(">")} == {places["db0"], places["db1"]}
    assert any(line.find("> put on") == places["q"] for line in lines)
    assert "gunpowder" not in "".join(lines)


def test_it_ends_after_the_time_that_is_asked_for(open_tea, trace):
    began = time.monotonic()

    code, lines, said = trace("never-rated", "--for", "0.5")

    assert time.monotonic() - began >= 0.5
    assert (code, lines) == (command.NOTHING, [])
    assert "no write of never-rated is kept in the traces; what comes is told" in said
    put(open_tea, "matcha", 3, c0=1)
    assert trace("matcha", "--for", "0.5")[0] == 0


def test_a_tea_without_a_write_is_nothing_found(trace):
    code, lines, said = trace("never-rated", "--last")

    assert (code, lines) == (command.NOTHING, [])
    assert "no write of never-rated" in said


def test_what_cannot_be_saved_or_is_not_named_is_refused(trace, capsys):
    code, lines, said = trace("assam", "--save", "/no/such/folder/run.json", "--for", "0.1")
    assert (code, lines) == (command.WRONG, [])
    assert "/no/such/folder/run.json cannot be written" in said
    code, lines, said = trace()
    assert (code, lines) == (command.WRONG, [])
    assert "name a tea" in said


def test_one_request_is_followed_by_its_id(open_tea, trace):
    body = json.dumps({"rating": 1, "clock": {"c0": 1}})
    ask(open_tea.layout.lb, "PUT", "/rating/hojicha", body, headers={**JSON, "X-Request-ID": "of-mine"})

    code, lines, _said = trace("--request", "of-mine", "--last")

    assert code == 0
    assert lines[0].startswith("write of-mine of hojicha")


def test_who_looks_in_vain_hears_that_not_all_is_recorded(open_tea, trace, monkeypatch):
    monkeypatch.setattr(Sources, "unrecorded", 3)

    code, _lines, said = trace("never-rated", "--last")

    assert code == 3
    assert "too many requests came to record each" in said

    put(open_tea, "found", 3, c0=1)
    assert trace("found", "--last")[2] == ""


def test_gossip_of_writes_that_were_not_recorded_is_told_apart_and_is_no_part_of_the_last_write(
    open_tea, trace, tmp_path
):
    put(open_tea, "ginseng", 3, c0=1)
    hidden = json.dumps({"rating": 4, "clock": {"c0": 2}})
    assert (
        ask(open_tea.layout.lb, "PUT", "/rating/ginseng", hidden, headers={**JSON, "X-B3-Sampled": "0"}).status == 200
    )

    def told():
        for index in range(2):
            ask(open_tea.layout.db(index), "GET", "/rating/ginseng")  # the other one takes the gossip
        return trace("ginseng", "--for", "0.1")[1]

    eventually(lambda: any("4 at c0=2" in line for line in told()), "the gossip of the second write is told")
    lines = told()
    first = next(number for number, line in enumerate(lines) if "4 at c0=2" in line)
    *_, heading = [number for number, line in enumerate(lines[:first]) if " | " not in line]
    assert lines[heading].startswith("outside of recorded writes, of ginseng, ")
    assert lines[heading + 1].lstrip().startswith("+0.000 ms")

    _code, lines, _said = trace("ginseng", "--last", "--save", tmp_path / "run.json")
    assert not any("4 at c0=2" in line for line in lines)
    saved = json.loads((tmp_path / "run.json").read_text())
    assert {event["request"] for event in saved["events"]} == {saved["request"]}


def test_what_a_restore_brings_is_told_as_such(open_tea, trace, tmp_path):
    put(open_tea, "nilgiri", 3, c0=5)
    file = str(tmp_path / "teas.jsonl.gz")
    assert command.main(["backup", file, *open_tea.base]) == 0
    assert command.main(["restore", file, *open_tea.base]) == 0

    [name] = {name for name, what in told_of(trace("nilgiri", "--for", "0.1")[1]) if what.startswith("restored")}

    told = told_of(trace("nilgiri", "--for", "0.1")[1])
    assert (name, "restored from a backup: 3 at c0=5; it was there already") in told
    assert not any(what.startswith(f"compared with {name}") for who, what in told if who == name)


def test_it_says_which_process_began_after_the_write_that_passed_it(tmp_path, capsys):
    extra = ["--quiet", "--digest-length", "1"]
    with Up(tmp_path / "data", extra=extra) as up:
        up.wait_until_open()
        put(up, "lapsang", 3, c0=1)
        words = ["trace", "lapsang", "--last", *up.base]
        assert command.main(words) == 0
        said = capsys.readouterr()
        assert said.err == ""
        primary = re.search(r"sent to (db\d)", said.out)[1]
        killed = up.pid_of(primary)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: up.serves_again(primary, killed), f"{primary} is back")

        assert command.main(words) == 0

        said = capsys.readouterr()
        assert f"sent to {primary}" in said.out
        assert said.err == f"tea: perhaps not whole: {primary} is a process that began later\n"


def test_it_says_which_service_has_forgotten_its_part_of_the_write(open_tea, trace, monkeypatch):
    put(open_tea, "keemun", 3, c0=1)
    [primary] = [
        what.removeprefix("sent to ") for _, what in told_of(trace("keemun", "--last")[1]) if "sent to" in what
    ]
    recent = Sources.recent
    monkeypatch.setattr(Sources, "recent", lambda self: [e for e in recent(self) if e["service"] != primary])
    monkeypatch.setattr(Sources, "since", {primary: time.time()})
    monkeypatch.setattr(Sources, "forgetful", {primary})

    code, _lines, said = trace("keemun", "--last")

    assert (code, said) == (0, f"tea: perhaps not whole: {primary} kept nothing so old\n")


def test_a_file_that_is_no_recorded_run_is_refused(tmp_path, capsys):
    for text in ("", "[]", '{"events": [{"at": "noon"}]}', '{"events": [3]}', '{"events": [{"at": 1.0}]}'):
        file = tmp_path / "run.json"
        file.write_text(text)

        assert command.main(["trace", "--open", str(file)]) == command.WRONG
        assert "is no recorded run" in capsys.readouterr().err


class Telling:
    """A Peer that answers GET /trace with these, one after another; with the last one ever after."""

    name = "db0"

    def __init__(self, *told):
        self._told = [*told]
        self.asked = []

    def call(self, _method, path, deadline_s):
        self.asked.append(dict(parse_qsl(urlsplit(path).query)))
        told = self._told.pop(0) if len(self._told) > 1 else self._told[0]
        if isinstance(told, Exception):
            raise told
        status, body = told
        return Answer(status, json.dumps(body).encode(), {})


def page(life, after, *events):
    happened = [{"n": n, "at": float(n), "service": "db0", "event": "due"} for n in events]
    return 200, {"service": "db0", "life": life, "next": after, "lost": 0, "unrecorded": 7, "events": happened}


def test_each_event_is_asked_for_once_and_those_of_another_life_are_all_news():
    peer = Telling(page("a", 2, 1, 2), page("a", 2), page("b", 7), page("b", 1, 1), page("b", 1))
    source = Source(peer)

    source.catch_up()
    assert [event["n"] for event in source.given()] == [1, 2]
    assert source.unrecorded == 7
    source.catch_up()
    assert [event["n"] for event in source.given()] == [1]
    assert [int(asked["after"]) for asked in peer.asked] == [0, 2, 2, 0, 1]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (NotReached("db0 at http://127.0.0.1:3000 cannot be reached"), "cannot be reached"),
        ((404, {"status": 404}), "keeps no trace"),
        ((503, {}), "answered 503"),
        ((200, []), "no trace"),
        ((200, {"life": 1, "next": "?", "events": {}}), "no trace"),
    ],
)
def test_a_service_that_tells_nothing_is_in_trouble_and_in_none_when_it_tells_again(told, words):
    source = Source(Telling(told, page("a", 1, 1), page("a", 1)))

    source.catch_up()
    assert words in source.trouble
    source.catch_up()
    assert source.trouble is None
    assert len(source.given()) == 1


def test_without_a_cluster_it_says_so():
    assert command.main(["trace", "oolong", "--port-base", str(Ports.find_free(1).base)]) == command.UNREACHABLE


# ---- words


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"event": "sent", "peer": "db2", "together": 3}, "sent to db2, with 2 more"),
        ({"event": "merged", "primary": "db0", "outcome": "same"}, "merged: it was there already"),
        ({"event": "merged", "primary": "db1", "outcome": "changed"}, "gossip of db1: it was news"),
        ({"event": "compared", "peer": "db1", "outcome": "changed"}, "compared with db1, which has it; it was news"),
        (
            {"event": "compared", "peer": "db0", "outcome": "same", "choices": [3], "clocks": [{"c0": 5}]},
            "restored from a backup: 3 at c0=5; it was there already",
        ),
        ({"event": "compared", "peer": "db0", "outcome": "changed"}, "restored from a backup: it was news"),
        ({"event": "merged", "primary": "db0", "outcome": "home"}, "gossip of db0: it came home, and is dropped"),
        ({"event": "told", "channel": "db0"}, "told on channel db0"),
        (
            {"event": "merged", "primary": "db0", "outcome": "stored", "choices": [3, None], "clocks": [{"c0": 1}, {}]},
            "merged: stored; 3 at c0=1 | deleted at no clock",
        ),
        ({"event": "brewed", "minutes": 3}, "brewed, minutes 3"),
        ({"event": "received", "method": "\x1b[2J"}, "received \\x1b[2J"),
    ],
)
def test_every_event_is_told_in_words(event, words):
    assert words_of({"n": 1, "at": 0.0, "service": "db0", **event}) == words


def test_an_event_is_of_the_write_that_it_names_and_else_of_none():
    writes = Writes()
    writes.add(
        [
            {"at": 1.0, "event": "received", "method": "PUT", "request": "a"},
            {"at": 1.1, "event": "arrived", "method": "PUT", "request": "a"},
            {"at": 2.0, "event": "received", "method": "GET", "request": "r"},
            {"at": 3.0, "event": "received", "method": "DELETE", "request": "b"},
        ]
    )

    assert writes.newest == "b"
    assert writes.began({"at": 4.0, "request": "a"}) == 1.0
    assert writes.began({"at": 2.5}) is None
    assert writes.is_read({"at": 2.1, "request": "r", "event": "answered"})


WHOLE = [
    {"at": 1.0, "service": "lb", "event": "received", "request": "a"},
    {"at": 1.1, "service": "lb", "event": "sent", "request": "a", "peer": "db0"},
    {"at": 1.2, "service": "db0", "event": "arrived", "request": "a"},
    {"at": 1.3, "service": "db0", "event": "merged", "request": "a", "primary": "db0"},
    {"at": 1.4, "service": "q", "event": "put", "request": "a", "primary": "db0"},
    {"at": 1.5, "service": "db0", "event": "told", "request": "a", "primary": "db0"},
    {"at": 1.6, "service": "db1", "event": "heard", "request": "a", "primary": "db0"},
]


@pytest.mark.parametrize(
    ("lost", "missing"),
    [
        ((), []),
        (("lb",), ["lb"]),
        (("db0",), ["db0"]),
        (("q",), ["q"]),
        (("db1",), []),
        (("lb", "db0", "q"), ["db0"]),
        (("lb", "db0", "db1"), ["db0"]),
    ],
)
def test_what_is_missing_is_known_from_what_others_tell(lost, missing):
    kept = [event for event in WHOLE if event["service"] not in lost]

    assert missing_from(kept, dict.fromkeys(lost, 2.0)) == missing
    assert missing_from(kept, dict.fromkeys(lost, 0.5)) == []
    assert missing_from(kept, {}) == []


def test_what_names_no_write_is_missing_from_none():
    assert missing_from([{"at": 1.0, "service": "q", "event": "put", "primary": "db0"}], {"db0": 2.0}) == []


def test_events_of_writes_that_went_at_once_stand_write_by_write():
    ways = [(1, "a"), (2, "b"), (3, "a"), (4, None), (5, "b"), (6, "c"), (7, "a"), (8, None)]
    events = [{"at": float(at), "event": "due", **({"request": request} if request else {})} for at, request in ways]

    told = [(int(event["at"]), event.get("request")) for event in by_write(events)]

    assert told == [(1, "a"), (3, "a"), (7, "a"), (2, "b"), (5, "b"), (4, None), (6, "c"), (8, None)]


def test_a_pipe_has_one_heading_for_each_of_the_writes_that_went_at_once(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    events = [
        {"at": float(at), "service": "lb", "event": event, "method": "PUT", "request": request, "tea": "oolong"}
        for at, event, request in ((1, "received", "a"), (2, "received", "b"), (3, "sent", "a"), (4, "sent", "b"))
    ]

    Teller(["lb"], sys.stdout).tell(events)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("write ")] == ["a", "b"]
