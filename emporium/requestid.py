"""Which request this thread is at work on: its id, and the distributed trace that it belongs to, if any.

    X-Request-ID: 7f3a90c2d41b55e8        1 to 64 characters out of A-Z a-z 0-9 . _ -
    traceparent: 00-<32 hex digits>-<16 hex digits>-<2 hex digits>
    X-B3-Sampled: 0 or 1                  whether it is recorded (emporium/sampling.py)

A service answers with the id that it was given, or makes one. It goes with every call that the request leads to, and
stands in every line that is logged meanwhile. A traceparent is only passed on.

Source: https://www.w3.org/TR/trace-context/ for the second.
"""

import os
import re
import threading

NONE = "-"  # in the log, outside of any request
YES, NO = "1", "0"

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_PARENT_IDS = r"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
# A later version than 00 may go on behind the flags; ff is none.
_PARENT = re.compile(rf"(?:00{_PARENT_IDS}|(?!00|ff)[0-9a-f]{{2}}{_PARENT_IDS}(?:-[!-~]{{0,200}})?)\Z")


class _Here(threading.local):
    request = None
    traceparent = None
    is_named = False  # whether it came with an id of its own
    sampled = None  # YES, NO, or None: nobody has chosen yet


here = _Here()


def is_id(text):
    """Whether this is an id as it should be."""
    return type(text) is str and _ID.match(text) is not None


def is_traceparent(text):
    """Whether this is a traceparent as it should be."""
    return type(text) is str and _PARENT.match(text) is not None


def begin(environ):
    """Note whose request this is, from its headers. Returns its id."""
    given = environ.get("HTTP_X_REQUEST_ID")
    here.is_named = is_id(given)
    here.request = given if here.is_named else os.urandom(8).hex()
    parent = environ.get("HTTP_TRACEPARENT")
    here.traceparent = parent if parent is not None and is_traceparent(parent) else None
    sampled = environ.get("HTTP_X_B3_SAMPLED")
    here.sampled = sampled if sampled in (YES, NO) else None
    return here.request


def end():
    """This thread is done with it."""
    here.request = here.traceparent = here.sampled = None
    here.is_named = False


def in_this_request(work):
    """work(...), for another thread that does it for the request of this one."""
    mine = here.request, here.traceparent, here.sampled

    def work_in_it(*given):
        here.request, here.traceparent, here.sampled = mine
        try:
            return work(*given)
        finally:
            end()

    return work_in_it


def headers():
    """The lines that pass it on with a call; none outside of a request."""
    if here.request is None:
        return ()
    lines = [f"X-Request-ID: {here.request}"]
    if here.traceparent is not None:
        lines.append(f"traceparent: {here.traceparent}")
    if here.sampled is not None:
        lines.append(f"X-B3-Sampled: {here.sampled}")
    return lines


def add_to_record(record):
    """A filter for handlers of the log, which lets all pass: `%(request)s` is the id, or "-"."""
    record.request = here.request or NONE
    return True
