"""The state of the whole ring at one moment, as a page shows it, from what each service told. Pure.

What a service does not tell, as servers of strangers do not, is null. docs/protocol.md lists the members.
"""

from typing import NamedTuple

VOLATILE = (
    "answer_ms",
    "lag_s",
    "oldest_age_s",
    "note",
)  # of a service: what may change all the time, and tells little


class Places(NamedTuple):
    """Where the services are: {name: url}, of lb, q, and each shard; and what the view was started with."""

    urls: dict
    ndb: int
    has_lab: bool


def state_of(number, at, places, asked, rates):
    """STATE, from {name: Asked}.

    at     seconds since the epoch
    rates  {name: operations a second}, of those whose rate is known
    """
    ndb = places.ndb
    shards = [_shard(index, places, asked[f"db{index}"], rates) for index in range(ndb)]
    return {
        "n": number,
        "at": round(at, 3),
        "ndb": ndb,
        "digest_length": next((each["digest_length"] for each in shards if each["digest_length"]), None),
        "lab": places.has_lab,
        "held": bool(asked["q"].told.get("held")),
        "lb": {**_common("lb", places, asked["lb"]), "requests": asked["lb"].told.get("operations")},
        "queue": _queue(places, asked["q"]),
        "shards": shards,
        "redis": [_redis(index, asked[f"r{index}"]) for index in range(ndb)],
    }


def looks_the_same(one, other):
    """Whether a page would show nothing new of the one after the other."""
    return one is not None and other is not None and _essence(one) == _essence(other)


def _essence(state):
    services = [state["lb"], state["queue"], *state["shards"], *state["redis"]]
    channels = [(each["name"], each["depth"]) for each in state["queue"]["channels"]]
    essences = [
        {name: value for name, value in each.items() if name not in (*VOLATILE, "channels")} for each in services
    ]
    return essences, channels, state["held"]


def _common(name, places, asked):
    return {
        "name": name,
        "url": places.urls[name],
        "state": asked.state,
        "note": asked.note,
        "answer_ms": asked.answer_ms,
    }


def _queue(places, asked):
    return {
        **_common("q", places, asked),
        "durable": asked.told.get("durable"),
        "channels": [_channel(f"db{index}", asked.told.get("all-channels")) for index in range(places.ndb)],
    }


def _channel(name, channels):
    """One that the ring gossips through; it comes into being when something is first put on it."""
    found = None if channels is None else channels.get(name, {"waiting": 0})
    if not isinstance(found, dict):
        found = {}
    return {"name": name, "depth": found.get("waiting"), "oldest_age_s": found.get("oldest_age_s")}


def _shard(index, places, asked, rates):
    name, told, ndb = f"db{index}", asked.told, places.ndb
    state, note = _standing(asked)
    has_neighbours = ndb > 1
    return {
        **_common(name, places, asked),
        "state": state,
        "note": note,
        "index": index,
        "keys": told.get("keys"),
        "digest": told.get("digest"),
        "digest_length": told.get("digest-length"),
        "due": told.get("due"),
        "lag_s": told.get("lag-s"),
        "epoch": told.get("epoch"),
        "requests_per_s": rates.get(name),
        "successor": f"db{(index + 1) % ndb}" if has_neighbours else None,
        "predecessor": f"db{(index - 1) % ndb}" if has_neighbours else None,
        "breakers": told.get("breakers") or {},
    }


def _standing(asked):
    """(state, note) of a shard: of one that answers, also whether its memory is whole."""
    told = asked.told.get("state") if asked.state != "down" else None
    if not isinstance(told, str) or told == "serving":
        return asked.state, asked.note
    which, _, why = told.partition(": ")
    why = why or f"it is {told}"
    note = f"{why}; {asked.note}" if asked.note else why
    return (which if which in ("recovering", "fenced") else "recovering"), note


def _redis(index, asked):
    return {
        "name": f"r{index}",
        "state": asked.state,
        "note": asked.note,
        "keys": asked.told.get("keys"),
        "answer_ms": asked.answer_ms,
    }
