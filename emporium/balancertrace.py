"""What the load balancer records of each operation, in the words of docs/protocol.md (GET /trace).

An operation passes received, sent, answered; a weak read that goes on to another shard is sent more than once.
"""


class BalancerTrace:
    """The Trace of the load balancer: each method says what has just happened."""

    def __init__(self, trace):
        self._record = trace.record

    def received(self, operation):
        """A client asks for this batch.Operation."""
        self._record("received", operation.tea, operation.request, operation.rated, method=operation.method)

    def sent(self, operations, peer):
        """These go to the shard called `peer` in one call."""
        together = len(operations)
        for each in operations:
            self._record("sent", each.tea, each.request, peer=peer, together=together)

    def answered(self, operation, reply):
        """This web.Reply is on its way to the client."""
        outcome = dict(reply.headers).get("X-Merge")
        self._record("answered", operation.tea, operation.request, status=reply.status, outcome=outcome)
