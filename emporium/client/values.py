"""What the store answers, as values that do not change, read from its JSON.

Whatever is not as docs/protocol.md says raises ValueError: the other side may be anything.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vectorclock import VectorClock

INFINITY = float("inf")  # which Python's JSON makes of 1e999
Rating = int | float
Outcome = Literal["stored", "stale", "same"]


@dataclass(frozen=True, slots=True)
class Sibling:
    """One rating of a tea, and the clock at which it was given."""

    rating: Rating
    clock: VectorClock


@dataclass(frozen=True, slots=True)
class Reading:
    """What a read answered.

    rating      the mean of the siblings; 0.0 where there is none
    siblings    ratings that know nothing of each other, in the store's order; none for a tea that nobody has rated, or
                that was deleted
    clock       subsumes those of all siblings, and that of a deletion: whoever writes past it replaces what was read
    is_buried   whether a deletion stands there, alone or beside ratings that it has not seen
    request_id  under which the logs of the services tell of it
    """

    tea: str
    rating: Rating
    siblings: tuple[Sibling, ...]
    clock: VectorClock
    is_buried: bool
    request_id: str

    @property
    def is_rated(self) -> bool:
        return bool(self.siblings)


@dataclass(frozen=True, slots=True)
class Written:
    """What a write came to.

    rating   the mean that stands now; None where a newer deletion stands
    outcome  "stored"; "stale": something newer stands, and nothing was changed; "same": this rating was there at this
             clock; None from a plain server of the course, which does not tell
    clock    at which it was written
    """

    tea: str
    rating: Rating | None
    outcome: Outcome | None
    clock: VectorClock
    request_id: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One tea of a listing: its mean (None where it is deleted), the number of its siblings, and who said so."""

    tea: str
    rating: Rating | None
    siblings: int
    shard: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The teas of the store, sorted by name.

    complete     whether these are all
    unreachable  the shards that could not be asked
    """

    teas: tuple[Listed, ...]
    complete: bool
    unreachable: tuple[str, ...]
    request_id: str


# ---- out of JSON


def read_reading(tea: str, body: bytes, headers: Mapping[str, str], request_id: str) -> Reading:
    """The Reading. Raises ValueError."""
    rating, siblings = read_siblings(read_object(body))
    told = headers.get("X-Clock")
    clocks = [sibling.clock for sibling in siblings] + ([read_clock(_json(told))] if told else [])
    return Reading(tea, rating, siblings, VectorClock.converge(clocks), told is not None, request_id)


def read_siblings(found: Mapping[str, Any]) -> tuple[Rating, tuple[Sibling, ...]]:
    """Their mean, and the siblings. Raises ValueError."""
    choices, clocks = _as(list, found, "choices"), _as(list, found, "clocks")
    if len(choices) != len(clocks):
        raise ValueError(f"{len(choices)} choices and {len(clocks)} clocks")
    siblings = [Sibling(_number(choice), read_clock(clock)) for choice, clock in zip(choices, clocks, strict=True)]
    return _number(found.get("rating")), tuple(siblings)


def read_written(tea: str, clock: VectorClock, body: bytes, headers: Mapping[str, str], request_id: str) -> Written:
    """The Written. Raises ValueError."""
    found = read_object(body)
    rating = None if found.get("rating", 0) is None else _number(found.get("rating"))
    return Written(tea, rating, _outcome(headers.get("X-Merge")), clock, request_id)


def read_listing(body: bytes, request_id: str) -> Listing:
    """The Listing. Raises ValueError."""
    found = read_object(body)
    rows = []
    for row in _as(list, found, "teas"):
        if not isinstance(row, dict):
            raise ValueError("a row of the list is no object")
        rating = None if row.get("rating") is None else _number(row["rating"])
        rows.append(Listed(_as(str, row, "tea"), rating, _as(int, row, "siblings"), _as(str, row, "shard")))
    unreachable = tuple(map(str, _as(list, found, "unreachable")))
    return Listing(tuple(rows), _as(bool, found, "complete"), unreachable, request_id)


def read_clock(entries: object) -> VectorClock:
    """The VectorClock of these entries. Raises ValueError."""
    if not isinstance(entries, dict):
        raise ValueError(f"a clock is an object, not {entries!r:.100}")
    clock = VectorClock.fromDict(entries)
    if not clock.isValidClock():
        raise ValueError(f"no clock: {entries!r:.100}")
    return clock


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object. Raises ValueError."""
    found = _json(body)
    if not isinstance(found, dict):
        raise ValueError("the answer is no JSON object")
    return found


def _json(text: str | bytes) -> object:
    try:
        found: object = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return found


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no number")


def _number(found: object) -> Rating:
    if isinstance(found, int | float) and not isinstance(found, bool) and abs(found) < INFINITY:
        return found
    raise ValueError(f"a rating is a number, not {found!r:.100}")


def _as(kind: type[Any], found: Mapping[str, Any], name: str) -> Any:
    if type(found.get(name)) is not kind:
        raise ValueError(f"{name} is no {kind.__name__}: {found.get(name)!r:.100}")
    return found[name]


def _outcome(told: str | None) -> Outcome | None:
    match told:
        case None | "stored" | "stale" | "same":
            return told
    raise ValueError(f"X-Merge is {told:.100}")
