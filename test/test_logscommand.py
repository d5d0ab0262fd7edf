"""./tea logs: what all services have logged, merged by time, in lines or side by side, and what concerns one tea."""

import json
import logging
from datetime import datetime
from logging.handlers import RotatingFileHandler

import pytest
from harness import eventually
from rich.cells import cell_len
from teacommand import TEA
from terminal import Terminal

from emporium import columns, command
from emporium.loglines import Tail, parse

DAY = "2026-11-20"


@pytest.fixture
def folder(tmp_path):
    """A --data folder whose logs can be written with `log`."""
    (tmp_path / "log").mkdir()
    return tmp_path


def log(folder, name, *lines):
    with open(folder / "log" / f"{name}.log", "a") as file:
        file.write("".join(f"{line}\n" for line in lines))


@pytest.fixture
def logs(folder, capsys):
    """(*words) -> (exit code, lines on standard output, standard error) of ./tea logs of that folder."""

    def run(*words):
        capsys.readouterr()
        code = command.main(["logs", "--data", str(folder), *map(str, words)])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return run


# ---- lines


def test_lines_of_all_services_are_merged_by_time_whatever_their_form(folder, logs):
    in_json = {"at": datetime.fromisoformat(f"{DAY}T10:00:02.500").astimezone().isoformat(), "level": "INFO"}
    log(folder, "db0", f"{DAY} 10:00:01,000 INFO first", f"{DAY} 10:00:04,000 INFO fourth")
    log(
        folder,
        "lb",
        json.dumps({**in_json, "event": "peer-back", "request": "ab12", "message": "third", "peer": "db3"}),
    )
    log(folder, "r0", "4711:M 20 Nov 2026 10:00:02.000 * second")

    code, lines, _said = logs()

    assert code == 0
    assert lines == [
        f"--- {DAY} ---",
        "10:00:01.000 db0 | INFO first",
        "10:00:02.000  r0 | * second",
        "10:00:02.500  lb | INFO [ab12] third",
        "10:00:04.000 db0 | INFO fourth",
    ]


def test_a_traceback_stays_below_its_line(folder, logs):
    log(folder, "db0", f"{DAY} 10:00:01,000 ERROR it failed", "Traceback (most recent call last):", "  boom")
    log(folder, "db1", f"{DAY} 10:00:01,000 INFO meanwhile", f"{DAY} 10:00:01,001 INFO later")

    said = [line[13:] for line in logs()[1][1:]]

    assert said == [
        "db0 | ERROR it failed",
        "db0 | Traceback (most recent call last):",
        "db0 |   boom",
        "db1 | INFO meanwhile",
        "db1 | INFO later",
    ]


def test_a_traceback_in_json_stands_below_its_line_too(folder, logs):
    told = {"at": f"{DAY}T10:00:01.000Z", "level": "ERROR", "message": "it failed", "traceback": "Traceback\n  boom"}
    log(folder, "db0", json.dumps(told))

    assert [line[13:] for line in logs()[1] if "|" in line] == [
        "db0 | ERROR [-] it failed",
        "db0 | Traceback",
        "db0 |   boom",
    ]


def test_rotated_files_come_before_the_one_that_is_written_to(folder, logs):
    log(folder, "db0", f"{DAY} 10:00:01,000 INFO one")
    (folder / "log" / "db0.log").rename(folder / "log" / "db0.log.2")
    log(folder, "db0", f"{DAY} 10:00:02,000 INFO two")
    (folder / "log" / "db0.log").rename(folder / "log" / "db0.log.1")
    log(folder, "db0", f"{DAY} 10:00:03,000 INFO three")

    assert [line.split()[-1] for line in logs()[1][1:]] == ["one", "two", "three"]
    assert [line.split()[-1] for line in logs("--lines", 2)[1][1:]] == ["two", "three"]


def test_the_newest_lines_are_shown_and_those_since_a_time(folder, logs):
    log(folder, "db0", *(f"{DAY} 10:00:{second:02},000 INFO s{second}" for second in range(60)))
    log(folder, "db1", f"{datetime.now().isoformat(' ', 'milliseconds').replace('.', ',')} INFO now")

    assert [line.split()[-1] for line in logs("--lines", 3)[1] if "|" in line] == ["s58", "s59", "now"]
    assert len([line for line in logs()[1] if "|" in line]) == 61
    assert [line.split()[-1] for line in logs("--since", "5m")[1]] == ["now"]
    since = logs("--since", f"{DAY}T10:00:58")[1]
    assert [line.split()[-1] for line in since if "|" in line] == ["s58", "s59", "now"]


def test_services_can_be_chosen_and_an_unknown_one_is_refused(folder, logs):
    for name in ("db0", "db1", "lb", "q", "r0", "up"):
        log(folder, name, f"{DAY} 10:00:01,000 INFO {name} speaks")

    assert [line.split()[1] for line in logs("--service", "q,db1")[1][1:]] == ["db1", "q"]
    code, _lines, said = logs("--service", "db7")
    assert code == command.WRONG
    assert "db7 has no log here; these have: lb, db0, r0, db1, q, up" in said


def test_a_folder_without_logs_is_refused(logs):
    code, _lines, said = logs()

    assert code == command.WRONG
    assert "there are no logs in" in said


def test_nothing_found_is_told_by_the_exit_code(folder, logs):
    log(folder, "db0", f"{DAY} 10:00:01,000 INFO something else")

    assert logs("--key", "oolong")[:2] == (command.NOTHING, [])


def test_a_tea_is_found_as_a_word_and_as_it_stands_in_a_path(folder, logs):
    log(
        folder,
        "lb",
        f"{DAY} 10:00:01,000 INFO GET /rating/white%20tea",
        f"{DAY} 10:00:02,000 INFO white tea is stored",
        f"{DAY} 10:00:03,000 INFO off-white tea is stored",
        f"{DAY} 10:00:04,000 INFO [ab12] white",
    )

    said = [line.partition("| ")[2] for line in logs("--key", "white tea")[1] if "|" in line]

    assert said == ["INFO GET /rating/white%20tea", "INFO white tea is stored"]
    assert [line[-5:] for line in logs("--request", "ab12")[1] if "|" in line] == ["white"]


def test_a_tea_of_any_letters_is_found_in_json_too(folder, logs):
    log(folder, "lb", json.dumps({"at": f"{DAY}T10:00:01.000Z", "message": "kept aside", "tea": "茶"}))

    assert len([line for line in logs("--key", "茶")[1] if "kept aside" in line]) == 1
    assert logs("--key", "抹茶")[0] == command.NOTHING


def test_what_would_move_the_cursor_is_spelt_out(folder, logs):
    log(folder, "db0", f"{DAY} 10:00:01,000 INFO \x1b[2Jgone\r\x07")

    assert logs()[1][-1].endswith("INFO \\x1b[2Jgone\\r\\x07")


# ---- side by side


def test_each_process_has_a_column_and_lines_are_wrapped_to_the_width(folder, logs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    log(folder, "lb", f"{DAY} 10:00:01,000 INFO short")
    log(folder, "db0", f"{DAY} 10:00:02,000 INFO a line that is far too long for a column as narrow as this one is")
    log(folder, "db1", f"{DAY} 10:00:03,000 INFO {'x' * 50} {'茶' * 30}")

    _code, [heading, _day, *lines], said = logs("--columns")

    assert said == ""
    starts = {name: heading.index(name) for name in ("time", "lb", "db0", "db1")}
    assert lines[0].index("INFO short") == starts["lb"]
    of_db0 = [line for line in lines if line[starts["db0"] : starts["db1"]].strip()]
    assert len(of_db0) > 1
    words = " ".join(line[starts["db0"] :].strip() for line in of_db0)
    assert words == "INFO a line that is far too long for a column as narrow as this one is"
    assert max(map(cell_len, lines)) <= 80
    assert sum(line.count("茶") for line in lines) == 30


def test_only_who_has_lines_to_show_counts_when_columns_are_too_narrow(folder, logs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for name in ("lb", "db0", "db1", "q", "r0", "r1"):
        log(folder, name, f"{DAY} 10:00:01,000 INFO of {'oolong' if name != 'r1' else 'chai'}")

    _code, _lines, said = logs("--columns", "--key", "oolong")

    assert "60 characters are too narrow for 4 columns; name some with --service" in said
    assert "too narrow for 5 columns" in logs("--columns", "--key", "oolong", "--service", "lb,db0,db1,q,r0,r1")[2]


def test_columns_that_would_be_too_narrow_are_told_of_and_lines_shown(folder, logs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for index in range(8):
        log(folder, f"db{index}", f"{DAY} 10:00:01,000 INFO hello")

    _code, lines, said = logs("--columns")

    assert "60 characters are too narrow for 8 columns; name some with --service" in said
    assert lines[1] == "10:00:01.000 db0 | INFO hello"
    assert logs("--columns", "--service", "db0,db1")[1][0].split() == ["time", "db0", "db1"]


def test_where_not_all_fit_those_of_redis_have_no_column(folder, logs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("lb", "db0", "db1", "q", "r0", "r1", "up"):
        log(folder, name, f"{DAY} 10:00:01,000 INFO hello")

    _code, lines, said = logs("--columns")

    assert lines[0].split() == ["time", "lb", "db0", "db1", "q"]
    assert len([line for line in lines if "hello" in line]) == 4
    assert "without r0, r1, up" in said


def test_every_piece_of_a_wrapped_text_fits():
    for text in ("", "a", "茶茶茶", "word " * 10, "x" * 30 + " y"):
        pieces = columns.wrapped(text, 8)

        assert all(cell_len(piece) <= 8 for piece in pieces)
        assert "".join(pieces).replace(" ", "") == text.replace(" ", "")


# ---- as it comes


def test_a_log_is_followed_over_its_rotation_and_line_by_line(folder):
    path = folder / "log" / "db0.log"
    handler = RotatingFileHandler(path, maxBytes=100, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    writer = logging.Logger("db0")
    writer.addHandler(handler)
    writer.info("before")
    tail = Tail(folder / "log", "db0")
    told = []

    for number in range(12):
        writer.info("line %s of some length", number)
        told += tail.news()
    with open(path, "a") as file:
        file.write("half ")
        file.flush()
        told += tail.news()
        file.write("a line\n")
    told += tail.news()

    assert [line.text for line in told] == [*(f"line {n} of some length" for n in range(12)), "half a line"]
    tail.close()
    handler.close()


def test_what_is_written_while_one_looks_whether_the_log_was_rotated_is_not_missed(folder, monkeypatch):
    log(folder, "db0", f"{DAY} 10:00:01,000 INFO before")
    tail = Tail(folder / "log", "db0")
    look = tail._is_another

    def rotated_meanwhile():
        log(folder, "db0", f"{DAY} 10:00:02,000 INFO last of the old")
        (folder / "log" / "db0.log").rename(folder / "log" / "db0.log.1")
        log(folder, "db0", f"{DAY} 10:00:03,000 INFO first of the new")
        monkeypatch.setattr(tail, "_is_another", look)
        return look()

    monkeypatch.setattr(tail, "_is_another", rotated_meanwhile)

    assert [line.text for line in tail.news()] == ["INFO last of the old", "INFO first of the new"]
    tail.close()


def test_a_log_that_begins_later_is_followed_from_its_first_line(folder):
    tail = Tail(folder / "log", "db0")
    assert tail.news() == []

    log(folder, "db0", f"{DAY} 10:00:01,000 INFO first")

    assert [line.text for line in tail.news()] == ["INFO first"]
    tail.close()


def test_ctrl_c_ends_following_and_what_came_before_was_shown(folder):
    log(folder, "db0", f"{DAY} 10:00:01,000 INFO of yesterday")
    with Terminal([*TEA, "logs", "--follow", "--data", str(folder)]) as terminal:
        terminal.eventually("INFO of yesterday")

        log(folder, "db0", f"{datetime.now().isoformat(' ', 'milliseconds').replace('.', ',')} INFO of now")

        terminal.eventually("INFO of now")
        terminal.press("\x03")
        assert terminal.process.wait(20) == 0
        eventually(terminal.is_as_before, "the terminal is as it was")


# ---- colour


def test_a_pipe_is_plain_unless_colour_is_asked_for_and_never_with_no_color(folder, logs, monkeypatch):
    log(folder, "db0", f"{DAY} 10:00:01,000 INFO hello")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    assert "\x1b" not in "".join(logs()[1])
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[36m" in "".join(logs()[1])
    assert "\x1b[36m" in "".join(logs("--columns")[1])
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(logs()[1])


def test_a_line_of_no_known_form_has_the_time_of_the_one_before():
    assert parse("db0", "what is this", 7.0).at == 7.0
    assert parse("db0", "{not json", 7.0).at == 7.0
    assert parse("db0", '{"at": "noon"}', 7.0).at == 7.0
    assert parse("r0", "4711:M 99 Nov 2026 10:00:02.000 * second", 7.0).at == 7.0
