"""A real Chromium for the tests: the one that CHROMIUM names, or on PATH, or else from Debian's package.

Playwright drives it, and is never asked to fetch a browser of its own.
"""

import os
import shutil

from emporium.environment import SetupFailed, apt_install

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing that a browser does by itself may leave this machine: the tests count what it asks for.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def flags():
    """Those of every start; as root, Chromium's own sandbox cannot be made."""
    return [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else list(FLAGS)


def find():
    """The program; None when it is nowhere. Raises SetupFailed when CHROMIUM names none."""
    named = os.environ.get("CHROMIUM")
    if named:
        if not shutil.which(named):
            raise SetupFailed(f"CHROMIUM names {named}, which is no program")
        return named
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def find_or_install():
    """The program, installed if need be. Raises SetupFailed with the reason."""
    found = find()
    trouble = None if found else apt_install("chromium")
    found = found or find()
    if not found:
        raise SetupFailed(f"the pages are tried in a real browser: apt install chromium ({trouble})")
    return found
