"""What shall happen, as a list of steps from which any can be left out: the others stay as they were.

Every seed draws its own settings, and its own few kinds of faults, since rare sequences come up only where some things
never happen and others do all the time.
"""

import random
from typing import NamedTuple

STEPS = 300
TEAS = tuple(f"tea {number}" for number in range(24))
CRASHES = ("crash-before", "crash-after", "kill")
REDIS = ("redis-refuses", "redis-silent", "redis-unheard", "redis-dies")
CALLS = ("call-refused", "call-lost", "call-unheard", "call-reset", "call-twice", "call-late")
LINKS = ("cut", "queue-dies")
SAFE = CRASHES + REDIS + CALLS + LINKS
# What only a guarded shard survives: a second process, changes that Redis makes late, memory that is lost.
GUARDED = ("redis-late", "disk-refuses", "twin", "power-fails", "cut-shards")
MEMORY = ("redis-empties", "redis-goes-back", "redis-is-flushed", "disk-is-lost", "value-is-damaged", "queue-loses")


class Settings(NamedTuple):
    """Of the cluster, and of what is drawn.

    is_guarded to anti_entropy_s  the shards' settings beyond the course's
    portion  how many records one step takes, or sends, at a time: 0 for what the servers have, which is rarely reached
    """

    ndb: int = 3
    digest_length: int = 1
    teas: int = 3
    clients: int = 3
    kinds: tuple = SAFE
    fault_share: float = 0.15
    inside_share: float = 0.3
    delete_share: float = 0
    write_share: float = 0.55
    most_together: int = 1
    pause_s: float = 0.05
    portion: int = 0
    is_guarded: bool = False
    coalesces: bool = False
    durability: int = 1
    anti_entropy_s: float | None = None


class Put(NamedTuple):
    """A client's write. `style` says how its clock is made: see Ledger.sibling_for."""

    tea: str
    client: str
    style: str
    count: int
    rating: int


class Get(NamedTuple):
    tea: str
    client: str


class Remove(NamedTuple):
    """A client's delete."""

    tea: str
    client: str


class Ask(NamedTuple):
    """What clients ask of one shard, at once.

    number   which step of the plan this is
    inside   0, or: while the step before is on its way, after so many effects
    fate     "" or "unheard" (the answers are lost) or "late" (the clients give up, and it is carried out later)
    is_crowded  whether other requests wait for their turn meanwhile
    """

    number: int
    shard: int
    operations: tuple
    inside: int
    pause_s: float
    fate: str
    is_crowded: bool


class Fault(NamedTuple):
    """
    kind     one of the above
    shard    whose effects it meets, or whose process, Redis or link
    other    to which shard, for a link between shards
    after    how many effects of the fitting sort it lets pass first
    seconds  how long what died stays away, what is cut stays so, what is late takes
    inside   as of an Ask
    back_by  how many changes a Redis loses
    """

    number: int
    kind: str
    shard: int
    other: int
    after: int
    seconds: float
    inside: int
    back_by: int = 0

    @property
    def is_empty(self):
        """Whether what died comes back with nothing."""
        return self.kind in ("redis-empties", "disk-is-lost", "queue-loses")


class Plan(NamedTuple):
    seed: int
    settings: Settings
    steps: tuple


def plan_of(seed, length=STEPS):
    """The Plan of this seed: equal on every machine."""
    chance = random.Random(seed)
    settings = _settings(chance)
    steps = []
    for number in range(length):
        inside = chance.randrange(1, 9) if chance.random() < settings.inside_share else 0
        if chance.random() < settings.fault_share:
            steps.append(_fault(chance, settings, number, inside))
        else:
            steps.append(_ask(chance, settings, number, inside))
    return Plan(seed, settings, tuple(steps))


def _settings(chance):
    is_guarded = chance.random() < 0.6
    possible = SAFE + (GUARDED + MEMORY if is_guarded else ())
    kinds = [kind for kind in possible if chance.random() < 0.4] or [chance.choice(possible)]
    return Settings(
        is_guarded=is_guarded,
        coalesces=is_guarded and chance.random() < 0.8,
        durability=2 if is_guarded and chance.random() < 0.3 else 1,
        anti_entropy_s=1.0 if is_guarded else None,
        delete_share=chance.choice((0, 0.05, 0.15)) if is_guarded else 0,
        ndb=chance.choice((2, 2, 3, 3, 4)),
        digest_length=chance.choice((1, 1, 2, 3, 5)),
        teas=chance.choice((1, 2, 3, 5, 9, len(TEAS))),
        clients=chance.randint(1, 4),
        kinds=tuple(kinds),
        fault_share=chance.choice((0.08, 0.15, 0.25)),
        inside_share=chance.choice((0, 0.2, 0.5)),
        write_share=chance.choice((0.4, 0.5, 0.7)),
        most_together=chance.choice((1, 1, 2, 6)),
        pause_s=chance.choice((0.005, 0.02, 0.08)),
        portion=chance.choice((0, 0, 2, 5)),
    )


def _fault(chance, settings, number, inside):
    kind = chance.choice(settings.kinds)
    seconds = settings.pause_s * chance.choice((0.5, 2, 6, 20)) * chance.uniform(0.5, 1.5)
    after = int(chance.expovariate(0.4))
    shard, other = chance.sample(range(settings.ndb), 2)
    back_by = chance.randint(1, 8) if kind == "redis-goes-back" else 0
    return Fault(number, kind, shard, other, after, round(seconds, 4), inside, back_by)


def _ask(chance, settings, number, inside):
    # A shard without teas of its own has only weak reads, and the others are wanted more.
    shard = chance.randrange(settings.ndb if chance.random() < 0.3 else min(settings.ndb, settings.teas))
    operations = tuple(
        _operation(chance, settings, shard, number * 8 + index)
        for index in range(chance.randint(1, settings.most_together))
    )
    pause_s = round(chance.expovariate(1 / settings.pause_s), 4)
    fate = chance.choice(("unheard", "late")) if chance.random() < 0.04 else ""
    return Ask(number, shard, operations, inside, pause_s, fate, chance.random() < 0.1)


def _operation(chance, settings, shard, count):
    """A write or strong read of a tea of which this shard is the primary, or a weak read of any."""
    client = f"c{chance.randrange(settings.clients)}"
    mine = [tea for index, tea in enumerate(TEAS[: settings.teas]) if index % settings.ndb == shard]
    draw = chance.random()
    if draw < settings.write_share and mine:
        style = chance.choices(("next", "after", "same", "old", "again"), (4, 8, 1, 1, 1))[0]
        return Put(chance.choice(mine), client, style, count, chance.randint(-5, 5))
    if draw > 1 - settings.delete_share and mine:
        return Remove(chance.choice(mine), client)
    if draw < settings.write_share + 0.25 and mine:
        return Get(chance.choice(mine), client)
    return Get(chance.choice(TEAS[: settings.teas]), client)


def primary_of(tea, ndb):
    """Which shard is the primary of a tea: whoever routes decides, and here that is the place in the list."""
    return TEAS.index(tea) % ndb
