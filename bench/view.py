"""What it costs the store that people look on.

A store as `./tea up` starts it, with its view, takes turns with itself: without a page, with fifty, and with one that
shows a trace; and with a store that keeps no trace and has no view at all.

The pages take what is sent to them and draw nothing: what a browser costs is its own affair.
"""

import json
import selectors
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from math import nan

from bench import clusters, turns, wrk
from bench.report import Claim
from bench.throughput import NAMES, Door, errors_of, marked, median_cost, middle, one_run, p99, rate, ratio
from emporium.failures import PeerError
from emporium.peers import Peer
from emporium.service import StartFailed

BARE, ALONE, PAGES, TRACE = "no view", "no page", "fifty pages", "a trace"
MOST_PAGES = 50
KINDS = ("mix", "strong")
CLIENTS = 32
TEAS = 4001
ROUNDS, RUN_S = 10, 3
LEAST_WITH_PAGES, LEAST_WITH_TRACE = 0.95, 0.90
LOOK_S = 1.0  # from one look at the trace to the next
OPEN_S = 20


def run(programs, findings, is_quick=False):
    """Add to the Findings. Takes 5 minutes; `is_quick` takes half of one, and its figures are worth nothing."""
    tool, teas = wrk.find_or_install(), wrk.Teas(TEAS)
    rounds, run_s, kinds = (1, 1, KINDS[:1]) if is_quick else (ROUNDS, RUN_S, KINDS)
    with clusters.ours(programs, is_watched=True) as on, clusters.ours(programs) as bare:
        view = on.cluster.view.port
        doors = {BARE: (bare, nobody), ALONE: (on, nobody), PAGES: (on, pages), TRACE: (on, page_with_trace)}
        for running in (on, bare):
            running.store(teas)
            one_run(tool, Door(running.name, running.port, running), "mix", CLIENTS, 1, teas)  # to warm up
        runs = {
            (how, kind): partial(watched_run, watch, view, tool, Door(how, running.port, running), kind, run_s, teas)
            for kind in kinds
            for how, (running, watch) in doors.items()
        }
        runs = turns.take("people look on", rounds, runs, findings)
    add_table(runs, kinds, findings)
    findings.claims += claims(runs, kinds)


def watched_run(watch, view, tool, door, kind, run_s, teas):
    with watch(view):
        return one_run(tool, door, kind, CLIENTS, run_s, teas)


# ---- those who look on


@contextmanager
def nobody(_view):
    yield


@contextmanager
def pages(view, count=MOST_PAGES):
    """Inside, so many pages are open, each of which has had its first state."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", view), OPEN_S)) for _ in range(count)]
        for page in opened:
            page.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = b""
            while b"event: state" not in said:
                piece = page.recv(65536)
                if not piece:
                    raise StartFailed(f"the view does not open a page: {said[:200]!r}")
                said += piece
        is_over = threading.Event()
        reader = threading.Thread(target=_read, args=(opened, is_over))
        reader.start()
        try:
            yield
        finally:
            is_over.set()
            reader.join()
    _wait_until_none_is_open(view)


def _read(opened, is_over):
    """Take what comes, and throw it away."""
    with selectors.DefaultSelector() as ready:
        for page in opened:
            ready.register(page, selectors.EVENT_READ)
        while not is_over.is_set():
            for key, _ in ready.select(0.1):
                if not key.fileobj.recv(65536):
                    ready.unregister(key.fileobj)


@contextmanager
def page_with_trace(view):
    """Inside, one page is open that shows the newest write, and asks for its way anew each second."""
    is_over = threading.Event()
    looker = threading.Thread(target=_look, args=(Peer("view", "127.0.0.1", view, OPEN_S), is_over))
    with pages(view, 1):
        looker.start()
        try:
            yield
        finally:
            is_over.set()
            looker.join()


def _look(peer, is_over):
    while not is_over.wait(LOOK_S):
        try:
            writes = peer.call("GET", "/api/writes?max=20").read()["writes"]
            if writes:
                peer.call("GET", f"/api/trace/{writes[0]['request']}")
        except (PeerError, KeyError):  # the load is what is measured, and the trace of a moment may be gone
            continue


def _wait_until_none_is_open(view):
    """So that the next run does not pay for this one."""
    peer, deadline = Peer("view", "127.0.0.1", view, OPEN_S), time.monotonic() + OPEN_S
    while json.loads(peer.call("GET", "/status").body)["pages"]:
        if time.monotonic() > deadline:
            raise StartFailed(f"the view has pages open that were closed {OPEN_S} s ago")
        time.sleep(0.05)


# ---- figures


def add_table(runs, kinds, findings):
    rows = []
    for kind in kinds:
        for how in (BARE, ALONE, PAGES, TRACE):
            found, alone, bare = runs[how, kind], runs[ALONE, kind], runs[BARE, kind]
            cost = median_cost(found)
            of_store = sum(us for name, us in cost.items() if name != "view")
            row = [NAMES[kind], how, middle(found, rate), ratio(found, bare, rate), ratio(found, alone, rate)]
            rows.append([*row, middle(found, p99), of_store, cost.get("view", nan), marked(errors_of(found))])
    columns = ["\n", "\nlooked on by", "\n/s", "of that\nwith no view", "of that\nwith no page", "p99\nms"]
    columns += ["CPU us an op.\nstore", "CPU us an op.\nview", "\nerrors"]
    title = f"People look on, {CLIENTS} clients, medians of the rounds; ratios within a round:"
    findings.add_table(title, columns, rows, "view")


def claims(runs, kinds):
    made = []
    for kind in kinds:
        found = ratio(runs[PAGES, kind], runs[ALONE, kind], rate)
        asked = f"{NAMES[kind]}, fifty open pages: at least {LEAST_WITH_PAGES} of the rate with none"
        made.append(Claim(asked, f"{found:.2f} of it", found >= LEAST_WITH_PAGES))
        found = ratio(runs[TRACE, kind], runs[BARE, kind], rate)
        asked = f"{NAMES[kind]}, an open trace: at least {LEAST_WITH_TRACE} of the rate where none is even kept"
        made.append(Claim(asked, f"{found:.2f} of it", found >= LEAST_WITH_TRACE))
    return made
