"""How a shard's values and bookkeeping stand in Redis: to bytes, and back from whatever is found there.

Pure. What makes no sense becomes a Damaged, or counts as nothing, and is never raised.
"""

from hashlib import blake2b

from emporium import wire
from emporium.shard import Digest
from emporium.siblings import UNRATED, Damaged, Value

FIELDS = ("rating", "choices", "clocks")  # of the hash of a tea
WRONG_CHECK = "the checksum does not match"


def fields_of(value):
    """FIELDS of this Value, as stored."""
    return [wire.encode(value.rating), wire.encode(wire.choices_of(value)), wire.encode(wire.clocks_of(value))]


def check_of(tea, fields):
    """The checksum over the name of a tea and its fields rating, choices and clocks, as stored: 16 hex digits."""
    return blake2b(b"\0".join((tea.encode(), *fields)), digest_size=8).hexdigest()


def verified_check(tea, fields):
    """The check of a stored value, once it is seen to be right; of a value that has none, that of its own.

    None of what is not there, a Damaged of what is damaged.
    """
    if not isinstance(fields, Exception) and None not in fields:  # to take the value apart costs much more
        *stored, check = fields
        return check.decode() if check == check_of(tea, stored).encode() else Damaged(WRONG_CHECK)
    value = value_of(tea, fields)
    if isinstance(value, Damaged):
        return value
    return None if value is UNRATED else check_of(tea, fields_of(value))


def value_of(tea, fields):
    """The Value that a hash holds, its fields as they stand there; Damaged when they make no sense.

    `fields` may have a fourth, the check: it must be right, if it is there.
    """
    if isinstance(fields, Exception):
        return Damaged(f"not a hash: {fields}")
    rating, choices, clocks, *checks = fields
    if rating is choices is clocks is None and checks in ([], [None]):
        return UNRATED
    if None in (rating, choices, clocks):
        return Damaged("one of the fields rating, choices, clocks is missing")
    for check in checks:
        if check is not None and check != check_of(tea, (rating, choices, clocks)).encode():
            return Damaged(WRONG_CHECK)
    try:
        siblings = wire.siblings_of(wire.decode(choices, wire.Choices), wire.decode(clocks, wire.Clocks))
        value = Value(wire.decode(rating, wire.Mean), tuple(siblings))
    except ValueError as error:
        return Damaged(str(error))
    return value if value.rating is not None or not value.living else Damaged("rating: it is null, and there are some")


def digest_of(found):
    """The Digest, from how many records wait in it, or from those themselves."""
    if isinstance(found, int):
        return Digest(found)
    return Digest(len(found), {home_of(text): text for text in found})


def home_of(text):
    """(primary, tea) of a record that this shard has written, given as JSON; the text itself when it is none."""
    try:
        home = wire.decode(text, wire.Home)
        return home.primary, home.key
    except ValueError:
        return text


def count_of(text):
    """A count as it stands there; None for one that was edited into something else."""
    return int(text or 0) if text is None or text.isdigit() else None


def cursor_of(text):
    """A cursor that makes no sense counts as none: then the records come again, which is harmless."""
    try:
        return wire.decode(text, wire.Cursor)
    except ValueError:
        return None
