#!/usr/bin/env python3
"""serverLog.py on a disk that falls ill: while the file <data-dir>.ill is there, it fails as that file says.

write ENOSPC     records cannot be written, since the disk is full
sync EIO         what was written cannot be synced
"""

import errno
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import serverLog
from emporium.commitlog.files import Disk
from emporium.settings import LogSettings, from_command_line


class IllDisk(Disk):
    """As a Disk, unless the note says otherwise."""

    def __init__(self, note):
        self._note = Path(note)

    def write(self, file, data, position):
        self._fail_if_told_to("write")
        super().write(file, data, position)

    def sync(self, file):
        self._fail_if_told_to("sync")
        super().sync(file)

    def _fail_if_told_to(self, what):
        try:
            told, _, name = self._note.read_text().partition(" ")
        except FileNotFoundError:
            return
        if told == what:
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    disk = IllDisk(f"{from_command_line(LogSettings).folder}.ill")
    serverLog.create_app = partial(serverLog.create_app, disk=disk)
    serverLog.main()
