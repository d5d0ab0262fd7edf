"""What a trace event (docs/protocol.md, GET /trace) says, in words, and when its write began. Pure.

{"event": "merged", "service": "db0", "outcome": "stored", "choices": [3], "clocks": [{"c0": 5}], ...}
merged: stored; 3 at c0=5
"""

from emporium.screen import printable

READS = ("GET", "HEAD")
MOST_WRITES = 1000  # of which is known when they began
MOST_READS = 10_000  # that are told from writes
BEGINNINGS = ("received", "arrived")  # the first event of a request, at the load balancer or straight at a shard
OUTCOMES = {
    "stored": "stored",
    "stale": "stale, a newer rating stands",
    "same": "it was there already",
    "changed": "it was news",
    "home": "it came home, and is dropped",
    "aside": "it is set aside",
}
USUAL = {"n", "at", "service", "event", "tea", "request", "primary", "choices", "clocks", "lane"}


def is_event(event):
    """Whether it is one: an object with a time, a service and a name."""
    return (
        isinstance(event, dict)
        and isinstance(event.get("at"), int | float)
        and isinstance(event.get("service"), str)
        and isinstance(event.get("event"), str)
    )


def words_of(event):
    """One line that says it, without the time and the service."""
    name, peer, channel = (event.get(each) for each in ("event", "peer", "channel"))
    outcome = OUTCOMES.get(event.get("outcome"), event.get("outcome"))
    value = value_of(event)
    match name:
        case "received" | "arrived":
            method = event.get("method", "request")
            rating = f" {event['rating']}" if event.get("rating") is not None else ""
            words = f"{name} {method}{rating}{f' at {clock_of(event)}' if clock_of(event) else ''}"
        case "sent":
            together = event.get("together") or 1
            words = f"sent to {peer}" + (f", with {together - 1} more" if together > 1 else "")
        case "answered":
            words = f"answered {event.get('status', '')}".rstrip() + (f", {outcome}" if outcome else "")
        case "merged":
            gossip = event.get("outcome") in ("changed", "home", "aside") or event.get("primary") != event["service"]
            what = f"gossip of {event['primary']}" if gossip and event.get("primary") else "merged"
            words = f"{what}: {outcome}" + (f"; {value}" if value else "")
        case "stored":
            words = f"stored in {peer}"
        case "remembered":
            digest = event.get("digest")
            words = "remembered for gossip" + (f", digest {digest}" if digest else "")
        case "replaced":
            words = "replaced in the digest by a newer record of this tea"
        case "due":
            words = "due to be told"
        case "told":
            words = f"told on channel {channel}"
        case "heard":
            words = f"heard on channel {channel}" + (f": {value}" if value else "")
        case "put":
            words = f"put on channel {channel}" + (f": {value}" if value else "")
        case "taken":
            words = f"taken from channel {channel}"
        case "read":
            words = "read" + (f": {value}" if value else "")
        case "compared" if peer == event["service"]:  # a restore gives to each shard in its own name
            words = "restored from a backup" + (f": {value}; {outcome}" if value else f": {outcome}")
        case "compared":
            words = f"compared with {peer}, which has {value or 'it'}" + (f"; {outcome}" if outcome else "")
        case _:  # of a server that tells more than we know
            rest = [f"{key} {what}" for key, what in event.items() if key not in USUAL]
            words = ", ".join([str(name), *rest, *([value] if value else [])])
    return printable(words)


def value_of(event):
    """'3 at c0=5 | 4 at c1=1', of its choices and clocks; '' without any."""
    choices, clocks = event.get("choices"), event.get("clocks")
    if not isinstance(choices, list) or not isinstance(clocks, list):
        return ""
    return " | ".join(
        f"{'deleted' if choice is None else choice} at {_clock(clock)}"
        for choice, clock in zip(choices, clocks, strict=False)
    )


def clock_of(event):
    """'c0=5,c1=2', of the one clock that was sent; '' without any."""
    clocks = event.get("clocks")
    return _clock(clocks[0]) if isinstance(clocks, list) and len(clocks) == 1 else ""


def _clock(clock):
    if not isinstance(clock, dict):
        return str(clock)
    return ",".join(f"{node}={count}" for node, count in clock.items()) or "no clock"


def by_write(events):
    """These events, which are sorted by time, write after write; what names none stays between the writes."""
    first = {}
    for event in events:
        first.setdefault(event.get("request"), event["at"])
    return sorted(events, key=lambda event: first[event["request"]] if event.get("request") else event["at"])


def missing_from(events, since):
    """The services that should have more to tell of one of these writes, and whose traces begin after it, sorted.

    since  {service: from when on it has kept all}
    """
    told = {(event.get("request"), event["service"], event["event"]) for event in events}
    missing = set()
    for event in events:
        request = event.get("request")
        if request is None:
            continue
        for service, name in _others_of(event):
            if (request, service, name) not in told and since.get(service, 0) > event["at"]:
                missing.add(service)
    return sorted(missing)


def _others_of(event):
    """(service, event) of what else has happened elsewhere, since this has."""
    match event["event"]:
        case "arrived":
            yield "lb", "received"  # perhaps: some write straight to a shard
        case "sent":
            yield event.get("peer"), "arrived"
        case "told":
            yield "q", "put"
    if event.get("primary"):
        yield event["primary"], "arrived"


def forget_oldest(known, most):
    """Leave at most so many in a dict: the newest."""
    for key in list(known)[: max(0, len(known) - most)]:
        del known[key]


class Writes:
    """When each write began, of the newest ones, from the events that were added so far, in any order."""

    def __init__(self):
        self._began = {}  # {request: when}, of writes
        self._reads = {}  # {request: True}; the oldest first, as above

    def add(self, events):
        for event in events:
            request = event.get("request")
            if request is None or event.get("event") not in BEGINNINGS:
                continue
            if event.get("method") in READS:
                self._reads[request] = True
            elif event.get("method"):
                self._began[request] = min(event["at"], self._began.get(request, event["at"]))
        forget_oldest(self._began, MOST_WRITES)
        forget_oldest(self._reads, MOST_READS)

    @property
    def newest(self):
        """The request of the newest write, None while none is known."""
        return max(self._began, key=self._began.get, default=None)

    def is_read(self, event):
        """Whether it belongs to a request that only reads."""
        return event.get("request") in self._reads or event.get("method") in READS

    def began(self, event):
        """When the write began to which it belongs; None where that is not known, or it names none."""
        return self._began.get(event.get("request"))
