"""What the load balancer records of each operation, in the words of docs/protocol.md (GET /trace).

An operation passes received, sent, answered; a weak read that goes on to another shard is sent more than once. One
without a request is not recorded (emporium/sampling.py).
"""


class BalancerTrace:
    """The Trace of the load balancer: each method says what has just happened."""

    def __init__(self, trace):
        self._record = trace.record

    def received(self, operation):
        """A client asks for this batch.Operation."""
        self._note("received", operation, method=operation.method)

    def sent(self, operations, peer):
        """These go to the shard called `peer` in one call."""
        together = len(operations)
        for each in operations:
            self._note("sent", each, peer=peer, together=together)

    def answered(self, operation, reply):
        """This web.Reply is on its way to the client."""
        if operation.request is not None:
            self._note("answered", operation, status=reply.status, outcome=dict(reply.headers).get("X-Merge"))

    def _note(self, name, operation, **members):
        if operation.request is not None:
            self._record(name, operation.tea, operation.request, operation.rated, **members)
