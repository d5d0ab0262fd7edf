"""A process with a log, for what is measured of one: how long it takes to open, and its memory.

    python -m bench.logprocess fill FOLDER CONFIG RECORDS    append so many, and be killed
    python -m bench.logprocess open FOLDER CONFIG END        open the log, and be "killed", or close it: "closed"
    python -m bench.logprocess pour FOLDER CONFIG BYTES      append and read so many, and keep only the newest

It tells what it found as JSON. CONFIG is that of the log, as JSON.
"""

import json
import os
import random
import signal
import sys
import time

import psutil

from emporium.commitlog import Config, Log

VALUE_BYTES = 100
BATCH = 1000
LEAST_BYTES, MOST_BYTES = 2**10, 10 * 2**10  # of a value that is poured
POURED = 10  # of them in one append
KEPT_BYTES = 2**26
LOOKS = 64

MB = 1e6


def fill(folder, config, records):
    log = Log(folder, Config(**config))
    for _ in range(0, int(records), BATCH):
        log.append_many([bytes(VALUE_BYTES)] * BATCH)
    return end_by_a_kill({"records": log.count})


def open_it(folder, config, end):
    began_s = time.perf_counter()
    log = Log(folder, Config(**config))
    told = {"took_s": time.perf_counter() - began_s, "records": log.count}
    if end == "killed":
        end_by_a_kill(told)
    log.close()
    return told


def pour(folder, config, size):
    size, through = int(size), 0
    chance = random.Random(0)
    looks, at_look = [], 0
    with Log(folder, Config(retention_bytes=KEPT_BYTES, tend_s=None, **config)) as log:
        while through < size:
            values = [chance.randbytes(chance.randint(LEAST_BYTES, MOST_BYTES)) for _ in range(POURED)]
            first = log.append_many(values)
            assert [record.value for record in log.read_many(first, POURED)] == values
            through += sum(map(len, values))
            if through >= at_look:
                log.tend()
                looks.append([through / MB, psutil.Process().memory_info().rss / MB])
                at_look += size // LOOKS
    return {"looks": looks}


def end_by_a_kill(told):
    print(json.dumps(told), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    what, folder, config, last = sys.argv[1:]
    told = {"fill": fill, "open": open_it, "pour": pour}[what](folder, json.loads(config), last)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
