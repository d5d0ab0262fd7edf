"""Who may write to a shard's Redis, and whether that Redis still is what was last written to.

In Redis, the hash `shard`:

    life        drawn at random when this memory began; another one is another memory
    epoch       the number of the process that writes here; each one that starts takes the next. The first of a new
                memory is the time in seconds
    step        counts the changes, each of which raises it in its own MULTI/EXEC
    recovering  why this memory is not whole, in words; absent when it is

Beside it, in the shard's data-dir, the note says the same of the last change that is known to have been made. A Redis
that has another life, or a lower step, has lost something: it began anew, went back to an older file, or is another.
The note is not synced with each step. It need not be: it survives a kill, and after a power loss it is at worst older
than Redis, which syncs before it answers.
"""

import os
import secrets
from typing import NamedTuple

from emporium import wire

KEY = "shard"
FIELDS = ("life", "epoch", "step", "recovering")


_NOTED = tuple[str, int, int]  # life, epoch, step


class Fenced(Exception):
    """Another process has taken over this shard: this one may store nothing any more."""


class Standing(NamedTuple):
    """What the hash `shard` says; life None where there is none."""

    life: str | None
    epoch: int = 0
    step: int = 0
    recovering: str | None = None


class Note:
    """The file beside Redis."""

    _BYTES = 128

    def __init__(self, folder):
        """Raises OSError."""
        os.makedirs(folder, exist_ok=True)
        self._folder, self._path = folder, os.path.join(folder, "note")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.standing = self._read()

    def _read(self):
        """The Standing that is noted; life None when nothing that makes sense is."""
        try:
            life, epoch, step = wire.decode(os.pread(self._fd, self._BYTES, 0), _NOTED)
        except ValueError:
            return Standing(None)
        return Standing(life, epoch, step)

    def write(self, standing):
        """In a new file that takes the place of the one before. Raises OSError.

        An older process, stopped when it was about to note its last step, still holds that one: what it notes when it
        wakes up must not hide the steps of the process that has taken over.
        """
        before, new = self._fd, f"{self._path}.new"
        self._fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.close(before)
        self._write(standing)
        os.fdatasync(self._fd)
        os.replace(new, self._path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def write_step(self, standing):
        """The same, not synced: only the step is another one. Raises OSError."""
        self._write(standing)

    def _write(self, standing):
        os.pwrite(self._fd, wire.encode(standing[:3]).ljust(self._BYTES), 0)
        self.standing = standing


class Fence:
    """Judges what `shard` says, for one process.

    mine         the Standing as this process has left it; None before it has claimed the shard
    first_epoch  () -> the number behind which epochs begin, where neither Redis nor the note knows of any: the time in
                 seconds is higher than the epoch of an older process that is still there, though its disk was lost
    """

    def __init__(self, note, draw_life=lambda: secrets.token_hex(8), first_epoch=lambda: 0):
        self.mine = None
        self._tried = None  # (life, epoch) of my last claim, of which I may not know whether it was made
        self._note = note
        self._draw_life = draw_life
        self._first_epoch = first_epoch

    def is_mine(self, found):
        """Whether this Standing is the one that I left, or one that a change of mine has made that was not answered.

        Raises Fenced when another process has claimed the shard since.
        """
        if self.mine is None:
            return False
        if found.epoch > self.mine.epoch:
            if (found.life, found.epoch) == self._tried:  # nobody else draws this life: claim once more
                return False
            raise Fenced(
                f"another process has taken over this shard: its epoch is {found.epoch}, and mine {self.mine.epoch}; "
                "end this one"
            )
        return (found.life, found.epoch) == (self.mine.life, self.mine.epoch) and found.step >= self.mine.step

    def claim(self, found):
        """The Standing to be written by a process that takes over, or that finds another memory than it left."""
        noted = self._note.standing
        knows_none = found.life is None and noted.life is None
        first = self._first_epoch() if knows_none else 0
        epoch = max(found.epoch, noted.epoch, first) + 1
        why = _lost(found, noted)
        claimed = found._replace(epoch=epoch)
        if why is not None:
            claimed = Standing(self._draw_life(), epoch, found.step, why)
        self._tried = claimed.life, epoch
        return claimed

    def claimed(self, standing):
        """It is written. Raises OSError."""
        self._note.write(standing)
        self.mine = standing

    def see(self, found):
        """Redis says so now, and it is mine. Raises OSError."""
        if found.step > self._note.standing.step:  # a change was made and not answered: who reads it must not see it go
            self._note.write_step(found)
        self.mine = found

    def stepped(self, standing):
        """A change was made. Raises OSError."""
        self._note.write_step(standing)
        self.mine = standing


def standing_of(fields):
    """The Standing that HMGET has answered, in the order of FIELDS; life None when it makes no sense."""
    if isinstance(fields, Exception) or fields[0] is None:
        return Standing(None)
    life, epoch, step, recovering = fields
    try:
        return Standing(life.decode(), int(epoch), int(step), recovering and recovering.decode())
    except (ValueError, TypeError):
        return Standing(None)


def _lost(found, noted):
    """Why this memory is not, or cannot be shown to be, the one that is noted, in words; None when it is."""
    if found.life is None:
        return "its Redis holds nothing of this shard"
    if noted.life is None:
        return "there is no note of what its Redis must hold"
    if found.life != noted.life:
        return "its Redis is another one than it was"
    if found.step < noted.step:
        return f"its Redis has gone back to step {found.step}, and step {noted.step} was stored"
    return None
