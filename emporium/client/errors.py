"""What the client raises. Each error says whether the thing may have been done all the same.

    TeaError
      BadRequest         the store does not take what was asked for: a rating that is no number, no clock, ...
      NotRated           there was nothing to delete
      Conflict           others have written, and nothing was changed
        TooManySiblings    more than 100 ratings would stand side by side
      Unavailable        surely nothing was done: try again later
      Unsure             it may have been done, or may yet
      BadAnswer          what answered is no tea store, or a broken one; a write may have been done

A read changes nothing, so it never raises Unsure.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from emporium.client.values import Rating, Sibling, read_siblings
from vectorclock import VectorClock


class TeaError(Exception):
    """A call that did not come to what was asked for.

    status      the HTTP status; None where there was no answer
    detail      in words, what is wrong and what to do
    request_id  under which the logs of the services tell of it
    tries       how many requests were sent, or tried to be
    """

    may_have_happened: ClassVar[bool] = False

    def __init__(self, detail: str, status: int | None = None, request_id: str = "", tries: int = 1) -> None:
        super().__init__(detail, status, request_id)
        self.detail = detail
        self.status = status
        self.request_id = request_id
        self.tries = tries
        self.retry_after_s: float | None = None

    def __str__(self) -> str:
        status = "" if self.status is None else f"{self.status} {_title(self.status)}: "
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{status}{self.detail}{request}"


class BadRequest(TeaError):
    """The store does not take what was asked for. Nothing was done, and asking again would not help."""


class NotRated(TeaError):
    """Nothing is stored under this name, so nothing was deleted."""


class Conflict(TeaError):
    """What others have written is in the way. Nothing was changed."""


class TooManySiblings(Conflict):
    """More than 100 ratings would stand side by side. Nothing was changed.

    rating, siblings  what stands: write at a clock that subsumes some of them, as `observe` does
    """

    rating: Rating
    siblings: tuple[Sibling, ...]


class Unavailable(TeaError):
    """Surely nothing was done: a service is away, or too busy. Try again later."""


class Unsure(TeaError):
    """It may have been done, or may yet.

    clock  at which it was to be written, of a `put` or `observe`: to put the same rating at this clock again is safe
    """

    may_have_happened: ClassVar[bool] = True
    clock: VectorClock | None = None


class BadAnswer(TeaError):
    """What answered is no tea store, or a broken one. A write may have been done."""

    may_have_happened: ClassVar[bool] = True


def error_of(method: str, status: int, headers: Mapping[str, str], body: bytes) -> TeaError:
    """The error that this answer to a request is, by docs/protocol.md."""
    problem = _problem(body) if headers.get("Content-Type", "").startswith("application/problem+json") else None
    detail = str((problem or {}).get("detail") or f"answered {status} without a word")
    error = _kind(method, status, problem is not None)(detail, status)
    if status == 409 and problem is not None:
        error = _too_many(problem, detail)
    after = headers.get("Retry-After", "")
    if after.isascii() and after.isdecimal() and len(after) < 7:
        error.retry_after_s = float(after)
    return error


def _kind(method: str, status: int, is_problem: bool) -> type[TeaError]:
    is_read = method == "GET"
    match status:
        case 503 | 507 | 429:
            return Unavailable
        case 502 | 504:  # nginx says these, too, in its own form
            return Unavailable if is_read else Unsure
        case 404 if method == "DELETE" and is_problem:
            return NotRated
        case 409 if is_problem:
            return Conflict
        case 400 | 413 | 414 | 415 | 422 | 431:
            return BadRequest
    return BadAnswer


def _too_many(problem: Mapping[str, Any], detail: str) -> Conflict:
    try:
        rating, siblings = read_siblings(problem)
    except ValueError:
        return Conflict(detail, 409)  # without them it is a conflict all the same
    error = TooManySiblings(detail, 409)
    error.rating, error.siblings = rating, siblings
    return error


def _problem(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None  # then it is judged by its status alone
    return found if isinstance(found, dict) else None


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "of no known meaning"
