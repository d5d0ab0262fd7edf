"""What the queue offers beyond the course to consumers that keep no cursor, and to people who want to look.

    POST /channel/<channel>/get        records, done with as they are answered, and how long to wait for the first
    POST /channel/<channel>/lease      records that are ours for some seconds; then they wait again
    POST /channel/<channel>/ack        done with what was leased
    POST /channel/<channel>/release    not done with it: let others have it
    GET  /channels, /channel/<channel>/info, /channel/<channel>/peek

The JSON is in emporium/queuewire.py.
"""

from emporium import queuewire, web, wire
from emporium.bulkhead import Bulkhead
from emporium.channel import TooManyLeased


def add_routes(app, channels, trace):
    """Add them to the queue's App. A quarter of its threads may wait for records. What is taken goes into the trace."""
    waiters = Bulkhead(app.threads // 4, lambda: web.unavailable("as many as may be wait for records already"))

    @app.post("/channel/<any_text:channel>/get")
    def get_many(channel):
        name, asked = web.channel_name(channel), web.checked(queuewire.decode_get, web.json_body())
        got = served(name, asked.wait_s, lambda found, wait_s: found.get(asked.most, wait_s))
        trace.record_texts("taken", got, name)
        return web.answer(queuewire.encode_records(got))

    @app.post("/channel/<any_text:channel>/lease")
    def lease(channel):
        name, asked = web.channel_name(channel), web.checked(queuewire.decode_lease, web.json_body())
        try:
            leased = served(name, asked.wait_s, lambda found, wait_s: found.lease(asked.most, asked.lease_s, wait_s))
        except TooManyLeased as error:
            raise web.Problem(429, str(error), {"Retry-After": "1"}) from error
        trace.record_texts("taken", [each.value for each in leased], name)
        return web.answer(queuewire.encode_leased(leased))

    @app.post("/channel/<any_text:channel>/ack")
    def acknowledge(channel):
        name, receipts = web.channel_name(channel), web.checked(queuewire.decode_receipts, web.json_body())
        found = channels.find(name)
        return web.answer({"stale": found.acknowledge(receipts) if found else receipts})

    @app.post("/channel/<any_text:channel>/release")
    def release(channel):
        name, receipts = web.channel_name(channel), web.checked(queuewire.decode_receipts, web.json_body())
        found = channels.find(name)
        return web.answer({"stale": found.release(receipts) if found else receipts})

    @app.get("/channels")
    def list_channels():
        return web.answer({"channels": {name: each.info() for name, each in sorted(channels.all().items())}})

    @app.get("/channel/<any_text:channel>/info")
    def info(channel):
        return web.answer(known(channel).info())

    @app.get("/channel/<any_text:channel>/peek")
    def peek(channel):
        offset = web.whole_argument("offset", 0)
        most = web.whole_argument("most", 10, range(1, wire.MOST_RECORDS + 1))
        return web.answer(queuewire.encode_peeked(known(channel).peek(offset, most)))

    def served(name, wait_s, serve):
        got = channels.serve(name, serve)
        if got or not wait_s:
            return got
        with waiters:
            return channels.serve(name, serve, wait_s)

    def known(channel):
        found = channels.find(web.channel_name(channel))
        if found is None:
            raise web.Problem(404, "there is no channel of this name")
        return found
