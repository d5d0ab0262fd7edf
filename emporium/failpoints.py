"""Failpoints: named places between two effects, at each of which a process can be made to die, for tests.

    TEA_FAILPOINT=exec-answered:3 python serverDB.py ...       dies by SIGKILL when it is there for the third time

A random kill seldom falls between two effects that follow each other at once; a failpoint always does. Without that
variable `hit` does nothing.

Source: etcd's gofail.
"""

import os
import signal
from itertools import count

POINTS = {  # name: (what has been done by then, what comes next)
    # a step of a shard
    "step-begun": ("the turn is ours", "what is stored is read, and watched"),
    "step-loaded": ("what is stored is read", "writes are merged with it"),
    "write-unstored": ("writes are merged", "the EXEC that stores and remembers them"),
    "gossip-unstored": ("gossip was heard and merged", "the EXEC that stores it, with the cursor"),
    "exec-unsent": ("the change is made up", "the EXEC of any guarded change"),
    "exec-answered": ("Redis has made a change", "the note beside it says so"),
    "exec-noted": ("the note says that a change was made", "whatever comes after it"),
    "write-stored": ("writes are stored", "what is due is told"),
    "gossip-stored": ("gossip is stored, with the cursor", "the queue learns of the cursor"),
    "tell-unsent": ("what is due is in Redis", "the exchange with the queue"),
    "told": ("the queue has what was due", "the EXEC that forgets it"),
    "own-told": ("with durability 2, the queue has what was due before its own writes", "the EXEC that forgets it"),
    "much-due": ("far too much is due", "the EXEC that drops the older of it"),
    "much-dropped": ("the older of what was due is dropped", "the answer"),
    "answer-unsent": ("all is stored and told", "the answer leaves the shard"),
    # the start of a guarded shard, and its end
    "claim-unsent": ("Redis is looked at", "the EXEC that takes the next epoch"),
    "claim-stored": ("the epoch is taken", "the note beside Redis says so"),
    "claim-noted": ("the note has the epoch", "the first step"),
    "end-begun": ("SIGTERM: nothing more is accepted", "what waits in the digest becomes due"),
    "end-due": ("at SIGTERM, the digest is due", "it is told"),
    "end-told": ("at SIGTERM, the queue has what was due", "the EXEC that forgets it"),
    # a memory that was lost, or damaged
    "recovery-heard-queue": ("the log of my channel is read", "it is merged"),
    "recovery-merged-queue": ("what my channel holds is stored", "the other shards are heard"),
    "recovery-heard-other": ("another shard is heard", "the next one is, or the memory is whole"),
    "recovery-unended": ("all are heard", "the EXEC after which strong operations are served"),
    "recovery-ended": ("strong operations are served", "what comes after it"),
    "repair-unstored": ("the replicas are heard", "the EXEC that replaces damaged values"),
    "repair-stored": ("damaged values are replaced", "they are struck off the list"),
    # anti-entropy
    "absorb-unstored": ("what another shard holds is merged", "the EXEC that stores it, and tells nobody"),
    "absorb-stored": ("what another shard holds is stored", "the other one learns what changed"),
    "exchange-given": ("another shard has stored what I gave", "I store what it gave"),
    # the queue, and the log of a channel
    "queue-taken": ("the cursor is passed, and what waits is read", "the records that have come are put"),
    "queue-put-unstored": ("records have come", "the log stores them"),
    "queue-put-stored": ("the log has the records", "the answer leaves"),
    "channel-unnamed": ("the log of a new channel is made", "the file that says its name"),
    "channel-named": ("a new channel has its name", "the first record is put on it"),
    "progress-unsaved": ("records are done with", "the file that says so"),
    "progress-saved": ("the file says what is done with", "the log forgets it"),
    "log-unsynced": ("records are written", "they are synced"),
    "log-synced": ("records are synced", "readers see them"),
    "roll-sealed": ("the active segment is sealed", "the files of the next one"),
    "roll-created": ("the next segment has its files", "the log notes that it is the active one"),
    "roll-noted": ("the log notes the new active segment", "records are written to it"),
    "log-start-noted": ("the log notes that its oldest segments go", "their files are removed"),
    # the load balancer
    "balancer-answered": ("the shard has answered", "the answer leaves the load balancer"),
}


def hit(name):
    """Nothing, unless this is the point at which the process is to die."""


def armed(text):
    """A `hit` that kills this process at the n-th hit of a point. `text` is its name, or name:n. Raises ValueError."""
    wanted, _, number = text.partition(":")
    if wanted not in POINTS:
        raise ValueError(f"no failpoint is called {wanted!r}; these are known: {', '.join(POINTS)}")
    hits, last = count(1), int(number or 1)

    def hit(name):
        if name == wanted and next(hits) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return hit


if "TEA_FAILPOINT" in os.environ:
    hit = armed(os.environ["TEA_FAILPOINT"])
