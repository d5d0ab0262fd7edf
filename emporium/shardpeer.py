"""One shard as the load balancer sees it: what waits for it together goes in one call, and it may not hold up others.

A request that comes alone goes as the course has it. A plain course shard, which knows nothing of POST /operations,
is given all of them so.
"""

import time
from urllib.parse import quote

from emporium import batch, wire
from emporium.bulkhead import Bulkhead
from emporium.failures import NotReached
from emporium.gather import Gatherer
from emporium.guard import Guarded
from emporium.peers import Peer
from emporium.trace import Nothing

SHARD_S = 1.0  # for the shard to answer, and for an operation to wait until it is sent
ALL_S = 2.0  # for both
PASSED_OVER_S = 1.0
LEAST_S = 0.01  # for a call, however late it is
WEAK = ("X-Consistency: weak",)  # to a shard that has lost its memory this read can be answered all the same
ALONE = object()  # the outcome of an operation that its asker is to send by itself


class ShardPeer:
    """Shard `name` on this machine. At most `most_waiting` callers wait for it at a time, to be sent or to be answered;
    those beyond are refused at once, as NotReached. One that does not gather sends each operation by itself.
    """

    def __init__(self, name, port, most_waiting, gathers=True, trace=None):
        """`trace` is told which operations are sent, and with how many others; None: nobody is."""
        self.name = name
        self._trace = trace or Nothing()
        self._gathers = gathers
        self._guarded = Guarded(Peer(name, "127.0.0.1", port, SHARD_S, most_waiting))
        self.url = self._guarded.url
        self._gatherer = Gatherer(name, self._carry, SHARD_S, ALL_S)
        self._passed_over_until = 0.0
        self._room = Bulkhead(
            most_waiting, lambda: NotReached(f"{name} at {self.url} has {most_waiting} requests waiting already")
        )

    @property
    def is_away(self):
        """Whether it did not answer, refused a connection, or was passed over, just now."""
        return self._guarded.is_away or time.monotonic() < self._passed_over_until

    @property
    def trouble(self):
        """Why it is left alone, in words; None while it is not."""
        return self._guarded.trouble

    @property
    def together(self):
        """How many operations travelled together, a tally.Sizes."""
        return self._gatherer.together

    @property
    def waiting(self):
        """How many callers wait for it, as it looks just now."""
        return self._room.used

    def pass_over(self):
        """It could not serve a read that any shard may serve: for a second such reads begin elsewhere."""
        self._passed_over_until = time.monotonic() + PASSED_OVER_S

    def call(self, method, path):
        """As Peer.call: the Answer; raises NotReached or NoAnswer."""
        with self._room:
            return self._guarded.call(method, path)

    def ask(self, operation):
        """What one batch.Operation comes to: an Outcome when it went with others, an Answer when alone.

        Raises NotReached, NoAnswer or BadAnswer.
        """
        ends = time.monotonic() + ALL_S
        with self._room:
            answer = ALONE
            if self._gathers and not self._guarded.is_plain:
                answer = self._gatherer.ask(operation)
            if answer is ALONE:
                left_s = ends - time.monotonic()
                answer = self._send_alone(operation, max(LEAST_S, min(SHARD_S, left_s)))
            return answer

    def ask_alone(self, operation, deadline_s):
        """The Answer to the same in a call of its own."""
        with self._room:
            return self._send_alone(operation, deadline_s)

    def _send_alone(self, operation, deadline_s=None):
        body = wire.encode(operation.rated) if operation.rated else None
        path = f"/rating/{quote(operation.tea, safe='')}"
        self._trace.sent([operation], self.name)
        return self._guarded.call(operation.method, path, body, deadline_s, WEAK if operation.weak else ())

    def _carry(self, operations):
        if len(operations) == 1:
            return [self._send_alone(operations[0])]
        self._trace.sent(operations, self.name)
        answer = self._guarded.call_ours("/operations", batch.encode_operations(operations))
        if answer is None:  # a plain shard
            return [ALONE] * len(operations)
        if not answer.is_ok:  # said to all of them: it is busy, say
            return [answer] * len(operations)
        return answer.read(batch.decode_outcomes)
