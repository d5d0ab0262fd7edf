"""A space-time diagram of one write: a lane for each process, its events from top to bottom, and arrows. Pure.

    lb     db0    r0     db1    r1     q
    received
    sent --> arrived
             merged --> stored
             due -----------------------> put
             told <-----------------------'
    answered <-'                          taken
                         heard <----------'
                         merged -> stored

Which event led to which is not written down anywhere: it follows from the order of the algorithm (docs/protocol.md). An
event is {"at": seconds since the epoch, "service", "event", ...}; all of one diagram are of one write. The clocks of
processes on one machine agree. A shard notes `told` when the queue has confirmed that it put the record.

Source: Lamport, "Time, Clocks, and the Ordering of Events", 1978.
"""

ANSWERING = ("answered", "read", "remembered", "merged", "arrived")  # of a shard: the first that is there is its answer
ACKNOWLEDGED_S = 1.0  # at most so long before `told` may its `put` be


def trace_of(request, events, ndb=None):
    """TRACE: the events sorted by time, each with its lane, the lanes, and the arrows.

    ndb  how many shards there are; None: as many as the events tell of
    """
    ordered = [{**event, "lane": lane_of(event)} for event in sorted(events, key=lambda event: event["at"])]
    return {
        "request": request,
        "tea": next((event["tea"] for event in ordered if event.get("tea")), None),
        "lanes": lanes_of(ordered, ndb),
        "events": ordered,
        "arrows": arrows_of(ordered),
    }


def lane_of(event):
    """The lane that the event is in: what a shard has stored is in that of its Redis."""
    return event.get("peer") or event["service"] if event["event"] == "stored" else event["service"]


def lanes_of(events, ndb=None):
    """lb, db0, r0, db1, r1, ..., q; of a ring of unknown size those that have events."""
    seen = {lane_of(event) for event in events}
    if ndb is None:
        return sorted(seen, key=_place)
    ring = [lane for index in range(ndb) for lane in (f"db{index}", f"r{index}")]
    return sorted(seen | {"lb", *ring, "q"}, key=_place)


def _place(lane):
    index = lane.lstrip("dbr")
    if lane in ("lb", "q") or not index.isdecimal():
        return {"lb": (0, 0, ""), "q": (2, 0, "")}.get(lane, (3, 0, lane))
    return 1, int(index), lane


def arrows_of(events):
    """[{"from": i, "to": j}], indexes into these events, which are sorted by time."""
    arrows = sorted({*_to_the_shard(events), *_back(events), *_to_redis(events), *_through_the_queue(events)})
    return [{"from": begin, "to": end} for begin, end in arrows]


def _to_the_shard(events):
    """The load balancer sent it, and there it arrived."""
    taken = set()
    for number, sent in _all(events, "sent", "lb"):
        end = _first(events, taken, number, "arrived", sent.get("peer"))
        if end is not None:
            yield number, end


def _back(events):
    """The shard answered, and so did the load balancer."""
    for number, _ in _all(events, "answered", "lb"):
        asked = [event.get("peer") for _, event in _all(events[:number], "sent", "lb")]
        of_shard = [index for index in range(number) if asked and events[index]["service"] == asked[-1]]
        for name in ANSWERING:
            if found := [index for index in of_shard if events[index]["event"] == name]:
                yield found[-1], number
                break


def _to_redis(events):
    """What a shard merged was stored by the next EXEC."""
    merged = {}  # {shard: its last merge}
    for number, event in enumerate(events):
        if event["event"] in ("merged", "compared"):
            merged[event["service"]] = number
        elif event["event"] == "stored" and event["service"] in merged:
            yield merged[event["service"]], number


def _through_the_queue(events):
    """A record was due, the queue put it, and so it was told; it was taken, and heard; each once, in the order of its
    channel."""
    dues, puts, takes, hearings = set(), set(), set(), set()
    for number, told in _all(events, "told"):
        begin = _put_of(events, puts, number, told)
        if begin is not None:
            yield begin, number
    for number, put in _all(events, "put", "q"):
        begin = _last(events, dues, number, "due", put.get("channel"))  # a shard's channel has its name
        if begin is not None:
            yield begin, number
        end = _first(events, takes, number, "taken", "q", put.get("channel"))
        if end is not None:
            yield number, end
    for number, took in _all(events, "taken", "q"):
        end = _first(events, hearings, number, "heard", None, took.get("channel"))
        if end is not None:
            yield number, end


def _put_of(events, used, number, told):
    """The index of the put that the queue has acknowledged with this `told`: the last one before it on its channel."""
    for index in range(number, -1, -1):
        event = events[index]
        if event["at"] < told["at"] - ACKNOWLEDGED_S:
            return None
        if index not in used and event["event"] == "put" and event.get("channel") == told.get("channel"):
            used.add(index)
            return index
    return None


def _last(events, used, end, name, service):
    """The index of the last such event before `end` from which no other arrow has led yet; None when there is none."""
    for number in range(end - 1, -1, -1):
        event = events[number]
        if number not in used and (event["event"], event["service"]) == (name, service):
            used.add(number)
            return number
    return None


def _all(events, name, service=None):
    for number, event in enumerate(events):
        if event["event"] == name and service in (None, event["service"]):
            yield number, event


def _first(events, used, begin, name, service=None, channel=None):
    """The index of the first such event after `begin` that no other arrow has led to yet; None when there is none."""
    for number in range(begin + 1, len(events)):
        event = events[number]
        if (
            number not in used
            and event["event"] == name
            and service in (None, event["service"])
            and channel in (None, event.get("channel"))
        ):
            used.add(number)
            return number
    return None
