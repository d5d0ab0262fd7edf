"""The gatherer alone: threads, a sender that does all that a sender may do, and what each operation came to."""

import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from harness import eventually

from emporium.failures import NoAnswer, NotReached
from emporium.gather import MOST_TOGETHER, Gatherer

PATIENCE_S = 10  # far longer than anything takes here, so that whoever waits for it was forgotten


def gatherer_of(send, wait_s=PATIENCE_S, all_s=2 * PATIENCE_S):
    return Gatherer("db0", send, wait_s, all_s)


def doubled(operations):
    return [2 * operation for operation in operations]


class Gate:
    """A sender that holds each call until it is let through; `calls` are the batches that came so far."""

    def __init__(self, answer=doubled):
        self.calls = []
        self._answer = answer
        self._may_pass = threading.Semaphore(0)

    def __call__(self, operations):
        self.calls.append(operations)
        assert self._may_pass.acquire(timeout=2 * PATIENCE_S), "nobody lets it through"
        return self._answer(operations)

    def let_through(self, calls=1):
        self._may_pass.release(calls)


@pytest.fixture
def askers():
    with ThreadPoolExecutor(300) as pool:
        yield pool


def ask_behind_one_on_its_way(askers, gate, gatherer, operations):
    """(the first, the others): futures of one operation that is being sent, and of those that wait behind it."""
    first = askers.submit(gatherer.ask, 0)
    eventually(lambda: gate.calls, "the first is sent")
    others = []
    for number, operation in enumerate(operations):
        others.append(askers.submit(gatherer.ask, operation))
        eventually(lambda number=number: len(gatherer._waiting) > number or others[-1].done(), "it waits")
    return first, others


# ---- alone and together


def test_an_operation_that_comes_alone_goes_alone_and_at_once():
    calls = []
    gatherer = gatherer_of(lambda operations: calls.append(operations) or doubled(operations))

    assert [gatherer.ask(1), gatherer.ask(2)] == [2, 4]
    assert calls == [[1], [2]]


def test_those_that_wait_go_together_in_the_order_in_which_they_came(askers):
    gate = Gate()
    gatherer = gatherer_of(gate)
    first, others = ask_behind_one_on_its_way(askers, gate, gatherer, range(1, 11))

    gate.let_through(2)

    assert [each.result() for each in [first, *others]] == doubled(range(11))
    assert gate.calls == [[0], list(range(1, 11))]


def test_at_most_256_go_together_and_the_others_next(askers):
    gate = Gate()
    gatherer = gatherer_of(gate)
    _first, others = ask_behind_one_on_its_way(askers, gate, gatherer, range(1, 281))

    gate.let_through(3)

    assert [each.result() for each in others] == doubled(range(1, 281))
    assert [len(call) for call in gate.calls] == [1, MOST_TOGETHER, 280 - MOST_TOGETHER]


def test_whoever_comes_while_a_batch_is_on_its_way_waits_for_the_next(askers):
    gate = Gate()
    gatherer = gatherer_of(gate)
    first, others = ask_behind_one_on_its_way(askers, gate, gatherer, [1, 2])
    gate.let_through()
    eventually(lambda: len(gate.calls) == 2, "the others are sent")

    late = askers.submit(gatherer.ask, 3)
    eventually(lambda: gatherer._waiting, "it waits")

    assert gate.calls == [[0], [1, 2]]
    gate.let_through(2)
    assert [each.result() for each in [first, *others, late]] == [0, 2, 4, 6]
    assert gate.calls == [[0], [1, 2], [3]]


def test_each_has_an_outcome_of_its_own_also_one_that_is_an_error(askers):
    gate = Gate(lambda operations: [ValueError("odd") if each % 2 else each for each in operations])
    gatherer = gatherer_of(gate)
    first, others = ask_behind_one_on_its_way(askers, gate, gatherer, [1, 2, 3])

    gate.let_through(2)

    assert [first.result(), others[1].result()] == [0, 2]
    assert [type(others[index].exception()) for index in (0, 2)] == [ValueError, ValueError]


# ---- what may go wrong


def test_who_is_not_sent_in_time_is_withdrawn_and_never_sent(askers):
    gate = Gate()
    gatherer = gatherer_of(gate, wait_s=0.5, all_s=PATIENCE_S)
    began = time.monotonic()
    first, [late] = ask_behind_one_on_its_way(askers, gate, gatherer, [1])

    assert isinstance(late.exception(), NotReached)
    assert 0.5 <= time.monotonic() - began < PATIENCE_S / 2

    gate.let_through(2)
    assert [first.result(), gatherer.ask(2)] == [0, 4]
    assert gate.calls == [[0], [2]]


def test_who_was_sent_and_has_no_outcome_in_time_is_told_so_though_the_carrier_hangs(askers):
    gate = Gate()
    wait_s, all_s = 3, 3.4
    gatherer = gatherer_of(gate, wait_s, all_s)
    began = time.monotonic()
    _first, others = ask_behind_one_on_its_way(askers, gate, gatherer, [1, 2])
    gate.let_through()
    eventually(lambda: len(gate.calls) == 2, "they are sent")

    came_to = eventually(lambda: [each.exception() for each in others if each.done()], "one gives up")
    assert all_s <= time.monotonic() - began < wait_s + all_s

    assert [type(each) for each in came_to] == [NoAnswer]  # the other one is the carrier
    gate.let_through()
    assert sum(each.exception() is None for each in others) == 1


@pytest.mark.parametrize(
    ("failure", "came_to"),
    [(NotReached("away"), NotReached), (NoAnswer("lost"), NoAnswer), (ZeroDivisionError(), NoAnswer)],
    ids=["surely not", "perhaps", "a bug"],
)
def test_a_failure_of_the_sender_goes_to_all_that_were_sent_and_to_no_other(askers, failure, came_to):
    def answer(operations):
        if 1 in operations:
            raise failure
        return doubled(operations)

    gate = Gate(answer)
    gatherer = gatherer_of(gate)
    first, others = ask_behind_one_on_its_way(askers, gate, gatherer, [1, 2])

    gate.let_through(3)

    assert first.result() == 0
    assert [type(each.exception()) for each in others] == [came_to, came_to]
    assert gatherer.ask(3) == 6


def test_even_a_carrier_that_is_ended_leaves_nobody_behind(askers):
    def answer(operations):
        if 1 in operations:
            raise SystemExit
        return doubled(operations)

    gate = Gate(answer)
    gatherer = gatherer_of(gate)
    first, others = ask_behind_one_on_its_way(askers, gate, gatherer, [1, 2])

    gate.let_through(3)

    assert first.result() == 0
    assert {type(each.exception()) for each in others} == {SystemExit, NoAnswer}  # the carrier, and who went along
    assert gatherer.ask(3) == 6


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_who_is_missing_from_the_answer_may_have_been_carried_out(askers, answered):
    gate = Gate(lambda operations: doubled(operations)[: answered if 1 in operations else None])
    gatherer = gatherer_of(gate)
    _first, others = ask_behind_one_on_its_way(askers, gate, gatherer, [1, 2, 3])

    gate.let_through(2)

    assert [each.result() for each in others[:answered]] == [2, 4][:answered]
    assert {type(each.exception()) for each in others[answered:]} == {NoAnswer}


def test_an_answer_with_more_outcomes_than_operations_is_nobodys():
    gatherer = gatherer_of(lambda operations: [1, 2])

    with pytest.raises(NoAnswer):
        gatherer.ask(1)


def test_after_a_timeout_those_that_wait_are_refused_at_once_and_the_next_one_tries(askers):
    def answer(operations):
        if operations == [0]:
            raise NoAnswer("silence", is_timeout=True)
        return doubled(operations)

    gate = Gate(answer)
    gatherer = gatherer_of(gate)
    first, others = ask_behind_one_on_its_way(askers, gate, gatherer, [1, 2, 3])

    gate.let_through(2)

    assert isinstance(first.exception(), NoAnswer)
    assert [type(each.exception()) for each in others] == [NotReached] * 3
    assert gatherer.ask(4) == 8
    assert gate.calls == [[0], [4]]


@pytest.mark.parametrize("failure", [NotReached("away"), NoAnswer("lost"), ZeroDivisionError()], ids=repr)
def test_after_any_other_failure_those_that_wait_are_carried(askers, failure):
    def answer(operations):
        if operations == [0]:
            raise failure
        return doubled(operations)

    gate = Gate(answer)
    gatherer = gatherer_of(gate)
    first, others = ask_behind_one_on_its_way(askers, gate, gatherer, [1, 2, 3])

    gate.let_through(2)

    assert first.exception() is not None
    assert [each.result() for each in others] == [2, 4, 6]


# ---- threads that are held up at the worst moment


class PausingLock:
    """A lock that holds up the thread `paused`, each time that it has just let go of the lock."""

    def __init__(self):
        self.paused = None
        self._lock = threading.Lock()
        self._may_go_on = threading.Event()
        self._is_held_up = threading.Event()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *failure):
        self._lock.release()
        if threading.current_thread().name == self.paused:
            self._is_held_up.set()
            self._may_go_on.wait(PATIENCE_S)

    def wait_until_it_holds_one_up(self):
        assert self._is_held_up.wait(PATIENCE_S)

    def let_go_on(self):
        self.paused = None
        self._may_go_on.set()


def ask_as(name, gatherer, operation, came_to):
    """A thread of this name that asks, and notes the outcome."""

    def run():
        came_to[operation] = gatherer.ask(operation)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def test_one_who_is_woken_before_it_has_begun_to_wait_carries_like_any_other():
    """Between taking its place among those that wait, and waiting, a thread may be held up for as long as you like."""
    gate, came_to = Gate(), {}
    gatherer = gatherer_of(gate)
    lock = gatherer._lock = PausingLock()
    threads = [ask_as("first", gatherer, 1, came_to)]
    eventually(lambda: gate.calls, "the first is sent")
    lock.paused = "second"
    threads.append(ask_as("second", gatherer, 2, came_to))
    lock.wait_until_it_holds_one_up()
    threads.append(ask_as("third", gatherer, 3, came_to))
    eventually(lambda: len(gatherer._waiting) == 2, "both wait")

    gate.let_through(2)
    threads[0].join(PATIENCE_S)
    lock.let_go_on()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert came_to == {1: 2, 2: 4, 3: 6}
    assert gate.calls == [[1], [2, 3]]
    gate.let_through()
    assert gatherer.ask(4) == 8


def test_the_next_carrier_is_woken_though_the_one_before_it_is_held_up():
    """Else it might give up, known as the carrier, and nobody would ever carry again."""
    gate, came_to = Gate(), {}
    gatherer = gatherer_of(gate)
    lock = gatherer._lock = PausingLock()
    first = ask_as("first", gatherer, 1, came_to)
    eventually(lambda: gate.calls, "the first is sent")
    second = ask_as("second", gatherer, 2, came_to)
    eventually(lambda: gatherer._waiting, "the second waits")

    lock.paused = "first"
    gate.let_through(2)
    lock.wait_until_it_holds_one_up()

    second.join(PATIENCE_S)
    assert came_to == {2: 4}
    lock.let_go_on()
    first.join(PATIENCE_S)
    assert came_to == {1: 2, 2: 4}


class SlowToRemove(deque):
    """Those that wait, one of whom is held up in the middle of withdrawing."""

    def __init__(self):
        self.is_withdrawing, self.may_go_on = threading.Event(), threading.Event()

    def remove(self, member):
        self.is_withdrawing.set()
        self.may_go_on.wait(PATIENCE_S)
        super().remove(member)


def test_nobody_is_sent_who_is_just_being_withdrawn(askers):
    gate, came_to = Gate(), {}
    gatherer = gatherer_of(gate, wait_s=0.2)
    lock = gatherer._lock = PausingLock()
    waiting = gatherer._waiting = SlowToRemove()
    lock.paused = "first"
    first = ask_as("first", gatherer, 1, came_to)
    lock.wait_until_it_holds_one_up()  # it will carry, and has not taken anybody along yet
    late = askers.submit(gatherer.ask, 2)
    assert waiting.is_withdrawing.wait(PATIENCE_S)

    gate.let_through(2)
    lock.let_go_on()
    first.join(0.3)  # it cannot come to an end before the other has withdrawn
    waiting.may_go_on.set()

    assert isinstance(late.exception(), NotReached)
    first.join(PATIENCE_S)
    assert (came_to, gate.calls) == ({1: 2}, [[1]])


# ---- 10,000 random schedules


SCHEDULES = 10_000
WAIT_S, ALL_S, HANG_S = 0.02, 0.03, 0.05
SLACK_S = 10.0  # for a machine that has other things to do


class ShakyLock:
    """A lock that now and then, by a seeded chance, lets other threads go first, before and behind it."""

    def __init__(self, chance):
        self._chance = chance
        self._lock = threading.Lock()

    def __enter__(self):
        self._shake()
        self._lock.acquire()

    def __exit__(self, *failure):
        self._lock.release()
        self._shake()

    def _shake(self):
        if self._chance.random() < 0.05:
            time.sleep(self._chance.choice([0, 0.0001, 0.001]))


class Erratic:
    """A sender that does, by a seeded chance, all that a sender may do. It notes what it was given and what it did."""

    def __init__(self, chance):
        self._chance = chance
        self.sent = []  # (operations, what it did with them, how many outcomes it gave when they were fewer)
        self.most_at_once = 0
        self._at_once = 0

    def __call__(self, operations):
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self._answer(operations)
        finally:
            self._at_once -= 1

    def _answer(self, operations):
        did = self._chance.choices(
            ["answered", "not sent", "lost", "timeout", "bug", "fewer", "more", "hung", "errors"],
            [60, 5, 5, 3, 5, 5, 2, 1, 14],
        )[0]
        fewer = self._chance.randrange(len(operations))
        self.sent.append((operations, did, fewer))
        time.sleep(self._chance.choice([0, 0, 0.0002]))
        match did:
            case "not sent":
                raise NotReached("away")
            case "lost":
                raise NoAnswer("lost")
            case "timeout":
                raise NoAnswer("silence", is_timeout=True)
            case "bug":
                raise KeyError("bug")
            case "fewer":
                return doubled(operations)[:fewer]
            case "more":
                return doubled([*operations, 7])
            case "hung":
                time.sleep(HANG_S)
            case "errors":
                return [ValueError(each) if each % 3 == 0 else 2 * each for each in operations]
        return doubled(operations)

    def may_come_to(self):
        """{operation: the outcomes that are right for it, as `came_to` has them}."""
        right = {}
        for operations, did, fewer in self.sent:
            for place, each in enumerate(operations):
                assert each not in right, f"{each} was sent twice"
                if did in ("answered", "hung") or (did == "fewer" and place < fewer):
                    right[each] = [2 * each] + ["perhaps"] * (did == "hung")
                elif did == "errors":
                    right[each] = ["error" if each % 3 == 0 else 2 * each]
                else:
                    right[each] = ["surely not" if did == "not sent" else "perhaps"]
        return right


def came_to(gatherer, operation):
    """(what the operation came to, how long it took)."""
    began = time.monotonic()
    try:
        outcome = gatherer.ask(operation)
    except NotReached:
        outcome = "surely not"
    except NoAnswer:
        outcome = "perhaps"
    except ValueError as error:
        outcome = "error" if error.args == (operation,) else "the error of another one"
    return outcome, time.monotonic() - began


@pytest.mark.filterwarnings("ignore")
def test_in_every_schedule_each_operation_comes_to_one_outcome_the_right_one_in_time(chance, caplog):
    caplog.set_level("CRITICAL")  # the bugs of the erratic sender are told, thousands of times
    threads_before = set(threading.enumerate())
    seen = Counter()

    with ThreadPoolExecutor(12) as pool:
        for schedule in range(SCHEDULES):
            sender = Erratic(chance)
            gatherer = gatherer_of(sender, WAIT_S, ALL_S)
            gatherer._lock = ShakyLock(chance)
            operations = range(1, chance.randint(2, 12))

            results = list(pool.map(lambda operation: came_to(gatherer, operation), operations))  # noqa: B023

            assert sender.most_at_once == 1, (schedule, sender.sent)
            right = sender.may_come_to()
            for operation, (outcome, took_s) in zip(operations, results, strict=True):
                expected = right.get(operation, ["surely not"])
                assert outcome in expected, (schedule, operation, outcome, sender.sent)
                assert took_s < HANG_S + ALL_S + SLACK_S, (schedule, operation, took_s, sender.sent)
            seen.update(did for _operations, did, _fewer in sender.sent)
            seen["together"] += any(len(operations) > 1 for operations, _did, _fewer in sender.sent)
            seen["never sent"] += len(operations) - len(right)
            gatherer._send = doubled  # whatever happened, it serves the next one
            assert gatherer.ask(5) == 10, (schedule, sender.sent)

    assert set(threading.enumerate()) <= threads_before  # those of others may end meanwhile
    assert all(seen[did] > 100 for did in ("answered", "not sent", "hung", "fewer", "more", "errors", "timeout")), seen
    assert seen["together"] > SCHEDULES / 10, seen
    assert seen["never sent"] > 100, seen


# ---- a history


class Register:
    """A store of registers behind a gatherer. A batch is one step: its writes come first, and then its reads."""

    def __init__(self, chance):
        self._chance = chance
        self._values = {}

    def __call__(self, operations):
        fate = self._chance.random()
        if fate < 0.05:
            raise NotReached("away")
        if fate < 0.08:
            raise NoAnswer("the question was lost")
        for kind, key, value in operations:
            if kind == "put":
                self._values[key] = value
        outcomes = [value if kind == "put" else self._values.get(key) for kind, key, value in operations]
        if fate < 0.13:
            raise NoAnswer("the answer was lost")
        return outcomes


def is_linearizable(history):
    """Whether there is one order of these operations on one register that explains all outcomes.

    history: (invoked, answered, kind, value), where `answered` is infinite for a write whose outcome nobody knows: it
    may have its effect at any time later, or never. The search of Wing and Gong (1993), with memory.
    """
    history = tuple(history)
    everything = frozenset(range(len(history)))
    known = frozenset(index for index in everything if history[index][1] < float("inf"))
    dead = set()

    def explains(left, value):
        if not left & known:
            return True
        if (left, value) in dead:
            return False
        first_answer = min(history[index][1] for index in left)
        for index in left:
            invoked, _answered, kind, its_value = history[index]
            if invoked > first_answer:
                continue  # something else was over before it began
            if kind == "put" and explains(left - {index}, its_value):
                return True
            if kind == "get" and its_value == value and explains(left - {index}, value):
                return True
        dead.add((left, value))
        return False

    return explains(everything, None)


def test_the_checker_knows_a_history_that_no_order_explains():
    put, get, unknown = (1, 2, "put", "a"), (3, 4, "get", "a"), (1, float("inf"), "put", "b")
    assert is_linearizable([put, get])
    assert not is_linearizable([put, (3, 4, "get", None)])
    assert is_linearizable([put, unknown, (3, 4, "get", "b"), (5, 6, "get", "b")])
    assert not is_linearizable([put, unknown, (3, 4, "get", "b"), (5, 6, "get", "a")])


def test_operations_on_one_key_are_linearizable(chance):
    """What was answered before a read began is in the read; what nobody knows of may be in it, once and for all."""
    ticks, values = count(), count(1)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(300):
            gatherer = gatherer_of(Register(chance))
            history = {"assam": [], "chai": []}

            def client(plan, gatherer=gatherer, history=history):
                for kind, key in plan:
                    value = next(values) if kind == "put" else None
                    invoked = next(ticks)
                    try:
                        outcome = gatherer.ask((kind, key, value))
                    except NotReached:
                        continue
                    except NoAnswer:
                        if kind == "put":
                            history[key].append((invoked, float("inf"), kind, value))
                        continue
                    history[key].append((invoked, next(ticks), kind, outcome))

            plans = [
                [(chance.choice(["put", "get"]), chance.choice(["assam", "chai"])) for _ in range(4)] for _ in range(6)
            ]
            list(pool.map(client, plans))

            for key, operations in history.items():
                assert is_linearizable(operations), (key, sorted(operations))
