"""The line of a shell that does what a form of the page does. Pure."""

import shlex
from urllib.parse import quote

JSON_HEADER = "Content-Type: application/json"


def path_of(tea):
    """The path of this tea, whatever its name."""
    return f"/rating/{quote(tea, safe='')}"


def line(url, method, body=None):
    """`curl ...`, to be pasted into any POSIX shell. `body` is JSON text, or None."""
    words = ["curl"]
    if method != "GET":
        words.append(f"-X{method}")
    if body is not None:
        words += ["-H", JSON_HEADER, "-d", body]
    return shlex.join([*words, url])
