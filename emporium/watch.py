"""`./tea watch`: how the ring is, second after second.

On a terminal a table is drawn over itself, on the screen that editors use, so that afterwards all is there again that
stood there before. Ctrl-C or q ends it, Ctrl-Z puts it aside. Elsewhere it is a plain table, or `--count` of them one
after another.
"""

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections import deque
from contextlib import contextmanager, suppress
from datetime import datetime

from emporium import ringstate, running, screen, watchtable

EVERY_S = 1.0
ESCAPE_KEYS = {b"q", b"Q"}
SIGNALS = {
    signal.SIGINT: "end",
    signal.SIGTERM: "end",
    signal.SIGHUP: "end",
    signal.SIGWINCH: "resize",
    signal.SIGTSTP: "suspend",
}
AROUND_TABLE = 3  # lines above the rows: how it is, how it ends, the headings


def watch(port_base, every_s=None, count=None):
    """Show the ring until `count` looks are done, or we are told to end. Returns the exit code. Raises NotRunning."""
    looks = Looks(port_base)
    if screen.is_terminal(sys.stdout):
        return _live(looks, every_s or EVERY_S, count)
    most = count or (1 if every_s is None else None)
    return _plain(looks, every_s or EVERY_S, most)


class Looks:
    """Looks at the cluster that is on this port base, also when it is another one than before, or none for a while."""

    def __init__(self, port_base):
        self._note = running.find(port_base)
        self._look = ringstate.Looker(self._note)
        self.is_running = True

    @property
    def url(self):
        return self._note.url("lb")

    def __call__(self):
        """The state of the ring now."""
        try:
            note = running.find(self._note.port_base)
        except running.NotRunning:
            self.is_running = False
        else:
            self.is_running = True
            if note != self._note:  # one of its processes is another
                self._note, self._look = note, ringstate.Looker(note)
        return self._look()


def _plain(looks, every_s, most):
    """Tables one after another, each with the time above it where there are several."""
    done = 0
    while True:
        began = time.monotonic()
        state = looks()
        if most != 1:
            print(f"{'' if done == 0 else chr(10)}{_title(looks, state)}")
        print("\n".join(watchtable.plain_lines(state, screen.painter(sys.stdout))), flush=True)
        done += 1
        if done == most:
            return 0
        time.sleep(max(0, began + every_s - time.monotonic()))


def _live(looks, every_s, most):
    """The table, drawn over itself. Only this thread draws; another one looks, since a hung service takes a second."""
    from rich.live import Live

    console = screen.console()
    state = looks()
    table = _Table(looks, state)
    with _Woken() as woken, _keys() as keys:
        watcher = _Watcher(looks, every_s, woken)
        live = Live(table, console=console, screen=True, auto_refresh=False)
        try:
            with live:
                done, is_ended = 1, False
                watcher.start()
                while not is_ended and done != most:
                    live.refresh()
                    heard = woken.wait(keys)
                    if "suspend" in heard:
                        _put_aside(live, keys)
                    is_ended = "end" in heard
                    if (state := watcher.take()) is not None:
                        table.state = state
                        done += 1
        finally:
            watcher.stop()
    console.print(_Table(looks, table.state, is_last=True))
    return 0


class _Table:
    """What rich draws: made anew for the size that the terminal has at that moment."""

    def __init__(self, looks, state, is_last=False):
        self._looks = looks
        self.state = state
        self._is_last = is_last

    def __rich_console__(self, console, options):
        from rich.text import Text

        height = 10**6 if self._is_last else options.size.height - AROUND_TABLE
        headings, rows, missing = watchtable.fitting(watchtable.rows_of(self.state), options.max_width, height)
        yield _line(Text(_title(self._looks, self.state), style="bold"))
        if not self._is_last:
            yield _line(Text("q or Ctrl-C ends", style="dim"))
        yield _line(_between(Text(cell, style="underline") for cell in headings.values()))
        for row in rows:
            yield _line(_between(map(_cell, headings, row)))
        if missing:
            yield _line(Text(f"{missing} more: the window is too low", style="dim"))


def _line(text):
    """The Text as one line, cut where the terminal ends."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _between(cells):
    from rich.text import Text

    return Text(" " * watchtable.GAP).join(cells)


def _cell(heading, text):
    from rich.text import Text

    style = watchtable.COLOURS.get(text.strip(), "") if heading in ("state", "redis") else ""
    return Text(text, style=f"bold {style}" if style in ("red", "yellow") else style)


def _title(looks, state):
    at = datetime.fromtimestamp(state["at"]).strftime("%H:%M:%S")
    how = watchtable.summary(state) if looks.is_running else "the cluster has ended; ./tea up starts one"
    return f"{at}  {how}  ({looks.url})"


class _Watcher:
    """Looks every so often, on a thread of its own, and wakes who draws."""

    def __init__(self, looks, every_s, woken):
        self._looks, self._every_s, self._woken = looks, every_s, woken
        self._states = deque(maxlen=1)  # the newest, unless it was taken
        self._failure = None
        self._is_told_to_stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        self._is_told_to_stop.set()

    def take(self):
        """The newest state that was not taken yet, or None. Raises what went wrong when it was looked."""
        if self._failure is not None:
            raise self._failure
        with suppress(IndexError):
            return self._states.pop()
        return None

    def _run(self):
        while not self._is_told_to_stop.wait(self._every_s):
            try:
                self._states.append(self._looks())
            except Exception as error:  # noqa: BLE001 - of a bug, which the other thread is to raise, not a stale table
                self._failure = error
            self._woken.wake("look")


class _Woken:
    """Waits for signals, keys and looks at once. Signals only say what was heard: nothing is drawn by halves."""

    def __init__(self):
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._heard = []
        self._before = {}

    def __enter__(self):
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *failure):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number, _frame):
        self.wake(SIGNALS[number])

    def wake(self, what):
        self._heard.append(what)
        with suppress(BlockingIOError):  # full: it wakes all the same
            os.write(self._writer, b"!")

    def wait(self, keys):
        """What was heard, at least one thing. `keys`: the file descriptor of the keyboard, or None."""
        ready, _, _ = select.select([self._reader, *([] if keys is None else [keys])], [], [])
        if self._reader in ready:
            os.read(self._reader, 4096)
        heard, self._heard = self._heard, []
        if keys in ready:
            pressed = os.read(keys, 1024)
            if not pressed or any(bytes([key]) in ESCAPE_KEYS for key in pressed):  # nothing: the terminal is gone
                heard.append("end")
        return heard


@contextmanager
def _keys():
    """Inside, keys come one by one and are not shown. Gives their file descriptor; None where there is no keyboard."""
    if not screen.is_terminal(sys.stdin):
        yield None
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield number
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(number, termios.TCSANOW, before)


def _put_aside(live, keys):
    """As Ctrl-Z does for every command: the terminal is as it was until we are continued."""
    live.stop()
    before = None if keys is None else termios.tcgetattr(keys)
    if keys is not None:
        shell_like = termios.tcgetattr(keys)
        shell_like[3] |= termios.ECHO | termios.ICANON
        termios.tcsetattr(keys, termios.TCSANOW, shell_like)
    os.kill(os.getpid(), signal.SIGSTOP)
    if before is not None:
        termios.tcsetattr(keys, termios.TCSANOW, before)
    live.start()
