"""What takes so long: one line at the foot of the terminal, with what is done and for how many seconds already.

    with progress.shown("restoring") as told:       tea: restoring: 512 of 9000 teas, 4 s
        told("512 of 9000 teas")

It appears after a second, moves on by itself, gives way to whatever else is printed meanwhile, and is wiped away in the
end. On standard error, since standard output is for results, and only where that is a terminal: a file or a pipe gets
nothing. Standard library only: it runs before anything is installed.
"""

import os
import sys
import threading
import time
from contextlib import contextmanager

from emporium.screen import is_terminal, printable, width_of

APPEARS_S = 1.0
EVERY_S = 0.5
WIPE = "\r\x1b[K"


@contextmanager
def shown(what):
    """Inside, the terminal says that this goes on. Gives a function that is told how far it is, in words.

    Inside another one, it takes that one's line, and gives it back.
    """
    if isinstance(sys.stderr, _GivesWay):
        line = sys.stderr.line
        before = line.replace(what)
        try:
            yield line.tell
        finally:
            line.restore(before)
        return
    if not is_terminal(sys.stderr):
        yield _nobody
        return
    line = _Line(what, sys.stderr)
    streams = sys.stdout, sys.stderr
    sys.stderr = _GivesWay(sys.stderr, line)
    if is_terminal(sys.stdout):
        sys.stdout = _GivesWay(sys.stdout, line)
    try:
        with line:
            yield line.tell
    finally:
        sys.stdout, sys.stderr = streams


def _nobody(_how_far):
    """There is no terminal to tell it."""


class _Line:
    """The line itself. A thread draws it again and again; `lock` is held while anything is written."""

    def __init__(self, what, stream):
        self.lock = threading.RLock()
        self._stream = stream
        self._said = what, "", time.monotonic()  # what goes on, how far it is, since when
        self._is_drawn = False
        self._is_at_line_start = True
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._is_over.set()
        self._thread.join()
        self.wipe()

    def tell(self, how_far):
        what, _before, since = self._said
        self._said = what, how_far, since

    def replace(self, what):
        """Say this instead, from now on. Returns what `restore` wants."""
        before, self._said = self._said, (what, "", time.monotonic())
        return before

    def restore(self, before):
        self._said = before

    def wipe(self):
        """Make room for something else."""
        with self.lock:
            if self._is_drawn:
                self._stream.write(WIPE)
                self._stream.flush()
                self._is_drawn = False

    def wrote(self, text):
        """Something else was written: never draw behind half a line."""
        self._is_at_line_start = text.endswith(("\n", "\r")) if text else self._is_at_line_start

    def _run(self):
        while not self._is_over.wait(EVERY_S):
            if self._seconds() >= APPEARS_S:
                self._draw()

    def _seconds(self):
        return time.monotonic() - self._said[2]

    def _draw(self):
        what, how_far, _since = self._said
        text = printable(f"tea: {what}{f': {how_far}' if how_far else ''}, {self._seconds():.0f} s")
        with self.lock:
            if not self._is_at_line_start or not self._is_ours():
                return
            self._stream.write(f"{WIPE}{text[: width_of(self._stream) - 1]}")
            self._stream.flush()
            self._is_drawn = True

    def _is_ours(self):
        """Whether we are what the terminal shows, and not put behind it with Ctrl-Z and bg."""
        try:
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        except OSError:
            return True  # a terminal that is nobody's


class _GivesWay:
    """A stream to the same terminal, from whose output the line steps aside."""

    def __init__(self, stream, line):
        self._stream = stream
        self.line = line

    def write(self, text):
        with self.line.lock:
            self.line.wipe()
            self.line.wrote(text)
            return self._stream.write(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)
