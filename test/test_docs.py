"""The documents keep up: every endpoint, setting and error is in docs/protocol.md, and the README's lines work."""

import json
import re
import subprocess
import sys

import pytest

import serverDB
import serverLB
import serverLog
import serverQ
import serverView
from emporium import settings
from emporium.environment import ROOT
from emporium.ports import COURSE_BASE, Ports

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
README = (ROOT / "README.md").read_text()
OF_SERVERS = {
    "serverLB.py": (serverLB, settings.LBSettings),
    "serverDB.py": (serverDB, settings.DBSettings),
    "serverQ.py": (serverQ, settings.QSettings),
    "serverLog.py": (serverLog, settings.LogSettings),
    "serverView.py": (serverView, settings.ViewSettings),
}
SOURCES = [*ROOT.glob("server*.py"), *(ROOT / "emporium").glob("*.py"), *(ROOT / "emporium" / "view").glob("*.py")]


@pytest.mark.parametrize("program", OF_SERVERS)
def test_every_endpoint_is_in_the_protocol(program, tmp_path):
    module, shape = OF_SERVERS[program]
    app = module.create_app(shape(data_dir=str(tmp_path)) if shape is settings.LogSettings else shape())
    app.at_end()

    for rule in app.url_map.iter_rules():
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            name = re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", rule.rule)
            listed = re.search(rf"`[A-Z, ]*\b{method}\b[A-Z, ]* {re.escape(name)}[`?]", PROTOCOL)
            assert listed, f"{method} {name} of {program} is not in docs/protocol.md"


@pytest.mark.parametrize("program", OF_SERVERS)
def test_every_setting_is_in_the_protocol_with_its_default(program):
    shape = OF_SERVERS[program][1]
    section = PROTOCOL.partition(f"### {program}")[2].partition("\n### ")[0]
    documented = dict(re.findall(r"^\| `([\w-]+)`(?: \*)? \| ([^|]+?) \|", section, re.MULTILINE))
    defaults = json.loads(settings.wire.encode(shape()))

    assert set(documented) == set(settings.names_of(shape))
    for name, default in defaults.items():
        told = documented[name].strip("`")
        assert told in (str(default), json.dumps(default)), f"{name} of {program}: {told}, and it is {default}"


@pytest.mark.parametrize("program", OF_SERVERS)
def test_every_setting_is_explained_where_it_is_declared(program):
    shape = OF_SERVERS[program][1]

    for name in settings.names_of(shape):
        assert re.search(rf"^    {name} +\w", shape.__doc__, re.MULTILINE), f"{name} of {program}"


def test_every_error_is_in_the_protocol():
    raised = {"404", "405", "500", "503", "504"}  # of Flask, and of unavailable() and unsure()
    for source in SOURCES:
        raised |= set(re.findall(r"Problem\(\s*(\d+)", source.read_text()))

    listed = set(re.findall(r"^\| (\d{3}) \|", PROTOCOL, re.MULTILINE))

    assert listed == raised


def test_every_file_on_the_readmes_map_is_there():
    for name in re.findall(r"`([\w/]+\.(?:py|md|txt))`", README):
        assert (ROOT / name).exists() or (ROOT / "emporium" / name).exists(), name


def test_every_line_of_the_readme_that_can_be_typed_works(tmp_path):
    """Each `$` line of its console blocks, in order, on a cluster of ./tea up; the answers are those that it shows."""
    layout = Ports.find_free(4)
    base = f"--port-base {layout.base}"
    in_bash(f"{sys.executable} tea up --detach --data {tmp_path} {base}", check=True)
    try:
        for command, shown in console_lines(README):
            typed = moved_to(layout, command)

            done = in_bash(typed)

            assert done.returncode == 0, f"{typed}: {done.stderr}"
            if shown:
                assert done.stdout.strip() == shown, typed
            elif command.startswith("curl"):
                assert isinstance(json.loads(done.stdout), dict), typed
    finally:
        in_bash(f"{sys.executable} tea down {base}", check=True)


def in_bash(line, check=False):
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, cwd=ROOT, check=check)


def console_lines(text):
    """[(command, the answer shown below it), ...]."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown.strip()))
    assert len(found) > 10
    return found


def moved_to(layout, command):
    """The command for the cluster of this test: its ports, quiet curl, and a `tea` that knows where it is."""
    moved = re.sub(r"localhost:(\d+)", lambda match: f"localhost:{int(match[1]) - COURSE_BASE + layout.base}", command)
    moved = re.sub(r"^curl ", "curl -sS --fail-with-body ", moved)
    return re.sub(r"^\./tea (.*)", rf"{sys.executable} tea \1 --port-base {layout.base}", moved)
