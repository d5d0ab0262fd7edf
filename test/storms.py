"""Histories by hand and by chance, for the tests of the storm's checker; and what linearizable means, by trying."""

from emporium.storm.history import DELETE, FAIL, OK, READ, UNKNOWN, WEAK, WRITE, Operation, Pair

TEA = "storm-001"


def pair(rating, **clock):
    return Pair.of(rating, clock)


def write(begin, end, written, outcome=OK, tea=TEA, client=0):
    return Operation(client, WRITE, tea, begin, end, outcome, written)


def read(begin, end, *seen, what=READ, outcome=OK, tea=TEA, session=None):
    return Operation(1, what, tea, begin, end, outcome, seen=seen, session=session, status=200)


def weak(begin, end, *seen, **more):
    return read(begin, end, *seen, what=WEAK, **more)


def delete(begin, end, outcome=OK):
    return Operation(2, DELETE, TEA, begin, end, outcome)


# ---- by trying all orders


def is_linearizable(operations):
    """Whether some order of these writes and strong reads, in line with their times, explains every read that is ok.

    Every write merges its pair into the state; a read shows the state. A write of unknown outcome may come at any time
    after its begin, or never.
    """
    steps = [each for each in operations if each.outcome == OK or (each.what == WRITE and each.outcome == UNKNOWN)]
    return _can_go_on(steps, frozenset(range(len(steps))), set())


def _can_go_on(steps, left, dead_ends):
    """Whether the steps that are left can follow those that are not. Their order does not matter: merges commute."""
    if not any(steps[place].outcome == OK for place in left):
        return True
    if left in dead_ends:
        return False
    ends = min(steps[place].end for place in left if steps[place].outcome == OK)
    state = maximal(steps[place].written for place in set(range(len(steps))) - left if steps[place].written)
    for place in left:
        step = steps[place]
        may_be_next = step.begin <= ends
        fits = step.what == WRITE or (state == set(step.seen) and len(state) == len(step.seen))
        if may_be_next and fits and _can_go_on(steps, left - {place}, dead_ends):
            return True
    dead_ends.add(left)
    return False


def maximal(pairs):
    """Those that no other one dominates."""
    found = set(pairs)
    return {one for one in found if not any(other.dominates(one) for other in found)}


# ---- by chance


def draw_history(chance):
    """A small history: as a store that is right could have made it, and often with something changed."""
    operations = _draw_right(chance)
    if chance.random() < 0.3:
        return operations
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(operations))
        operations[place] = _change(chance, operations[place], operations)
    return operations


def _draw_right(chance):
    points = []
    for number in range(chance.randrange(4, 10)):
        begin = chance.uniform(0, 5)
        end = begin + chance.choice([1, 3, 6]) * chance.random()
        points.append((chance.uniform(begin, end), number, begin, end))
    operations, written = [], []
    for at, number, begin, end in sorted(points):
        if chance.random() < 0.5:
            operations.append(read(begin, end, *sorted(maximal(one for time, one in written if time <= at))))
            continue
        one = pair(number, **_draw_clock(chance, [one for _, one in written]))
        outcome = chance.choices([OK, UNKNOWN, FAIL], [8, 2, 1])[0]
        if outcome == OK:
            written.append((at, one))
        elif outcome == UNKNOWN and chance.random() < 0.6:
            written.append((at + chance.choice([0, 0, 4]) * chance.random(), one))
        operations.append(write(begin, end, one, outcome))
    return operations


def _draw_clock(chance, known):
    """Above a known one, equal to it, below it, or beside all."""
    clock = dict(chance.choice(known).clock) if known and chance.random() < 0.7 else {}
    for node in ("a", "b", "c"):
        if chance.random() < 0.4:
            clock[node] = max(0, clock.get(node, 0) + chance.choice([-1, 0, 1]))
    return clock or {"a": chance.randrange(3)}


def _change(chance, operation, operations):
    """Another time; or what a read might have seen, with a pair too many, one too few, or another state."""
    moved = chance.uniform(-4, 4)
    pairs = [each.written for each in operations if each.written]
    if operation.what == WRITE or not pairs or chance.random() < 0.2:
        begin, end = operation.begin + moved, operation.end + moved
        return Operation(0, operation.what, TEA, begin, end, operation.outcome, operation.written, operation.seen)
    seen = set(operation.seen) ^ set(chance.sample(pairs, chance.randrange(min(3, len(pairs) + 1))))
    if chance.random() < 0.9:  # else some of them dominate others
        seen = maximal(seen)
    return read(operation.begin, operation.end, *sorted(seen))
