"""What came of asking a service how it is: up, slow or down, in words, and what it told. Pure."""

from types import MappingProxyType
from typing import NamedTuple

SLOW_MS = 250


class Asked(NamedTuple):
    """state      "up", "slow" (it takes long, or accepts a connection and does not answer) or "down"
    note       why it is not up, or what it does not tell, in words; None for nothing
    answer_ms  how long it took to answer; None when it did not
    told       what it told, as a dict; {} when nothing
    events     trace events that are new since it was last asked, oldest first, as dicts
    dropped    how many such events there were besides
    """

    state: str
    note: str | None = None
    answer_ms: float | None = None
    told: dict = MappingProxyType({})
    events: list | tuple = ()
    dropped: int = 0


def answered(answer_ms, told, note=None, events=(), dropped=0):
    """The Asked of a service that answered."""
    if answer_ms <= SLOW_MS:
        return Asked("up", note, answer_ms, told, events, dropped)
    slow = f"it took {answer_ms:.0f} ms to answer"
    return Asked("slow", f"{slow}; {note}" if note else slow, answer_ms, told, events, dropped)


def silent(peer, error):
    """The Asked of a service that did not answer, from its PeerError; its name and address stand beside it anyway."""
    return Asked("slow" if error.is_timeout else "down", str(error).removeprefix(f"{peer.name} at {peer.url} "))
