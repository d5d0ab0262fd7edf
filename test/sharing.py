"""What tests that run at the same time, in two processes, must take in turns: the course's ports, and apt."""

import fcntl
from contextlib import contextmanager

import pytest

from emporium.environment import ROOT, SetupFailed


@contextmanager
def only_one(what):
    """Inside, no other test that says the same is inside, in whichever process it runs."""
    with open(ROOT / "var" / f"{what}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def or_skip(find):
    """What find() finds or installs; when it cannot be had, the test is skipped with the reason."""
    with only_one("apt"):
        try:
            return find()
        except SetupFailed as reason:
            pytest.skip(str(reason))
