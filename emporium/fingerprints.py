"""The fingerprints of a shard's values: two shards compare a thousand numbers to find which of their teas differ.

A tea is in one of 1,024 buckets, by its name. The sum of a bucket is the exclusive or of its values' fingerprints, so
that one change costs one operation, however many teas there are. Held in memory (about 250 bytes a tea), and made from
what is stored at each start.
"""

import time
from array import array
from zlib import crc32

BUCKETS = 1024
NEWS_S = (
    0.5  # for so long after it was written here, or came as gossip, a tea is expected to reach the others by itself
)


class Fingerprints:
    """Safe to share between threads: each tea is put by one caller at a time."""

    def __init__(self, now=time.monotonic):
        self._now = now
        self._teas = [{} for _ in range(BUCKETS)]  # {tea: fingerprint}, by bucket
        self._sums = array("Q", bytes(8 * BUCKETS))
        self._news = {}  # {tea: when it changed}, the oldest first

    def put(self, tea, fingerprint, is_news=False):
        """The value of this tea has this fingerprint now, 64 bits; None: nothing is stored.

        `is_news`: gossip is going to tell the others.
        """
        bucket = bucket_of(tea)
        before = self._teas[bucket].get(tea, 0)
        if fingerprint is not None:  # never missing in between, for those who look meanwhile
            self._teas[bucket][tea] = fingerprint
        else:
            self._teas[bucket].pop(tea, None)
        self._sums[bucket] ^= before ^ (fingerprint or 0)
        if is_news:
            self._news.pop(tea, None)
            self._news[tea] = self._now()

    def clear(self):
        """Nothing is stored."""
        self.__init__(self._now)

    def sums(self):
        """The sum of each bucket, bytes: 8 for each."""
        return self._sums.tobytes()

    def differing(self, sums, first=0):
        """The numbers of the buckets from `first` on whose sums are others than these."""
        theirs = array("Q", sums)
        return [bucket for bucket in range(first, BUCKETS) if theirs[bucket] != self._sums[bucket]]

    def of(self, bucket):
        """{tea: fingerprint} of all teas in this bucket."""
        return dict(self._teas[bucket])

    def teas(self):
        """The names of all teas that are held, a set."""
        return set().union(*self._teas)

    def news(self):
        """The teas that changed here within the last half second."""
        ends = self._now() - NEWS_S
        for tea, changed in list(self._news.items()):
            if changed > ends:
                break
            self._news.pop(tea, None)
        return set(self._news)

    def __len__(self):
        return sum(map(len, self._teas))


def bucket_of(tea):
    return crc32(tea.encode()) % BUCKETS
