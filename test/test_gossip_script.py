"""Invariant 5: with the course's settings alone, the gossip records are exactly the course's.

The script below was worked out by hand from the assignment's "DB Gossip protocol", for a ring of 3 with
digest-length 2. A record is written `primary tea rating@clock|rating@clock`.
"""

from typing import NamedTuple

import requests
from harness import CALL_S, ring_of


class Line(NamedTuple):
    """One request straight at a shard, and the records that it must make the shard put on its channel."""

    request: str
    sent: list
    why: str


SCRIPT = [
    Line("put db0 assam 3@c0:1", [], "one record does not fill a digest"),
    Line(
        "put db0 assam 5@c0:0",
        ["db0 assam 3@c0:1", "db0 assam 3@c0:1"],
        "stale, and remembered all the same with the value that stands; the digest is sent whole",
    ),
    Line("get db2 bancha", [], "db1 has told db2 nothing yet"),
    Line(
        "put db1 bancha 4@c1:1",
        ["db1 bancha 4@c1:1", "db0 assam 3@c0:1"],
        "the first of two records from db0 fills the digest; the second begins a new one",
    ),
    Line(
        "put db1 assam 7@c5:1",
        ["db0 assam 3@c0:1", "db1 assam 3@c0:1|7@c5:1"],
        "concurrent: the record of the write carries both siblings",
    ),
    Line(
        "get db2 assam",
        ["db1 bancha 4@c1:1", "db0 assam 3@c0:1", "db0 assam 3@c0:1", "db1 assam 3@c0:1|7@c5:1"],
        "a read takes all four, and forwards each under its own primary, also those that change nothing",
    ),
    Line("put db2 chai 1@c2:1", [], "a new digest of one"),
    Line(
        "put db0 darjeeling 2@c0:4",
        ["db0 darjeeling 2@c0:4", "db1 bancha 4@c1:1"],
        "two of the four records are db0's own: they have come home and stop; the fourth stays in the digest",
    ),
    Line(
        "put db0 assam 9@c0:2,c5:1",
        ["db1 assam 3@c0:1|7@c5:1", "db0 assam 9@c0:2,c5:1"],
        "the record that was remembered before goes as it stood then",
    ),
    Line(
        "get db1 darjeeling",
        ["db0 darjeeling 2@c0:4", "db0 assam 9@c0:2,c5:1"],
        "the two records of db1 between them have come home",
    ),
    Line("put db1 assam 8@c0:1", [], "stale: a digest of one, with 9"),
    Line(
        "put db2 assam 6@c7:1",
        [
            "db2 chai 1@c2:1",
            "db2 assam 3@c0:1|7@c5:1|6@c7:1",
            "db0 darjeeling 2@c0:4",
            "db0 assam 9@c0:2,c5:1|6@c7:1",
        ],
        "the write goes first, with what db2 knows; then db0's 9 drops 3 and 7, and is forwarded as merged here",
    ),
    Line(
        "get db0 assam",
        ["db2 chai 1@c2:1", "db2 assam 9@c0:2,c5:1|6@c7:1"],
        "6 arrives in db2's record; db0's own two records stop, though the last one carries news",
    ),
    Line(
        "get db1 assam",
        ["db1 assam 9@c0:2,c5:1", "db2 chai 1@c2:1"],
        "the stale write's record goes as it stood, before the 6",
    ),
    Line(
        "put db2 bancha 4@c1:1",
        ["db2 bancha 4@c1:1", "db1 assam 9@c0:2,c5:1|6@c7:1"],
        "the same pair again is a write like any other; chai has come home",
    ),
]

ANSWERS = {"get db2 assam": [3, 7], "get db1 darjeeling": [2], "get db0 assam": [9, 6], "get db1 assam": [9, 6]}


def test_the_records_are_exactly_those_of_the_assignment(tmp_path):
    with ring_of(3, tmp_path, digest_length=2) as course:
        for number, line in enumerate(SCRIPT, start=1):
            shard = int(line.request.split()[1].removeprefix("db"))
            before = records_on(course, shard)

            answer = carry_out(course, shard, line.request)

            at = f"line {number}, {line.request}: {line.why}"
            assert records_on(course, shard)[len(before) :] == [record(text) for text in line.sent], at
            assert records_on(course, course.next_to(shard, -1)) == [], f"{at}: its predecessor's channel is drained"
            if line.request in ANSWERS:
                assert answer["choices"] == ANSWERS[line.request], at


def carry_out(course, shard, request):
    method, _shard, tea, *value = request.split()
    if method == "get":
        return course.read_at(shard, tea)
    [(rating, clock)] = pairs(*value)
    return course.put_at(shard, tea, rating, clock)


def records_on(course, shard):
    """What waits on the shard's channel; looking at it from the beginning takes nothing away."""
    url = f"{course.stage.cluster.queue.url}/channel/db{shard}/take"
    return requests.post(url, json={"cursor": None}, timeout=CALL_S).json()["records"]


def record(text):
    primary, tea, value = text.split()
    choices, clocks = zip(*pairs(value), strict=True)
    return {
        "primary": primary,
        "key": tea,
        "rating": sum(choices) / len(choices),
        "choices": list(choices),
        "clocks": list(clocks),
    }


def pairs(value):
    """'3@c0:1|7@c5:1' as [(3, {"c0": 1}), (7, {"c5": 1})]."""
    found = []
    for pair in value.split("|"):
        rating, _, clock = pair.partition("@")
        entries = (entry.split(":") for entry in clock.split(","))
        found.append((int(rating), {node: int(count) for node, count in entries}))
    return found
