"""What can go wrong with a log. Each error says what happened to the record that the caller held.

OffsetOutOfRange  there is no such record, or no longer
Damaged           what stands in a file is not what was written there; nothing is guessed
NotStored         surely nothing was stored, and the log goes on
TooLarge          surely nothing was stored, since it can never be
Unsure            the record may or may not be stored: it was written, and its sync failed
ReadOnly          surely nothing was stored: an earlier sync failed, and this process writes no more
InUse, Closed     somebody else has the folder, or nobody has
"""


class LogError(Exception):
    """Any of these."""


class OffsetOutOfRange(LogError):
    """The log holds the offsets from `lowest` to below `next`, and `offset` is none of them."""

    def __init__(self, offset, lowest, next):
        super().__init__(f"offset out of range: {offset}; the log holds {lowest} to below {next}")
        self.offset, self.lowest, self.next = offset, lowest, next


class Damaged(LogError):
    """`file` does not hold at `position`, in bytes, what was written there."""

    def __init__(self, file, position, why):
        super().__init__(f"{file} is damaged at position {position}: {why}")
        self.file, self.position, self.why = str(file), position, why


class NotStored(LogError):
    """The disk refused. `is_full`: because no room is left, for which a truncation may help."""

    def __init__(self, why, is_full=False):
        super().__init__(f"not stored: {why}")
        self.is_full = is_full


class TooLarge(LogError):
    """More than one append may hold."""


class Unsure(LogError):
    """The sync of this very record failed. Only a new start can tell whether the record is there."""


class ReadOnly(LogError):
    """A sync has failed before. Linux tells of it once and forgets the pages, so trying again would prove nothing."""


class InUse(LogError):
    """Another process, `pid` (None when it cannot be told), has this folder open."""

    def __init__(self, folder, pid):
        super().__init__(f"{folder} is in use by the process {'whose pid is unknown' if pid is None else pid}")
        self.folder, self.pid = str(folder), pid


class Closed(LogError):
    """The log has been closed."""

    def __init__(self):
        super().__init__("the log is closed")
