"""GET /trace: what happened in this process lately (emporium/trace.py), for whoever wants to see it."""

from flask import request

from emporium import web
from emporium.bulkhead import Bulkhead
from emporium.requestid import is_id

MOST_EVENTS = 5000  # in one answer
MOST_WAIT_S = 25
MOST_WAITING = 8  # at a time, or a sixteenth of the threads where that is less: each holds one


def add(app, trace):
    """Add it to the application. `trace` is the Trace of this service, or None."""
    most = min(MOST_WAITING, app.threads // 16)
    waiters = Bulkhead(most, lambda: web.unavailable("as many as may be wait for events already"))
    if trace is not None:
        app.on_stop.append(trace.wake)

    @app.get("/trace")
    def show_trace():
        asked = {
            "after": web.whole_argument("after", 0),
            "most": web.whole_argument("max", 500, range(1, MOST_EVENTS + 1)),
            "tea": asked_tea(),
            "request": asked_request(),
        }
        wait_s = web.seconds_argument("wait", 0, MOST_WAIT_S)
        if trace is None:
            raise web.Problem(404, f"{app.name} keeps no trace: it was started without the setting trace")
        found = trace.read(**asked)
        if wait_s and not found["events"]:
            with waiters:
                found = trace.read(**asked, wait_s=wait_s)
        return web.answer(found)


def asked_tea():
    tea = request.args.get("tea")
    return None if tea is None else web.tea_name(tea)


def asked_request():
    """Raises a Problem 400 for what is no id of a request."""
    text = request.args.get("request")
    if text is not None and not is_id(text):
        raise web.Problem(400, "request must be the id of one: 1 to 64 characters out of A-Z a-z 0-9 . _ -")
    return text
