"""The pages themselves: files of emporium/view/pages, and the descriptions of the services' HTTP.

They are read anew for each request, so that whoever changes one sees it at once. Browsers keep them, and ask each time
whether theirs is still the one (ETag).
"""

import hashlib
import re

from flask import request

from emporium import web, wire
from emporium.environment import ROOT

PAGES = ROOT / "emporium" / "view" / "pages"
DESCRIPTIONS = ROOT / "emporium" / "openapi"
DESCRIBED = ("lb", "db", "q", "log", "view")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
}
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
FIRST_STATE = re.compile(rb'(<script type="application/json" id="first-state">).*?(</script>)', re.DOTALL)


def static(name):
    """The answer with this file of the pages. Raises a Problem 404."""
    if not NAME.fullmatch(name):
        raise nothing()
    return _file(PAGES / name)


def description(service):
    """The answer with the OpenAPI description of this service. Raises a Problem 404."""
    if service not in DESCRIBED:
        raise nothing()
    return _file(DESCRIPTIONS / f"{service}.json")


def index(state):
    """The page, with this STATE in it."""
    # In a script element nothing but its end tag has a meaning, and without < there is none.
    data = wire.encode(state).replace(b"<", b"\\u003c")
    page = FIRST_STATE.sub(lambda found: found[1] + data + found[2], _read(PAGES / "index.html"), count=1)
    return web.Reply(200, TYPES[".html"], page)


def _file(path):
    if path.suffix not in TYPES:
        raise nothing()
    body = _read(path)
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")}
    if known & {tag, "*"}:
        return web.Reply(304, TYPES[path.suffix], b"", headers)
    return web.Reply(200, TYPES[path.suffix], body, headers)


def _read(path):
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise nothing() from None


def nothing():
    return web.Problem(404, "there is no such page")
