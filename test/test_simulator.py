"""The ring under the simulator (test/simulator/): many seeds, and that the simulator itself can be trusted."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import LAST_WORDS
from redis.exceptions import ResponseError
from simulator import run
from simulator.ledger import Ledger, sibling_of
from simulator.memoryredis import MemoryRedis, Session
from simulator.plan import STEPS, Ask, plan_of
from simulator.run import run_plan, run_seed
from simulator.shrink import shrink
from simulator.world import Violation

from emporium.store import Store
from queueservice import Queue

SEEDS, FULL_SEEDS = 500, 2000
MOST_TRIED = 1.1  # for each seed that counts: nearly all must
SIMULATOR = Path(run.__file__).parent


def test_no_seed_finds_a_broken_promise(request):
    """A seed counts with 20 acknowledged writes and 3 faults that changed something; the others are tried, too."""
    wanted = FULL_SEEDS if request.config.getoption("--full") else SEEDS
    counts, counted, seed = Counter(), 0, 0

    while counted < wanted and seed < MOST_TRIED * wanted:
        outcome = run_seed(seed)
        assert outcome.failure is None, f"./tea test --simulate {seed} tells more: {outcome.failure}"
        counts += Counter(outcome.counts) + Counter({"effects": outcome.effects, "faults": outcome.faults})
        counted += outcome.counts_as_run
        seed += 1

    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    request.config.stash[LAST_WORDS].append(f"simulator: {counted} of {seed} seeds x {STEPS} steps count: {told}")
    assert counted == wanted


# ---- a seed repeats


def test_a_seed_runs_alike_in_every_process():
    replay = "import sys; from simulator.run import run_seed; print(*[run_seed(s, True).hash for s in range(12)])"
    paths = os.pathsep.join((str(SIMULATOR.parent), str(SIMULATOR.parents[1])))

    hashes = {
        subprocess.run(
            [sys.executable, "-c", replay],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout
        for salt in ("1", "2")
    }

    assert len(hashes) == 1
    assert hashes.pop().split() == [run_seed(seed, with_trace=True).hash for seed in range(12)]


def test_a_run_is_the_same_with_and_without_its_trace():
    with_trace, without = run_seed(5, with_trace=True), run_seed(5)

    assert with_trace.effects == without.effects
    assert with_trace.counts == without.counts


# ---- it finds what is broken, and tells it briefly


def ack_whatever_the_queue_says(monkeypatch):
    """What is due counts as told, also when the queue did not answer."""
    honest = Queue.exchange

    def exchange(self, channel, records, predecessor, cursor, most):
        try:
            return honest(self, channel, records, predecessor, cursor, most)
        except run_errors as error:
            return type("Taken", (), {"records": [], "cursor": None, "left": 0, "error": error})()

    from queueservice import PeerError as run_errors

    monkeypatch.setattr(Queue, "exchange", exchange)


def write_without_transaction(monkeypatch):
    """Each command by itself: a crash in between leaves a value that does not spread."""

    def change(self, commands):
        with self._connection(is_own=self._fence is not None) as connection:
            for command in commands:
                connection.send_packed_command(connection.pack_commands([command]))
                result = connection.read_response()
        return [result]

    monkeypatch.setattr(Store, "_change", change)


@pytest.mark.parametrize("plant", [ack_whatever_the_queue_says, write_without_transaction])
def test_a_planted_bug_is_found_and_its_trace_is_short(monkeypatch, plant):
    plant(monkeypatch)

    seed = next(seed for seed in range(SEEDS) if run_seed(seed).failure)
    found = run_seed(seed)
    shorter = shrink(plan_of(seed), found.rule, most_runs=150)

    assert len(shorter.steps) < STEPS / 4
    assert run_plan(shorter).rule == found.rule


def test_a_step_can_be_left_out_and_the_others_stay():
    plan = plan_of(3)
    without_first = plan._replace(steps=plan.steps[1:])

    assert isinstance(plan.steps[0], Ask)
    assert run_plan(without_first).failure is None


# ---- the replay, for people


def test_replaying_a_seed_that_passes_says_so():
    told = subprocess.run(
        [sys.executable, str(SIMULATOR), "4"], capture_output=True, text=True, check=False, timeout=100
    )

    assert told.returncode == 0
    assert run_seed(4, with_trace=True).hash in told.stdout
    assert told.stdout.splitlines()[-1] == "passes"


# ---- the ledger


@pytest.fixture
def ledger():
    return Ledger()


def test_the_ledger_misses_what_was_acknowledged_and_is_not_read(ledger):
    older, other = sibling_of({"c0": 1}, 3), sibling_of({"c1": 1}, 4)
    for sibling in (older, other):
        ledger.asked("assam", sibling)
    ledger.acknowledged("assam", older)

    with pytest.raises(Violation, match="acknowledged and lost"):
        ledger.read("c0", "assam", (other,), None, ledger.floor["assam"])


def test_the_ledger_accepts_what_dominates(ledger):
    older, newer = sibling_of({"c0": 1}, 3), sibling_of({"c0": 2}, 4)
    for sibling in (older, newer):
        ledger.asked("assam", sibling)
    ledger.acknowledged("assam", older)

    ledger.read("c0", "assam", (newer,), None, ledger.floor["assam"])

    assert ledger.floor["assam"] == {newer}


def test_the_ledger_knows_what_was_surely_refused(ledger):
    refused = sibling_of({"c0": 1}, 3)
    ledger.asked("assam", refused)
    ledger.refused("assam", refused)

    with pytest.raises(Violation, match="never written"):
        ledger.read("c0", "assam", (refused,), None)


def test_the_ledger_sees_what_was_deleted_come_back(ledger):
    deleted, other = sibling_of({"c0": 1}, 3), sibling_of({"c1": 1}, 4)
    for sibling in (deleted, other):
        ledger.asked("assam", sibling)
    ledger.acknowledged("assam", deleted)
    ledger.deleted("assam", ledger.floor["assam"])
    ledger.acknowledged("assam", other)

    with pytest.raises(Violation, match="came back"):
        ledger.read("c0", "assam", (deleted, other), (("c0", 1), ("c1", 1)), ledger.floor["assam"])


# ---- the Redis in memory, beside a real one


def answers_of(connection, commands):
    connection.send_packed_command(connection.pack_commands(commands))
    answers = []
    for _ in commands:
        try:
            answers.append(connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers


def in_words(answer):
    """What must be equal: of an error only that it is one."""
    if isinstance(answer, list):
        return [in_words(each) for each in answer]
    return "an error" if isinstance(answer, Exception) else answer


KEYS, FIELDS, VALUES = ("a", "b", "c"), ("f", "g"), ("1", "2", "text")


def drawn_command(chance):
    key, other, field, value = chance.choice(KEYS), chance.choice(KEYS), chance.choice(FIELDS), chance.choice(VALUES)
    return chance.choice(
        (
            ("SET", key, value),
            ("GET", key),
            ("MGET", key, other),
            ("DEL", key, other),
            ("EXISTS", key, other),
            ("INCRBY", key, 2),
            ("HSET", key, field, value),
            ("HGET", key, field),
            ("HMGET", key, *FIELDS),
            ("HGETALL", key),
            ("HDEL", key, field),
            ("HEXISTS", key, field),
            ("HINCRBY", key, field, 3),
            ("HVALS", key),
            ("HLEN", key),
            ("RPUSH", key, value, "x"),
            ("LPUSH", key, value, "y"),
            ("LREM", key, 1, value),
            ("LLEN", key),
            ("LRANGE", key, chance.randint(-3, 3), chance.randint(-3, 3)),
            ("LTRIM", key, chance.randint(-3, 3), chance.randint(-3, 3)),
            ("LMOVE", key, other, chance.choice(("LEFT", "RIGHT")), chance.choice(("LEFT", "RIGHT"))),
            ("DBSIZE",),
            ("PING",),
            ("WATCH", key),
            ("UNWATCH",),
            ("MULTI",),
            ("EXEC",),
            ("EXEC",),
            ("DISCARD",),
            ("FLUSHALL",),
        )
    )


def test_the_redis_in_memory_answers_as_a_real_one(ground, chance):
    stores = [Store("localhost", ground.layout.redis(0)) for _ in range(2)]
    ours = MemoryRedis()
    sessions = [Session(ours), Session(ours)]

    with stores[0]._connection() as first, stores[1]._connection() as second:
        for number in range(3000):
            which, command = chance.randrange(2), drawn_command(chance)
            [real] = answers_of((first, second)[which], [command])
            packed = tuple(str(word).encode() for word in command)
            [made] = sessions[which].execute([packed])
            assert in_words(made) == in_words(real), f"number {number}: {command}"
