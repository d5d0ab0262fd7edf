"""What a shard's operations came to, in the words of docs/protocol.md; and how it is, for people and tools."""

from emporium import batch, web, wire
from emporium.guard import trouble_reaching
from emporium.shard import MOST_SIBLINGS, Delete, Read, Recovering, TooMany, Unsafe, Write, Written
from emporium.siblings import Damaged, Value
from emporium.store import StoreDown, StoreUnsure
from emporium.turn import Busy

DELETED = b'{"rating":null}'
SERVING = "serving"


def operation_of(asked):
    """The Write, Read or Delete that one batch.Operation asks for. Raises a Problem for a name that is none."""
    tea = web.tea_name(asked.tea)
    if asked.method == "PUT":
        return Write(tea, wire.sibling_of(asked.rated), asked.request)
    return Read(tea, asked.weak, asked.request) if asked.method == "GET" else Delete(tea, asked.request)


def outcomes_of(shard, operations):
    """The batch.Outcome of each of these operations, carried out in one step."""
    shard.trace.arrived(operations)
    try:
        came_to = shard.step(operations)
    except (Busy, StoreDown, StoreUnsure) as error:
        came_to = [error] * len(operations)
    outcomes = [outcome_of(*each) for each in zip(operations, came_to, strict=True)]
    shard.trace.answered(operations, came_to, outcomes)
    return outcomes


def stored_outcome(shard, tea):
    """What is stored of this tea, as the batch.Outcome of a read, but without a step: no gossip is taken for it."""
    try:
        value = shard.store.peek([tea])[tea]
    except StoreDown as error:
        value = error
    outcome = outcome_of(Read(tea), value)
    if isinstance(value, Value) and value.siblings:
        outcome.clock = value.clock.asDict()
    return outcome


def outcome_of(operation, came_to):
    """What one operation came to, in the words of docs/protocol.md."""
    match came_to:
        case Written() if isinstance(operation, Delete):
            return batch.Outcome(200, batch.Raw(DELETED))
        case Written(value, merge):
            return batch.Outcome(200, batch.Raw(wire.encode({"rating": value.rating})), merge)
        case Value():
            clock = came_to.clock.asDict() if came_to.is_buried else None
            return batch.Outcome(200, batch.Raw(wire.encode_reading(came_to)), clock=clock)
        case True:
            return batch.Outcome(200, batch.Raw(DELETED))
    problem = problem_of(operation, came_to)
    return batch.Outcome(problem.status, batch.Raw(web.problem_body(problem)))


def problem_of(operation, came_to):
    match came_to:
        case False:
            return web.Problem(404, "nothing is stored under this name")
        case TooMany(value):
            detail = f"this rating would leave more than {MOST_SIBLINGS} siblings: give it a clock that subsumes some"
            return web.Problem(409, detail, members=wire.reading(value))
        case Recovering(reason):
            return web.unavailable(f"this is being taken back from the other shards: {reason}")
        case Unsafe(reason):
            return web.Problem(504, f"stored here, and not yet safe in the queue: {reason}; it is safe to repeat")
        case Damaged(reason):
            return web.Problem(500, f"what is stored here cannot be read: {reason}; mend it by hand, or DELETE it")
        case StoreUnsure() if not isinstance(operation, Read):
            return web.unsure(str(came_to))
        case _:  # Busy or StoreDown; a read does nothing in any case
            return web.unavailable(str(came_to))


def checks(shard):
    """What /readyz says of this shard."""
    found = {"redis": shard.store.trouble(), "queue": _trouble_with_queue(shard)}
    if shard.place.durability > 1 and not found["queue"]:
        found["queue"] = shard.safe_queue.trouble()
    if shard.store.is_guarded:
        state = _state(shard.store)
        found["memory"] = None if state == SERVING else state
    return found


def _trouble_with_queue(shard):
    if not shard.place.has_neighbours:
        return None
    return shard.queue_watch.trouble or trouble_reaching(shard.queue.peer)


def status(shard, recovery, others):
    """Where this shard stands: its place, what it holds, what it has to tell, and whether its memory is whole."""
    try:
        counts = shard.store.counts()
    except StoreDown as error:
        counts = {"keys": None, "digest": None, "due": None, "trouble": str(error)}
    told = {
        "ndb": shard.place.ndb,
        "digest-length": shard.place.digest_length,
        "hears": shard.place.predecessor,
        "redis": shard.store.address,
        "queue": shard.queue_watch.trouble or "ok",
        "queue-is-plain": shard.queue.peer.was_plain,
        "operations": shard.tally.operations,
        **counts,
    }
    if not shard.store.is_guarded:
        return told
    breakers = {"queue": shard.queue_watch.trouble, **{other.name: other.trouble for other in others}}
    return told | {
        "state": _state(shard.store, recovery.trouble),
        "epoch": shard.store.standing and shard.store.standing.epoch,
        "lag-s": shard.lag_s,
        "breakers": {name: trouble for name, trouble in breakers.items() if trouble},
    }


def _state(store, trouble=None):
    """How the memory of a guarded shard is: serving, or what keeps it from that. `trouble`: of its recovery."""
    if store.not_mine:
        return f"fenced: {store.not_mine}"
    if store.standing is None:
        return "starting"
    if store.recovering:
        return f"recovering: {store.recovering}" + (f"; {trouble}" if trouble else "")
    return SERVING
