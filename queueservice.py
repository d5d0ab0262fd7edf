"""The Python client of the queue service.

    queue = Queue(6000)
    queue.put("db3", {"primary": "db0", "key": "white-tea", "rating": 1, "choices": [2], "clocks": [clock]})
    message = queue.get("db3")        a dict, or None when nothing waits

    for job in queue.lease("jobs", most=10, lease_s=30, wait_s=5):
        work_on(job.message)
        queue.ack("jobs", [job.receipt])        else it is given out again after 30 s

VectorClocks go in a list. Under the name `clocks` such a list travels as the assignment's curl line shows it,
[{"c0": 1}, ...]; under any other name it is wrapped as the course's own client does it,
{"CLOCK_LIST_XXX": [{"c0": 1}, ...]}, so that it comes back as it went. `get` reads both.

Every call has a deadline and raises a PeerError: NotReached (surely not done), NoAnswer (it may have been done)
or BadAnswer (the message says why; Refused, which is one, when it lies with what was put).

Source: the assignment's "The queue service (Q)".
"""

from typing import NamedTuple
from urllib.parse import quote

from emporium import wire
from emporium.failures import BadAnswer, NoAnswer, NotReached, PeerError
from emporium.peers import Peer
from vectorclock import VectorClock

__all__ = ["BadAnswer", "Leased", "NoAnswer", "NotReached", "PeerError", "Queue", "Refused", "Taken"]

DEADLINE_S = 0.2
LOOK_S = 1.0  # for a look at many records


class Refused(BadAnswer):
    """The queue will not have this message, however often it is put."""


class Taken(NamedTuple):
    """What a take brought: JSON texts, the cursor behind them, and how many are left behind that."""

    records: list
    cursor: wire.Cursor | None
    left: int


class Leased(NamedTuple):
    """A message that is ours until its lease ends, and its number in the channel.

    deliveries  how often it has been given out, this time included
    receipt     what `ack` and `release` want
    """

    message: dict
    offset: int
    deliveries: int
    receipt: str


class Queue:
    """The queue on `qport` of this machine. Safe to share between threads."""

    def __init__(self, qport, host="127.0.0.1", deadline_s=DEADLINE_S):
        self.peer = Peer("the queue", host, qport, deadline_s)

    # ---- as in the course

    def put(self, channel, message):
        """Put a copy of the dict `message` at the end of the channel. Returns how many wait there now.

        Raises TypeError for a message that is no dict, or holds a clock outside of a list.
        """
        return self._put_text(channel, _packed(message))

    def get(self, channel, wait_s=0):
        """The first waiting message, removed from the channel; None when nothing waits, or comes within `wait_s`.

        Only our own queue can wait.
        """
        if wait_s:
            messages = self._post(channel, "get", {"wait_s": wait_s}, wait_s)["records"]
            return _unpacked(messages[0]) if messages else None
        message = _accepted(self.peer.call("GET", _q(channel), may_repeat=False)).read()
        return _unpacked(message) if message else None

    def put_many(self, channel, messages):
        """Put copies of these dicts in one call, in their order: all of them, or none (of a plain queue: see put_all).

        Raises TypeError as `put` does, and then nothing is put.
        """
        return self.put_all(channel, [_packed(message) for message in messages])

    def clear(self):
        """Empty all channels. Returns {channel: how many had waited}."""
        return _accepted(self.peer.call("DELETE", "/clear")).read()

    # ---- for consumers that keep no cursor; our own queue only

    def lease(self, channel, most=1, lease_s=30, wait_s=0):
        """At most `most` messages as Leased, none when nothing waits, or comes within `wait_s`.

        They wait again, for anyone, when they are not acknowledged within `lease_s`, or when the queue dies.
        """
        asked = {"most": most, "lease_s": lease_s, "wait_s": wait_s}
        leased = self._post(channel, "lease", asked, wait_s)["leased"]
        return [Leased(_unpacked(each.pop("record")), **each) for each in leased]

    def ack(self, channel, receipts):
        """Be done with leased messages; safe to repeat. Returns the receipts that are no good any more."""
        return self._post(channel, "ack", {"receipts": list(receipts)})["stale"]

    def release(self, channel, receipts):
        """Let others have leased messages at once. Returns the receipts that are no good any more."""
        return self._post(channel, "release", {"receipts": list(receipts)})["stale"]

    # ---- to look at, without taking anything; our own queue only

    def peek(self, channel, offset=0, most=10):
        """At most `most` messages from number `offset` on, done with or not, as {"offset", "put_at", "record"}."""
        found = _accepted(self.peer.call("GET", f"{_channel(channel, 'peek')}?offset={offset}&most={most}")).read()
        return [{**each, "record": _unpacked(each["record"])} for each in found["records"]]

    def info(self, channel):
        """Where the channel stands, as docs/protocol.md lists it."""
        return _accepted(self.peer.call("GET", _channel(channel, "info"))).read()

    def channels(self):
        """{channel: its info}."""
        return _accepted(self.peer.call("GET", "/channels")).read()["channels"]

    # ---- many at once, for shards

    def put_all(self, channel, records):
        """Put JSON texts (bytes) at the end of the channel, in their order: one call, or one each to a plain queue.

        Returns how many wait there now. Our queue puts all or none of them. Of a plain one that fails, some may have
        been put.
        """
        answer = self.peer.call_ours(_channel(channel, "put"), wire.encode_records(records))
        if answer is not None:
            return _accepted(answer).read()["length"]
        length = None
        for record in records:
            length = self._put_text(channel, record)
        return length

    def take(self, channel, cursor, most=wire.MOST_RECORDS):
        """The Taken: at most `most` of what waits behind `cursor`.

        The queue forgets the records up to `cursor` (None: none yet) and keeps those it answers until a later
        call names them, so one that dies in between gets them again. A plain queue has no cursors: it gives one
        record, forgets it at once, the cursor stays as it was, and nobody knows what is left.
        """
        answer = self.peer.call_ours(_channel(channel, "take"), wire.encode_take(cursor, most))
        if answer is not None:
            return Taken(*_accepted(answer).read(wire.decode_taken))
        return self._get_text(channel, cursor)

    def exchange(self, channel, records, predecessor, cursor, most):
        """put_all(channel, records), and take(predecessor, cursor, most), in one call. `most` may be 0."""
        body = wire.encode_exchange(channel, records, predecessor, cursor, most)
        answer = self.peer.call_ours("/exchange", body)
        if answer is not None:
            return Taken(*_accepted(answer).read(wire.decode_taken))
        for record in records:
            self._put_text(channel, record)
        return self._get_text(predecessor, cursor) if most else Taken([], cursor, 0)

    def held(self, channel):
        """JSON texts of all records that our queue still has of the channel, done with or not; [] of a plain one."""
        texts, offset = [], 0
        while True:
            path = f"{_channel(channel, 'peek')}?offset={offset}&most={wire.MOST_RECORDS}"
            answer = self.peer.call("GET", path, deadline_s=LOOK_S)
            if answer.status == 404:
                return texts
            found = _accepted(answer).read(wire.decode_peeked)
            if not found:
                return texts
            texts += [text for _, text in found]
            offset = found[-1][0] + 1

    def _post(self, channel, what, asked, wait_s=0):
        deadline_s = self.peer.deadline_s + wait_s
        return _accepted(self.peer.call("POST", _channel(channel, what), wire.encode(asked), deadline_s)).read()

    def _get_text(self, channel, cursor):
        answer = _accepted(self.peer.call("GET", _q(channel), may_repeat=False))
        return Taken([answer.body], cursor, 1) if answer.read() else Taken([], cursor, 0)

    def _put_text(self, channel, text):
        counted = _accepted(self.peer.call("PUT", _q(channel), text)).read()
        return counted.get("length") if isinstance(counted, dict) else None


def _q(channel):
    return f"/q/{quote(channel, safe='')}"


def _channel(channel, what):
    return f"/channel/{quote(channel, safe='')}/{what}"


def _accepted(answer):
    if answer.is_ok:
        return answer
    # Other statuses, such as 404, say that this is no queue at all: what waits for one must not be given up for that.
    kind = Refused if answer.status in (400, 413, 422) else BadAnswer
    raise kind(f"the queue answered {answer.status}: {answer.body[:200].decode(errors='replace')}")


def _packed(message):
    if not isinstance(message, dict):
        raise TypeError(f"a message is a dict, not {type(message).__name__}")
    return wire.encode({name: _pack(name, value) for name, value in message.items()})


def _pack(name, value):
    if isinstance(value, VectorClock):
        raise TypeError(f"{name}: a single clock must be wrapped in a list: [clock]")
    if not isinstance(value, list) or not any(isinstance(item, VectorClock) for item in value):
        return value
    if not all(isinstance(item, VectorClock) for item in value):
        raise TypeError(f"{name}: a list holds either clocks only or none")
    clocks = [clock.asDict() for clock in value]
    return clocks if name == "clocks" else {wire.CLOCK_LIST_TAG: clocks}


def _unpacked(message):
    return {name: _unpack(name, value) for name, value in message.items()}


def _unpack(name, value):
    if isinstance(value, dict) and set(value) == {wire.CLOCK_LIST_TAG}:
        value = value[wire.CLOCK_LIST_TAG]
    elif name != "clocks":
        return value
    if not isinstance(value, list) or not all(isinstance(entries, dict) for entries in value):
        return value
    return [VectorClock.fromDict(entries) for entries in value]
