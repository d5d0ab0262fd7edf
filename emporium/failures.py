"""How a call to another service can fail, in the one respect that matters to whoever asked: may it have been done?"""


class PeerError(Exception):
    """A call to another service that brought nothing usable.

    `is_timeout`: it was waited for, to the end of the deadline, rather than refused or cut off at once.
    """

    def __init__(self, message, is_timeout=False):
        super().__init__(message)
        self.is_timeout = is_timeout


class NotReached(PeerError):
    """The peer surely did nothing."""


class NoAnswer(PeerError):
    """The peer may have done what was asked, or may yet."""


class BadAnswer(PeerError):
    """The peer answered, and not as the protocol says."""
