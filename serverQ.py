"""The queue: named channels of JSON objects, first in, first out. Shards gossip through it.

    shard db0 --PUT /q/db0-->  [ channel db0: oldest ... newest ]  --GET /q/db0--> shard db1

It promises order within a channel, and that a record is given out until someone is done with it. With the setting
`data-dir` its channels are commit logs in that folder, and what was answered is safe from the death of this process;
without it they are in memory, and gone with it.

A plain GET is done with what it answers, as in the course. A shard takes with a cursor instead, and its records stay
until it has said, with the next cursor, that their effect is safe. Consumers that keep no cursor lease records, and
acknowledge them.

    python serverQ.py '{"port": 6000, "data-dir": "var/q"}'

Source: the assignment's "The queue service (Q)". What a channel does is in emporium/channel.py.
"""

import sys

from emporium import consumers, failpoints, labroutes, logproblems, measures, serving, traceroutes, web, wire
from emporium.channel import Limits
from emporium.channels import Channels, TooManyChannels
from emporium.commitlog.errors import LogError
from emporium.settings import QSettings, from_command_line, service_of
from emporium.shelf import MemoryShelves, Shelves
from emporium.trace import Nothing, Trace


def create_app(settings):
    """The App. Raises the log's errors when the channels in `data-dir` cannot be opened."""
    shelves = MemoryShelves()
    if settings.data_dir is not None:
        shelves = Shelves(settings.data_dir, settings.fsync, settings.segment_bytes)
    channels = Channels(shelves, Limits(settings.most_records, settings.most_bytes))
    app = web.create_app_for(
        "q",
        settings.threads,
        checks=lambda: {"channels": channels.trouble()},
        status=lambda: status(settings, channels),
    )
    app.at_stop, app.at_end = channels.wake, channels.close
    ring = Trace("q", settings.trace) if settings.trace else None
    trace = ring or Nothing()
    traceroutes.add(app, ring)
    app.metrics.add(lambda: measures.of_queue(channels))

    logproblems.add_to(app)

    @app.put("/q/<any_text:channel>")
    def put(channel):
        name, record = web.channel_name(channel), web.json_body()
        web.checked(wire.decode_object, record)
        _, length = put_on(name, [record])
        return web.answer({"channel": name, "length": length})

    @app.get("/q/<any_text:channel>")
    def get(channel):
        found = channels.find(web.channel_name(channel))
        records = found.get(1) if found else []
        trace.record_texts("taken", records, channel)
        return web.answer(records[0] if records else b"{}")

    # Flask answers HEAD wherever it answers GET. Here it would take a record away.
    for rule in app.url_map.iter_rules("get"):
        rule.methods.discard("HEAD")

    @app.delete("/clear")
    def clear():
        return web.answer(channels.clear())

    # Our own paths: the same channels, many records a call. A plain course server has none of them.

    @app.post("/channel/<any_text:channel>/put")
    def put_all(channel):
        name, records = web.channel_name(channel), web.checked(wire.decode_records, web.own_json_body())
        first, length = put_on(name, records)
        return web.answer({"channel": name, "length": length, "first": first})

    @app.post("/channel/<any_text:channel>/take")
    def take(channel):
        name, asked = web.channel_name(channel), web.checked(wire.decode_take, web.own_json_body())
        return web.answer(wire.encode_taken(*take_from(name, asked)))

    @app.post("/exchange")
    def exchange():
        asked, records = web.checked(wire.decode_exchange, web.own_json_body())
        to, source = web.channel_name(asked.to), web.channel_name(asked.source)
        taken = take_from(source, asked)  # first: if it fails, nothing was put, and may be put again
        failpoints.hit("queue-taken")
        if records:
            put_on(to, records)
        return web.answer(wire.encode_taken(*taken))

    consumers.add_routes(app, channels, trace)
    labroutes.add_to_queue(app, channels, settings.lab)

    def put_on(name, records):
        failpoints.hit("queue-put-unstored")
        try:
            put = channels.put(name, records)
        except TooManyChannels as error:
            raise web.Problem(507, str(error)) from error
        failpoints.hit("queue-put-stored")
        trace.record_texts("put", records, name)
        return put

    def take_from(name, asked):
        found = channels.find(name)
        taken = found.take(asked.cursor, asked.most) if found else ([], None, 0)
        trace.record_texts("taken", taken[0], name)
        return taken

    return app


def status(settings, channels):
    fsync = settings.fsync if channels.is_durable else None
    waiting = {name: each.waiting for name, each in channels.all().items()}
    told = {"durable": channels.is_durable, "fsync": fsync, "channels": waiting}
    return told | labroutes.state_of(channels) if settings.lab else told


def main():
    settings = from_command_line(QSettings)
    serving.log_to(settings.logfile, settings.log_format, service_of(settings))
    try:
        app = create_app(settings)
    except LogError as error:
        sys.exit(f"q: cannot open the channels in {settings.data_dir}: {error}")
    serving.serve(app, "q", settings.host, settings.port)


if __name__ == "__main__":
    main()
