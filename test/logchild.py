"""A process that uses a log until it is killed, and tells on standard output what it will do and what is done.

python logchild.py FOLDER SEED FSYNC. Each line is a JSON list: ["will", what, argument], ["did"], ["append", [values]]
before an append of these values and ["stored", first offset, [values]] after it.
"""

import json
import os
import random
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))

from emporium.commitlog import Config, Log

WRITERS = 3


def tell(*words):
    os.write(1, json.dumps(words).encode() + b"\n")  # one call a line: threads do not mix, and a kill cuts none


def main(folder, seed, fsync):
    chance = random.Random(seed)
    config = Config(fsync=fsync, interval_s=0.01, segment_bytes=700)
    log = Log(folder, config)
    tell("ready", log.lowest_offset, log.next_offset)
    for round_ in range(10**6):
        threads = [
            threading.Thread(target=write, args=(log, f"{seed} {round_} {writer}", chance.randrange(1, 5)))
            for writer in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        what = chance.choice(["truncate", "truncate_back", "truncate_back", "reset", "reopen", "nothing", "nothing"])
        if what == "truncate":
            change(log.truncate, what, chance.randint(log.lowest_offset, log.next_offset))
        elif what == "truncate_back":
            change(log.truncate_back, what, max(log.lowest_offset, log.next_offset - chance.randrange(25)))
        elif what == "reset" and round_ % 5 == 4:
            change(log.reset, what, log.next_offset + chance.choice([0, 0, 10]))
        elif what == "reopen":
            log.close()
            log = Log(folder, config)


def write(log, name, count):
    for number in range(count):
        values = [f"{name} {number} {i}" for i in range(1 + number % 3)]
        tell("append", values)
        tell("stored", log.append_many([value.encode() for value in values]), values)


def change(call, what, argument):
    tell("will", what, argument)
    call(argument)
    tell("did")


if __name__ == "__main__":
    main(*sys.argv[1:])
