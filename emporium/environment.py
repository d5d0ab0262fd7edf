"""The project's own Python environment, `.venv`: made once, found ever after, without a network from then on.

Standard library only: this runs before anything is installed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from emporium import progress

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements.txt"
STAMP = VENV / "made-for"
OLDEST_PYTHON = (3, 11)
INSTALL_S = 900  # no single step of an installation takes longer, unless it hangs


class SetupFailed(Exception):
    """Something could not be installed. The message says what, and the command that mends it."""


def enter():
    """Go on in the project's environment: returns there, and elsewhere makes it if need be and starts anew in it.

    Exits 1, with one line that says what to do, when the environment cannot be made.
    """
    if Path(sys.prefix) == VENV and is_made():
        return
    try:
        make()
    except SetupFailed as error:
        sys.exit(f"tea: {error}")
    except KeyboardInterrupt:
        sys.exit("tea: interrupted; the next start goes on from here")
    os.execv(PYTHON, [str(PYTHON), *sys.orig_argv[1:]])


def is_made():
    """True when .venv is there, whole, and made for the present requirements.txt, folder and Python."""
    try:
        return PYTHON.exists() and STAMP.read_text() == _made_for()
    except OSError:
        return False


def make():
    """Make .venv and install requirements.txt, unless that is done. Raises SetupFailed."""
    if sys.version_info < OLDEST_PYTHON:
        raise SetupFailed(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: apt install python3.11")
    with _alone():
        if is_made():
            return
        say("making the environment in .venv, once; this takes a moment")
        with progress.shown("making .venv") as told:
            shutil.rmtree(VENV, ignore_errors=True)
            _make_venv()
            told("installing requirements.txt into it")
            install(["-r", str(REQUIREMENTS)])
        STAMP.write_text(_made_for())


def install(what):
    """pip install into .venv. Raises SetupFailed with the end of what pip said."""
    pip = [str(PYTHON), "-m", "pip"]
    if not (VENV / "bin" / "pip").exists():  # made without one, see _make_venv
        pip = [sys._base_executable, "-m", "pip", "--python", str(PYTHON)]
    done = _run([*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", *what])
    if done.returncode != 0:
        raise SetupFailed(f"pip could not install {' '.join(what)}:\n{_end_of(done)}")


def apt_install(package):
    """Install a Debian package, where root and apt-get are there. Returns why that failed; None when it is done."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("apt-get") is None:
        return "no apt-get here"
    say(f"installing Debian's {package} with apt-get")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]
    with progress.shown(f"installing {package}") as told:
        for step in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", package]):
            told(f"apt-get {step[0]}")
            done = _run([*apt, *step], env=quiet)
    return None if done.returncode == 0 else f"apt-get install {package} failed:\n{_end_of(done)}"


def say(line):
    """One line about what takes a while, on standard error: standard output is for results."""
    print(f"tea: {line}", file=sys.stderr, flush=True)


def _make_venv():
    """Make an empty .venv."""
    done = _run([sys.executable, "-m", "venv", str(VENV)])
    if done.returncode == 0:
        return
    # Debian keeps the part of venv that brings pip in a package of its own. The system's pip will do as well.
    shutil.rmtree(VENV, ignore_errors=True)
    bare = _run([sys.executable, "-m", "venv", "--without-pip", str(VENV)])
    if bare.returncode == 0 and _run([sys._base_executable, "-m", "pip", "--version"]).returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    trouble = apt_install("python3-venv")
    if trouble is None and _run([sys.executable, "-m", "venv", str(VENV)]).returncode == 0:
        return
    raise SetupFailed(f"Python's venv does not work here: apt install python3-venv ({trouble or _end_of(done)})")


def _made_for():
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    return f"{wanted}\n{VENV}\npython {sys.version_info.major}.{sys.version_info.minor}\n"


@contextmanager
def _alone():
    # Two commands that start at once must not both make .venv.
    (ROOT / "var").mkdir(exist_ok=True)
    with open(ROOT / "var" / "environment.lock", "w") as lock:
        with progress.shown("waiting for another ./tea, which makes .venv"):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command, env=None):
    """The finished command; one that hangs counts as failed."""
    options = {"env": env, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "check": False}
    try:
        return subprocess.run(command, timeout=INSTALL_S, **options)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not end within {INSTALL_S} s")


def _end_of(done):
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
