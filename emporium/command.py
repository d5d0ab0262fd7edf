"""The command `./tea`: what it offers, and each answer in words a person can use.

Exit codes: 0 done, 1 failed, 2 wrong use or refused input, 3 nothing is stored there,
4 no cluster runs or a service cannot be reached.

Imports nothing at its top that must be installed: --help and doctor work on a machine that has nothing yet.
"""

import argparse
import os
import subprocess
import sys
from math import isfinite
from urllib.parse import quote

from emporium import doctor
from emporium.environment import ROOT, SetupFailed

DONE, FAILED, WRONG, NOTHING, UNREACHABLE = range(5)
MOST_SHARDS = 64
CALL_S = 5
LIST_S = 15  # the load balancer gives itself 10 s for a list
DURABILITY = "in how many places a write is on disk before it is acknowledged: 2 waits for the queue's log, too (1)"
PARTS_OF_BENCH = ("floors", "throughput", "growth", "threads")
IN_TWO_LANES = ["-n", "2", "--no-loadscope-reorder"]  # see test/lanes.py
OF_ALL_TESTS = {"--full", "-q", "-v", "-x"}  # with no other words all tests run
CODES = "exit codes: 0 done, 1 failed, 2 wrong use or refused input, 3 nothing stored, 4 not running or unreachable"


class Refused(Exception):
    """An answer that is an error: (exit code, one line)."""

    def __init__(self, code, line):
        super().__init__(line)
        self.code = code


def main(arguments=None):
    """Run one command. Returns the exit code."""
    top = parser()
    asked, others = top.parse_known_args(arguments)
    if asked.run is run_test:
        asked.pytest = others
    elif others:
        top.error(f"unrecognized arguments: {' '.join(others)}")
    if asked.run is doctor.run:
        return doctor.run()
    from emporium import running, service

    try:
        code = asked.run(asked)
        sys.stdout.flush()  # here, where a closed pipe can still be told from a failure
        return code
    except Refused as error:
        print(f"tea: {error}", file=sys.stderr)
        return error.code
    except running.NotRunning as error:
        print(f"tea: {error}", file=sys.stderr)
        return UNREACHABLE
    except (SetupFailed, service.StartFailed) as error:
        print(f"tea: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # ./tea list | head: whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return 130


def parser():
    from emporium import labcommand, logcommand, operatorcommand, terminalcommand  # they use what stands here

    top = argparse.ArgumentParser(
        prog="tea", description="The Tea Emporium: a replicated store of tea ratings.", epilog=CODES
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, what, example):
        made = commands.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=f"example: {example}\n{CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        return made

    made = command("up", run_up, "start a whole cluster and show its output", "./tea up --ndb 4 --digest-length 2")
    made.add_argument("--ndb", type=_number(1, MOST_SHARDS), default=4, metavar="N", help="number of shards (4)")
    made.add_argument("--digest-length", type=_number(1), default=2, metavar="K", help="records that fill a digest (2)")
    made.add_argument("--durability", type=int, choices=(1, 2), default=1, help=DURABILITY)
    made.add_argument("--data", default=str(ROOT / "var"), metavar="DIR", help="where to keep everything (var/)")
    made.add_argument("--fresh", action="store_true", help="throw away what is stored in DIR first")
    _add_port_base(made, default=2500)
    made.add_argument("--quiet", action="store_true", help="keep the services' output off the terminal")
    made.add_argument(
        "--no-restart", dest="restart", action="store_false", help="leave dead what dies, rather than start it again"
    )
    made.add_argument("--lab", action="store_true", help="let the view, ./tea break and ./tea hold break it on purpose")
    made.add_argument("--no-view", dest="view", action="store_false", help="show it to no browser")
    made.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="what the services log: text (default), or one JSON object a line",
    )
    made.add_argument("--detach", action="store_true", help="run behind the terminal; ./tea down ends it")

    made = command("down", run_down, "end a running cluster", "./tea down")
    _add_port_base(made)

    made = command(
        "test", run_test, "check the style and run every test; what follows goes to pytest", "./tea test -k gossip"
    )
    made.add_argument("--simulate", type=_number(0), metavar="SEED", help="replay this seed of the simulator, no tests")
    made.add_argument("--mutants", action="store_true", help="plant bugs into a copy: which test finds each?")

    made = command("bench", run_bench, "measure what is promised, and judge it", "./tea bench --json figures.json")
    made.add_argument("--only", choices=PARTS_OF_BENCH, help="this part alone; threads runs only so")
    made.add_argument("--overload", action="store_true", help="a slowed shard, and up to ten times what it can do")
    made.add_argument("--hostile", action="store_true", help="connections that stall, and parts that are stopped")
    made.add_argument("--log", action="store_true", help="the commit log beside SQLite, Redis Streams and the disk")
    made.add_argument("--queue", action="store_true", help="the queue on disk beside the queue in memory")
    made.add_argument(
        "--guarded", action="store_true", help="what surviving faults costs, beside the course's settings"
    )
    made.add_argument("--view", action="store_true", help="what it costs that people look on")
    made.add_argument("--quick", action="store_true", help="try the benchmark itself: its figures are worth nothing")
    made.add_argument("--json", metavar="FILE", help="write the figures for programs, too")

    made = command("storm", run_storm, "let a storm of faults go over a cluster, and judge", "./tea storm --seed 7")
    made.description += " Exit codes of its own: 0 valid and all good, 1 something is wrong, 2 invalid."
    made.add_argument("--minutes", type=_minutes, default=8.0, metavar="M", help="how long it lasts (8)")
    made.add_argument(
        "--seed", type=_number(0), default=7, metavar="S", help="from which plan and clients are drawn (7)"
    )
    made.add_argument("--plan", metavar="FILE", help="follow this plan, as a storm writes it; - prints the drawn one")

    made = command("put", run_put, "rate a tea", "./tea put persimmon 3 --clock c0=5,c1=2")
    made.add_argument("tea", type=_tea)
    made.add_argument("rating", type=_rating, help="a number of size at most 1e6")
    made.add_argument("--clock", required=True, type=_clock, metavar="NODE=COUNT[,...]", help="when: c0=5,c1=2")
    _add_port_base(made)

    made = command("get", run_get, "read a tea's rating and its siblings", "./tea get persimmon --weak")
    made.add_argument("tea", type=_tea)
    where = made.add_mutually_exclusive_group()
    where.add_argument("--weak", action="store_true", help="from a shard drawn at random, perhaps out of date")
    where.add_argument("--shard", type=_number(0), metavar="I", help="straight from shard I, perhaps out of date")
    _add_port_base(made)

    made = command("delete", run_delete, "delete a tea, for all that have seen what stands", "./tea delete persimmon")
    made.add_argument("tea", type=_tea)
    _add_port_base(made)

    made = command("list", run_list, "list the teas, with rating and number of siblings", "./tea list")
    _add_port_base(made)

    made = command("status", run_status, "show how every service is", "./tea status --json")
    made.add_argument("--json", action="store_true", help="for programs")
    _add_port_base(made)

    terminalcommand.add_to(command, _tea, _number, _add_port_base)
    operatorcommand.add_to(command, _add_port_base)
    labcommand.add_to(command, _add_port_base)

    logs = command(
        "log", run_log, "serve a commit log, append to it, read it, or look into its folder", "./tea log append hello"
    ).add_subparsers(required=True, metavar="WHAT", dest="what")
    logcommand.add_to(logs, _number)
    made = logs.add_parser("verify", help="read every byte; exit 1 and say where when something is damaged")
    made.add_argument("folder", metavar="DIR")
    made = logs.add_parser("repair", help="save what can be read, say what is lost, keep copies of what is changed")
    made.add_argument("folder", metavar="DIR")
    made = logs.add_parser("dump", help="one line a record: offset, time, bytes, value as text or base64")
    made.add_argument("folder", metavar="DIR")
    made.add_argument("--offset", type=_number(0), metavar="N", help="from this offset on")
    made.add_argument("--max", type=_number(0), metavar="M", help="at most so many")

    command("doctor", doctor.run, "show what is found here, what is missing, and what mends it", "./tea doctor")
    return top


# ---- the cluster


def run_up(asked):
    from emporium import up

    if not asked.detach:
        return up.up(asked)
    again = ["--ndb", str(asked.ndb), "--digest-length", str(asked.digest_length)]
    again += ["--durability", str(asked.durability), "--log-format", asked.log_format]
    again += ["--data", os.path.abspath(asked.data), "--port-base", str(asked.port_base)]
    again += ["--fresh"] * asked.fresh + ["--no-restart"] * (not asked.restart)
    again += ["--no-view"] * (not asked.view) + ["--lab"] * asked.lab
    return up.up_detached(again, asked.port_base)


def run_down(asked):
    from emporium import up

    return up.down(asked.port_base)


def run_status(asked):
    from emporium import running, screen, statustable

    rows = running.ask_all(running.find(asked.port_base))
    if asked.json:
        print(running.write_json(rows))
        return DONE
    print("\n".join(statustable.lines_of(rows, screen.painter(sys.stdout))))
    return DONE


def run_test(asked):
    """Style first, since it takes no time; then pytest, in this process: all tests in two lanes, or some in one."""
    if asked.simulate is not None:
        os.execv(sys.executable, [sys.executable, str(ROOT / "test" / "simulator"), str(asked.simulate)])
    from emporium import redisbinary

    redisbinary.find_or_install()
    os.chdir(ROOT)
    ruff = [sys.executable, "-m", "ruff"]
    for check in (["check", "--quiet", "."], ["format", "--check", "--quiet", "."]):
        if subprocess.run([*ruff, *check], check=False).returncode != 0:
            print(f"tea: ruff {check[0]} finds fault; see above", file=sys.stderr)
            return FAILED
    if asked.mutants:
        os.execv(sys.executable, [sys.executable, str(ROOT / "test" / "mutantrun.py"), *asked.pytest])
    lanes = IN_TWO_LANES if set(asked.pytest) <= OF_ALL_TESTS else []
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *lanes, *asked.pytest])
    return FAILED


def run_bench(asked):
    from bench import run

    others = [name for name in ("overload", "hostile", "log", "queue", "guarded", "view") if getattr(asked, name)]
    return run.run([asked.only, *others] if asked.only else others, asked.quick, asked.json)


def run_storm(asked):
    from emporium import redisbinary
    from emporium.storm import command

    redisbinary.find_or_install()
    return command.run(asked.minutes, asked.seed, asked.plan)


# ---- a commit log


def run_log(asked):
    from emporium.commitlog import tools

    if asked.what == "dump":
        return tools.dump(asked.folder, asked.offset, asked.max)
    return getattr(tools, asked.what)(asked.folder)


# ---- the store


def run_put(asked):
    answer, headers = call(
        asked, "PUT", f"/rating/{_quoted(asked.tea)}", {"rating": asked.rating, "clock": asked.clock}
    )
    outcome = headers.get("X-Merge", "stored")
    note = {"stale": "; a newer rating stands", "same": "; it was there already"}.get(outcome, "")
    print(f"{answer['rating']}  ({outcome}{note})")
    return DONE


def run_get(asked):
    weak = "?consistency=weak" if asked.weak else ""
    service = "lb" if asked.shard is None else f"db{asked.shard}"
    answer, _headers = call(asked, "GET", f"/rating/{_quoted(asked.tea)}{weak}", service=service)
    if not answer["choices"]:
        print(f"{answer['rating']}  (never rated)")
        return DONE
    print(answer["rating"])
    for choice, clock in zip(answer["choices"], answer["clocks"], strict=True):
        print(f"  {choice} at {','.join(f'{node}={count}' for node, count in clock.items())}")
    return DONE


def run_delete(asked):
    call(asked, "DELETE", f"/rating/{_quoted(asked.tea)}")
    print("deleted")
    return DONE


def run_list(asked):
    from emporium import progress, screen

    with progress.shown("asking every shard"):
        answer, _headers = call(asked, "GET", "/ratings", deadline_s=LIST_S)
    printable = screen.printable if screen.is_terminal(sys.stdout) else str
    for row in answer["teas"]:
        siblings = f"{row['siblings']:>3} sibling{'s' if row['siblings'] != 1 else ' '}"
        print(f"{row['rating']:>10}  {siblings}  {printable(row['tea'])}")
    if answer["unreachable"]:
        print(f"tea: without {', '.join(answer['unreachable'])}, which cannot be reached", file=sys.stderr)
        return UNREACHABLE
    if not answer["complete"]:
        print(f"tea: these are the first {len(answer['teas'])}; there are more", file=sys.stderr)
    return DONE


def call(asked, method, path, body=None, service="lb", deadline_s=CALL_S):
    """(the JSON answer, its headers). Raises Refused or NotRunning."""
    import requests

    from emporium import running

    note = running.find(asked.port_base)
    try:
        url = note.url(service)
    except StopIteration:
        raise Refused(WRONG, f"there is no shard {service}; the shards are 0 to {note.ndb - 1}") from None
    try:
        # Recorded whatever else comes: who does this by hand may want to see its trace.
        answer = requests.request(method, url + path, json=body, timeout=deadline_s, headers={"X-B3-Sampled": "1"})
        given = answer.json()
    except requests.RequestException as error:
        raise Refused(UNREACHABLE, f"{service} at {url} {_trouble(error, method, deadline_s)}") from error
    if answer.ok:
        return given, answer.headers
    code = NOTHING if answer.status_code == 404 else UNREACHABLE if answer.status_code >= 502 else WRONG
    raise Refused(code, f"{answer.status_code} {given.get('title', '')}: {given.get('detail', '')}")


def _trouble(error, method, deadline_s):
    """What came of a call, from its requests.RequestException, and what to do."""
    import requests

    if isinstance(error, requests.Timeout):
        perhaps = "" if method == "GET" else ", and may have done it or not"
        return f"did not answer within {deadline_s} s{perhaps}; ./tea status shows how all are"
    if isinstance(error, requests.ConnectionError):
        return (
            "is down, or went down meanwhile; try again, since ./tea up starts it again within seconds unless it was "
            "told --no-restart: ./tea status shows how all are, ./tea logs why"
        )
    return "answered with something that is no JSON: is it a load balancer or shard at all?"


def _quoted(tea):
    return quote(tea, safe="")


# ---- arguments


def _add_port_base(made, default=None):
    made.add_argument(
        "--port-base",
        type=_number(1024, 60_000),
        default=default,
        metavar="P",
        help="the load balancer's port; the others keep their distance from it (2500)",
    )


def _number(least, most=None):
    def parse(text):
        number = int(text)
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"must be {f'{least} to {most}' if most else f'at least {least}'}")
        return number

    parse.__name__ = "whole number"  # what argparse says when int() raises
    return parse


def _minutes(text):
    minutes = float(text)
    if not 0.3 <= minutes <= 600:
        raise argparse.ArgumentTypeError("must be 0.3 to 600")
    return minutes


_minutes.__name__ = "number of minutes"  # what argparse says when it raises


def _tea(text):
    if not text or "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} cannot name a tea: a name has at least one character, and no slash")
    return text


def _rating(text):
    number = float(text)
    if not isfinite(number):
        raise ValueError
    return int(number) if number.is_integer() else number


_rating.__name__ = "rating"  # what argparse says when it raises


def _clock(text):
    """'c0=5,c1=2' as {"c0": 5, "c1": 2}."""
    clock = {}
    for entry in text.split(","):
        node, equals, count = entry.partition("=")
        if not equals or not node or not count.isdecimal():
            raise argparse.ArgumentTypeError(f"{entry!r} is not NODE=COUNT, such as c0=5")
        if node in clock:
            raise argparse.ArgumentTypeError(f"{node} has two counts")
        clock[node] = int(count)
    return clock
