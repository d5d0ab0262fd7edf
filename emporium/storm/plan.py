"""What is to fail, and when: a list of Faults drawn from a seed, in proportions that are written here. Pure.

    kill       SIGKILL, and a new start `for_s` later                       a service, two ("db0+r0"), or "all"
    stop       SIGSTOP, and SIGCONT `for_s` later                           a service
    drop, half-open, reset, delay    of a link, for `for_s` (proxy.py)      a link ("db0>q")

Most come one soon after the other, and may overlap. A few shards are killed in a quiet time of their own, so that it
can be seen what one dead shard costs, and how soon it is back.
"""

import random
from math import ceil

import msgspec

from emporium.storm.proxy import DELAY, DROP, HALF_OPEN, RESET

KILL, STOP = "kill", "stop"
PER_MINUTE = 150 / 8 / 0.9  # nine tenths of them must hit, and that is 150 in 8 minutes
LEAD_S, TAIL_S = 1.0, 1.5  # without faults, so that clients find a whole cluster at first and at last
QUIET_BEFORE_S, QUIET_DEAD_S, QUIET_S = 3.0, 1.5, 8.5  # of a quiet kill; the last one is all of it

# How many of 165 faults are of a kind. At least 15 kills of each kind of service, 15 stops, 15 cuts of links, 10 double
# faults and 5 kills of everything are among any 150 of them.
OF_165 = {
    "kill lb": 18,
    "kill db": 20,
    "kill db in quiet": 10,
    "kill r": 20,
    "kill q": 18,
    "stop": 22,
    "link": 38,
    "double": 13,
    "kill all": 6,
}


class Fault(msgspec.Struct, frozen=True):
    """One fault of the plan: from at_s on, for for_s seconds."""

    at_s: float
    for_s: float
    what: str
    target: str
    delay_s: float = 0.0

    @property
    def targets(self):
        """The services or the link; of "all" just that."""
        return self.target.split("+")

    @property
    def is_of_link(self):
        return self.what not in (KILL, STOP)


def draw(seed, minutes, ndb):
    """The Faults of a storm, by time."""
    chance = random.Random(seed)
    kinds = _kinds(chance, ceil(PER_MINUTE * minutes) + 1)
    quiet = kinds.count("kill db in quiet")
    turns = sum(2 if kind == "kill all" else 1 for kind in kinds) - quiet
    turn_s = (minutes * 60 - LEAD_S - TAIL_S - quiet * QUIET_S) / turns
    faults = []
    at_s = LEAD_S
    for kind in kinds:
        if kind == "kill db in quiet":
            faults.append(Fault(round(at_s + QUIET_BEFORE_S, 3), QUIET_DEAD_S, KILL, f"db{chance.randrange(ndb)}"))
            at_s += QUIET_S
            continue
        latest_s = minutes * 60 - TAIL_S
        faults.append(_fault(chance, kind, round(at_s + chance.uniform(0, turn_s / 3), 3), latest_s, ndb))
        at_s += turn_s * (2 if kind == "kill all" else 1)
    return faults


def _kinds(chance, count):
    """So many kinds of faults in these proportions, each at least once, in any order."""
    exact = {kind: count * share / 165 for kind, share in OF_165.items()}
    kinds = [kind for kind, many in exact.items() for _ in range(max(1, int(many)))]
    by_rest = sorted(exact, key=lambda kind: exact[kind] % 1, reverse=True)
    kinds += [kind for kind in by_rest if exact[kind] >= 1][: max(0, count - len(kinds))]
    chance.shuffle(kinds)
    return kinds


def _fault(chance, kind, at_s, latest_s, ndb):
    shard, other = chance.sample(range(ndb), 2)
    if kind == "link":
        return _link_fault(chance, at_s, latest_s, shard, ndb)
    if kind == "stop":
        target = chance.choice(["lb", "q", f"db{shard}", f"db{shard}", f"r{shard}", f"r{shard}"])
        for_s = 0.5 + 4.5 * chance.random() ** 2  # to 5 s, most of them short
        return Fault(at_s, round(min(for_s, latest_s - at_s), 3), STOP, target)
    pairs = [(f"db{shard}", f"r{shard}"), (f"db{shard}", f"db{other}"), (f"r{shard}", f"r{other}")]
    pairs += [(f"db{shard}", f"r{other}"), (f"db{shard}", "q"), (f"r{shard}", "q"), ("lb", f"db{shard}")]
    target = {
        "kill lb": "lb",
        "kill q": "q",
        "kill db": f"db{shard}",
        "kill r": f"r{shard}",
        "kill all": "all",
        "double": "+".join(chance.choice(pairs)),
    }[kind]
    return Fault(at_s, round(chance.uniform(0.05, 0.7), 3), KILL, target)


def _link_fault(chance, at_s, latest_s, shard, ndb):
    """Shards ask their successor once a second, and others only in need: so such a link must be away for longer."""
    what = chance.choice([DROP, DROP, HALF_OPEN, RESET, DELAY])
    target = chance.choice(
        [f"lb>db{shard}", f"db{shard}>r{shard}", f"db{shard}>q"] * 3 + [f"db{shard}>db{(shard + 1) % ndb}"]
    )
    for_s = chance.uniform(2.2, 3.2) if target.count("db") == 2 else chance.uniform(0.8, 2.4)
    delay_s = round(chance.choice([0.05, 0.15, 0.4, 1.2]), 3) if what == DELAY else 0.0
    return Fault(at_s, round(min(for_s, latest_s - at_s), 3), what, target, delay_s)


def to_json(faults):
    """One fault a line, so that a plan can be read and edited."""
    return "[\n" + ",\n".join("  " + msgspec.json.encode(fault).decode() for fault in faults) + "\n]\n"


def from_json(text):
    """The Faults of such a text, by time. Raises msgspec.DecodeError."""
    return sorted(msgspec.json.decode(text, type=list[Fault]), key=lambda fault: fault.at_s)
