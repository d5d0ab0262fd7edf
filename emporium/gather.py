"""Operations that wait for one shard together travel together. This file knows nothing of Flask, nor of HTTP.

    gatherer = Gatherer("db0", send, wait_s=1.0, all_s=2.0)
    outcome = gatherer.ask(operation)

The first operation to find the shard idle is carried at once, by the thread that brought it. Those that arrive
meanwhile wait, and one of them carries all of them next. Nobody waits for a timer, and no thread is ours.

    arrives -- idle? --- yes -----------------------------> carrier: sends itself and all that wait, 256 at most,
                 |                                    ^               gives each its outcome, and wakes one of those
                 no --> waits -- woken to carry ------'               that came since, as the next carrier
                          |----- sent by a carrier -------> has its outcome, or NoAnswer at its deadline
                          '----- not sent in time --------> withdrawn, NotReached

It promises each operation exactly one outcome, its own, within its deadline, and that none is sent twice.
"""

import logging
import threading
from collections import deque
from itertools import zip_longest

from emporium.failures import NoAnswer, NotReached, PeerError
from emporium.tally import TOGETHER, Sizes

log = logging.getLogger(__name__)

MOST_TOGETHER = 256

WAITING, CARRIER, SENT, REFUSED = "waiting", "carrier", "sent", "refused"


class _Member:
    """One operation on its way, and the thread that waits for it."""

    __slots__ = ("operation", "outcome", "state", "woken")

    def __init__(self, operation):
        self.operation = operation
        self.state = WAITING  # read and changed under the gatherer's lock, until its thread was woken
        self.outcome = None
        self.woken = None  # of one that waits: a lock that is held until it is woken


class Gatherer:
    """Carries operations to one shard, one batch at a time. How many may be here at a time is for the caller to limit.

    send    ([operation, ...]) -> [outcome, ...] in the same order; an outcome that is an exception is raised to its own
            asker. Raises NotReached or NoAnswer for all of them. It has a deadline of its own; after a timeout those
            that wait are refused, since they would only wait for the next one.
    wait_s  for how long an operation waits to be sent
    all_s   when the asker of one that another one carries has an answer at the latest; a carrier has it with `send`
    """

    def __init__(self, name, send, wait_s, all_s):
        self._name = name
        self._send = send
        self._wait_s = wait_s
        self._all_s = all_s
        self.together = Sizes(TOGETHER)  # how many operations each batch had
        self._lock = threading.Lock()
        self._waiting = deque()  # Members, oldest first
        self._is_busy = False  # a carrier is on its way, or was woken

    def ask(self, operation):
        """The operation's outcome. Raises NotReached or NoAnswer, or the exception that is its outcome."""
        member = _Member(operation)
        with self._lock:
            is_carrier = not self._is_busy
            self._is_busy = True
            if not is_carrier:
                member.woken = threading.Lock()
                member.woken.acquire()
                self._waiting.append(member)
        if is_carrier or self._must_carry(member):
            self._carry(member)
        if isinstance(member.outcome, Exception):
            raise member.outcome
        return member.outcome

    def _must_carry(self, member):
        """True when it was woken to carry, False when it has its outcome. Raises NotReached or NoAnswer when its time
        is over."""
        if not member.woken.acquire(timeout=self._wait_s):
            with self._lock:
                if member.state is WAITING:
                    self._waiting.remove(member)
                    raise NotReached(f"{self._name} was busy with other requests for {self._wait_s:g} s")
            # It was sent, or else woken just now, so that this does not wait.
            if not member.woken.acquire(timeout=self._all_s - self._wait_s):
                raise NoAnswer(f"{self._name} did not answer within {self._all_s:g} s")
        return member.state is CARRIER

    def _carry(self, first):
        with self._lock:
            others = min(len(self._waiting), MOST_TOGETHER - 1)
            batch = [first, *(self._waiting.popleft() for _ in range(others))]
            for member in batch:
                member.state = SENT
        operations = [member.operation for member in batch]
        self.together.add(len(batch))
        outcomes, failure = [], NoAnswer(f"whoever carried it to {self._name} came to an end")
        try:
            outcomes = list(self._send(operations))
            failure = NoAnswer(f"{self._name} answered {len(outcomes)} of {len(batch)} operations")
        except PeerError as error:
            failure = error
        except Exception as error:
            log.exception(
                "carrying %s operations to %s failed",
                len(batch),
                self._name,
                extra={"event": "batch-failed", "peer": self._name},
            )
            failure = NoAnswer(f"carrying it to {self._name} failed: {error}")
        finally:  # whatever happened, SystemExit included
            self._settle(batch, outcomes, failure)

    def _settle(self, batch, outcomes, failure):
        """Each of the batch has its outcome, or the failure; then somebody else carries, or the shard is idle."""
        if len(outcomes) > len(batch):  # then nobody knows which is whose
            outcomes = []
        for member, outcome in zip_longest(batch, outcomes, fillvalue=failure):
            member.outcome = outcome
        with self._lock:
            if failure.is_timeout:
                for member in self._waiting:
                    member.state = REFUSED
                    member.outcome = NotReached(f"{self._name} has just not answered somebody else")
                    member.woken.release()
                self._waiting.clear()
            self._is_busy = bool(self._waiting)
            if self._is_busy:
                carrier = self._waiting.popleft()
                carrier.state = CARRIER
                carrier.woken.release()  # under the lock: whoever sees that it carries can rely on its being woken
        for member in batch[1:]:  # the first one is the carrier, which waits no more
            member.woken.release()
