"""One hop, for the floors: a server that answers every request with the same bytes, and does nothing else.

    python -m bench.hop '{"port": 2500, "threads": 16, "flask": false}'

It is served as our services are, bare or through the Flask application that they share.
"""

import json
import sys

from emporium import serving, web

BODY = b'{"rating":3,"choices":[3],"clocks":[{"client-000":1}]}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


class Bare:
    """The least that a WSGI application does."""

    def __init__(self, threads):
        self.threads = threads

    def __call__(self, environ, start_response):
        start_response("200 OK", HEADERS)
        return [BODY]


def flask_app(threads):
    app = web.create_app_for("hop", threads, checks=dict, status=dict)

    @app.get("/rating/<tea>")
    def get_rating(tea):
        return web.answer(BODY)

    return app


def main():
    settings = json.loads(sys.argv[1])
    app = (flask_app if settings["flask"] else Bare)(settings["threads"])
    serving.log_to(None)
    serving.serve(app, "hop", "127.0.0.1", settings["port"])


if __name__ == "__main__":
    main()
