"""What every Flask application of ours shares: one form of errors, limits on what comes in, and health.

    app = create_app_for("db0", threads, checks=..., status=...)     /healthz, /readyz, /status, /metrics,
                                                                     /openapi.json, and problem+json errors
    body = json_body()                                               or a Problem, which becomes the answer

An error is `application/problem+json` (RFC 9457): {"type": "about:blank", "title", "status", "detail"}. Every answer,
errors among them, has the id of its request: X-Request-ID (emporium/requestid.py).

A request holds a thread until it is answered. So that no kind of trouble holds all of them, only a part of them may
wait for one thing, and the others are refused with a 503 at once.
"""

import logging
import os
import re
import signal
import unicodedata
from functools import cache
from pathlib import Path

from flask import Flask, current_app, request
from flask.sessions import NullSession, SessionInterface
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import BaseConverter, MapAdapter
from werkzeug.sansio.utils import get_content_length

from emporium import requestid, wire
from emporium.bulkhead import Bulkhead
from emporium.metrics import ROUTE, Metrics

log = logging.getLogger(__name__)

JSON, PROBLEM = "application/json", "application/problem+json"
BODY_LIMIT_BYTES = 64 * 1024
BATCH_LIMIT_BYTES = 2 * 1024 * 1024  # between services: wire.MOST_BYTES, or one record of 100 siblings with 64 entries
THROWN_AWAY_BYTES = 16 * 1024 * 1024
LAST = {"Connection": "close"}  # the server closes a connection on which a body was not read, and would not say so
DESCRIPTIONS = Path(__file__).with_name("openapi")
ALWAYS = ("/healthz", "/metrics")  # are answered, however many requests there are
NO_JSON = ("/metrics",)  # whatever Accept says
MOST_SCRAPES = 4  # at a time
HEADER_LIMIT = 1000  # characters of a header that we take apart: the libraries' parsers take the square of it


class Problem(Exception):
    """An answer that is an error. `detail` says what was wrong, and what to do where that helps.

    `members` stand beside the usual four in the answer, for programs (RFC 9457, section 3.2).
    """

    def __init__(self, status, detail, headers=None, members=None):
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.members = members or {}


def unavailable(detail):
    """503: surely nothing was done. The client may try again in a second."""
    return Problem(503, detail, {"Retry-After": "1"})


def unsure(detail):
    """504: it may have been done, or may yet."""
    return Problem(504, f"{detail}; it may have been done all the same, and is safe to repeat")


class _NoSessions(SessionInterface):
    """We keep nothing for a browser: every request has this same session, which cannot be written to."""

    _none = NullSession()

    def open_session(self, app, request):
        return self._none


class AnyText(BaseConverter):
    """One or more characters of a path, whichever they are."""

    regex = "(?s:.)+?"
    part_isolating = False


class App(Flask):
    """A Flask application that knows how many requests it can carry at once, and for what it keeps room.

    What Flask does for every request and we have no use for is left out, since it is most of what a hop costs
    (docs/performance.md): sessions, signals, functions before and after a request, the host in the routes.
    """

    session_interface = _NoSessions()

    def __init__(self, service, threads, is_full):
        super().__init__(service, static_folder=None)
        self.threads = threads
        self.url_map.converters["any_text"] = AnyText
        self.url_map.merge_slashes = False  # else /rating//x is answered with a redirect, in HTML
        # An eighth of the threads stays free to say no, and that we live.
        self._requests = Bulkhead(threads - max(1, threads // 8), lambda: unavailable(f"{service} has its hands full"))
        self._is_full = is_full
        self.metrics = Metrics(service, lambda: self._requests.used)
        self.at_stop = self.at_end = lambda: None  # called when the server is told to end, and when its work is done
        self.on_stop = []  # likewise at_stop, of those who have a part in this application
        self.exit_code = 0
        # At most half of them wait for bodies, a quarter of that half for those of our own services: else strangers
        # who stall would keep the shards from their queue.
        full = f"{service} waits for too many bodies already"
        self.bodies = Bulkhead(threads // 2 - threads // 8, lambda: unavailable(full))
        self.own_bodies = Bulkhead(threads // 8, lambda: unavailable(full))

    def stop(self):
        """The server is told to end: nobody is to wait any longer for what may come."""
        for each in (*self.on_stop, self.at_stop):
            each()

    def fail(self, why):
        """End this process, which cannot do its work any more, as soon as its requests are answered: exit code 1."""
        if self.exit_code == 0:
            self.exit_code = 1
            log.critical("%s ends: %s", self.name, why, extra={"event": "service-fails"})
            os.kill(os.getpid(), signal.SIGTERM)

    def wsgi_app(self, environ, start_response):
        """The answer, counted, and with the id of its request."""
        request_id = requestid.begin(environ)

        def start(status, headers, *failure):
            return start_response(status, [*headers, ("X-Request-ID", request_id)], *failure)

        try:
            return self.metrics.measured(self.answer_at_the_door, environ, start)
        finally:
            requestid.end()

    def answer_at_the_door(self, environ, start_response):
        """Refuse at the door, before anything is read, what would only be refused later: that must cost little."""
        environ.pop("HTTP_UPGRADE", None)  # we offer none, so it is to be ignored; Flask would look for such a path
        if environ["PATH_INFO"] in ALWAYS:
            return super().wsgi_app(environ, start_response)
        try:
            with self._requests:
                if environ["PATH_INFO"].startswith("/rating/") and self._is_full():
                    raise unavailable(f"{self.name} has as many requests waiting as it can serve in time")
                return super().wsgi_app(environ, start_response)
        except Problem as refusal:
            return answer_problem(refusal)(environ, start_response)

    def create_url_adapter(self, request):
        if request is None:
            return super().create_url_adapter(None)
        environ = request.environ
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        return MapAdapter(
            self.url_map, "localhost", "/", "", "http", path, environ["REQUEST_METHOD"], environ["QUERY_STRING"]
        )

    def full_dispatch_request(self):
        if request.url_rule:
            request.environ[ROUTE] = request.url_rule.rule
        try:
            check_the_door(request.environ, request.routing_exception)
            return self.dispatch_request()
        except Exception as error:  # noqa: BLE001 - Flask finds its handler, and the last one is for the unforeseen
            return self.handle_user_exception(error)

    def make_default_options_response(self):
        response = super().make_default_options_response()  # has Allow
        response.status_code = 204
        del response.headers["Content-Type"]
        return response


def check_the_door(environ, routing_exception):
    """Raise a Problem for what is amiss whatever is asked for."""
    if environ["PATH_INFO"].startswith("//"):
        raise Problem(404, "there is nothing at this path: it begins with two slashes")  # Flask would take one off
    for name, variable in (("Accept", "HTTP_ACCEPT"), ("Content-Type", "CONTENT_TYPE")):
        if len(environ.get(variable, "")) > HEADER_LIMIT:
            raise Problem(431, f"{name} may have {HEADER_LIMIT} characters")
    if routing_exception is not None or environ["REQUEST_METHOD"] == "OPTIONS" or environ["PATH_INFO"] in NO_JSON:
        return
    if not _accepts_json(environ):
        raise Problem(406, f"answers are application/json, which Accept: {environ['HTTP_ACCEPT']} rules out")


def create_app_for(service, threads, checks, status, is_full=lambda: False):
    """An App that knows how to fail, and how it is.

    threads  how many requests it carries at once
    checks   () -> {what: trouble in words, or None}: all None means that the service can do its whole job
    status   () -> a dict for people and tools
    is_full  () -> whether one more operation on a tea would surely be refused
    """
    app = App(service, threads, is_full)

    @app.errorhandler(Problem)
    def ours(problem):
        return answer_problem(problem)

    @app.errorhandler(HTTPException)
    def of_flask(error):
        headers = {name: value for name, value in error.get_headers() if name == "Allow"}
        detail = {
            404: f"there is nothing at this path; {service} knows those of docs/protocol.md",
            405: f"{request.method} is not for this path; see Allow",
        }
        return answer_problem(Problem(error.code, detail.get(error.code, error.description), headers))

    @app.errorhandler(Exception)
    def unforeseen(error):
        log.exception("%s %s failed", request.method, request.path, extra={"event": "request-failed"})
        return answer_problem(Problem(500, "an error on our side; the log of this service tells more"))

    @app.get("/healthz")
    def healthz():
        return answer({"service": service, "pid": os.getpid()})

    @app.get("/readyz")
    def readyz():
        found = {what: trouble or "ok" for what, trouble in checks().items()}
        is_ready = all(state == "ok" for state in found.values())
        return answer({"ready": is_ready, "checks": found}, status=200 if is_ready else 503)

    @app.get("/status")
    def show_status():
        return answer({"service": service, "pid": os.getpid(), **status()})

    @app.get("/openapi.json")
    def describe():
        return answer(description_of(service.rstrip("0123456789")))

    scrapes = Bulkhead(MOST_SCRAPES, lambda: unavailable(f"{service} tells its metrics {MOST_SCRAPES} times already"))

    @app.get("/metrics")
    def show_metrics():
        with scrapes:
            content_type, text = app.metrics.text(request.headers.get("Accept", ""))
        return Reply(200, content_type, text)

    return app


@cache
def description_of(kind):
    """The OpenAPI description (bytes) of a kind of service: lb, db, q, log or view."""
    return (DESCRIPTIONS / f"{kind}.json").read_bytes()


# ---- answers


class Reply:
    """An answer whose body is there, in one piece. As every Response of Flask it is a WSGI application; it is no
    Response, since to make one costs as much as to find the route."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status, content_type, body, headers=None):
        self.status = status
        self.body = body
        self.headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), *(headers or {}).items()]

    def __call__(self, environ, start_response):
        start_response(f"{self.status} {HTTP_STATUS_CODES.get(self.status, 'Unknown')}", self.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.body]


def answer(body, headers=None, status=200):
    """A JSON answer. `body` is bytes that are JSON already, or a value to encode."""
    return Reply(status, JSON, body if isinstance(body, bytes) else wire.encode(body), headers)


def answer_outcome(outcome):
    """A batch.Outcome, as the answer to a request of its own."""
    return Reply(outcome.status, outcome.content_type, bytes(outcome.body), outcome.headers)


def problem_body(problem):
    """The JSON of an error."""
    body = {
        "type": "about:blank",
        "title": HTTP_STATUS_CODES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    return wire.encode(body)


def answer_problem(problem):
    return Reply(problem.status, PROBLEM, problem_body(problem), problem.headers)


def _accepts_json(environ):
    accept = environ.get("HTTP_ACCEPT", "")
    if accept in ("", "*/*", "application/json"):  # what nearly everyone sends
        return True
    kinds = request.accept_mimetypes
    with_parameters = any(kind.startswith("application/json;") and quality > 0 for kind, quality in kinds)
    return not kinds or kinds.quality("application/json") > 0 or with_parameters


# ---- what comes in


def json_body():
    """The body of this request, as bytes. Raises a Problem: 415 unless it says JSON, 413 too large, 400 cut short,
    503 when half of our threads wait for bodies already."""
    _require_json()
    return _body(BODY_LIMIT_BYTES, current_app.bodies)


def own_json_body():
    """The same on a path that only our own services use, which has a larger limit and room of its own."""
    _require_json()
    return _body(BATCH_LIMIT_BYTES, current_app.own_bodies)


def any_body(limit_bytes):
    """The same, whatever the request says that it is, and b"" when it has none: curl -d says that it is a form.

    Where the body is too large, some more of it is taken in and thrown away: many a client listens only when it has
    said all, and would find the connection closed in place of the answer.
    """
    try:
        return _body(limit_bytes, current_app.bodies)
    except Problem as problem:
        if problem.status == 413:
            with current_app.bodies:
                _throw_away(THROWN_AWAY_BYTES, request.environ["wsgi.input"])
        raise


def _require_json():
    if request.environ.get("CONTENT_TYPE") != "application/json" and request.mimetype != "application/json":
        sent = request.mimetype or "none"
        raise Problem(
            415, f"Content-Type must be application/json, not {sent}: curl -H'Content-type: application/json'"
        )


def _body(limit_bytes, bulkhead):
    environ = request.environ
    if coding := environ.get("HTTP_CONTENT_ENCODING"):
        raise Problem(415, f"Content-Encoding {coding} is not for us: send the JSON as it is")
    announced = get_content_length(environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING"))
    if announced is not None and announced > limit_bytes:
        raise Problem(413, f"a body may have {limit_bytes} bytes, this one has {announced}", LAST)
    with bulkhead:
        body = _read_at_most(limit_bytes + 1 if announced is None else announced, environ["wsgi.input"])
    if len(body) > limit_bytes:
        raise Problem(413, f"a body may have {limit_bytes} bytes, this one has more", LAST)
    if announced is not None and len(body) < announced:
        raise Problem(400, f"the body ended after {len(body)} of {announced} bytes")
    return body


def _read_at_most(limit_bytes, stream):
    # The server gives a body in pieces, and one whose sender went away as if it were whole. Where its length was
    # not announced nobody can tell: then it must at least be JSON.
    body = b""
    while len(body) < limit_bytes and (piece := stream.read(limit_bytes - len(body))):
        body += piece
    return body


def _throw_away(most_bytes, stream):
    while most_bytes > 0 and (piece := stream.read(min(most_bytes, 64 * 1024))):
        most_bytes -= len(piece)


def whole_argument(name, default, allowed=range(2**64)):
    """The whole number given as ?name=, or the default. Raises a Problem 400."""
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) not in allowed:
        raise Problem(400, f"{name} must be a whole number from {allowed[0]} to {allowed[-1]}, not {text[:100]!r}")
    return int(text)


def seconds_argument(name, default, most_s):
    """The seconds given as ?name=, a number from 0 to most_s, or the default. Raises a Problem 400."""
    text = request.args.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?", text) or not 0 <= float(text) <= most_s:
        raise Problem(400, f"{name} must be a number of seconds from 0 to {most_s}, not {text[:100]!r}")
    return float(text)


def checked(decode, body):
    """decode(body). Raises a Problem: 400 for what is no JSON, 422 for JSON that says something else."""
    try:
        try:
            return decode(body)
        except wire.BadShape:
            plainer = wire.with_plain_numbers(body)  # only now, since nearly nobody writes 2.0 for a whole number
            if plainer == body:
                raise
        return decode(plainer)
    except wire.BadJSON as error:
        raise Problem(400, str(error)) from error
    except wire.BadShape as error:
        raise Problem(422, str(error)) from error


def tea_name(name):
    """The name in Unicode's composed form (NFC), so that one word is one tea. Raises a Problem 400."""
    # No composed form is four times shorter, and composing takes the square of the length.
    if len(name) > wire.NAME_LIMIT_BYTES * 4:
        raise Problem(400, f"the name of a tea may have {wire.NAME_LIMIT_BYTES} bytes")
    name = unicodedata.normalize("NFC", name)
    _check_name("tea", name)
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise Problem(400, "the name of a tea must not hold control characters")
    if not name:  # no path leads here without one, but a query does
        raise Problem(400, "the name of a tea must not be empty")
    if "/" in name:  # no path leads here with one
        raise Problem(400, "the name of a tea must not hold a slash")
    if name in (".", ".."):
        raise Problem(400, "'.' and '..' cannot name a tea: HTTP clients fold them away")
    return name


def channel_name(name):
    """The name of a channel, any text of 1 to 255 bytes. Raises a Problem 400."""
    _check_name("channel", name)
    return name


def _check_name(what, name):
    if "\N{REPLACEMENT CHARACTER}" in name:
        raise Problem(400, f"the name of a {what} must be UTF-8")
    if len(name.encode()) > wire.NAME_LIMIT_BYTES:
        raise Problem(400, f"the name of a {what} may have {wire.NAME_LIMIT_BYTES} bytes")
