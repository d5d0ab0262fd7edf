"""What a guarded shard answers to the others and to an operator, over HTTP (docs/protocol.md)."""

from emporium import web, wire
from emporium.bulkhead import Bulkhead
from emporium.replica import NotYet
from emporium.store import StoreDown, StoreUnsure
from emporium.turn import Busy

MOST_AT_ONCE = 8  # calls of other shards: far more than there are, unless something is amiss
PAGE_TEAS = 256


def add(app, replica, recovery, upkeep):
    """Add them to the application of this shard."""
    room = Bulkhead(MOST_AT_ONCE, lambda: web.unavailable(f"{app.name} answers {MOST_AT_ONCE} other shards already"))
    store = replica.shard.store

    def asked(do, *what):
        with room:
            try:
                return do(*what)
            except StoreUnsure as error:
                raise web.unsure(str(error)) from error
            except (Busy, StoreDown, NotYet) as error:
                raise web.unavailable(str(error)) from error

    @app.post("/replica/compare")
    def compare():
        told = web.checked(lambda text: wire.decode(text, wire.Sums), web.own_json_body())
        ndb = replica.shard.place.ndb
        if told.ndb != ndb:
            raise web.Problem(409, f"this ring has {ndb} shards, and whoever asks was started for {told.ndb}")
        if len(told.sums) != len(replica.fingerprints.sums()):
            raise web.Problem(
                422, f"sums: {len(told.sums)} bytes, and there must be {len(replica.fingerprints.sums())}"
            )
        buckets, news, following = asked(replica.compare, told.sums, told.first)
        return web.answer(wire.encode(wire.Compared(buckets, news, following, not recovery.is_whole)))

    @app.post("/replica/exchange")
    def exchange():
        records, teas = web.checked(wire.decode_given, web.own_json_body())
        changed = asked(replica.absorb, records)
        if changed:
            upkeep.want()
        values = asked(replica.values, teas)
        return web.answer(wire.encode_exchanged(values, changed, not recovery.is_whole))

    @app.get("/replica/values")
    def values():
        records, following = asked(replica.page, web.whole_argument("page", 0), PAGE_TEAS)
        return web.answer({"values": [wire.record_of(record) for record in records], "next": following})

    @app.post("/recover")
    def recover():
        given = web.checked(lambda text: wire.decode(text, wire.GivenUp), web.own_json_body())
        if recovery.is_whole:
            raise web.Problem(409, f"{app.name} is not recovering: there is nobody to be given up on")
        may_lose = recovery.give_up_on(given.without)
        upkeep.want()
        why = store.recovering or "damaged values"
        return web.answer({"state": f"recovering: {why}", "may-lose": may_lose})
