"""How a log behaves: one frozen value that refuses what makes no sense."""

from dataclasses import dataclass

POLICIES = ("group", "always", "interval", "never")
UNSYNCED = ("interval", "never")  # readers see records that are not synced yet
END_OF_OFFSETS = 2**62
LEAST_TEND_S = 0.1


@dataclass(frozen=True)
class Config:
    """Raises ValueError that names the field at fault.

    fsync            when a record counts as stored, is answered for and can be read:
                     group     once it is synced; those that wait together share one sync
                     always    once it is synced, by a sync of its own
                     interval  once it is written; a sync follows within interval_s. A power loss may take the newest
                               interval_s of records, a kill takes none
                     never     once it is written; only sealing a segment and closing the log sync. A power loss may
                               take what stands in the active segment, a kill takes none
    interval_s       see there, in seconds
    segment_bytes    a store of this size is full. One append may overshoot it
    index_bytes      an index of this size is full, to the last whole entry; never overshot. It bounds how long the
                     start after a crash takes, since the last segment is read whole then
    ahead_bytes      a store that is written to sets aside room for so many bytes at a time, which makes syncs cheaper;
                     never more than segment_bytes; 0: none
    append_bytes     the most bytes of values that one append may hold, together
    retention_bytes  drop the oldest segments while the stores are larger than this; None: never
    retention_s      drop records that are older than this, in seconds, at the latest after about twice as long;
                     None: never
    tend_s           the background looks at retention after each roll, and at least every so many seconds; more often
                     if retention_s asks for it. None: only the owner calls tend()
    first_offset     where a new log begins
    """

    fsync: str = "group"
    interval_s: float = 1.0
    segment_bytes: int = 64 * 2**20
    index_bytes: int = 6 * 2**20
    ahead_bytes: int = 256 * 2**10
    append_bytes: int = 64 * 2**20
    retention_bytes: int | None = None
    retention_s: float | None = None
    tend_s: float | None = 30.0
    first_offset: int = 0

    def __post_init__(self):
        if self.fsync not in POLICIES:
            raise ValueError(f"fsync: {self.fsync!r} is none of {', '.join(POLICIES)}")
        _require_whole("segment_bytes", self.segment_bytes, 1)
        _require_whole("index_bytes", self.index_bytes, 12)
        _require_whole("ahead_bytes", self.ahead_bytes, 0)
        _require_whole("append_bytes", self.append_bytes, 1)
        _require_whole("first_offset", self.first_offset, 0)
        _require_above_zero("interval_s", self.interval_s)
        if self.retention_bytes is not None:
            _require_whole("retention_bytes", self.retention_bytes, 0)
        if self.retention_s is not None:
            _require_above_zero("retention_s", self.retention_s)
        if self.tend_s is not None:
            _require_above_zero("tend_s", self.tend_s)

    @property
    def tend_period_s(self):
        """How often retention is looked at, in seconds.

        With d = retention_s and p = this: a segment is sealed once its first record is older than d, at d + p at the
        latest, and goes once its last record is, at 2 d + 2 p at the latest.
        """
        if self.retention_s is None:
            return self.tend_s
        return min(self.tend_s, max(self.retention_s / 10, LEAST_TEND_S))

    @property
    def set_aside_bytes(self):
        return min(self.ahead_bytes, self.segment_bytes)

    @property
    def has_retention(self):
        return self.retention_bytes is not None or self.retention_s is not None


def _require_whole(name, value, least):
    if type(value) is not int or not least <= value < END_OF_OFFSETS:
        raise ValueError(f"{name}: {value!r} is no whole number of at least {least}")


def _require_above_zero(name, value):
    if type(value) not in (int, float) or not 0 < value < 2**31:
        raise ValueError(f"{name}: {value!r} is no number above 0")
