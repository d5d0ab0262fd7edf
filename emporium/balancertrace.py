"""What the load balancer records of each operation, in the words of docs/protocol.md (GET /trace).

An operation passes received, sent, answered; a weak read that goes on to another shard is sent more than once.
"""

from emporium.trace import Event


class BalancerTrace:
    """The Trace of the load balancer: each method says what has just happened."""

    def __init__(self, trace):
        self._record = trace.record

    def received(self, operation):
        """A client asks for this batch.Operation."""
        self._record(_received, (operation,), None, len(operation.rated.clock) if operation.rated else 0)

    def sent(self, operations, peer):
        """These go to the shard called `peer` in one call."""
        self._record(_sent, tuple(operations), (peer, len(operations)))

    def answered(self, operation, reply):
        """This web.Reply is on its way to the client."""
        self._record(_answered, (operation,), (reply.status, dict(reply.headers).get("X-Merge")))


# ---- how an Entry of each kind is told: tell(thing, about)


def _received(operation, _):
    return _of_operation("received", operation, method=operation.method)


def _sent(operation, about):
    peer, together = about
    return _of_operation("sent", operation, peer=peer, together=together)


def _answered(operation, about):
    status, outcome = about
    return _of_operation("answered", operation, status=status, outcome=outcome)


def _of_operation(name, operation, **members):
    return Event(name, operation.tea, operation.request, operation.rated, members)
