"""The clock alone: its order, its two helpers for many clocks, and what it refuses.

The laws run over clocks out of three node ids and the counts absent, 0, 1 and 2: few enough that equal, dominated
and concurrent clocks all come up often. What they are checked against is written here separately: an entry that is
absent counts as -1, and clocks are compared entry by entry over the ids of both.
"""

import operator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectorclock import VectorClock

LAW = settings(max_examples=1000)

NODES = ("c0", "c1", "c2")
ABSENT = -1
EVERY_ENTRIES = [
    {node: count for node, count in zip(NODES, counts, strict=True) if count != ABSENT}
    for counts in product((ABSENT, 0, 1, 2), repeat=len(NODES))
]

some_clock = st.sampled_from(EVERY_ENTRIES).map(VectorClock.fromDict)
some_clocks = st.lists(some_clock, max_size=6)


def clock(**entries):
    return VectorClock.fromDict(entries)


# ---- the definition


def counts_of(a, b):
    """The counts of both clocks, side by side, for every node that either of them knows."""
    return [(a.clock.get(node, ABSENT), b.clock.get(node, ABSENT)) for node in a.clock.keys() | b.clock.keys()]


def are_equal(a, b):
    return all(mine == theirs for mine, theirs in counts_of(a, b))


def is_at_most(a, b):
    return all(mine <= theirs for mine, theirs in counts_of(a, b))


def is_dominated(a, b):
    return is_at_most(a, b) and any(mine < theirs for mine, theirs in counts_of(a, b))


def relation(a, b):
    if are_equal(a, b):
        return "equal"
    if is_at_most(a, b):
        return "dominated"
    return "dominates" if is_at_most(b, a) else "concurrent"


# ---- causal order


def test_the_clocks_drawn_here_stand_in_every_relation():
    clocks = [VectorClock.fromDict(entries) for entries in EVERY_ENTRIES]

    relations = [relation(a, b) for a, b in product(clocks, clocks)]

    assert {each: relations.count(each) for each in set(relations)} == {
        "equal": 64,
        "dominated": 936,
        "dominates": 936,
        "concurrent": 2160,
    }


@LAW
@given(some_clock, some_clock)
def test_every_comparison_agrees_with_the_definition(a, b):
    assert (a == b) is are_equal(a, b)
    assert (a != b) is not are_equal(a, b)
    assert (a <= b) is is_at_most(a, b)
    assert (a >= b) is is_at_most(b, a)
    assert (a < b) is is_dominated(a, b)
    assert (a > b) is is_dominated(b, a)


@LAW
@given(some_clock)
def test_a_clock_is_never_less_than_itself(a):
    """The fault of a well-known ancestor of this class."""
    same = VectorClock.fromDict(a.asDict())

    assert not a < a
    assert not a > a
    assert not a < same
    assert not a > same


@LAW
@given(some_clock, some_clock, some_clock)
def test_at_most_is_a_partial_order(a, b, c):
    assert a <= a
    assert a == b or not (a <= b and b <= a)
    assert a <= c or not (a <= b and b <= c)


def test_a_present_entry_is_newer_than_an_absent_one_even_at_count_0():
    """The course writes c0: 0."""
    empty, at_0, at_1 = clock(), clock(c0=0), clock(c0=1)

    assert empty < at_0 < at_1
    assert not at_0 <= empty
    assert at_0 != empty


def test_clocks_of_different_nodes_are_concurrent():
    a, b = clock(c0=1), clock(c1=1)

    assert not a <= b
    assert not b <= a
    assert a != b


def test_a_clock_dominates_another_with_fewer_nodes():
    assert clock(c0=1) < clock(c0=1, c1=0)
    assert clock(c0=1, c1=3) > clock(c1=2)


def test_the_order_of_the_entries_does_not_matter():
    assert clock(c0=1, c1=2) == clock(c1=2, c0=1)


def test_a_clock_is_equal_to_nothing_but_a_clock():
    assert clock(c0=1) != {"c0": 1}
    assert (clock() == None) is False  # noqa: E711
    assert clock(c0=1) != "c0"


@pytest.mark.parametrize("other", [{"c0": 1}, None, 1, "c0"], ids=repr)
@pytest.mark.parametrize("compare", [operator.le, operator.lt, operator.ge, operator.gt], ids=lambda it: it.__name__)
def test_a_clock_cannot_be_ordered_against_anything_else(compare, other):
    with pytest.raises(TypeError):
        compare(clock(), other)


def test_a_clock_is_no_key_of_a_dict_since_it_can_change():
    with pytest.raises(TypeError, match="unhashable"):
        hash(clock(c0=1))


# ---- ticking


def test_a_new_clock_is_empty():
    assert VectorClock().asDict() == {}


def test_update_adds_and_raises_entries_and_can_be_chained():
    made = VectorClock()

    given_back = made.update("c0", 1).update("c1", 3).update("c0", 2)

    assert given_back is made
    assert made.asDict() == {"c0": 2, "c1": 3}


def test_an_entry_may_begin_at_0():
    assert VectorClock().update("c0", 0).asDict() == {"c0": 0}


def test_update_to_the_present_count_changes_nothing():
    assert VectorClock().update("c0", 4).update("c0", 4).asDict() == {"c0": 4}


@LAW
@given(some_clock, st.sampled_from(NODES), st.integers(0, 3))
def test_update_moves_a_clock_forward_or_refuses(a, node, count):
    before = VectorClock.fromDict(a.asDict())
    goes_back = count < before.clock.get(node, ABSENT)

    if goes_back:
        with pytest.raises(ValueError, match="cannot go back"):
            a.update(node, count)
    else:
        a.update(node, count)

    assert a.asDict() == (before.asDict() if goes_back else {**before.asDict(), node: count})
    assert before <= a


def test_update_refuses_to_go_back_and_says_from_where_to_where():
    a = clock(c0=5)

    with pytest.raises(ValueError, match="'c0' stands at 5 and cannot go back to 4"):
        a.update("c0", 4)

    assert a.asDict() == {"c0": 5}


@pytest.mark.parametrize("count", [-1, True, False, 1.0, 1.5, "1", None, float("nan"), [1]], ids=repr)
@pytest.mark.parametrize("entries", [{}, {"c0": 0}], ids=["a new entry", "an entry that stands"])
def test_update_refuses_a_count_that_is_no_whole_number_of_at_least_0(entries, count):
    a = VectorClock.fromDict(entries)

    with pytest.raises(ValueError, match="the count of 'c0' must be a whole number of at least 0"):
        a.update("c0", count)

    assert a.asDict() == entries


# ---- in and out


def test_from_dict_copies_what_it_is_given():
    entries = {"c0": 1}
    a = VectorClock.fromDict(entries)

    entries["c0"] = 9
    a.update("c1", 2)

    assert entries == {"c0": 9}
    assert a.asDict() == {"c0": 1, "c1": 2}


def test_as_dict_gives_a_copy():
    a = clock(c0=1)

    a.asDict()["c0"] = 9

    assert a.asDict() == {"c0": 1}


def test_two_new_clocks_share_nothing():
    a, b = VectorClock(), VectorClock()

    a.update("c0", 1)

    assert b.asDict() == {}


@LAW
@given(some_clock)
def test_a_clock_comes_back_from_its_dict_as_it_was(a):
    assert VectorClock.fromDict(a.asDict()) == a


def test_equal_clocks_give_equal_text():
    """The entries are sorted by node id, in which order they ever came."""
    a = VectorClock().update("c1", 2).update("c10", 3).update("c0", 1)

    assert list(a.asDict().items()) == [("c0", 1), ("c1", 2), ("c10", 3)]
    assert repr(a) == "VectorClock({'c0': 1, 'c1': 2, 'c10': 3})"


@pytest.mark.parametrize("entries", [{}, {"c0": 0}, {"c0": 1, "c1": 2**70}, {"a b": 3}], ids=repr)
def test_a_clock_of_texts_and_whole_numbers_is_valid(entries):
    assert VectorClock.fromDict(entries).isValidClock() is True


@pytest.mark.parametrize(
    "entries",
    [
        {"": 1},
        {1: 1},
        {None: 1},
        {b"c0": 1},
        {"c0": -1},
        {"c0": 1.0},
        {"c0": 1.5},
        {"c0": True},
        {"c0": "1"},
        {"c0": None},
        {"c0": 1, "c1": -1},
    ],
    ids=repr,
)
def test_any_other_entry_makes_a_clock_invalid(entries):
    assert VectorClock.fromDict(entries).isValidClock() is False


# ---- many clocks


@LAW
@given(some_clocks)
def test_coalesce_keeps_exactly_the_clocks_that_none_dominates_each_once(clocks):
    kept = VectorClock.coalesce(clocks)

    assert kept == [
        each
        for index, each in enumerate(clocks)
        if not any(is_dominated(each, other) for other in clocks)
        and not any(are_equal(each, earlier) for earlier in clocks[:index])
    ]


@LAW
@given(some_clocks)
def test_coalesce_and_converge_leave_their_input_alone(clocks):
    before = [each.asDict() for each in clocks]

    VectorClock.coalesce(clocks)
    VectorClock.converge(clocks).update("c0", 9)

    assert [each.asDict() for each in clocks] == before


@pytest.mark.parametrize(
    "clocks",
    [
        [clock(c0=1), clock(c1=1), clock(c0=1, c1=1)],
        [clock(c0=1), clock(c0=1, c1=1), clock(c1=1)],
        [clock(c0=1, c1=1), clock(c0=1), clock(c1=1)],
    ],
    ids=["newest last", "newest in the middle", "newest first"],
)
def test_coalesce_drops_all_that_a_later_clock_dominates(clocks):
    """The other fault of the well-known ancestor: it could keep a clock that a later result dominates."""
    assert VectorClock.coalesce(clocks) == [clock(c0=1, c1=1)]


def test_coalesce_of_no_clocks_is_no_clocks():
    assert VectorClock.coalesce([]) == []


def test_coalesce_and_converge_take_any_iterable():
    assert VectorClock.coalesce(clock(c0=count) for count in (1, 3, 2)) == [clock(c0=3)]
    assert VectorClock.converge(clock(c0=count) for count in (1, 3, 2)) == clock(c0=3)


@LAW
@given(some_clocks)
def test_converge_subsumes_all_and_nothing_smaller_does(clocks):
    converged = VectorClock.converge(clocks)

    assert all(is_at_most(each, converged) for each in clocks)
    for smaller in one_step_below(converged):
        assert not all(is_at_most(each, smaller) for each in clocks)


def one_step_below(a):
    """Every clock that is `a` with one of its entries a single step lower: at the next count, or absent."""
    for node, count in a.asDict().items():
        entries = {**a.asDict(), node: count - 1}
        if entries[node] == ABSENT:
            del entries[node]
        yield VectorClock.fromDict(entries)


@LAW
@given(some_clocks, some_clock)
def test_whatever_subsumes_all_subsumes_what_they_converge_to(clocks, bound):
    below_bound = [each for each in clocks if is_at_most(each, bound)]

    assert VectorClock.converge(below_bound) <= bound


def test_converge_takes_each_entry_at_its_highest_count():
    converged = VectorClock.converge([clock(c0=3, c1=1), clock(c0=1, c1=2), clock(c2=0)])

    assert converged.asDict() == {"c0": 3, "c1": 2, "c2": 0}


def test_converge_of_no_clocks_is_the_empty_clock():
    assert VectorClock.converge([]) == VectorClock()


def test_converge_of_one_clock_is_a_clock_of_its_own():
    only = clock(c0=1)

    converged = VectorClock.converge([only])

    assert converged == only
    assert converged is not only
