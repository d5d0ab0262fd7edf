"""The view: the ring as it is, live in a browser.

    browser  --one stream of events-->  [ view :8000 ]  --GET /status, at most twice a second-->  lb, db0.., q, Redis

It is a process of its own, so that open pages cost the store next to nothing: however many there are, each service is
asked once for all of them, and not at all while none is open. It promises that what is down says so, already in the
first page, also when nothing else runs. It knows no more than the services tell anybody, and keeps nothing.

    python serverView.py '{"port": 8000, "lb-port": 2500, "ndb": 4}'

What a page asks for is in docs/protocol.md; the pages themselves are in emporium/view/pages.
"""

import os

from flask import request

from emporium import measures, serving, web, wire
from emporium.bulkhead import Bulkhead
from emporium.settings import ViewSettings, from_command_line, service_of
from emporium.view import door, files, labroute, teas, traces
from emporium.view.hub import Hub, Stream
from emporium.view.poller import Poller
from emporium.view.ring import Ring
from emporium.view.snapshot import Places

MOST_PAGES = 100
NICE = 10  # the store comes first, where processors are few
STALLED_S = 30  # a page that takes nothing for so long is cut


def create_app(settings):
    ring = Ring(settings, traces.Traces())
    urls = {peer.name: peer.url for peer in ring.peers}
    hub = Hub()
    poller = Poller(ring, Places(urls, settings.ndb, settings.lab_socket is not None), hub)
    pages = Bulkhead(MOST_PAGES, lambda: web.unavailable(f"{MOST_PAGES} pages are open already"))
    app = web.create_app_for("view", settings.threads, checks=dict, status=lambda: {"pages": hub.pages})
    app.at_stop = hub.close
    app.metrics.add(lambda: measures.of_view(hub))
    door.guard(app, settings.host)

    @app.get("/")
    def index():
        return files.index(poller.state())

    @app.get("/docs")
    def docs():
        return files.static("docs.html")

    @app.get("/static/<path:name>")
    def static(name):
        return files.static(name)

    @app.get("/openapi/<service>.json")
    def description(service):
        return files.description(service)

    @app.get("/api/state")
    def state():
        return web.answer(poller.state())

    @app.get("/api/stream")
    def stream():
        seen = request.headers.get("Last-Event-ID", "")
        pages.__enter__()  # its room is given back when the stream ends
        try:
            page = hub.open(int(seen) if seen.isdecimal() and len(seen) < 20 else None, fresh_state)
        except BaseException:
            pages.__exit__()
            raise
        page.on_close = pages.__exit__
        return Stream(page)

    teas.add_routes(app, ring)
    traces.add_routes(app, ring)
    labroute.add_routes(app, settings.lab_socket, settings.lb_port)

    def fresh_state():
        return wire.encode(poller.state())

    poller.start()
    return app


def main():
    settings = from_command_line(ViewSettings)
    serving.log_to(settings.logfile, settings.log_format, service_of(settings))
    os.nice(NICE)
    serving.serve(create_app(settings), "view", settings.host, settings.port, STALLED_S)


if __name__ == "__main__":
    main()
