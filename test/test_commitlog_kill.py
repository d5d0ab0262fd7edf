"""kill -9, again and again, against a ledger of what was acknowledged, with rolls, truncations and resets in flight."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from emporium.commitlog import Config, Log

CHILD = Path(__file__).with_name("logchild.py")
ROUNDS, ROUNDS_IN_FULL = 20, 200


class Ledger:
    """What the log must hold, and what it may hold besides."""

    def __init__(self):
        self.lowest = 0
        self.records = {}  # {offset: value} acknowledged, and neither truncated nor reset since

    def take(self, lines):
        """Note what a process has told, up to its death."""
        self.maybe, self.pending = [], None
        for kind, *rest in lines:
            if kind == "append":
                self.maybe.append(rest[0])
            elif kind == "stored":
                first, values = rest
                self.maybe.remove(values)
                for i, value in enumerate(values):
                    assert first + i not in self.records, "an offset was given twice"
                    self.records[first + i] = value
            elif kind == "will":
                self.pending = rest
            elif kind == "did":
                self._done(*self.pending)
                self.pending = None

    def _done(self, what, argument):
        if what == "truncate_back":
            self.records = {offset: value for offset, value in self.records.items() if offset < argument}
        elif what == "reset":
            self.records, self.lowest = {}, argument
        # A truncation from the front drops whole segments: which, only the log can tell; see `judge`.
        elif what == "truncate":
            self.may_drop = max(self.may_drop, argument)

    may_drop = -1

    def judge(self, log):
        """Fail unless the log holds what it must and nothing else. Then the ledger is what the log holds."""
        held = {record.offset: record.value.decode() for record in log.read_many(log.lowest_offset, 10**6)}
        assert list(held) == list(range(log.lowest_offset, log.next_offset))
        what, argument = self.pending or (None, None)
        is_reset = what == "reset" and not held
        for offset, value in self.records.items():
            if offset in held:
                assert held[offset] == value, f"{offset} was altered"
                continue
            is_truncated = offset <= self.may_drop or (what == "truncate" and offset <= argument)
            is_truncated_back = what == "truncate_back" and offset >= argument
            assert is_truncated or is_truncated_back or is_reset, f"{offset} is lost: {value}"
        more = [value for offset, value in held.items() if offset not in self.records]
        while more:  # what was not acknowledged is there whole, or not at all
            values = next((values for values in self.maybe if values == more[: len(values)]), None)
            assert values, f"{more} was never appended, or not whole"
            self.maybe.remove(values)
            more = more[len(values) :]
        self.records, self.may_drop = held, -1


@pytest.mark.parametrize("fsync", ["group", "never"])
def test_killed_at_any_moment_it_has_lost_nothing_that_it_acknowledged(quick_path, request, chance, fsync):
    folder = quick_path / "log"
    ledger, stored = Ledger(), 0
    rounds = (ROUNDS_IN_FULL if request.config.getoption("--full") else ROUNDS) // 2
    for round_ in range(rounds):
        lines = killed_after(chance.uniform(0.02, 0.3), folder, f"{chance.random()}", fsync)
        stored += sum(line[0] == "stored" for line in lines)
        ledger.take(lines)
        with Log(folder, Config(segment_bytes=700)) as log:
            ledger.judge(log)
        if round_ % 2:  # sometimes the next one starts after a kill, sometimes after a close
            (folder / "clean.json").unlink()
    assert stored > rounds


def killed_after(seconds, folder, seed, fsync):
    """What a process that used the log said until it was killed, so many seconds after it was ready."""
    child = subprocess.Popen([sys.executable, str(CHILD), str(folder), seed, fsync], stdout=subprocess.PIPE)
    try:
        lines = [json.loads(child.stdout.readline())]
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        lines += [json.loads(line) for line in child.stdout]
        timer.join()
        assert child.wait(10) == -9
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    return lines
