"""What every server shares: a Flask application with one form of errors, limits on what comes in, and serving it.

    app = create_app_for("db0", checks=..., status=...)     /healthz, /readyz, /status, problem+json errors
    serve(app, "db0", host, port, threads)                  until SIGTERM or SIGINT, then returns

An error is `application/problem+json` (RFC 9457): {"type": "about:blank", "title", "status", "detail"}.
"""

import logging
import os
import signal
import socket
import sys
import time
import unicodedata
from logging.handlers import RotatingFileHandler
from queue import SimpleQueue

from flask import Flask, Response, request
from granian.http import HTTP1Settings
from granian.net import SocketHolder
from granian.server.mt import MTServer
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from emporium import wire

log = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 64 * 1024
BATCH_LIMIT_BYTES = 2 * 1024 * 1024  # between services: wire.MOST_BYTES, or one record of 100 siblings with 64 entries
NAME_LIMIT_BYTES = 255
GRACE_S = 5
BIND_PATIENCE_S = 2


class Problem(Exception):
    """An answer that is an error. `detail` says what was wrong, and what to do where that helps."""

    def __init__(self, status, detail, headers=None):
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def unavailable(detail):
    """503: surely nothing was done. The client may try again in a second."""
    return Problem(503, detail, {"Retry-After": "1"})


def unsure(detail):
    """504: it may have been done, or may yet."""
    return Problem(504, f"{detail}; it may have been done all the same, and is safe to repeat")


# ---- answers


def answer(body, headers=None, status=200):
    """A JSON answer. `body` is bytes that are JSON already, or a value to encode."""
    text = body if isinstance(body, bytes) else wire.encode(body)
    return Response(text, status, headers, mimetype="application/json")


def answer_problem(problem):
    body = {
        "type": "about:blank",
        "title": HTTP_STATUS_CODES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": problem.detail,
    }
    return Response(wire.encode(body), problem.status, problem.headers, mimetype="application/problem+json")


def create_app_for(service, checks, status):
    """A Flask application that knows how to fail, and how it is.

    checks   () -> {what: trouble in words, or None}: all None means that the service can do its whole job
    status   () -> a dict for people and tools
    """
    app = Flask(service, static_folder=None)
    app.url_map.merge_slashes = False  # else /rating//x is answered with a redirect, in HTML

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
        log.exception("%s %s failed", request.method, request.path)
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

    return app


# ---- what comes in


def json_body(limit_bytes=BODY_LIMIT_BYTES):
    """The body of this request, as bytes. Raises a Problem: 415 unless it says JSON, 413 too large, 400 cut short."""
    if request.mimetype != "application/json":
        sent = request.mimetype or "none"
        raise Problem(
            415, f"Content-Type must be application/json, not {sent}: curl -H'Content-type: application/json'"
        )
    announced = request.content_length
    if announced is not None and announced > limit_bytes:
        raise Problem(413, f"a body may have {limit_bytes} bytes, this one has {announced}")
    body = bytearray()
    # The server gives a body in pieces, and one whose sender went away as if it were whole. Where its length was
    # not announced nobody can tell: then it must at least be JSON.
    while len(body) <= limit_bytes and (piece := request.stream.read(limit_bytes + 1 - len(body))):
        body += piece
    if len(body) > limit_bytes:
        raise Problem(413, f"a body may have {limit_bytes} bytes, this one has more")
    if announced is not None and len(body) < announced:
        raise Problem(400, f"the body ended after {len(body)} of {announced} bytes")
    return bytes(body)


def checked(decode, body):
    """decode(body). Raises a Problem: 400 for what is no JSON, 422 for JSON that says something else."""
    try:
        return decode(body)
    except wire.BadJSON as error:
        raise Problem(400, str(error)) from error
    except wire.BadShape as error:
        raise Problem(422, str(error)) from error


def tea_name(name):
    """The name in Unicode's composed form (NFC), so that one word is one tea. Raises a Problem 400."""
    name = unicodedata.normalize("NFC", name)
    if "\N{REPLACEMENT CHARACTER}" in name:
        raise Problem(400, "the name of a tea must be UTF-8")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise Problem(400, "the name of a tea must not hold control characters")
    if name in (".", ".."):
        raise Problem(400, "'.' and '..' cannot name a tea: HTTP clients fold them away")
    if len(name.encode()) > NAME_LIMIT_BYTES:
        raise Problem(400, f"the name of a tea may have {NAME_LIMIT_BYTES} bytes")
    return name


# ---- serving


def log_to(logfile):
    """Send the log of this process to standard error and, when given, to a file too."""
    handlers = [logging.StreamHandler()]
    if logfile is not None:
        try:
            handlers.append(RotatingFileHandler(logfile, maxBytes=5_000_000, backupCount=2))
        except OSError as error:
            print(f"{sys.argv[0]}: bad settings: logfile: {error}", file=sys.stderr, flush=True)
            sys.exit(2)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of each connection that it does not keep
    logging.basicConfig(
        level=logging.INFO, handlers=handlers, format="%(asctime)s %(levelname)s %(message)s", force=True
    )


class OneProcessServer(MTServer):
    """granian's threaded server with its one worker in this very process, so that a killed service is dead.

    granian offers this only to Pythons without a GIL, since there several such workers gain something. With one
    worker nothing depends on it. What is overridden here is granian's inside: the version is pinned.
    """

    def __init__(self, **settings):
        super().__init__(**settings)
        self.main_loop_interrupt = _Interrupt()
        self.signal_handler_reload = self.signal_handler_interrupt  # SIGHUP, of a closed terminal, ends it too

    def _check_gil(self):
        pass

    def _init_shared_socket(self):
        # granian's own socket has SO_REUSEPORT: a second server on the port would start, and get half the requests.
        listener = _bind(self.bind_addr, self.bind_port)
        listener.listen(self.backlog)
        listener.setblocking(False)
        self._shd = SocketHolder(listener.detach(), False, self.backlog)
        log.info("%s listens on http://%s:%s, pid %s", self.target, self.bind_addr, self.bind_port, os.getpid())

    def _stop_workers(self):
        for worker in self.wrks:
            worker.terminate()
        for worker in self.wrks:
            worker.join(GRACE_S)
        if any(worker.inner.is_alive() for worker in self.wrks):  # its own is_alive() says no once it was told to end
            log.warning("a request was still in flight after %s s, and is cut", GRACE_S)
            logging.shutdown()
            os._exit(0)
        self.wrks.clear()


class _Interrupt:
    """What granian uses of threading.Event, whose set() in a signal handler can wait for its own thread for ever."""

    def __init__(self):
        self._heard = SimpleQueue()

    def set(self):
        self._heard.put(None)

    def wait(self):
        self._heard.get()

    def clear(self):
        """Nothing to clear: each `set` ends one `wait`."""


def serve(app, service, host, port, threads):
    """Serve the Flask application until SIGTERM or SIGINT: the listener closes at once, and what is in flight
    has 5 s to finish. Exits 1 when the port is taken, naming its holder."""
    try:
        address = socket.gethostbyname(host)
        server = OneProcessServer(
            target=service,
            address=address,
            port=port,
            interface="wsgi",
            http="1",
            workers=1,
            blocking_threads=threads,
            backlog=1024,
            backpressure=4096,  # counts connections, idle ones too
            http1_settings=HTTP1Settings(header_read_timeout=30_000),  # ms
            log_level="error",
            log_dictconfig={"loggers": {"_granian": {"propagate": True}, "granian.access": {}}},
        )
        server.serve(target_loader=lambda: app, wrap_loader=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # one more must not change how we end: on our way out, with 0
    except OSError as error:
        sys.exit(f"{service}: cannot listen on {host}:{port}: {error}{_holder_of(port)}")


def _bind(address, port):
    """A bound socket. The process before us may just be leaving, so a taken port is tried again for 2 s."""
    patience_ends = time.monotonic() + BIND_PATIENCE_S
    while True:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it: no 40 ms waits
        try:
            listener.bind((address, port))
        except OSError:
            listener.close()
            if time.monotonic() > patience_ends:
                raise
            time.sleep(0.05)
        else:
            return listener


def _holder_of(port):
    from emporium.ports import holder_of  # only here: a server that starts well has no need of psutil

    holder = holder_of(port)
    return f"; {holder}" if holder else ""
