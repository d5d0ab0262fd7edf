"""`./tea doctor`: what is found on this machine, what is missing, and the command that mends it.

Standard library only, and it changes nothing: it must work on a machine that has nothing yet.
"""

import importlib.metadata
import re
import shutil
import socket
import sys
from pathlib import Path

from emporium import redisbinary
from emporium.environment import OLDEST_PYTHON, REQUIREMENTS, ROOT, VENV, is_made

COURSE_PORTS = {"lb": 2500, "db0": 3000, "r0": 5555, "q": 6000}


def run():
    """Print the findings, a line each. Returns 0 when a cluster could start, 1 when something is missing."""
    findings = [python(), environment(), libraries(), redis_programs(), parent_death(), ports(), data()]
    for what, state, mend in findings:
        print(
            f"{'ok  ' if mend is None else 'MISS'}  {what:<12} {state}"
            + (f"\n      mend it:     {mend}" if mend else "")
        )
    return 1 if any(mend for _what, _state, mend in findings) else 0


def python():
    version = sys.version.split()[0]
    is_new_enough = sys.version_info >= OLDEST_PYTHON
    return "Python", f"{version}, {sys.executable}", None if is_new_enough else "apt install python3.11"


def environment():
    if is_made():
        return "environment", f"{VENV}, made for the present requirements.txt", None
    return (
        "environment",
        f"{VENV} is not made, or for another requirements.txt",
        "./tea up   or   ./tea test   makes it",
    )


def libraries():
    listed = re.findall(r"^([\w.-]+)==([^\s#]+)", REQUIREMENTS.read_text(), re.MULTILINE)
    wanted = {_normal(name): version for name, version in listed}
    folders = [str(folder) for folder in VENV.glob("lib/python*/site-packages")]
    found = {_normal(each.name): each.version for each in importlib.metadata.distributions(path=folders)}
    if not found:
        return "libraries", "none of requirements.txt", "./tea up   or   ./tea test   installs them"
    wrong = [
        f"{name} {found.get(name, 'missing')}, not {version}"
        for name, version in wanted.items()
        if found.get(name) != version
    ]
    if wrong:
        return "libraries", "; ".join(wrong), "rm -rf .venv && ./tea up"
    return "libraries", ", ".join(f"{name} {version}" for name, version in wanted.items()), None


def _normal(name):
    """The name of a package as pip compares it: typing_extensions is typing-extensions."""
    return re.sub(r"[-_.]+", "-", name).lower()


def redis_programs():
    found = redisbinary.find()
    if found is None:
        return "Redis", "no redis-server and redis-cli", "./tea up   installs them, or: apt install redis-server"
    return "Redis", f"{found.version()}, {found.server} and {found.cli}", None


def parent_death():
    found = shutil.which("setpriv")
    return "setpriv", found or "missing", None if found else "apt install util-linux"


def ports():
    taken = [f"{name} {port}" for name, port in COURSE_PORTS.items() if _is_taken(port)]
    if taken:
        return "ports", f"in use: {', '.join(taken)} (./tea status tells whether by a cluster of ours)", None
    return "ports", "those of the course are free", None


def data():
    folder = ROOT / "var"
    made = Path(folder / "cluster.json")
    return "data", f"{folder}: {made.read_text().strip() if made.exists() else 'nothing stored yet'}", None


def _is_taken(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
