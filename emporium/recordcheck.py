"""The checksum behind a gossip record that waits in a guarded shard's Redis:

    {"primary":"db0","key":"assam","rating":3,"choices":[3],"clocks":[{"c0":1}]} 9f86d081884c7d65

Without it a bit that flipped on the disk would be told as a rating that nobody gave, and stand beside the true one in
all replicas. A record that was altered is read as it stands, check and all: that is no JSON, and so it is set aside.
"""

from hashlib import blake2b

CHECK_BYTES = 8


def with_check(text):
    """The JSON text of a record, bytes, as it is to be stored."""
    return text + b" " + _check_of(text)


def without_check(stored):
    """The JSON text of what with_check made; anything else as it stands."""
    text, _, check = stored.rpartition(b" ")
    return text if check == _check_of(text) else stored


def _check_of(text):
    return blake2b(text, digest_size=CHECK_BYTES).hexdigest().encode()
