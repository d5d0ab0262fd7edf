"""Backup and restore of a cluster that runs: take what all shards hold, and give each tea to its primary.

A backup is the merge of all replicas: every write that was acknowledged before it began is in it, and of those that
come meanwhile any. A restore merges, too: the shards join what they are given with what they hold. So it may be
repeated, nothing goes back in time, and what was rated or deleted since the backup stays.

All of it goes over calls of our own, which plain course servers do not know (docs/protocol.md).
"""

import time
from itertools import chain
from urllib.parse import quote

import msgspec

from emporium import wire
from emporium.backupfile import decode_held
from emporium.failures import BadAnswer, PeerError
from emporium.peers import Peer
from emporium.siblings import UNRATED, merge
from emporium.wire import Record

CALL_S = 3.0
TRIES = 5  # a second apart: a shard that died is back within 3 s
MOST_RECORDS = 256  # in one call
MOST_BYTES = 250 * 1024  # of records in one call, which may have 256 KiB with what is around them


class Page(msgspec.Struct):
    """The answer to GET /replica/values: gossip records, and the page behind this one."""

    values: list[msgspec.Raw]
    next: int | str | None


class Failed(Exception):
    """A shard did not do its part. The message names it."""


def shards_of(note):
    """The Peer of each shard of this running cluster, in their order."""
    ports = {service.name: service.port for service in note.services}
    names = [f"db{index}" for index in range(note.ndb)]
    return [Peer(name, "127.0.0.1", ports[name], CALL_S) for name in names]


# ---- backup


def collect(shards, primary_of, pause=time.sleep, told=lambda _how_far: None):
    """What all of these shards hold together, as Records sorted by tea. Raises Failed unless all of them tell.

    primary_of(tea, ndb) is the index of a tea's primary, and told(words) is told how far it is.
    """
    found = {}
    for shard in shards:
        before = _life_of(shard, pause)
        for tea, value in _held_by(shard, pause):
            found[tea] = merge(found.get(tea, UNRATED), value.siblings)
            if len(found) % MOST_RECORDS == 0:
                told(f"{shard.name} tells; {len(found)} teas by now")
        if _life_of(shard, pause) != before:
            raise Failed(f"{shard.name} began anew while it told what it holds: try again")
    return [
        Record(f"db{primary_of(tea, len(shards))}", tea, found[tea]) for tea in sorted(found) if found[tea].siblings
    ]


def _life_of(shard, pause):
    """The epoch of a shard that serves. One that recovers or is fenced does not know all that it should: Failed, unless
    that is soon over."""
    for tries_left in reversed(range(TRIES)):
        told = _asked(shard, "GET", "/status", None, wire.decode_object, pause)
        state = told.get("state", "serving")
        if state == "serving":
            break
        if not tries_left:
            raise Failed(f"{shard.name} is {state}; what it lacks would be missing from the backup")
        pause(1)
    return told.get("epoch")


def _held_by(shard, pause):
    """(tea, Value) of all that it holds; one may come twice."""
    page = 0
    while page is not None:
        path = f"/replica/values?page={quote(str(page), safe='')}"
        values, page = _asked(shard, "GET", path, None, _decode_page, pause)
        yield from values


def _decode_page(text):
    page = wire.decode(text, Page)
    return [decode_held(bytes(value)) for value in page.values], page.next


# ---- restore


def give_back(shards, values, primary_of, progress, pause=time.sleep):
    """Have the primary of each tea merge its Value, (tea, Value) each, in as few calls as may be. Raises Failed.

    progress(count) is told how many teas are done. They are durable with their primaries when this returns; what is
    merged so is not gossiped, and the other replicas get it by anti-entropy.
    """
    of_shards = [[] for _ in shards]
    for tea, value in values:
        of_shards[primary_of(tea, len(shards))].append((tea, value))
    done = 0
    for shard, of_one in zip(shards, of_shards, strict=True):
        for count, texts in _portions(shard.name, of_one):
            body = b'{"values":[' + b",".join(texts) + b'],"want":[]}'
            try:
                _asked(shard, "POST", "/replica/exchange", body, wire.decode_object, pause)
            except Failed as error:
                what_is = f"{done} of {len(values)} teas are restored, and the same command again restores the rest"
                raise Failed(f"{error}; {what_is}") from error
            done += count
            progress(done)


def _portions(primary, values):
    """(how many teas end in it, records as JSON texts) of each call."""
    count, texts, size = 0, [], 0
    for tea, value in values:
        for text in _pieces(Record(primary, tea, value)):
            if texts and (len(texts) == MOST_RECORDS or size + len(text) + 1 > MOST_BYTES):
                yield count, texts
                count, texts, size = 0, [], 0
            texts.append(text)
            size += len(text) + 1
        count += 1
    if texts:
        yield count, texts


def _pieces(record):
    """The record as JSON texts that a call can carry: siblings may come in parts, since the shard joins them."""
    text = wire.encode_record(record)
    siblings = record.value.siblings
    if len(siblings) < 2 or (len(text) <= MOST_BYTES and len(siblings) <= MOST_RECORDS):
        return [text]
    middle = len(siblings) // 2
    halves = (record._replace(value=merge(UNRATED, half)) for half in (siblings[:middle], siblings[middle:]))
    return list(chain.from_iterable(map(_pieces, halves)))


# ---- calls


def _asked(shard, method, path, body, decode, pause):
    """decode(what the shard answers to this), which may be asked again and again. Raises Failed."""
    tries_left = TRIES
    while True:
        tries_left -= 1
        try:
            answer = shard.call(method, path, body)
            if answer.is_ok:
                return answer.read(decode)
            trouble, is_final = _refusal(answer), answer.status != 503
        except BadAnswer as error:
            trouble, is_final = str(error), True
        except PeerError as error:
            trouble, is_final = str(error), False
        if is_final or not tries_left:
            raise Failed(f"{shard.name} at {shard.url}: {trouble}")
        pause(1)


def _refusal(answer):
    if answer.status in (404, 405):
        return f"it answered {answer.status}: it is a plain course server, which knows of no backups"
    try:
        return f"it answered {answer.status}: {answer.read(wire.decode_object).get('detail')}"
    except BadAnswer as error:
        return str(error)
