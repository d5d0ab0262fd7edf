"""Serving a Flask application from one process: until it is told to stop, on a port that is ours alone.

`log_to` says where the log goes, `serve` serves until SIGTERM or SIGINT ends the process.
"""

import faulthandler
import logging
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from logging.handlers import RotatingFileHandler

from granian.http import HTTP1Settings
from granian.net import SocketHolder
from granian.server.mt import MTServer

from emporium import jsonlog, requestid

log = logging.getLogger(__name__)

GRACE_S = 5
BIND_PATIENCE_S = 2
LINE = "%(asctime)s %(levelname)s [%(request)s] %(message)s"
HEADERS_S = 10  # for a request to say all its headers; a kept connection may be idle for as long
HEADERS_BYTES = 32 * 1024
MOST_CONNECTIONS = 4096
UNSENT_BYTES = 256 * 1024  # that the kernel keeps for a client that may stall


def log_to(logfile, log_format="text", service=None):
    """Send the log of this process to standard error and, when given, to a file too: lines for people, or as JSON."""
    # Behind what takes each line that is printed, and makes it JSON.
    handlers = [logging.StreamHandler(sys.__stderr__ if log_format == "json" else sys.stderr)]
    if logfile is not None:
        try:
            handlers.append(RotatingFileHandler(logfile, maxBytes=5_000_000, backupCount=2))
        except OSError as error:
            print(f"{sys.argv[0]}: bad settings: logfile: {error}", file=sys.stderr, flush=True)
            sys.exit(2)
    for handler in handlers:
        dress(handler, log_format, service)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


def dress(handler, log_format, service):
    """Have this handler of a log write lines in this format, each with the request that it belongs to."""
    handler.addFilter(requestid.add_to_record)
    handler.setFormatter(jsonlog.JsonLines(service) if log_format == "json" else logging.Formatter(LINE))


class OneProcessServer(MTServer):
    """granian's threaded server with its one worker in this very process, so that a killed service is dead.

    granian offers this only to Pythons without a GIL, since there several such workers gain something. With one
    worker nothing depends on it. What is overridden here is granian's inside: the version is pinned.
    """

    def __init__(self, app, stalled_s, **settings):
        super().__init__(**settings)
        self._app = app
        self._stalled_s = stalled_s
        self.main_loop_interrupt = _Interrupt()
        self.signal_handler_reload = self.signal_handler_interrupt  # SIGHUP, of a closed terminal, ends it too

    def _check_gil(self):
        pass

    def _init_shared_socket(self):
        # granian's own socket has SO_REUSEPORT: a second server on the port would start, and get half the requests.
        listener = _bind(self.bind_addr, self.bind_port)
        if self._stalled_s is not None:  # connections inherit these
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._stalled_s * 1000)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
        listener.listen(self.backlog)
        listener.setblocking(False)
        self._shd = SocketHolder(listener.detach(), False, self.backlog)
        log.info(
            "%s listens on http://%s:%s, pid %s",
            self.target,
            self.bind_addr,
            self.bind_port,
            os.getpid(),
            extra={"event": "listening", "port": self.bind_port, "pid": os.getpid()},
        )

    def _stop_workers(self):
        # Whatever hangs on the way out, we end, and say where it was. This watchdog needs no interpreter.
        faulthandler.dump_traceback_later(2 * GRACE_S, exit=True)
        self._app.stop()
        for worker in self.wrks:
            worker.terminate()
        for worker in self.wrks:
            worker.join(GRACE_S)
        if any(worker.inner.is_alive() for worker in self.wrks):  # its own is_alive() says no once it was told to end
            log.warning("a request was still in flight after %s s, and is cut", GRACE_S, extra={"event": "request-cut"})
        try:
            self._app.at_end()
        except Exception:
            log.exception("the end did not go as it should", extra={"event": "end-failed"})
            self._app.exit_code = 1
        # Not by the long way: threads of the server that wait for the interpreter can hold up its end.
        logging.shutdown()
        os._exit(self._app.exit_code)


class _Interrupt:
    """What granian uses of threading.Event, but no signal is missed, and `set` may be called in a signal handler.

    Python's handlers run in the main thread alone, and waiting for a lock it sleeps on when the signal came to another
    thread, or a moment before the wait. The byte that Python writes at once, in whichever thread, wakes it.
    """

    def __init__(self):
        self._heard, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)

    def set(self):
        with suppress(BlockingIOError):  # so many bytes are there already that one more changes nothing
            self._wakes.send(b"!")

    def wait(self):
        self._heard.recv(4096)

    def clear(self):
        """Nothing to clear: `wait` takes what has come."""


def serve(app, service, host, port, stalled_s=None):
    """Serve the application, an emporium.web.App, until SIGTERM or SIGINT: the listener closes at once, and what is
    in flight has 5 s to finish. Never returns: exits 0 then, 1 when the application failed, or
    when the port is taken, naming its holder.

    stalled_s  for how long a client may take nothing of an answer before its connection is cut; None for ever
    """
    _allow_many_connections()
    try:
        address = socket.gethostbyname(host)
        server = OneProcessServer(
            app,
            stalled_s,
            target=service,
            address=address,
            port=port,
            interface="wsgi",
            http="1",
            workers=1,
            blocking_threads=app.threads,
            backlog=1024,
            backpressure=MOST_CONNECTIONS,  # idle ones count, too
            http1_settings=HTTP1Settings(header_read_timeout=HEADERS_S * 1000, max_buffer_size=HEADERS_BYTES),
            log_level="error",
            log_dictconfig={"loggers": {"_granian": {"propagate": True}, "granian.access": {}}},
        )
        server.serve(target_loader=lambda: app, wrap_loader=False)
    except OSError as error:
        sys.exit(f"{service}: cannot listen on {host}:{port}: {error}{_holder_of(port)}")


def _allow_many_connections():
    # Many systems allow a process 1,024 files at first, and more when it asks.
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_CONNECTIONS if most == resource.RLIM_INFINITY else min(2 * MOST_CONNECTIONS, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


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
