"""How a tea is called in an address."""

import unicodedata
from urllib.parse import quote

from emporium.client.errors import BadRequest


def named(tea: str) -> str:
    """The name in Unicode's composed form, as the store takes it. Raises BadRequest for what no address can have,
    and TypeError for what is no name.
    """
    if not isinstance(tea, str):
        raise TypeError(f"a tea's name is a str, not {tea!r}")
    if tea in ("", ".", "..") or "/" in tea:
        raise BadRequest(f"{tea!r} cannot name a tea: a name has at least one character, no slash, and is not . or ..")
    try:
        tea.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{tea!r} cannot name a tea: {error}") from error
    return unicodedata.normalize("NFC", tea)


def path_of(tea: str) -> str:
    return f"/rating/{quote(tea, safe='')}"
