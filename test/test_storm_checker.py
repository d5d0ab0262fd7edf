"""The storm's checker: each of its rules broken once by hand, and its judgement beside trying all orders."""

import random
import time

import pytest
from storms import delete, draw_history, is_linearizable, pair, read, weak, write

from emporium.storm.checker import check_deletes, check_kept, check_registers, check_session
from emporium.storm.history import FAIL, UNKNOWN

OLD, NEW, BESIDE = pair(1, c0=1), pair(2, c0=2), pair(3, c1=1)


def rules(findings):
    return {finding.rule for finding in findings}


def test_what_is_in_order_is_not_found_fault_with():
    history = [
        write(0, 1, OLD),
        read(0.5, 0.6),  # not yet
        write(2, 3, BESIDE),
        read(2.5, 2.6, OLD, BESIDE),
        write(4, 5, NEW, UNKNOWN),
        read(6, 7, OLD, BESIDE),  # not yet, and perhaps never
        read(8, 9, NEW, BESIDE),
        write(10, 11, OLD),  # once more, and late: it changes nothing
        weak(12, 13, OLD),
        read(14, 15, BESIDE, NEW),
        write(16, 17, pair(4, c0=9), FAIL),
    ]

    assert check_registers(history) == []


@pytest.mark.parametrize(
    ("rule", "history"),
    [
        ("a", [write(0, 1, OLD), read(2, 3, OLD, NEW)]),  # nobody wrote it
        ("a", [write(0, 1, OLD, FAIL), read(2, 3, OLD)]),
        ("a", [read(0, 1, OLD), write(2, 3, OLD)]),
        ("a", [write(0, 1, OLD), write(0, 1, NEW), read(2, 3, OLD, NEW)]),
        ("a", [write(0, 1, OLD), read(2, 3, OLD, OLD)]),
        ("b", [write(0, 1, OLD), read(2, 3)]),
        ("b", [write(0, 1, OLD), write(0, 1, BESIDE), read(2, 3, OLD)]),
        ("b", [write(0, 1, OLD), write(0, 1, NEW), read(2, 3, OLD)]),
        ("b", [write(0, 1, OLD), write(0, 1, pair(2, c0=1)), read(2, 3, OLD)]),  # the clocks are equal: both stand
        ("c", [write(0, 9, OLD), write(0, 9, BESIDE), read(1, 8, OLD), read(1, 8, BESIDE)]),
        ("c", [write(0, 9, OLD), read(1, 2, OLD), read(3, 4)]),
        ("c", [write(0, 9, OLD, UNKNOWN), read(1, 2, OLD), read(3, 4)]),
        ("d", [write(0, 1, OLD), write(2, 9, BESIDE), read(0.5, 8, BESIDE)]),
        ("d", [write(0, 9, NEW), read(1, 2, NEW), write(3, 9, OLD), read(0, 8, OLD)]),
        ("weak", [weak(0, 1, OLD), write(2, 3, OLD)]),
        ("weak", [write(0, 9, OLD), weak(1, 2, OLD), read(3, 4)]),
    ],
)
def test_each_rule_finds_what_breaks_it(rule, history):
    assert rule in rules(check_registers(history))


def test_a_finding_names_the_operation_and_what_it_misses():
    [finding] = check_registers([write(0, 1, OLD), read(2, 3)])

    assert finding.operation.begin == 2
    assert "strong read by client 1 at 2.000 to 3.000 s misses what the write of 1 at c0=1" in finding.words


def test_the_checker_agrees_with_trying_all_orders(request, record_property):
    """With --full 40,000 histories."""
    count = 40_000 if request.config.getoption("--full") else 2_000
    chance = random.Random(f"histories {count}")
    legal, seconds = 0, 0.0
    for _ in range(count):
        history = draw_history(chance)
        is_legal = is_linearizable(history)
        legal += is_legal
        began = time.process_time()
        found = check_registers(history)
        seconds += time.process_time() - began
        assert is_legal == (found == []), f"legal: {is_legal}, and found: {found}\n" + "\n".join(map(str, history))

    told = f"{count} histories, {legal} of them linearizable and {count - legal} not, judged in {seconds:.1f} s"
    record_property("histories", told)
    print(told)
    assert 0.3 * count < legal < 0.8 * count


# ---- deletes


def test_deletes_in_order_are_not_found_fault_with():
    history = [
        write(0, 1, OLD),
        delete(2, 3),
        read(4, 5),
        write(6, 7, NEW),
        read(8, 9, NEW),
        delete(10, 14, UNKNOWN),
        read(11, 12, NEW),
        write(13, 13.5, BESIDE),
        read(15, 16),  # the delete of unknown outcome has come last
    ]

    assert check_deletes(history) == []


@pytest.mark.parametrize(
    "history",
    [
        [write(0, 1, OLD), delete(2, 3), read(4, 5, OLD)],
        [write(0, 1, OLD), delete(2, 3), write(4, 5, BESIDE), read(6, 7, OLD, BESIDE)],
        [delete(0, 1), write(2, 3, OLD), read(4, 5)],  # no delete can have seen it
        [delete(0, 9, FAIL), write(2, 3, OLD), read(4, 5)],
        [write(0, 1, OLD), write(0, 1, BESIDE), delete(2, 3), write(4, 5, NEW), read(6, 7, BESIDE)],
    ],
)
def test_what_was_deleted_stays_deleted_and_nothing_else_goes(history):
    assert rules(check_deletes(history)) == {"delete"}


# ---- sessions, and the end


def test_a_session_read_is_at_or_above_its_clock():
    assert check_session(read(0, 1, pair(1, a=2), pair(2, b=3), session={"a": 2, "b": 1})) == []
    assert check_session(read(0, 1)) == []

    [finding] = check_session(read(0, 1, pair(1, a=2), session={"a": 2, "b": 1}))

    assert finding.rule == "session"


def test_an_acknowledged_write_is_kept_or_dominated_by_what_is():
    tombstone = pair(None, c0=1)

    assert check_kept([write(0, 1, OLD), write(0, 1, NEW), write(0, 1, BESIDE)], {NEW, BESIDE}) == []
    assert check_kept([write(0, 1, OLD, UNKNOWN), write(0, 1, NEW, FAIL)], set()) == []
    assert check_kept([write(0, 1, OLD), delete(2, 3)], {tombstone}) == []
    for operations, final in (
        ([write(0, 1, OLD)], set()),
        ([write(0, 1, OLD), write(0, 1, NEW, UNKNOWN)], set()),  # dominated by what never came
        ([write(0, 1, OLD), write(0, 1, BESIDE)], {OLD}),
        ([], {OLD}),
        ([write(0, 1, OLD, FAIL)], {OLD}),
        ([write(0, 1, OLD)], {tombstone}),  # nobody deleted it
        ([write(0, 1, BESIDE), delete(2, 3)], {tombstone}),  # the delete cannot have seen it
    ):
        assert rules(check_kept(operations, final)) == {"kept"}, (operations, final)
