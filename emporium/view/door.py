"""Who may ask the view, and the headers that keep its pages from anything but itself.

A page of a stranger, open in the same browser, could send requests here. Its name resolves to another address than
ours, or its Origin is not ours (DNS rebinding, cross-site requests), so both are checked; what changes something must
also be JSON, which no form of a stranger can send without asking first.
"""

from ipaddress import ip_address

from emporium.settings import is_loopback
from emporium.web import Problem, answer_problem

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
NOT_KEPT = ("Cache-Control", "no-store")
PAGES = ("/", "/docs", "/api/stream")
FILES = ("/static/", "/openapi/")


def guard(app, host):
    """Put the door before this App. `host` is the address that it listens on."""
    inside = app.answer_at_the_door
    is_open = not is_loopback(host)

    def answer_at_the_door(environ, start_response):
        def start(status, headers, *failure):
            kept = [] if any(name == "Cache-Control" for name, _ in headers) else [NOT_KEPT]
            return start_response(status, [*headers, *kept, *HEADERS], *failure)

        try:
            check(environ, is_open)
        except Problem as refusal:
            return answer_problem(refusal)(environ, start)
        if environ["PATH_INFO"] in PAGES or environ["PATH_INFO"].startswith(FILES):
            environ.pop("HTTP_ACCEPT", None)  # they are what they are, and no JSON
        return inside(environ, start)

    app.answer_at_the_door = answer_at_the_door


def check(environ, is_open):
    """Raises a Problem 403 for a request that a page of somebody else may have sent.

    is_open  whether the view listens to the network: then its address may be any, and still no name but localhost
    """
    host = environ.get("HTTP_HOST", "")
    if not is_ours(host, is_open):
        raise Problem(403, f"the view answers to localhost and 127.0.0.1, and not to Host: {host[:100]!r}")
    if environ["REQUEST_METHOD"] in ("GET", "HEAD", "OPTIONS"):
        return
    origin = environ.get("HTTP_ORIGIN")  # curl sends none
    if origin is not None and origin.removeprefix("http://") != host:
        raise Problem(403, f"a page of {origin[:100]!r} may not ask this")
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "a page of another site may not ask this")


def is_ours(host, is_open):
    """Whether a Host header names this machine: localhost, or an address, which no name of a stranger resolves to."""
    name, is_cut, port = host.rpartition(":")
    if not is_cut or not port.isdecimal():
        name = host
    name = name.removeprefix("[").removesuffix("]").lower()
    return is_loopback(name) or (is_open and is_address(name))


def is_address(name):
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
