"""Which event of a write led to which: the arrows of a space-time diagram, and its lanes."""

import random

from emporium.view.spacetime import trace_of


def event(at, service, name, **members):
    return {"at": at, "service": service, "event": name, "tea": "oolong", "request": "r1", **members}


# A write at db0 of a ring of two with digest-length 1, as services record it: the queue notes a put, confirms
# it, and then its sender notes that it was told.
WRITE = [
    event(1.0, "lb", "received", method="PUT"),
    event(1.1, "lb", "sent", peer="db0", together=1),
    event(1.2, "db0", "arrived", method="PUT"),
    event(1.3, "db0", "merged", outcome="stored"),
    event(1.4, "db0", "stored", peer="r0"),
    event(1.5, "db0", "remembered", digest="1 of 1"),
    event(1.6, "db0", "due"),
    event(1.7, "q", "put", channel="db0"),
    event(1.8, "db0", "told", channel="db0"),
    event(1.9, "db0", "answered", status=200),
    event(2.0, "lb", "answered", status=200),
    event(3.0, "q", "taken", channel="db0"),
    event(3.1, "db1", "heard", channel="db0"),
    event(3.2, "db1", "merged", outcome="changed"),
    event(3.3, "db1", "stored", peer="r1"),
]


def arrows(trace):
    """{(service event, service event)} in words."""
    words = [f"{each['lane']} {each['event']}" for each in trace["events"]]
    return [(words[arrow["from"]], words[arrow["to"]]) for arrow in trace["arrows"]]


def test_a_write_leads_from_the_balancer_round_the_ring():
    trace = trace_of("r1", WRITE, ndb=2)

    assert arrows(trace) == [
        ("lb sent", "db0 arrived"),
        ("db0 merged", "r0 stored"),
        ("db0 due", "q put"),
        ("q put", "db0 told"),
        ("q put", "q taken"),
        ("db0 answered", "lb answered"),
        ("q taken", "db1 heard"),
        ("db1 merged", "r1 stored"),
    ]
    assert trace["tea"] == "oolong"


def test_no_arrow_leads_back_in_time():
    trace = trace_of("r1", WRITE, ndb=2)

    assert all(each["from"] < each["to"] for each in trace["arrows"])


def test_the_order_in_which_services_told_their_events_does_not_matter():
    shuffled = random.Random(7).sample(WRITE, len(WRITE))

    assert trace_of("r1", shuffled, ndb=2) == trace_of("r1", WRITE, ndb=2)


def test_lanes_are_those_of_the_ring_and_redis_is_beside_its_shard():
    few = [WRITE[0], WRITE[4]]

    assert trace_of("r1", few, ndb=2)["lanes"] == ["lb", "db0", "r0", "db1", "r1", "q"]
    assert trace_of("r1", few)["lanes"] == ["lb", "r0"]
    assert trace_of("r1", [event(1, "db10", "read"), event(2, "db9", "read")])["lanes"] == ["db9", "db10"]


def test_each_record_of_a_channel_is_put_taken_and_heard_once():
    twice = [
        event(1.0, "q", "put", channel="db0"),
        event(1.1, "db0", "told", channel="db0"),
        event(2.0, "q", "put", channel="db0"),
        event(2.1, "db0", "told", channel="db0"),
        event(3.0, "q", "taken", channel="db0"),
        event(3.0, "q", "taken", channel="db0"),
        event(3.1, "db1", "heard", channel="db0"),
        event(3.1, "db1", "heard", channel="db0"),
    ]

    pairs = [(each["from"], each["to"]) for each in trace_of("r1", twice, ndb=2)["arrows"]]

    assert pairs == [(0, 1), (0, 4), (2, 3), (2, 5), (4, 6), (5, 7)]


def test_arrows_stay_within_their_channel():
    mixed = [event(1.0, "q", "put", channel="db1"), event(1.1, "db0", "told", channel="db0")]

    assert trace_of("r1", mixed, ndb=2)["arrows"] == []


def test_what_was_not_kept_leaves_out_its_arrows():
    late = [each for each in WRITE if each["at"] >= 3.0]

    assert arrows(trace_of("r1", late, ndb=2)) == [("q taken", "db1 heard"), ("db1 merged", "r1 stored")]
    assert trace_of("r1", [], ndb=1)["arrows"] == []


def test_a_weak_read_that_went_on_was_answered_by_the_last_shard():
    read = [
        event(1.0, "lb", "sent", peer="db0"),
        event(1.5, "lb", "sent", peer="db1"),
        event(1.6, "db1", "arrived", method="GET"),
        event(1.7, "db1", "answered", status=200),
        event(1.8, "lb", "answered", status=200),
        event(9.0, "db0", "arrived", method="GET"),
    ]

    assert arrows(trace_of("r1", read, ndb=2)) == [
        ("lb sent", "db0 arrived"),
        ("lb sent", "db1 arrived"),
        ("db1 answered", "lb answered"),
    ]
