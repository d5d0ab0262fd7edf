"""The documents keep up: every endpoint, setting and error is in docs/protocol.md. (Their lines: test_docs_run.py.)"""

import json
import re

import pytest

import serverDB
import serverLB
import serverLog
import serverQ
import serverView
from emporium import settings
from emporium.environment import ROOT

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
