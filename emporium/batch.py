"""The JSON of operations that travel together, between load balancer and shard: POST /operations.

    {"operations": [{"method": "PUT", "tea": "assam", "rated": {"rating": 3, "clock": {"c0": 5}}},
                    {"method": "GET", "tea": "chai", "request": "7f3a90c2d41b55e8"}]}
    {"outcomes": [{"status": 200, "body": {"rating": 3}, "merge": "stored"},
                  {"status": 200, "body": {"rating": 0.0, "choices": [], "clocks": []}}]}

An outcome is what the operation would have been answered alone: its status, its body, its X-Merge and X-Clock.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

from emporium import wire
from emporium.gather import MOST_TOGETHER
from emporium.requestid import is_traceparent
from emporium.wire import Rated


class Operation(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One operation on one tea. `rated` is there for a PUT, and for nothing else; `weak` for a GET that any replica may
    answer. `request` and `traceparent` are what would be its headers X-Request-ID and traceparent, if it came alone.
    """

    method: Literal["PUT", "GET", "DELETE"]
    tea: wire.Text
    rated: Rated | None = None
    weak: bool = False
    request: wire.NodeId | None = None  # which has the same characters as the id of a node
    traceparent: str | None = None

    def __post_init__(self):
        if (self.method == "PUT") != (self.rated is not None):
            raise ValueError("rated belongs to a PUT, and to nothing else")
        if self.traceparent is not None and not is_traceparent(self.traceparent):
            raise ValueError("traceparent is none")


class Outcome(msgspec.Struct, omit_defaults=True):
    """What one operation came to. The body is a JSON object."""

    status: Literal[200, 404, 409, 500, 503, 504]
    body: Raw
    merge: Literal["stored", "stale", "same"] | None = None
    clock: dict[str, int] | None = None  # that of all siblings, where a tombstone is among them

    def __post_init__(self):
        if not bytes(self.body).startswith(b"{"):
            raise ValueError("body must be an object")

    @property
    def content_type(self):
        return "application/json" if self.status < 400 else "application/problem+json"

    @property
    def headers(self):
        """Those that it has as an answer, beside its content type."""
        if self.status == 503:
            return {"Retry-After": "1"}
        headers = {"X-Merge": self.merge} if self.merge else {}
        if self.clock is not None:
            headers["X-Clock"] = wire.encode(self.clock).decode()
        return headers


class Operations(msgspec.Struct, forbid_unknown_fields=True):
    operations: Annotated[list[Operation], Meta(max_length=MOST_TOGETHER)]


class Outcomes(msgspec.Struct):
    outcomes: list[Outcome]


def encode_operations(operations):
    return wire.encode(Operations(operations))


def decode_operations(text):
    return wire.decode(text, Operations).operations


def encode_outcomes(outcomes):
    return wire.encode(Outcomes(outcomes))


def decode_outcomes(text):
    return wire.decode(text, Outcomes).outcomes
