"""A terminal that a command runs in, and what a person would see there."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading

import pyte
from harness import eventually

LAST = b"\0"  # it shows nothing


class Terminal:
    """The command on a terminal of its own, of this size. `raw` are all bytes that it has written there."""

    def __init__(self, command, rows=24, columns=100, echoes=True, **environ):
        ours, theirs = pty.openpty()
        self._ours = ours
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = b""
        self._resize_kernel(rows, columns)
        if not echoes:
            _without_echo(theirs)
        self._before = termios.tcgetattr(theirs)
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**clean, "TERM": "xterm-256color", **environ},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._theirs = theirs
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.kill()
        self.process.wait()
        os.close(self._theirs)
        self._reader.join(5)
        os.close(self._ours)

    def wait_for_end(self, within_s=20):
        """The exit code of the command; by then all that it has written has been read."""
        code = self.process.wait(within_s)
        os.write(self._theirs, LAST)  # what was written before comes before it
        eventually(lambda: self.raw.endswith(LAST), "all is read")
        return code

    @property
    def lines(self):
        """The lines that can be seen now."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self):
        return "\n".join(self.lines)

    def eventually(self, words, within_s=20):
        """Returns the line in which these words can be seen."""
        try:
            # Of the very look that found them: a line that is drawn anew is gone for a moment.
            return eventually(
                lambda: next((line for line in self.lines if words in line), None), f"{words!r} on the screen", within_s
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}") from error

    def press(self, keys):
        os.write(self._ours, keys.encode())

    def resize(self, rows, columns):
        with self._lock:
            self._screen.resize(rows, columns)
        self._resize_kernel(rows, columns)

    def is_as_before(self):
        """Whether keys are shown again, the cursor as well, and the screen of before."""
        now = termios.tcgetattr(self._theirs)
        return (
            now[:4] == self._before[:4]
            and self.raw.count(b"\x1b[?25l") == self.raw.count(b"\x1b[?25h")
            and self.raw.count(b"\x1b[?1049h") == self.raw.count(b"\x1b[?1049l")
        )

    def _resize_kernel(self, rows, columns):
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self):
        while True:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # nobody has the other end any more
                return
            with self._lock:
                self.raw += piece
                self._stream.feed(piece)


def _without_echo(number):
    """Keys that are pressed are not shown on this terminal."""
    now = termios.tcgetattr(number)
    now[3] &= ~termios.ECHO
    termios.tcsetattr(number, termios.TCSANOW, now)
