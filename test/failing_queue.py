"""serverQ.py on a disk that fails: python failing_queue.py '<settings>'; DISK_FAILS="sync:5" fails every sync from the
fifth on, "write:5" says from then on that the disk is full."""

import errno
import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from emporium.commitlog.files import Disk

what, _, first = os.environ["DISK_FAILS"].partition(":")
calls = itertools.count(1)


def failing(method, number):
    def fail(self, *arguments):
        if next(calls) >= int(first):
            raise OSError(number, os.strerror(number))
        return method(self, *arguments)

    return fail


if what == "sync":
    Disk.sync = failing(Disk.sync, errno.EIO)
else:
    Disk.write = failing(Disk.write, errno.ENOSPC)

if __name__ == "__main__":
    from serverQ import main

    main()
