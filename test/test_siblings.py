"""The merge of siblings: its laws over all input, and the mean that is derived from what it keeps.

The laws run over siblings out of three node ids, few counts and few ratings, so that equal clocks, equal clocks with
different ratings, dominated and concurrent clocks all come up often. Equal means: equal bytes on the wire.
"""

import random
from fractions import Fraction
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emporium import wire
from emporium.siblings import UNRATED, Sibling, Value, as_stored, mean, merge, tombstone
from vectorclock import VectorClock

LAW = settings(max_examples=1000)

NODES = ("c0", "c1", "c2")
ABSENT = -1
RATINGS = (0, 4, 2.5, None)  # None: a tombstone


def sibling(rating, **entries):
    return Sibling(rating, VectorClock.fromDict(entries))


EVERY_SIBLING = [
    sibling(rating, **{node: count for node, count in zip(NODES, counts, strict=True) if count != ABSENT})
    for rating, counts in product(RATINGS, product((ABSENT, 0, 1, 2), repeat=len(NODES)))
]

some_siblings = st.lists(st.sampled_from(EVERY_SIBLING), max_size=6)
some_value = some_siblings.map(lambda siblings: value_of(*siblings))
some_rating = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6)).map(as_stored)


def value_of(*siblings):
    """What is stored of a tea when these siblings have arrived."""
    return merge(UNRATED, siblings)


def as_bytes(value):
    """What a read answers."""
    return wire.encode_reading(value)


def all_of(value):
    """All that is stored, tombstones included, as bytes."""
    return wire.encode_record(wire.Record("db0", "tea", value))


def retold(one, chance):
    """The same sibling, the entries of its clock in any order."""
    entries = list(one.clock.clock.items())
    chance.shuffle(entries)
    return Sibling(one.rating, VectorClock.fromDict(dict(entries)))


def pairs(siblings):
    """Siblings in a form to be counted, sorted and compared: (rating as text, entries of the clock)."""
    return [(str(each.rating), tuple(sorted(each.clock.clock.items()))) for each in siblings]


def is_dominated(one, other):
    """The definition: nowhere ahead of the other, somewhere behind it, an absent entry being behind all counts.

    A rating is also dominated by a tombstone at its own clock.
    """
    mine, theirs = one.clock.clock, other.clock.clock
    counts = [(mine.get(node, ABSENT), theirs.get(node, ABSENT)) for node in mine.keys() | theirs.keys()]
    is_buried = one.rating is not None and other.rating is None
    return all(a <= b for a, b in counts) and (is_buried or any(a < b for a, b in counts))


# ---- the laws


@LAW
@given(some_value, some_value)
def test_merge_is_commutative(a, b):
    assert all_of(merge(a, b.siblings)) == all_of(merge(b, a.siblings))


@LAW
@given(some_value, some_value, some_value)
def test_merge_is_associative(a, b, c):
    a_and_b_first = merge(merge(a, b.siblings), c.siblings)
    b_and_c_first = merge(a, merge(b, c.siblings).siblings)

    assert all_of(a_and_b_first) == all_of(b_and_c_first)


@LAW
@given(some_value, some_siblings)
def test_merge_is_idempotent(value, incoming):
    once = merge(value, incoming)

    assert merge(once, incoming) is once
    assert merge(once, once.siblings) is once


@LAW
@given(some_siblings, st.integers(0, 2**32))
def test_any_order_and_duplication_of_arrival_gives_equal_bytes(siblings, seed):
    chance = random.Random(seed)
    arrivals = [retold(each, chance) for each in siblings + chance.choices(siblings, k=4)] if siblings else []
    chance.shuffle(arrivals)

    value = UNRATED
    while arrivals:
        together = chance.randint(1, 3)
        value = merge(value, arrivals[:together])
        arrivals = arrivals[together:]

    assert all_of(value) == all_of(value_of(*siblings))


@LAW
@given(some_siblings)
def test_what_stands_is_the_maximal_antichain_of_all_that_was_ever_written(siblings):
    value = value_of(*siblings)

    undominated = [each for each in siblings if not any(is_dominated(each, other) for other in siblings)]
    assert sorted(pairs(value.siblings)) == sorted(set(pairs(undominated)))


@LAW
@given(some_value, some_siblings)
def test_no_survivor_is_dominated_by_another_and_none_stands_twice(value, incoming):
    survivors = merge(value, incoming).siblings

    assert not any(is_dominated(one, other) for one, other in product(survivors, survivors))
    assert len(set(pairs(survivors))) == len(survivors)


@LAW
@given(some_value, some_siblings)
def test_state_only_grows(before, incoming):
    """Invariant 4: each pair is still there, or something newer is in its place."""
    after = merge(before, incoming)

    for each in (*before.siblings, *incoming):
        assert each in after.siblings or any(is_dominated(each, other) for other in after.siblings)
    assert merge(after, before.siblings) is after


@LAW
@given(some_value, some_siblings)
def test_stale_and_repeated_pairs_give_the_very_same_object(value, incoming):
    old_news = [
        each
        for each in incoming
        if each in value.siblings or any(is_dominated(each, other) for other in value.siblings)
    ]

    assert merge(value, old_news) is value


@LAW
@given(some_value, some_siblings)
def test_merge_leaves_its_input_alone(value, incoming):
    value_before, incoming_before = all_of(value), pairs(incoming)

    merge(value, incoming)

    assert all_of(value) == value_before
    assert pairs(incoming) == incoming_before


# ---- stories


def test_a_newer_rating_stands_alone():
    assert value_of(sibling(5, c0=1), sibling(2, c0=2)) == Value(2, (sibling(2, c0=2),))


def test_an_older_rating_changes_nothing():
    standing = value_of(sibling(5, c12=20))

    assert merge(standing, [sibling(1, c12=19)]) is standing


def test_a_repeated_rating_changes_nothing():
    standing = value_of(sibling(5, c0=1))

    assert merge(standing, [sibling(5, c0=1)]) is standing


def test_nothing_incoming_changes_nothing():
    standing = value_of(sibling(5, c0=1))

    assert merge(standing, []) is standing
    assert merge(UNRATED, []) is UNRATED


def test_concurrent_ratings_stand_side_by_side_and_the_rating_is_their_mean():
    value = value_of(sibling(3, c1=3), sibling(2, c0=1))

    assert as_bytes(value) == b'{"rating":2.5,"choices":[2,3],"clocks":[{"c0":1},{"c1":3}]}'


def test_equal_clocks_with_different_ratings_both_stay():
    """Neither can claim to be newer."""
    value = value_of(sibling(5, c0=1), sibling(4, c0=1))

    assert as_bytes(value) == b'{"rating":4.5,"choices":[4,5],"clocks":[{"c0":1},{"c0":1}]}'


def test_a_newer_rating_replaces_all_that_stand_at_one_older_clock():
    disputed = value_of(sibling(5, c0=1), sibling(4, c0=1))

    assert merge(disputed, [sibling(1, c0=2)]) == Value(1, (sibling(1, c0=2),))


def test_a_three_way_conflict_is_resolved_by_a_clock_that_subsumes_all():
    conflict = value_of(sibling(1, c0=1), sibling(2, c1=1), sibling(3, c2=1))
    everything = VectorClock.converge([each.clock for each in conflict.siblings])

    resolved = merge(conflict, [Sibling(4, everything)])

    assert len(conflict.siblings) == 3
    assert resolved.siblings == (Sibling(4, everything),)


def test_a_newer_rating_leaves_the_concurrent_ones_in_place():
    conflict = value_of(sibling(1, c0=1), sibling(2, c1=1))

    assert merge(conflict, [sibling(4, c0=2)]) == value_of(sibling(4, c0=2), sibling(2, c1=1))


def test_a_rating_at_count_0_replaces_one_without_that_entry():
    assert value_of(sibling(5, c1=1), sibling(2, c0=0, c1=1)).siblings == (sibling(2, c0=0, c1=1),)


# ---- tombstones


def test_a_tombstone_takes_the_place_of_all_that_it_saw():
    rated = value_of(sibling(1, c0=1), sibling(2, c1=1))

    deleted = merge(rated, [tombstone(rated)])

    assert deleted == Value(None, (sibling(None, c0=1, c1=1),))
    assert as_bytes(deleted) == as_bytes(UNRATED)


def test_what_a_delete_saw_does_not_come_back():
    """F-33: a replica that has not heard of the delete tells its rating again."""
    rated = value_of(sibling(1, c0=1), sibling(2, c1=1))
    deleted = merge(rated, [tombstone(rated)])

    assert merge(deleted, rated.siblings) is deleted
    assert merge(deleted, [sibling(5, c0=1, c1=1)]) is deleted


def test_a_rating_that_a_delete_did_not_see_stands_beside_the_tombstone():
    deleted = value_of(sibling(None, c0=1))

    value = merge(deleted, [sibling(4, c1=1)])

    assert as_bytes(value) == b'{"rating":4,"choices":[4],"clocks":[{"c1":1}]}'
    assert sibling(None, c0=1) in value.siblings


def test_a_newer_rating_replaces_a_tombstone():
    assert value_of(sibling(None, c0=1), sibling(4, c0=2)) == value_of(sibling(4, c0=2))


def test_deleted_again_the_tombstone_subsumes_the_older_one():
    beside = value_of(sibling(None, c0=1), sibling(4, c1=1))

    assert merge(beside, [tombstone(beside)]).siblings == (sibling(None, c0=1, c1=1),)


# ---- the mean


def test_a_tea_never_rated_has_the_mean_0_and_no_siblings():
    assert as_bytes(UNRATED) == b'{"rating":0.0,"choices":[],"clocks":[]}'


@LAW
@given(st.lists(some_rating, min_size=1, max_size=6))
def test_the_mean_is_the_exact_sum_divided_once(ratings):
    value = value_of(*(sibling(rating, **{f"c{index}": 1}) for index, rating in enumerate(ratings)))

    assert value.rating == float(sum(map(Fraction, ratings))) / len(ratings)


def test_the_mean_does_not_depend_on_the_order():
    """Floating point addition does: 0.1 + 0.2 + 0.3 differs from 0.3 + 0.2 + 0.1."""
    siblings = [sibling(0.1, c0=1), sibling(0.2, c1=1), sibling(0.3, c2=1), sibling(1e6, c3=1), sibling(-1e6, c4=1)]

    means = {mean(order) for order in permutations(siblings)}

    assert means == {0.6 / 5}


@pytest.mark.parametrize(
    ("ratings", "text"),
    [
        ((2, 4), b"3"),
        ((2, 3), b"2.5"),
        ((2.5, 3.5), b"3"),
        ((2.5,), b"2.5"),
        ((-1, 1), b"0"),
        ((-2, -4), b"-3"),
        ((-5e-324, 0), b"0"),
        ((10**6, 10**6), b"1000000"),
    ],
    ids=repr,
)
def test_a_whole_mean_is_an_integer_and_never_minus_0(ratings, text):
    value = value_of(*(sibling(rating, **{f"c{index}": 1}) for index, rating in enumerate(ratings)))

    assert wire.encode(value.rating) == text


def test_the_mean_is_derived_and_never_merged():
    says_nonsense = Value(99, (sibling(2, c0=1),))

    assert merge(says_nonsense, [sibling(4, c1=1)]).rating == 3


@pytest.mark.parametrize(
    ("rating", "text"),
    [(3, b"3"), (3.0, b"3"), (2.5, b"2.5"), (-0.0, b"0"), (0.0, b"0"), (-3.0, b"-3"), (1e6, b"1000000"), (-1, b"-1")],
    ids=repr,
)
def test_a_rating_has_one_form_in_which_it_is_stored_and_answered(rating, text):
    assert wire.encode(as_stored(rating)) == text


def test_what_a_hand_edit_left_dominated_goes_with_the_next_change():
    stored = Value(1.5, (sibling(1, c0=1), sibling(2, c0=2)))

    assert merge(stored, [sibling(3, c1=1)]) == value_of(sibling(2, c0=2), sibling(3, c1=1))
    assert merge(stored, [sibling(1, c0=1)]) is stored
