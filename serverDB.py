"""A shard: the primary of its teas and a replica of all others, gossiping new values round the ring.

      predecessor's channel                                my channel
    ----- db(i-1) ----->  [ shard db(i), its own Redis ]  ----- db(i) ----->  successor

It promises that a write is stored before it is answered, that concurrent ratings stand side by side, and that
what it stored or heard is told to its successor even if this process dies in between. It does not promise that
a read here sees what another shard has just stored: gossip is taken by requests, and only by them.

Given a data-dir it survives more than the course asks for, outside of the steps below: it takes back what its Redis has
lost, and compares with the other shards (emporium/upkeep.py, docs/guarantees.md).

    python serverDB.py '{"id": 2, "hostport": 3002, "servers": [{"host": "localhost", "port": 5557}], "ndb": 4}'

Source: the assignment's "The Database Service (DB)". The rules themselves, free of input and output, are in
emporium/shard.py and emporium/siblings.py; this file carries them out.
"""

import logging
import math
import time

from flask import request

from emporium import batch, failpoints, labroutes, measures, replicaroutes, safequeue, serving, traceroutes, web, wire
from emporium.bulkhead import Bulkhead
from emporium.failures import PeerError
from emporium.fence import Fence, Note
from emporium.guard import Watch, trouble_reaching
from emporium.othershards import on_this_machine, others_of
from emporium.recovery import Recovery
from emporium.replica import Replica
from emporium.safequeue import SafeQueue
from emporium.sampling import chosen
from emporium.settings import DBSettings, from_command_line, service_of
from emporium.shard import (
    Changes,
    Delete,
    Place,
    Read,
    Recovering,
    Unsafe,
    Write,
    Written,
    merge_gossip,
    merge_writes,
)
from emporium.shardanswers import checks, operation_of, outcomes_of, status, stored_outcome
from emporium.shardtrace import ShardTrace
from emporium.siblings import UNRATED, Damaged
from emporium.store import SlowStore, Store, StoreDown, StoreUnsure
from emporium.tally import Tally
from emporium.trace import Nothing, Trace
from emporium.turn import Busy, Turn
from emporium.upkeep import Upkeep
from queueservice import Queue, Refused, Taken

log = logging.getLogger(__name__)

TURN_S = 0.45  # how long a request waits for its turn: with Redis's 0.5 s, less than the load balancer's 1 s
PORTION_RECORDS, PORTION_SIBLINGS = 64, 256
GOSSIP_S = 0.1  # for how long one step goes on taking gossip
TELL_S = 0.3  # for how long a step with durability 2 goes on telling what was due before its own writes
MOST_DUE = 10_000
MOST_LISTS = 4  # at a time


class Shard:
    """The course's algorithm, one step at a time. Everything that it must not forget is in its Redis."""

    def __init__(self, place, store, queue, most_waiting=64, watch=Watch, now=time.monotonic, trace=None):
        """`watch` makes the Watch of the queue, and `now` is the clock: what is chance or time comes from outside.

        trace  a ShardTrace, told what happens, for people who look on; None: nobody does
        """
        self.place = place
        self.store = store
        self.queue = queue
        self.queue_watch = watch("the queue", lambda: trouble_reaching(queue.peer), on_return=self.catch_up)
        self._now = now
        self.trace = trace or Nothing()
        # One step at a time: no read-merge-write on a tea may slip into another one.
        self.turn = Turn(place.name, most_waiting, TURN_S)
        self.tally = Tally()
        self.due_since = None  # since when something has been due, by the clock
        self.on_damage = lambda teas: None  # told the teas whose values a step has found to be damaged
        self.safe_queue = SafeQueue(queue.peer)  # asked by durability 2 only

    def step(self, operations):
        """What each Write, Delete and Read of one tea came to, in the order of `operations`.

        A Write comes to a Written or TooMany, a Read to a Value, a Delete to whether something was stored; each also to
        Damaged, Recovering or Unsafe, or to the exception that only it met. An exception that is raised goes for all.

        The course's order: a write is merged and remembered, and then gossip is checked; a read checks gossip first.
        Operations that come together have all been waiting, so any order among them is legal.
        """
        with self.turn:
            failpoints.hit("step-begun")
            self.trace.begun()
            found = self.store.load({operation.tea for operation in operations})
            failpoints.hit("step-loaded")
            self.tally.operations += len(operations)
            if self.store.recovering:
                return self._step_while_recovering(operations, found)
            now = found.values
            writes = [each for each in operations if isinstance(each, Write)]
            deletes = [each for each in operations if isinstance(each, Delete)]
            merged = writes + deletes if self.place.keeps_tombstones else writes
            # Merge each write with what is stored, and remember the merged value: it goes into the digest, and a
            # digest that has digest-length records becomes due.
            written, changes = merge_writes(self.place, now, found.digest, merged)
            self.trace.merged(changes.merged)
            self._store_and_gossip(found, changes, PORTION_RECORDS)
            self.tally.wrote(written)
            if not self.place.keeps_tombstones:
                written += [self._delete(each, now) for each in deletes]
            elif self.place.durability > 1 and (why := self._why_unsafe(found)):
                written = [Unsafe(why) if isinstance(each, Written) else each for each in written]
            read = [now[each.tea] for each in operations if isinstance(each, Read)]
            self.trace.read(operations, now)
            self._tend(found)
        # Of each kind, the outcomes stand in the order of its operations.
        failpoints.hit("answer-unsent")
        outcomes = {Write: iter(written[: len(writes)]), Delete: iter(written[len(writes) :]), Read: iter(read)}
        return [self._unless_repaired(next(outcomes[type(operation)])) for operation in operations]

    def _store_and_gossip(self, found, changes, most):
        """The course's "while there is data on the gossip channel from the neighbour".

        Merge what waits there, at most `most` records at a time, behind the writes' `changes`. Store both, so that it
        shows in `found`. Tell my successor what is due. Again while more waits, for at most 100 ms, and once only while
        other requests wait for their turn.

        Trouble with gossip fails no operation: what was not stored waits in the channel for the next step, and what
        could not be sent stays due.
        """
        ends = self._now() + GOSSIP_S
        has_writes, is_over = bool(changes), False
        due = self.store.due(wire.MOST_RECORDS) if found.due_count and self._can_gossip() else []
        told, heard = self._exchange(due, found, most, changes)
        while changes or heard.records or told:
            try:
                left = self._merge_heard(heard, found, changes)
                failpoints.hit("write-unstored" if has_writes else "gossip-unstored")
                due = self.store.change(changes, found.cursor, told, wire.MOST_RECORDS if self._can_gossip() else 0)
            except (StoreDown, StoreUnsure) as error:
                if has_writes:
                    raise
                log.warning("gossip waits: %s", error, extra={"event": "gossip-waits"})
                found.must_tell = math.inf  # nobody knows what is still due, and so what of it was told
                return
            failpoints.hit("write-stored" if has_writes else "gossip-stored")
            self.trace.stored(changes, found.digest)
            self.tally.heard(changes.heard)
            found.show(changes, told)
            if has_writes:
                found.must_tell = found.ever_due
            changes, has_writes = Changes(), False
            was_over, is_over = is_over, self._now() > ends or self.turn.is_wanted
            if was_over or not (due or heard.records):
                return
            # When time is over, this call tells what is due and what is safe, and hears no more.
            told, heard = self._exchange(due, found, most if left and not is_over else 0, changes)

    def _exchange(self, due, found, most, changes):
        """(how many of `due`, the oldest first, are dealt with; what was Taken from my predecessor), in one call.

        The queue may forget what is up to the cursor. A record that it refuses is dealt with, too: it goes aside, with
        the `changes`. When the queue fails, nothing was told or heard.
        """
        if not self._can_gossip():
            return 0, NOTHING
        due = due[: wire.one_call(due)]
        failpoints.hit("tell-unsent")
        try:
            heard = self.queue.exchange(self.place.name, due, self.place.predecessor, found.cursor, most)
        except Refused as error:
            if len(due) > 1:  # one by one, to find it and let the others pass
                return self._exchange(due[:1], found, most, changes)
            log.error(
                "the queue refuses a record, which is set aside: %s: %r", error, due, extra={"event": "record-refused"}
            )
            changes.set_aside += due
            return len(due), NOTHING
        except PeerError as error:
            self.queue_watch.failed(error)
            return 0, NOTHING
        if due:
            failpoints.hit("told")
            self.trace.told(due)
        found.told_count += len(due)
        self.tally.told += len(due)
        return len(due), heard

    def _merge_heard(self, heard, found, changes):
        """Add what was heard to the changes, at most one portion of it. How many records are left for the next one."""
        records, senseless, left, found.cursor = portion(heard, found.cursor)
        found.values |= self.store.load_more({record.key for record in records} - found.values.keys())
        of_writes = len(changes.merged)
        merge_gossip(self.place, found.values, found.digest, records, changes)
        self.trace.heard(records, changes.merged[of_writes:], senseless)
        changes.set_aside += senseless
        changes.heard += [("aside", None)] * len(senseless)
        return left

    def _why_unsafe(self, found):
        """Why the queue does not have the writes of this step, in words; None once it has. May tell it some more."""
        ends = self._now() + TELL_S
        try:
            while found.told_count < found.must_tell < math.inf and self._can_gossip() and self._now() < ends:
                changes = Changes()
                told, _ = self._exchange(self.store.due(wire.MOST_RECORDS), found, 0, changes)
                if not told:
                    break
                failpoints.hit("own-told")
                self.store.change(changes, sent=told)
                found.show(changes, told)
        except (StoreDown, StoreUnsure) as error:
            log.warning("gossip waits: %s", error, extra={"event": "gossip-waits"})
        if found.told_count < found.must_tell:
            return self.queue_watch.trouble or "much is due before it"
        return self.safe_queue.trouble() if found.must_tell and self.place.has_neighbours else None

    def _step_while_recovering(self, operations, found):
        """Weak reads are answered from what is there so far, and gossip goes on; all else waits for the recovery."""
        self._store_and_gossip(found, Changes(), PORTION_RECORDS)
        self._tend(found)
        reason = Recovering(self.store.recovering or "it has just recovered")
        return [
            self._unless_repaired(found.values[each.tea]) if isinstance(each, Read) and each.is_weak else reason
            for each in operations
        ]

    def _unless_repaired(self, outcome):
        """What an operation came to; it may be repeated where its value is damaged, and will be repaired."""
        if isinstance(outcome, Damaged) and not self.place.replaces_damaged:
            return Recovering(f"the stored value is damaged: {outcome.reason}")
        return outcome

    def _tend(self, found):
        """What is due may not grow for ever while the queue is away, and damaged values are repaired, in a while."""
        if found.due_count > MOST_DUE and self.place.coalesces:
            failpoints.hit("much-due")
            try:
                dropped = self.store.keep_newest_due(MOST_DUE // 2)
            except (StoreDown, StoreUnsure) as error:  # the operations of this step are done all the same
                log.warning("much gossip is due: %s", error, extra={"event": "gossip-not-dropped"})
            else:
                failpoints.hit("much-dropped")
                log.warning(
                    "much gossip was due: now the newest of each tea is, and %s records are dropped",
                    dropped,
                    extra={"event": "gossip-dropped", "count": dropped},
                )
        self._note_lateness(found)
        if damaged := [tea for tea, value in found.values.items() if isinstance(value, Damaged)]:
            self.on_damage(damaged)

    def _note_lateness(self, found):
        self.due_since = (self.due_since or self._now()) if found.due_count else None

    def _delete(self, delete, now):
        """Whether something was stored, or the exception. As in the course, gossip may bring the value back."""
        tea = delete.tea
        if now[tea] == UNRATED:
            return False
        try:
            self.store.change(Changes(removed=[tea]))
        except (StoreDown, StoreUnsure) as error:
            return error
        self.trace.removed(delete)
        now[tea] = UNRATED
        return True

    def _can_gossip(self):
        return self.place.has_neighbours and self.queue_watch.trouble is None

    @property
    def lag_s(self):
        """For how long gossip has been due; None while none is."""
        since = self.due_since
        return None if since is None else round(self._now() - since, 1)

    def say_all(self):
        """Before the end: tell what waits in the digest too, as far as the queue takes it within its deadline."""
        failpoints.hit("end-begun")
        try:
            with self.turn:
                found = self.store.load([])
                if found.digest.count:
                    self.store.change(Changes(now_due=found.digest.count))
                failpoints.hit("end-due")
                changes = Changes()
                told, _ = self._exchange(self.store.due(wire.MOST_RECORDS), found, 0, changes)
                if told:
                    failpoints.hit("end-told")
                    self.store.change(changes, sent=told)
        except (Busy, StoreDown, StoreUnsure) as error:
            log.warning("what waits is told after the next start: %s", error, extra={"event": "gossip-untold"})

    def catch_up(self):
        """Send what stayed due while the queue was away, a part at a time, so that requests have their turn."""
        last_count = None
        try:
            while self._can_gossip():
                with self.turn:
                    found = self.store.load([])
                    self._note_lateness(found)
                    if found.due_count in (0, last_count):  # all is told, or nothing more can be
                        return
                    last_count = found.due_count
                    self._store_and_gossip(found, Changes(), most=0)
        except Busy:
            return  # the steps that keep the shard busy send it
        except (StoreDown, StoreUnsure) as error:
            log.warning("gossip stays due: %s", error, extra={"event": "gossip-waits"})


NOTHING = Taken([], None, 0)


def portion(heard, cursor):
    """(Records, texts that are none, how many are left, the cursor behind them) of what was heard behind the `cursor`.

    Since a merge costs the square of the siblings, it ends with the record that brings it to 256 of them.
    """
    records, senseless, siblings = [], [], 0
    left = heard.left + len(heard.records)
    for text in heard.records:
        left -= 1
        try:
            records.append(wire.decode_record(text))
            siblings += len(records[-1].value.siblings)
        except ValueError as error:
            log.error(
                "a gossip record makes no sense and is set aside: %s: %r",
                error,
                text[:500],
                extra={"event": "record-senseless"},
            )
            senseless.append(text)
        if siblings >= PORTION_SIBLINGS:
            break
    if heard.cursor:
        cursor = heard.cursor.back_by(left - heard.left)
    return records, senseless, left, cursor


# ---- over HTTP


def create_app(settings):
    place = Place(
        settings.id,
        settings.ndb,
        settings.digest_length,
        settings.tombstones,
        settings.coalesce,
        settings.durability,
        replaces_damaged=settings.data_dir is None,
        tells_requests=settings.gossip_ids,
    )
    replica = Replica()
    ring = Trace(place.name, settings.trace) if settings.trace else None
    trace = ring and ShardTrace(place, ring)
    shard = Shard(place, store_of(settings, replica), Queue(settings.qport), settings.threads // 2, trace=trace)
    replica.bind(shard)
    others = others_of(place, on_this_machine(settings.base_db_port)) if settings.data_dir else []
    recovery = Recovery(shard, replica, others)
    app = web.create_app_for(
        place.name,
        settings.threads,
        checks=lambda: checks(shard),
        status=lambda: status(shard, recovery, others),
        is_full=lambda: shard.turn.is_full,
    )
    app.metrics.add(lambda: measures.of_shard(shard, others))

    traceroutes.add(app, ring)
    lists = Bulkhead(MOST_LISTS, lambda: web.unavailable(f"{place.name} makes {MOST_LISTS} lists already"))

    @app.put("/rating/<tea>")
    def put_rating(tea):
        return alone(Write(web.tea_name(tea), web.checked(wire.decode_rating, web.json_body()), chosen(ring)))

    @app.get("/rating/<tea>")
    def get_rating(tea):
        return alone(Read(web.tea_name(tea), request.headers.get("X-Consistency") == "weak", chosen(ring)))

    @app.delete("/rating/<tea>")
    def delete_rating(tea):
        return alone(Delete(web.tea_name(tea), chosen(ring)))

    def alone(operation):
        [outcome] = outcomes_of(shard, [operation])
        return web.answer_outcome(outcome)

    @app.post("/operations")
    def carry_out_together():
        asked = web.checked(batch.decode_operations, web.own_json_body())
        return web.answer(batch.encode_outcomes(outcomes_of(shard, [operation_of(each) for each in asked])))

    @app.get("/stored/<tea>")
    def show_stored(tea):
        return web.answer_outcome(stored_outcome(shard, web.tea_name(tea)))

    @app.get("/ratings")
    def list_ratings():
        page = web.whole_argument("page", 0)  # 0, or the `next` of the page before
        try:
            with lists:
                rows, next_page = shard.store.list(page, most=500)
        except StoreDown as error:
            raise web.unavailable(str(error)) from error
        teas = [{"tea": tea, "rating": rating, "siblings": siblings} for tea, rating, siblings in rows]
        return web.answer({"teas": teas, "next": next_page or None})

    upkeep = None
    if settings.data_dir:
        upkeep = Upkeep(replica, recovery, others, settings.anti_entropy_s)
        shard.on_damage = lambda teas: (recovery.note_damage(teas), upkeep.want())
        replicaroutes.add(app, replica, recovery, upkeep)
        app.at_end = shard.say_all
    labroutes.add_to_shard(app, upkeep, settings.lab)
    if upkeep:
        upkeep.start()
    return app


def store_of(settings, replica):
    """The Store of this shard. With a data-dir it is guarded, and the Replica learns of each change."""
    options = {"coalesces": settings.coalesce}
    if settings.data_dir:
        guard = Fence(Note(settings.data_dir), first_epoch=lambda: int(time.time()))
        options |= {"guard": guard, "learned": replica.learned}
    where = settings.redis.host, settings.redis.port
    return Store(*where, **options) if settings.slowed_to is None else SlowStore(*where, settings.slowed_to, **options)


def main():
    settings = from_command_line(DBSettings, port_name="hostport")
    serving.log_to(settings.logfile, settings.log_format, service_of(settings))
    if settings.durability == 2 and settings.ndb > 1:
        safequeue.refuse(Queue(settings.qport).peer)
    app = create_app(settings)
    serving.serve(app, f"db{settings.id}", settings.host, settings.hostport)


if __name__ == "__main__":
    main()
