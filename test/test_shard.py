"""A shard's rules, one by one, and then a whole ring of shards in memory: no Redis, no HTTP, no time.

The ring of this file is driven by nothing but the pure rules: its shards keep a dict of values and a list of
records each, and its channels are lists that a test may hold back, deliver twice and shuffle.
"""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emporium import wire
from emporium.shard import (
    MOST_HELD,
    MOST_SIBLINGS,
    Changes,
    Digest,
    Place,
    TooMany,
    Write,
    Written,
    merge_gossip,
    merge_writes,
)
from emporium.siblings import UNRATED, Damaged, Sibling, merge
from emporium.wire import Record
from vectorclock import VectorClock

LAW = settings(max_examples=1000)

DAMAGED = Damaged("not a hash")


def sibling(rating, **entries):
    return Sibling(rating, VectorClock.fromDict(entries))


def value_of(*siblings):
    return merge(UNRATED, siblings)


def shard_of_ring(shard_id=0, ndb=3, digest_length=1):
    return Place(shard_id, ndb, digest_length)


def put_rating(tea, rating, **entries):
    return Write(tea, sibling(rating, **entries))


def gossip(primary, tea, *siblings):
    return Record(primary, tea, value_of(*siblings))


# ---- the place in the ring


def test_a_shard_tells_on_its_own_channel_and_hears_the_one_before_it():
    ring = [shard_of_ring(shard_id, ndb=3) for shard_id in range(3)]

    assert [place.name for place in ring] == ["db0", "db1", "db2"]
    assert [place.predecessor for place in ring] == ["db2", "db0", "db1"]


def test_an_id_beyond_the_ring_still_hears_a_channel_of_the_ring():
    """The course starts shards 0 to 3 with ndb 1."""
    assert shard_of_ring(3, ndb=1).predecessor == "db0"
    assert shard_of_ring(5, ndb=4).predecessor == "db0"


def test_only_a_ring_of_several_has_neighbours():
    assert shard_of_ring(ndb=2).has_neighbours
    assert not shard_of_ring(ndb=1).has_neighbours


# ---- what a write comes to


def test_a_first_rating_is_stored():
    written, changes = merge_writes(shard_of_ring(), {"assam": UNRATED}, Digest(), [put_rating("assam", 5, c0=1)])

    assert written == [Written(value_of(sibling(5, c0=1)), "stored")]
    assert changes.values == {"assam": value_of(sibling(5, c0=1))}
    assert changes.removed == []


def test_a_newer_rating_is_stored_in_place_of_the_older():
    stored = {"assam": value_of(sibling(5, c0=1))}

    written, changes = merge_writes(shard_of_ring(), stored, Digest(), [put_rating("assam", 2, c0=2)])

    assert written == [Written(value_of(sibling(2, c0=2)), "stored")]
    assert changes.values == {"assam": value_of(sibling(2, c0=2))}


def test_a_concurrent_rating_is_stored_beside_the_other():
    stored = {"assam": value_of(sibling(5, c0=1))}

    [written], _ = merge_writes(shard_of_ring(), stored, Digest(), [put_rating("assam", 2, c1=1)])

    assert written == Written(value_of(sibling(5, c0=1), sibling(2, c1=1)), "stored")
    assert written.value.rating == 3.5


def test_another_rating_at_the_same_clock_is_stored_beside_the_first():
    stored = {"assam": value_of(sibling(5, c0=1))}

    [written], _ = merge_writes(shard_of_ring(), stored, Digest(), [put_rating("assam", 4, c0=1)])

    assert written == Written(value_of(sibling(4, c0=1), sibling(5, c0=1)), "stored")


def test_an_older_rating_is_stale_and_answers_what_stands():
    stored = {"assam": value_of(sibling(5, c0=2))}

    written, changes = merge_writes(shard_of_ring(), stored, Digest(), [put_rating("assam", 1, c0=1)])

    assert written == [Written(stored["assam"], "stale")]
    assert changes.values == {}


def test_an_equal_rating_at_an_older_clock_is_stale_too():
    stored = {"assam": value_of(sibling(5, c0=2))}

    [written], _ = merge_writes(shard_of_ring(), stored, Digest(), [put_rating("assam", 5, c0=1)])

    assert written.outcome == "stale"


def test_a_repeated_write_is_the_same_and_answers_what_stands():
    stored = {"assam": value_of(sibling(5, c0=1), sibling(2, c1=1))}

    written, changes = merge_writes(shard_of_ring(), stored, Digest(), [put_rating("assam", 2, c1=1)])

    assert written == [Written(stored["assam"], "same")]
    assert changes.values == {}


def test_several_writes_to_one_tea_in_one_step_build_on_each_other():
    writes = [
        put_rating("assam", 1, c0=1),
        put_rating("assam", 2, c1=1),
        put_rating("assam", 3, c0=1, c1=1),
        put_rating("assam", 1, c0=1),
    ]

    written, changes = merge_writes(shard_of_ring(), {"assam": UNRATED}, Digest(), writes)

    first, both, resolved = (
        value_of(sibling(1, c0=1)),
        value_of(sibling(1, c0=1), sibling(2, c1=1)),
        value_of(sibling(3, c0=1, c1=1)),
    )
    assert written == [
        Written(first, "stored"),
        Written(both, "stored"),
        Written(resolved, "stored"),
        Written(resolved, "stale"),
    ]
    assert changes.values == {"assam": resolved}
    assert changes.remembered == [Record("db0", "assam", value) for value in (first, both, resolved, resolved)]


def test_a_step_answers_its_writes_in_their_order():
    stored = {"assam": UNRATED, "sencha": UNRATED}
    writes = [put_rating("sencha", 1, c0=1), put_rating("assam", 2, c0=1), put_rating("sencha", 3, c0=2)]

    written, changes = merge_writes(shard_of_ring(), stored, Digest(), writes)

    assert [each.value.rating for each in written] == [1, 2, 3]
    assert {tea: value.rating for tea, value in changes.values.items()} == {"sencha": 3, "assam": 2}


def crowd(size):
    """A value of this many concurrent siblings."""
    return value_of(*(sibling(number, **{f"c{number}": 1}) for number in range(size)))


def test_a_write_that_would_leave_too_many_siblings_changes_nothing_and_is_not_remembered():
    stored = {"assam": crowd(MOST_SIBLINGS)}

    written, changes = merge_writes(shard_of_ring(), stored, Digest(), [put_rating("assam", 5, new=1)])

    assert written == [TooMany(stored["assam"])]
    assert changes == Changes()


def test_of_two_writes_in_one_step_only_the_one_that_is_too_many_is_refused():
    stored = {"assam": crowd(MOST_SIBLINGS - 1)}
    writes = [put_rating("assam", 5, new=1), put_rating("assam", 5, newer=1), put_rating("assam", 6, new=2)]

    written, changes = merge_writes(shard_of_ring(), stored, Digest(), writes)

    full = merge(stored["assam"], [sibling(5, new=1)])
    settled = merge(stored["assam"], [sibling(6, new=2)])
    assert written == [Written(full, "stored"), TooMany(full), Written(settled, "stored")]
    assert changes.values == {"assam": settled}
    assert [record.value for record in changes.remembered] == [full, settled]


@pytest.mark.parametrize(
    ("write", "outcome"), [(put_rating("assam", 7, c7=1), "same"), (put_rating("assam", 1, c7=0), "stale")]
)
def test_a_write_that_changes_nothing_is_never_one_too_many(write, outcome):
    stored = {"assam": crowd(MOST_SIBLINGS + 50)}

    [written], _ = merge_writes(shard_of_ring(), stored, Digest(), [write])

    assert written == Written(stored["assam"], outcome)


def test_gossip_may_leave_any_number_of_siblings():
    stored = {"assam": crowd(MOST_SIBLINGS)}

    changes = merge_gossip(shard_of_ring(), stored, Digest(), [gossip("db2", "assam", sibling(5, new=1))])

    assert len(changes.values["assam"].siblings) == MOST_SIBLINGS + 1


def test_gossip_that_would_leave_a_whole_crowd_is_set_aside():
    stored = {"assam": crowd(MOST_HELD)}
    told = gossip("db2", "assam", sibling(5, new=1))

    changes = merge_gossip(shard_of_ring(), stored, Digest(), [told])

    assert changes == Changes(set_aside=[wire.encode_record(told)])


@pytest.mark.parametrize("primary", ["evil", "db3", "db", "db-1", "db00", "db0 ", "DB0"])
def test_a_record_of_no_shard_of_the_ring_is_told_on_only_where_it_changed_something(primary):
    """It has no home where it stops, and would go round for ever."""
    stored = {"assam": UNRATED}
    told = gossip(primary, "assam", sibling(5, c0=1))

    first = merge_gossip(shard_of_ring(ndb=3), stored, Digest(), [told])
    second = merge_gossip(shard_of_ring(ndb=3), first.values, Digest(), [told])

    assert (first.values, first.remembered) == ({"assam": told.value}, [told])
    assert second == Changes()


def test_a_write_leaves_what_was_loaded_alone():
    stored = {"assam": value_of(sibling(5, c0=1))}

    merge_writes(shard_of_ring(), stored, Digest(), [put_rating("assam", 2, c0=2)])

    assert stored == {"assam": value_of(sibling(5, c0=1))}


def test_no_writes_change_nothing():
    assert merge_writes(shard_of_ring(digest_length=2), {}, Digest(1), []) == ([], Changes())


# ---- what is remembered of a write


def test_a_write_is_remembered_with_the_merged_value_under_the_name_of_this_shard():
    """The shard that took the write, not the one that a hash would choose."""
    stored = {"assam": value_of(sibling(5, c0=1))}

    _, changes = merge_writes(shard_of_ring(2), stored, Digest(), [put_rating("assam", 2, c1=1)])

    assert changes.remembered == [gossip("db2", "assam", sibling(5, c0=1), sibling(2, c1=1))]


@pytest.mark.parametrize("write", [put_rating("assam", 1, c0=1), put_rating("assam", 5, c0=2)], ids=["stale", "same"])
def test_a_write_that_changes_nothing_is_remembered_with_the_value_that_stands(write):
    stored = {"assam": value_of(sibling(5, c0=2))}

    _, changes = merge_writes(shard_of_ring(digest_length=1), stored, Digest(), [write])

    assert changes.remembered == [gossip("db0", "assam", sibling(5, c0=2))]
    assert changes.now_due == 1


def test_the_only_shard_stores_and_remembers_nothing():
    """With ndb 1 nothing is sent or taken, so nothing may pile up."""
    alone = shard_of_ring(3, ndb=1, digest_length=1)

    written, changes = merge_writes(alone, {"assam": UNRATED}, Digest(), [put_rating("assam", 5, c0=1)] * 3)

    assert [each.outcome for each in written] == ["stored", "same", "same"]
    assert changes == Changes(values={"assam": value_of(sibling(5, c0=1))})


def test_the_only_shard_forwards_nothing():
    alone = shard_of_ring(0, ndb=1, digest_length=1)

    changes = merge_gossip(alone, {"assam": UNRATED}, Digest(), [gossip("db1", "assam", sibling(5, c0=1))])

    assert changes.remembered == []
    assert changes.now_due == 0


# ---- when the digest becomes due


@pytest.mark.parametrize(
    ("digest_length", "in_digest", "writes", "now_due"),
    [
        (1, 0, 1, 1),
        (1, 0, 3, 3),
        (2, 0, 1, 0),
        (2, 1, 1, 2),
        (2, 0, 2, 2),
        (2, 0, 3, 2),
        (2, 1, 2, 2),
        (2, 1, 3, 4),
        (3, 0, 2, 0),
        (3, 2, 1, 3),
        (3, 2, 3, 3),
        (3, 1, 5, 6),
        # Left from a time when digest-length was longer: whole, with the next record.
        (1, 4, 1, 5),
        (2, 5, 1, 6),
        (2, 5, 2, 6),
        (2, 5, 3, 8),
        (3, 3, 1, 4),
    ],
)
def test_a_digest_that_has_reached_digest_length_becomes_due_whole(digest_length, in_digest, writes, now_due):
    place = shard_of_ring(digest_length=digest_length)

    _, changes = merge_writes(place, {"assam": UNRATED}, Digest(in_digest), [put_rating("assam", 5, c0=1)] * writes)

    assert len(changes.remembered) == writes
    assert changes.now_due == now_due


some_stretches = st.lists(
    st.tuples(st.sampled_from(["my write", "to forward", "come home"]), st.integers(1, 7)), max_size=5
)


@LAW
@given(digest_length=st.integers(1, 4), left=st.integers(0, 6), stretches=some_stretches)
def test_the_digest_fills_as_the_course_fills_its_list(digest_length, left, stretches):
    """However many writes or records come together, and whatever was left by a longer digest-length."""
    place, standing = shard_of_ring(1, digest_length=digest_length), {"assam": UNRATED}
    write, forwarded, home = put_rating("assam", 5, c0=1), gossip("db0", "assam"), gossip("db1", "assam")

    in_digest, due = left, 0
    for kind, count in stretches:
        if kind == "my write":
            _, changes = merge_writes(place, standing, Digest(in_digest), [write] * count)
        else:
            changes = merge_gossip(
                place, standing, Digest(in_digest), [forwarded if kind == "to forward" else home] * count
            )
        in_digest += len(changes.remembered) - changes.now_due
        due += changes.now_due

    # The course: append; if the digest now has digest-length or more values, write every one; begin anew.
    digest_list, written_to_channel = ["left"] * left, []
    for kind, count in stretches:
        for _ in range(0 if kind == "come home" else count):
            digest_list.append(kind)
            if len(digest_list) >= digest_length:
                written_to_channel += digest_list
                digest_list = []
    assert (in_digest, due) == (len(digest_list), len(written_to_channel))


def test_what_is_forwarded_counts_in_the_digest():
    """Else forceGossip fails: its shards are never written to often enough."""
    place = shard_of_ring(1, digest_length=2)

    changes = merge_gossip(place, {"assam": UNRATED}, Digest(1), [gossip("db0", "assam", sibling(5, c0=1))])

    assert changes.now_due == 2


def test_several_records_in_one_step_fill_the_digest_one_by_one():
    place = shard_of_ring(1, digest_length=2)
    records = [gossip("db0", "assam", sibling(rating, c0=rating)) for rating in (1, 2, 3)]

    changes = merge_gossip(place, {"assam": UNRATED}, Digest(), records)

    assert len(changes.remembered) == 3
    assert changes.now_due == 2


# ---- gossip


def test_gossip_is_merged_into_what_stands():
    stored = {"assam": value_of(sibling(5, c0=1), sibling(2, c1=1))}

    changes = merge_gossip(
        shard_of_ring(1), stored, Digest(), [gossip("db0", "assam", sibling(4, c0=2), sibling(3, c2=1))]
    )

    assert changes.values == {"assam": value_of(sibling(4, c0=2), sibling(2, c1=1), sibling(3, c2=1))}
    assert changes.removed == []


def test_gossip_is_passed_on_merged_and_under_its_own_primary():
    stored = {"assam": value_of(sibling(2, c1=1))}

    changes = merge_gossip(shard_of_ring(1), stored, Digest(), [gossip("db0", "assam", sibling(5, c0=1))])

    assert changes.remembered == [gossip("db0", "assam", sibling(5, c0=1), sibling(2, c1=1))]


def test_gossip_that_changes_nothing_is_passed_on_all_the_same():
    stored = {"assam": value_of(sibling(5, c0=2))}

    changes = merge_gossip(shard_of_ring(1), stored, Digest(), [gossip("db0", "assam", sibling(1, c0=1))])

    assert changes == Changes(remembered=[gossip("db0", "assam", sibling(5, c0=2))], now_due=1)


def test_a_record_that_comes_home_is_dropped():
    """It has been all round the ring. What it brings along was passed on by the others under their own names."""
    place = shard_of_ring(1, digest_length=1)

    changes = merge_gossip(place, {"assam": UNRATED}, Digest(), [gossip("db1", "assam", sibling(5, c0=1))])

    assert changes == Changes()


def test_a_record_that_comes_home_does_not_count_in_the_digest():
    place = shard_of_ring(1, digest_length=2)
    records = [gossip("db1", "assam", sibling(5, c0=1)), gossip("db0", "sencha", sibling(3, c0=1))]

    changes = merge_gossip(place, {"assam": UNRATED, "sencha": UNRATED}, Digest(), records)

    assert changes.remembered == [gossip("db0", "sencha", sibling(3, c0=1))]
    assert changes.now_due == 0


def test_a_shard_knows_its_name_from_longer_ones():
    """db1 is not db10."""
    changes = merge_gossip(
        shard_of_ring(1, ndb=11), {"assam": UNRATED}, Digest(), [gossip("db10", "assam", sibling(5, c0=1))]
    )

    assert changes.values == {"assam": value_of(sibling(5, c0=1))}


def test_several_records_about_one_tea_in_one_step_build_on_each_other():
    records = [
        gossip("db0", "assam", sibling(1, c0=1)),
        gossip("db2", "assam", sibling(2, c1=1)),
        gossip("db0", "assam", sibling(0, c0=0)),
    ]

    changes = merge_gossip(shard_of_ring(1), {"assam": UNRATED}, Digest(), records)

    first, both = value_of(sibling(1, c0=1)), value_of(sibling(1, c0=1), sibling(2, c1=1))
    assert changes.values == {"assam": both}
    assert changes.remembered == [
        Record("db0", "assam", first),
        Record("db2", "assam", both),
        Record("db0", "assam", both),
    ]


def test_gossip_leaves_what_was_loaded_alone():
    stored = {"assam": value_of(sibling(5, c0=1))}

    merge_gossip(shard_of_ring(1), stored, Digest(), [gossip("db0", "assam", sibling(2, c0=2))])

    assert stored == {"assam": value_of(sibling(5, c0=1))}


def test_no_gossip_changes_nothing():
    assert merge_gossip(shard_of_ring(digest_length=2), {}, Digest(1), []) == Changes()


# ---- a value that was damaged by hand


def test_a_write_to_a_damaged_value_changes_nothing_and_is_not_remembered():
    written, changes = merge_writes(shard_of_ring(), {"assam": DAMAGED}, Digest(), [put_rating("assam", 5, c0=1)])

    assert written == [DAMAGED]
    assert changes == Changes()


def test_a_damaged_value_does_not_hold_up_the_other_writes_of_its_step():
    stored = {"assam": DAMAGED, "sencha": UNRATED}
    writes = [put_rating("assam", 5, c0=1), put_rating("sencha", 3, c0=1), put_rating("assam", 4, c0=2)]

    written, changes = merge_writes(shard_of_ring(), stored, Digest(), writes)

    assert written == [DAMAGED, Written(value_of(sibling(3, c0=1)), "stored"), DAMAGED]
    assert changes.values == {"sencha": value_of(sibling(3, c0=1))}
    assert changes.remembered == [gossip("db0", "sencha", sibling(3, c0=1))]


def test_gossip_replaces_a_damaged_value():
    """What other shards hold is the best there is."""
    record = gossip("db0", "assam", sibling(5, c0=1))

    changes = merge_gossip(shard_of_ring(1), {"assam": DAMAGED}, Digest(), [record])

    assert changes.removed == ["assam"]
    assert changes.values == {"assam": record.value}
    assert changes.remembered == [record]


def test_a_second_record_about_a_damaged_value_adds_to_the_first():
    records = [gossip("db0", "assam", sibling(5, c0=1)), gossip("db2", "assam", sibling(2, c1=1))]

    changes = merge_gossip(shard_of_ring(1), {"assam": DAMAGED}, Digest(), records)

    assert changes.removed == ["assam"]
    assert changes.values == {"assam": value_of(sibling(5, c0=1), sibling(2, c1=1))}


def test_a_record_that_comes_home_leaves_a_damaged_value_as_it_is():
    changes = merge_gossip(shard_of_ring(1), {"assam": DAMAGED}, Digest(), [gossip("db1", "assam", sibling(5, c0=1))])

    assert changes == Changes()


def test_a_record_without_siblings_leaves_a_damaged_value_as_it_is():
    """It has nothing to put in its place."""
    changes = merge_gossip(shard_of_ring(1), {"assam": DAMAGED}, Digest(), [gossip("db0", "assam")])

    assert changes == Changes()


# ---- a ring in memory


class Ring:
    """Shards that keep what they must in memory, and channels that are lists: oldest record at the left."""

    def __init__(self, ndb, digest_length=1):
        self.places = [Place(shard_id, ndb, digest_length) for shard_id in range(ndb)]
        self.stores = [{} for _ in self.places]
        self.digests = [[] for _ in self.places]
        self.channels = {place.name: [] for place in self.places}
        self.forwarded = Counter()  # {name of a shard: how many records of others it passed on}

    def put_rating(self, shard_id, tea, rating, **entries):
        write = Write(tea, sibling(rating, **entries))
        place, digest = self.places[shard_id], self.digests[shard_id]
        _, changes = merge_writes(place, self._load(shard_id, [tea]), Digest(len(digest)), [write])
        self._store(shard_id, changes)
        return write.sibling

    def deliver_gossip(self, shard_id, records):
        place, digest = self.places[shard_id], self.digests[shard_id]
        stored = self._load(shard_id, [record.key for record in records])
        changes = merge_gossip(place, stored, Digest(len(digest)), records)
        self.forwarded[place.name] += len(changes.remembered)
        self._store(shard_id, changes)

    def fill_digest(self, shard_id):
        """Have sent what was remembered, as the course does it: by writes of something else, stale ones too."""
        place = self.places[shard_id]
        for _ in range(place.digest_length):
            if self.digests[shard_id]:
                self.put_rating(shard_id, f"noise at {place.name}", 0, c0=0)

    def channel_to(self, shard_id):
        return self.channels[self.places[shard_id].predecessor]

    def cycle(self):
        """One cycle of gossip: every shard sends what it has to tell, then hears what was waiting by then."""
        for shard_id in range(len(self.places)):
            self.fill_digest(shard_id)
        waiting = [list(self.channel_to(shard_id)) for shard_id in range(len(self.places))]
        for channel in self.channels.values():
            channel.clear()
        for shard_id, records in enumerate(waiting):
            self.deliver_gossip(shard_id, records)

    def value(self, shard_id, tea):
        return self.stores[shard_id].get(tea, UNRATED)

    def values(self, tea):
        return [self.value(shard_id, tea) for shard_id in range(len(self.places))]

    def knowing(self, tea):
        return {shard_id for shard_id, value in enumerate(self.values(tea)) if value != UNRATED}

    def _load(self, shard_id, teas):
        return {tea: self.value(shard_id, tea) for tea in teas}

    def _store(self, shard_id, changes):
        for tea in changes.removed:
            del self.stores[shard_id][tea]
        self.stores[shard_id].update(changes.values)
        digest = self.digests[shard_id]
        digest.extend(changes.remembered)
        self.channels[self.places[shard_id].name].extend(digest[: changes.now_due])
        del digest[: changes.now_due]


SIZES = pytest.mark.parametrize("ndb", [2, 3, 8])


@SIZES
@pytest.mark.parametrize("digest_length", [1, 2, 3])
def test_a_value_reaches_one_more_shard_with_each_cycle(ndb, digest_length):
    """So N - 1 cycles suffice, and fewer do not. From wherever it starts, also across the end of the ring."""
    for start in range(ndb):
        ring = Ring(ndb, digest_length)
        ring.put_rating(start, "assam", 5, c0=1)

        for cycles in range(ndb):
            assert ring.knowing("assam") == {(start + step) % ndb for step in range(cycles + 1)}
            ring.cycle()

        assert ring.values("assam") == [value_of(sibling(5, c0=1))] * ndb


@SIZES
def test_a_record_is_passed_on_once_by_each_other_shard_and_stops_at_home(ndb):
    for start in range(ndb):
        ring = Ring(ndb)
        ring.put_rating(start, "assam", 5, c0=1)

        for _ in range(ndb):
            ring.cycle()

        assert not any(ring.channels.values())
        others = {place.name for place in ring.places} - {f"db{start}"}
        assert +ring.forwarded == Counter(others)


@SIZES
def test_a_record_that_comes_twice_is_passed_on_twice_at_most_and_the_ring_comes_to_rest(ndb):
    ring = Ring(ndb)
    ring.put_rating(0, "assam", 5, c0=1)
    ring.channel_to(1).extend(list(ring.channel_to(1)))

    for _ in range(ndb):
        ring.cycle()

    assert not any(ring.channels.values())
    assert +ring.forwarded == Counter({f"db{shard_id}": 2 for shard_id in range(1, ndb)})


def test_two_shards_that_take_concurrent_writes_end_with_both_everywhere():
    ring = Ring(3)
    ring.put_rating(0, "assam", 5, c0=1)
    ring.put_rating(2, "assam", 2, c1=1)

    ring.cycle()
    ring.cycle()

    assert ring.values("assam") == [value_of(sibling(5, c0=1), sibling(2, c1=1))] * 3


def test_old_gossip_that_arrives_late_does_not_take_a_newer_value_back():
    ring = Ring(3)
    ring.put_rating(0, "assam", 5, c0=1)
    held_back = list(ring.channel_to(1))
    ring.channel_to(1).clear()
    ring.put_rating(0, "assam", 2, c0=2)
    ring.cycle()

    ring.deliver_gossip(1, held_back)

    assert ring.value(1, "assam") == value_of(sibling(2, c0=2))


def test_a_digest_that_is_not_full_is_not_sent():
    ring = Ring(2, digest_length=3)

    ring.put_rating(0, "assam", 5, c0=1)
    ring.put_rating(0, "assam", 5, c0=1)

    assert ring.channel_to(1) == []

    ring.put_rating(0, "sencha", 3, c0=1)

    assert [record.key for record in ring.channel_to(1)] == ["assam", "assam", "sencha"]


TEAS = ("assam", "sencha")
NODES = ("c0", "c1", "c2")

# One thing that happens: a write at some shard, or some of what waits for a shard is delivered to it.
some_event = st.one_of(
    st.tuples(
        st.just("write"),
        st.integers(0, 7),
        st.sampled_from(TEAS),
        st.integers(1, 3),
        st.dictionaries(st.sampled_from(NODES), st.integers(0, 2), min_size=1, max_size=3),
    ),
    st.tuples(st.sampled_from(["deliver", "deliver again later", "shuffle"]), st.integers(0, 7), st.integers(1, 4)),
)


@SIZES
@settings(max_examples=300)
@given(
    digest_length=st.integers(1, 3),
    events=st.lists(some_event, min_size=5, max_size=20),
    seed=st.integers(0, 2**32),
)
def test_after_n_minus_1_cycles_all_replicas_are_equal_whatever_happened_on_the_way(ndb, digest_length, events, seed):
    """Invariants 3 and 6: messages come late, twice and in another order; none is lost; the outcome is the same."""
    ring, chance = Ring(ndb, digest_length), random.Random(seed)
    ever_written = {tea: [] for tea in TEAS}

    for kind, shard_id, *rest in events:
        shard_id %= ndb
        waiting = ring.channel_to(shard_id)
        if kind == "write":
            tea, rating, entries = rest
            ever_written[tea].append(ring.put_rating(shard_id, tea, rating, **entries))
        elif kind == "shuffle":
            chance.shuffle(waiting)
        else:
            taken = waiting[: rest[0]]
            if kind == "deliver":
                del waiting[: len(taken)]
            ring.deliver_gossip(shard_id, taken)
    for _ in range(ndb - 1):
        for channel in ring.channels.values():
            chance.shuffle(channel)
        ring.cycle()

    for tea in TEAS:
        replicas = [wire.encode_reading(value) for value in ring.values(tea)]
        assert replicas == [wire.encode_reading(value_of(*ever_written[tea]))] * ndb
